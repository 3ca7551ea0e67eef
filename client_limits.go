package chathub

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
	"golang.org/x/time/rate"
)

// userLimits holds the limits that all connections of a user share. They
// outlive the last connection: see place.leaveUser.
type userLimits struct {
	id      string
	conns   int32 // guarded by admission.mu, as is
	resting bool  // in admission.resting

	events lazyLimiter
	bytes  lazyLimiter // of events
	rare   atomic.Pointer[rareLimits]
}

// rareLimits are the limits that most users never need.
type rareLimits struct {
	broadcasts lazyLimiter // messages to everyone
	inflated   lazyLimiter // compressed bytes
	replayed   lazyLimiter // bytes read from logs
	replaying  lazySlot    // one connection reads from logs at a time
}

// more returns the rare limits, made when they are first needed.
func (u *userLimits) more() *rareLimits {
	if u.rare.Load() == nil {
		u.rare.CompareAndSwap(nil, &rareLimits{})
	}
	return u.rare.Load()
}

// rested reports whether every limit is back at its burst, so that a new
// userLimits would be the same.
func (u *userLimits) rested(now time.Time) bool {
	if !u.events.full(now) || !u.bytes.full(now) {
		return false
	}
	rare := u.rare.Load()
	return rare == nil || rare.broadcasts.full(now) && rare.inflated.full(now) && rare.replayed.full(now)
}

// refuseInput answers a message of so many bytes that could not be decoded. It
// counts as an event.
func (c *Client) refuseInput(e *Event, size int, fault *Error) {
	if !c.allow(e, size) {
		return
	}
	c.hub.counters.malformed.Add(1)
	c.reject(e, fault)
	if c.onRead.malformed.hit(time.Now()) > badPerMinute {
		c.close(closeViolations, "too many bad messages")
	}
}

// allow reports whether an event of so many bytes is within the rate limits. If
// not, it refuses it.
func (c *Client) allow(e *Event, size int) bool {
	now, cfg := time.Now(), &c.hub.cfg
	limits := [...]struct {
		message string
		limiter *rate.Limiter
		n       int
	}{
		// A refused event does not count for the user's other connections.
		{"Too many events", c.onRead.events.get(cfg.Rate, cfg.Burst), 1},
		{"Too many events", c.place.user.events.get(cfg.UserRate, cfg.UserBurst), 1},
		{"Too many bytes", c.onRead.bytes.get(cfg.ByteRate, cfg.ByteBurst), size},
		{"Too many bytes", c.place.user.bytes.get(cfg.UserByteRate, cfg.UserByteBurst), size},
	}
	for _, limit := range limits {
		wait := reserve(limit.limiter, limit.n, now)
		if wait == 0 {
			continue
		}
		for _, other := range limits { // those before have been charged
			wait = max(wait, untilAllowed(other.limiter, other.n, now))
		}
		c.refuseOverRate(e, limit.message, wait)
		return false
	}
	return true
}

// refuseOverRate refuses an event that is over a limit.
func (c *Client) refuseOverRate(e *Event, message string, wait time.Duration) {
	c.hub.counters.rateLimited.Add(1)
	c.reject(e, overRate(message, wait))
	if c.onRead.overRate.hit(time.Now()) > limitsPerMinute {
		c.close(closeRateLimited, "rate limit exceeded repeatedly")
	}
}

// reject answers an event that is not handled with an error.
func (c *Client) reject(e *Event, err *Error) {
	c.hub.traceRejected(c, err)
	_ = c.send(errorFrame(e.ID, err), wire.Durable) // a client that is gone needs no answer
}

func overRate(message string, wait time.Duration) *Error {
	return &Error{Code: CodeRateLimited, Message: message, RetryAfter: wait}
}

// mayBroadcast is the check of a message to everyone, which costs the server
// much more than its sender.
func mayBroadcast(c *Client, e *Event) *Error {
	cfg := &c.hub.cfg
	if cfg.RefuseBroadcasts {
		return errorf(CodeForbidden, "Messages to everyone are off")
	}
	if cfg.MaxBroadcastBytes >= 0 && len(e.Data) > cfg.MaxBroadcastBytes {
		return errorf(CodeTooLarge, "Data of a message to everyone is over %d bytes", cfg.MaxBroadcastBytes)
	}
	if wait := reserve(c.place.user.more().broadcasts.get(cfg.BroadcastRate, cfg.BroadcastBurst), 1, time.Now()); wait > 0 {
		return overRate("Too many messages to everyone", wait)
	}
	return nil
}

