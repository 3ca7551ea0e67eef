package chathub_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// probed is a shaky broker that counts what is published, and may hang.
type probed struct {
	shaky
	published atomic.Int64
	hangs     atomic.Bool
}

func (b *probed) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	s, err := b.shaky.Attach(ctx, deliver)
	return probedSession{s, b}, err
}

type probedSession struct {
	chathub.BrokerSession
	broker *probed
}

func (s probedSession) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	s.broker.published.Add(1)
	if s.broker.hangs.Load() {
		<-ctx.Done()
		return chathub.Receipt{}, chathub.Unavailable(ctx.Err())
	}
	return s.BrokerSession.Publish(ctx, m)
}

// A hub is ready while its broker stores messages. It asks at most once a
// second, and not at all while messages are stored.
func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &probed{}
		p := newParty(t, chathub.Config{Broker: b})
		want := func(when string, ready bool, published int64) {
			t.Helper()
			before := b.published.Load()
			var err error
			for range 5 {
				if err = p.hub.Ready(t.Context()); (err == nil) != ready {
					t.Errorf("%s: %v", when, err)
				}
			}
			if !ready {
				var e *chathub.Error
				if !errors.As(err, &e) || e.Code != chathub.CodeUnavailable {
					t.Errorf("%s: %v", when, err)
				}
			}
			if n := b.published.Load() - before; n != published {
				t.Errorf("%s: asked the broker %d times, want %d", when, n, published)
			}
		}
		want("at first", true, 1)
		time.Sleep(1100 * time.Millisecond)
		want("in silence", true, 1)
		time.Sleep(1100 * time.Millisecond)
		ana := p.dial("ana", "lobby")
		ana.Must(hubtest.Frame{Type: "room-message", Room: "lobby", ID: "1"})
		want("after a message", true, 0)

		b.down.Store(true)
		if f := ana.Request(hubtest.Frame{Type: "room-message", Room: "lobby", ID: "2"}); f.Code() != chathub.CodeUnavailable {
			t.Errorf("a message got %s %s", f.Type, f.Data)
		}
		want("after a failure", false, 1)
		time.Sleep(1100 * time.Millisecond)
		want("still down", false, 1)
		b.down.Store(false)
		time.Sleep(1100 * time.Millisecond)
		want("up again", true, 1)
		b.down.Store(true)
		time.Sleep(1100 * time.Millisecond)
		want("down in silence", false, 1)
		b.down.Store(false)
		time.Sleep(1100 * time.Millisecond)

		b.hangs.Store(true)
		began := time.Now()
		want("hanging", false, 1)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		time.Sleep(1100 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := p.hub.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with less patience: %v", err)
		}
		b.hangs.Store(false)
		time.Sleep(4 * time.Second)
		want("again", true, 1)
	})
}

// A hub that is shutting down is not ready, and does not ask its broker.
func TestReadyDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &probed{}
		p := newParty(t, chathub.Config{Broker: b})
		started, end := make(chan struct{}), make(chan struct{})
		chathub.On(p.hub, "slow", func(context.Context, *chathub.Client, struct{}) error {
			close(started)
			<-end
			return nil
		})
		p.dial("ana").Send(hubtest.Frame{Type: "slow"})
		<-started
		ended := make(chan error)
		go func() { ended <- p.hub.Shutdown(t.Context()) }()
		synctest.Wait()
		before := b.published.Load()
		if err := p.hub.Ready(t.Context()); !errors.Is(err, chathub.ErrClosed) {
			t.Errorf("while draining: %v", err)
		}
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := p.hub.Ready(t.Context()); !errors.Is(err, chathub.ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
		if n := b.published.Load(); n != before {
			t.Errorf("asked the broker %d times", n-before)
		}
	})
}

// Nobody hears of a probe, and only one is kept.
func TestReadyProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &chathub.MemoryBroker{}
		p := newParty(t, chathub.Config{Broker: b})
		ana := p.dial("ana", "lobby")
		for range 3 {
			if err := p.hub.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
		wantHeard(t, "ana", ana.Client)
		if f := ana.Request(hubtest.Frame{Type: "join-room", Room: "\x7fready"}); f.Code() != chathub.CodeBadRequest {
			t.Errorf("the room of probes: %s %s", f.Type, f.Data)
		}
		session, err := b.Attach(t.Context(), func(chathub.Message) {})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = session.Close(t.Context()) }()
		page, err := session.Read(t.Context(), chathub.Topic{Room: "\x7fready"}, chathub.Range{Limit: 10})
		if err != nil || len(page.Messages) != 1 {
			t.Errorf("%d probes are kept, %v", len(page.Messages), err)
		}
	})
}
