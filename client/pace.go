package client

import "time"

const (
	crowd    = 32                     // how many events may wait for their answers
	maxGap   = 300 * time.Millisecond // between events, after a server asked to wait
	waitMore = time.Second            // if the server does not say how long
)

// pace decides when events may be sent. When the server asks to wait, it stops
// all of them. They then go one at a time until none is left, with a gap if the
// server limits their rate. If all went at once, the server would refuse most
// of them again, and close the connection of a client that goes on so.
type pace struct {
	slow  bool
	gap   time.Duration
	until time.Time // nothing is sent before
}

// allows reports whether to send another event while so many wait for their
// answers.
func (p *pace) allows(now time.Time, waiting int) bool {
	if now.Before(p.until) {
		return false
	}
	return waiting < crowd && (!p.slow || waiting == 0)
}

// refused notes that the server asked to wait. It returns how long, which may
// be longer than what the server said.
func (p *pace) refused(now time.Time, wait time.Duration) time.Duration {
	if wait <= 0 {
		wait = waitMore
	}
	// Others may use up the same limit, so each wait makes the gap longer. Of
	// events that were refused together, the first counts.
	if !now.Before(p.until) && wait < maxGap {
		p.gap = min(p.gap+wait, maxGap)
	}
	p.slow = true
	p.stop(now.Add(wait))
	return wait
}

// answered notes that the server has answered an event, and so many are left.
func (p *pace) answered(now time.Time, left int) {
	if left == 0 {
		p.slow, p.gap = false, 0
	}
	if p.gap > 0 {
		p.stop(now.Add(p.gap))
	}
}

func (p *pace) stop(until time.Time) {
	if until.After(p.until) {
		p.until = until
	}
}
