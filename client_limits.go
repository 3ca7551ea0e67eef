package chathub

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// refuseInput answers an envelope that could not be read.
func (c *Client) refuseInput(e *Event, fault *Error) {
	_ = c.send(errorFrame(e.ID, fault), false)
	if c.bad.hit(time.Now()) > badPerMinute {
		c.close(closeViolations, "too many bad messages")
	}
}

// allow applies the rate limits.
func (c *Client) allow(e *Event) bool {
	now, cfg := time.Now(), &c.hub.cfg
	wait := reserve(c.limiter.get(cfg.Rate, cfg.Burst), now)
	if wait == 0 { // what one connection has too many of costs the user's others nothing
		wait = reserve(c.visitor.limiter.get(cfg.UserRate, cfg.UserBurst), now)
	}
	if wait == 0 {
		return true
	}
	c.limit(e, "Too many events", wait)
	return false
}

// limit refuses an event that is one too many.
func (c *Client) limit(e *Event, message string, wait time.Duration) {
	_ = c.send(errorFrame(e.ID, &Error{Code: CodeRateLimited, Message: message, RetryAfter: wait}), false)
	if c.limited.hit(time.Now()) > limitsPerMinute {
		c.close(closeRateLimited, "rate limit exceeded repeatedly")
	}
}

// reserve takes a token and returns 0, or returns how long until there is one.
func reserve(l *rate.Limiter, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	r := l.ReserveN(now, 1)
	if !r.OK() {
		return time.Minute // a burst of zero: never
	}
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// strikes counts what may not happen often within a minute.
type strikes struct {
	since int64 // Unix nanoseconds
	n     int
}

func (s *strikes) hit(now time.Time) int {
	if t := now.UnixNano(); t-s.since >= int64(time.Minute) {
		s.since, s.n = t, 0
	}
	s.n++
	return s.n
}

// lateLimiter is a limiter that is made when it is needed first: who does nothing has none.
type lateLimiter struct{ made atomic.Pointer[rate.Limiter] }

// get returns nil where there is no limit.
func (l *lateLimiter) get(perSecond float64, burst int) *rate.Limiter {
	if perSecond < 0 || burst < 0 {
		return nil
	}
	if l.made.Load() == nil {
		l.made.CompareAndSwap(nil, rate.NewLimiter(rate.Limit(perSecond), burst))
	}
	return l.made.Load()
}
