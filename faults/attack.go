//go:build linux

package main

import (
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// What the hub allows a user by default.
const (
	userRate, userBurst         = 100, 200
	userByteRate, userByteBurst = 128 << 10, 2 << 20
)

// attack is a hostile user who sends events on some connections, each as soon
// as the one before it is answered. If the hub says how long to wait, the user
// waits, and so gets the most out of the limits.
type attack struct {
	t       *trial
	user    string
	conns   int                          // at a time
	perConn int                          // events, before the next one takes its place; 0: no bound
	room    string                       // joined by each connection, unless empty
	next    func(i uint64) hubtest.Frame // for any goroutine

	until  time.Time   // zero: as long as a flood lasts
	enough func() bool // nil: when the time is up

	began time.Time
	n     atomic.Uint64
	sent  atomic.Int64 // bytes of data

	acked, ackedBytes atomic.Int64 // events, bytes of data
	overRate, refused atomic.Int64 // errors: rate_limited, and all others
}

// run lets the attack last until the time is up, and it is enough.
func (a *attack) run() {
	a.began = time.Now()
	if a.until.IsZero() {
		a.until = a.began.Add(a.t.floodTime())
	}
	over := func() bool {
		return a.t.Err() != nil || !a.t.flooding(a.until) && (a.enough == nil || a.enough())
	}
	a.t.each(a.conns, func(int) {
		for !over() {
			a.press(over)
		}
	})
	if a.acked.Load() == 0 {
		a.t.failf("nothing of the flood was accepted")
	}
}

// press sends over one connection, until it is over or the connection has
// ended.
func (a *attack) press(over func() bool) {
	p, err := a.t.dialer.connect(a.t, a.user)
	if err != nil {
		time.Sleep(20 * time.Millisecond)
		return
	}
	defer p.drop()
	if a.room != "" && p.join(a.room) != nil {
		time.Sleep(20 * time.Millisecond)
		return // the limits are used up
	}
	for k := 0; !over() && (a.perConn == 0 || k < a.perConn); k++ {
		e := a.next(a.n.Add(1))
		a.sent.Add(int64(len(e.Data)))
		r, err := p.request(e)
		switch {
		case err != nil:
			return
		case r.Type == "ack":
			a.acked.Add(1)
			a.ackedBytes.Add(int64(len(e.Data)))
		case r.Code() == chathub.CodeRateLimited:
			a.overRate.Add(1)
			for again := time.Now().Add(retryAfter(r)); time.Now().Before(again) && !over(); {
				time.Sleep(min(time.Until(again), 50*time.Millisecond))
			}
		default:
			a.refused.Add(1)
		}
	}
}

// retryAfter returns how long a rate_limited error says to wait.
func retryAfter(e hubtest.Frame) time.Duration {
	var d struct {
		RetryAfterMs int64 `json:"retryAfterMs"`
	}
	_ = json.Unmarshal(e.Data, &d) // at once
	return time.Duration(d.RetryAfterMs) * time.Millisecond
}

// within checks that the hub has accepted no more than a burst and a rate
// allow. It returns what it has accepted per second.
func (a *attack) within(what string, accepted int64, burst, perSecond float64) float64 {
	took := time.Since(a.began).Seconds()
	if most := burst + perSecond*took; float64(accepted) > most {
		a.t.failf("%d %s accepted in %.1f s, want at most %.0f", accepted, what, took, most)
	}
	return float64(accepted) / took
}
