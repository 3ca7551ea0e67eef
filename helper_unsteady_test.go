package chathub_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// unsteady is a broker in memory whose sessions lose, delay and double messages
// that are not kept. They can also be cut off. Each hub has one session, and
// links has them in the order in which they were made.
type unsteady struct {
	*chathub.MemoryBroker

	mu          sync.Mutex
	rand        *rand.Rand
	lost, twice float64       // probabilities
	delay       time.Duration // the longest one
	links       []*link
	spoken      func(m chathub.Message) // if not nil, sees what is sent
}

func newUnsteady(seed uint64) *unsteady {
	return &unsteady{MemoryBroker: &chathub.MemoryBroker{}, rand: rand.New(rand.NewPCG(seed, 0))}
}

func (u *unsteady) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	l := &link{broker: u, deliver: deliver}
	s, err := u.MemoryBroker.Attach(ctx, l.receive)
	l.BrokerSession = s
	u.mu.Lock()
	defer u.mu.Unlock()
	u.links = append(u.links, l)
	return l, err
}

// weather sets how much goes wrong.
func (u *unsteady) weather(lost, twice float64, delay time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lost, u.twice, u.delay = lost, twice, delay
}

// watch lets f see what is sent.
func (u *unsteady) watch(f func(chathub.Message)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.spoken = f
}

// fate decides how often a message arrives, and how late.
func (u *unsteady) fate(m chathub.Message) (times int, delay time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.spoken != nil {
		u.spoken(m)
	}
	if u.delay > 0 {
		delay = time.Duration(u.rand.Int64N(int64(u.delay)))
	}
	switch f := u.rand.Float64(); {
	case f < u.lost:
		return 0, delay
	case f < u.lost+u.twice:
		return 2, delay
	}
	return 1, delay
}

// link is a session that can be cut off.
type link struct {
	chathub.BrokerSession
	broker  *unsteady
	deliver func(chathub.Message)

	mu    sync.Mutex
	dead  bool
	stall chan struct{} // not nil while paused, and closed at the end of that
	held  []chathub.Message
}

// kill cuts the hub off for good, without a goodbye.
func (l *link) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

// pause holds messages back, in both directions, until resume.
func (l *link) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stall = make(chan struct{})
}

func (l *link) resume() {
	for {
		l.mu.Lock()
		held := l.held
		l.held = nil
		if len(held) == 0 {
			if l.stall != nil {
				close(l.stall)
				l.stall = nil
			}
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		for _, m := range held {
			l.deliver(m)
		}
	}
}

func (l *link) receive(m chathub.Message) {
	l.mu.Lock()
	switch {
	case l.dead:
		l.mu.Unlock()
	case l.stall != nil:
		l.held = append(l.held, m)
		l.mu.Unlock()
	default:
		l.mu.Unlock()
		l.deliver(m)
	}
}

func (l *link) Send(ctx context.Context, m chathub.Message) error {
	l.mu.Lock()
	dead, stall := l.dead, l.stall
	l.mu.Unlock()
	if dead {
		return &chathub.Error{Code: chathub.CodeUnavailable, Message: "Dead"}
	}
	if stall != nil {
		select {
		case <-stall:
		case <-ctx.Done():
			return &chathub.Error{Code: chathub.CodeUnavailable, Message: "Paused"}
		}
	}
	times, delay := l.broker.fate(m)
	send := func() error {
		for range times {
			if err := l.BrokerSession.Send(ctx, m); err != nil {
				return err
			}
		}
		return nil
	}
	if delay == 0 {
		return send()
	}
	time.AfterFunc(delay, func() {
		ctx = context.WithoutCancel(ctx)
		_ = send() // a session that is closed by now has lost the message
	})
	return nil
}

// hubs makes a cluster.
func (u *unsteady) hubs(t *testing.T, n int, cfg chathub.Config) (hubs []*chathub.Hub) {
	cfg.Broker = u
	for range n {
		hubs = append(hubs, hubtest.New(t, cfg))
	}
	return hubs
}