// What a user may have read from logs, and of lists of users, by history,
// joins, resumes and online-users: half of MaxOutboxBytes per second, which is
// what one resume reads at most, and 16 times as much at once.
const (
	replayBurstTimes = 8
	// replayCost is what each read costs besides the bytes that it returns.
	replayCost = 1 << 10
	// replayPatience is how long a request waits for the budget of its user.
	// If that is not enough, it is refused.
	replayPatience = 5 * time.Second
)

// awaitReplay waits until the user may have more of that. There is no limit if
// Config.UserRate is off.
func (c *Client) awaitReplay(ctx context.Context) error {
	if c.hub.cfg.UserRate < 0 {
		return nil
	}
	wait := untilAllowed(c.replayBudget(), 0, time.Now()) // until there is no debt
	switch {
	case wait == 0:
		return nil
	case wait > replayPatience:
		return overRate("Too much history", wait)
	}
	return sleep(ctx, wait)
}

// readLog reads from a log for the client, and charges its user. The reads of
// one user come one after another, so that they cannot take up all processors.
func (c *Client) readLog(ctx context.Context, t Topic, r Range) (Page, error) {
	free, err := c.readAlone(ctx)
	if err != nil {
		return Page{}, err
	}
	defer free()
	page, err := c.hub.session.Read(ctx, t, r)
	cost := replayCost
	for i := range page.Messages {
		cost += len(page.Messages[i].Body)
	}
	c.chargeReplay(cost)
	return page, err
}

// readAlone waits until no other connection of the user reads from logs, and
// keeps them waiting until free is called.
func (c *Client) readAlone(ctx context.Context) (free func(), err error) {
	slot := &c.place.user.more().replaying
	return slot.free, slot.take(ctx)
}

// chargeReplay charges the user for an answer that is much larger than the
// question. If Config.UserRate is off, nobody asks for the budget, and it is
// not made.
func (c *Client) chargeReplay(bytes int) {
	if c.hub.cfg.UserRate < 0 {
		return
	}
	budget := c.replayBudget()
	budget.ReserveN(time.Now(), min(bytes, budget.Burst()))
}

func (c *Client) replayBudget() *rate.Limiter {
	cfg := &c.hub.cfg
	return c.place.user.more().replayed.get(float64(cfg.answerBytes()), cfg.MaxOutboxBytes*replayBurstTimes)
}

// sleep waits, or returns ctx's error if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reserve takes n tokens, or a whole burst if that is less, and returns 0. If
// there are too few, it takes none and returns the time until there are enough.
func reserve(l *rate.Limiter, n int, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	r := l.ReserveN(now, min(n, max(l.Burst(), 1)))
	if !r.OK() {
		return time.Minute // a burst of zero: never
	}
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// untilAllowed returns how long it takes until reserve would succeed.
func untilAllowed(l *rate.Limiter, n int, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	missing := float64(min(n, max(l.Burst(), 1))) - l.TokensAt(now)
	if missing <= 0 || l.Limit() <= 0 { // reserve says how long the latter is
		return 0
	}
	return time.Duration(missing / float64(l.Limit()) * float64(time.Second))
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

// full reports whether the limiter is back at its burst.
func (lim *lazyLimiter) full(now time.Time) bool {
	r := lim.made.Load()
	return r == nil || r.TokensAt(now) >= float64(r.Burst())
}

// lazySlot is a lock that is made when it is first needed, and whose takers may
// give up.
type lazySlot struct{ made atomic.Pointer[chan struct{}] }

func (slot *lazySlot) take(ctx context.Context) error {
	if slot.made.Load() == nil {
		made := make(chan struct{}, 1)
		slot.made.CompareAndSwap(nil, &made)
	}
	select {
	case *slot.made.Load() <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (slot *lazySlot) free() { <-*slot.made.Load() }
