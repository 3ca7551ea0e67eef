package chathub

import (
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
	"golang.org/x/time/rate"
)

// refuseInput answers an envelope that could not be decoded.
func (c *Client) refuseInput(e *Event, fault *Error) {
	_ = c.send(errorFrame(e.ID, fault), wire.Durable)
	if c.onRead.malformed.hit(time.Now()) > badPerMinute {
		c.close(closeViolations, "too many bad messages")
	}
}

// allow reports whether an event is within the rate limits. If not, it refuses
// it.
func (c *Client) allow(e *Event) bool {
	now, cfg := time.Now(), &c.hub.cfg
	wait := reserve(c.onRead.limiter.get(cfg.Rate, cfg.Burst), now)
	if wait == 0 { // a refused event does not count for the user's other connections
		wait = reserve(c.limits.limiter.get(cfg.UserRate, cfg.UserBurst), now)
	}
	if wait == 0 {
		return true
	}
	c.refuseOverRate(e, "Too many events", wait)
	return false
}

// refuseOverRate refuses an event that is over a limit.
func (c *Client) refuseOverRate(e *Event, message string, wait time.Duration) {
	_ = c.send(errorFrame(e.ID, &Error{Code: CodeRateLimited, Message: message, RetryAfter: wait}), wire.Durable)
	if c.onRead.overRate.hit(time.Now()) > limitsPerMinute {
		c.close(closeRateLimited, "rate limit exceeded repeatedly")
	}
}

// reserve takes a token and returns 0. If there is none, it returns the time
// until the next.
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

// strikes counts faults of a client within a minute.
type strikes struct {
	since int64 // Unix nanoseconds
	n     int
}

func (st *strikes) hit(now time.Time) int {
	if t := now.UnixNano(); t-st.since >= int64(time.Minute) {
		st.since, st.n = t, 0
	}
	st.n++
	return st.n
}

// lazyLimiter is a limiter that is made when it is first needed. An idle client
// has none.
type lazyLimiter struct{ made atomic.Pointer[rate.Limiter] }

// get returns the limiter, or nil if there is no limit.
func (lim *lazyLimiter) get(perSecond float64, burst int) *rate.Limiter {
	if perSecond < 0 || burst < 0 {
		return nil
	}
	if lim.made.Load() == nil {
		lim.made.CompareAndSwap(nil, rate.NewLimiter(rate.Limit(perSecond), burst))
	}
	return lim.made.Load()
}
