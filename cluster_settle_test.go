package chathub_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
)

// settle calls Settle, and hands over its result.
func settle(ctx context.Context, hub *chathub.Hub, seq uint64) <-chan error {
	done := make(chan error, 1)
	go func() { done <- hub.Settle(ctx, "lobby", seq) }()
	return done
}

// pending fails the test if a call has returned.
func pending(t *testing.T, when string, done <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		t.Errorf("%s: Settle has returned (%v)", when, err)
	default:
	}
}

// TestSettle: Settle waits until the function of every Follow has returned, on
// every node.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := unsteadyParties(t, 3, 0)
		taken := make(chan struct{})
		defer close(taken)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, i := range []int{0, 2, 2} {
			go func() {
				_ = p[i].hub.Follow(ctx, "lobby", chathub.Position{}, func(context.Context, chathub.Entry) error {
					taken <- struct{}{}
					return nil
				})
			}()
		}
		synctest.Wait()
		post := func() uint64 {
			t.Helper()
			r, err := p[1].hub.To("lobby").Post(t.Context(), chathub.Post{Data: 1})
			if err != nil {
				t.Fatal(err)
			}
			return r.Seq
		}
		first := post()
		var done []<-chan error
		for _, member := range p {
			done = append(done, settle(t.Context(), member.hub, first))
		}
		for range 3 {
			for _, d := range done {
				pending(t, "before all have taken the message", d)
			}
			<-taken
		}
		for _, d := range done {
			if err := <-d; err != nil {
				t.Error(err)
			}
		}

		second := post()
		late := settle(t.Context(), p[0].hub, second)
		if err := <-settle(t.Context(), p[0].hub, first); err != nil {
			t.Errorf("of a message before: %v", err)
		}
		pending(t, "of the message after it", late)
		for range 2 {
			<-taken
			pending(t, "before the last one has taken it", late)
		}
		cancel() // a Follow that ends is not waited for
		<-taken
		if err := <-late; err != nil {
			t.Error(err)
		}
		if err := <-settle(t.Context(), p[0].hub, post()); err != nil {
			t.Errorf("without a Follow: %v", err)
		}
	})
}

// TestSettleMembers: Settle waits until the members on every node have been
// sent the message.
func TestSettleMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, p := unsteadyParties(t, 2, time.Minute)
		ana := p[1].dial("ana", "lobby")
		broker.links[1].pause()
		receipt, err := p[0].hub.To("lobby").Post(t.Context(), chathub.Post{Data: 1})
		if err != nil {
			t.Fatal(err)
		}
		done := settle(t.Context(), p[0].hub, receipt.Seq)
		pending(t, "while the node hears nothing", done)
		broker.links[1].resume()
		if err := <-done; err != nil {
			t.Error(err)
		}
		wantHeard(t, "ana", ana.Client, "room-message@lobby 1")
	})
}

// TestSettleFails: Settle says so if it cannot know that all nodes are done.
func TestSettleFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, p := unsteadyParties(t, 2, 0)
		receipt, err := p[0].hub.To("lobby").Post(t.Context(), chathub.Post{Data: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := p[0].hub.Settle(t.Context(), "", 1); !hasCode(err, chathub.CodeBadRequest) {
			t.Errorf("without a room: %v", err)
		}
		var blocked atomic.Bool
		blocked.Store(true)
		go func() {
			_ = p[1].hub.Follow(t.Context(), "lobby", chathub.Position{}, func(ctx context.Context, _ chathub.Entry) error {
				if blocked.Load() {
					<-ctx.Done()
				}
				return nil
			})
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := p[0].hub.Settle(ctx, "lobby", receipt.Seq); !hasCode(err, chathub.CodeUnavailable) || time.Since(start) > time.Second {
			t.Errorf("if ctx ends: %v after %v", err, time.Since(start))
		}
		start = time.Now()
		if err := p[0].hub.Settle(t.Context(), "lobby", receipt.Seq); !hasCode(err, chathub.CodeUnavailable) || time.Since(start) > 6*time.Second {
			t.Errorf("a Follow that hangs: %v after %v", err, time.Since(start))
		}
		broker.links[1].kill()
		if err := p[0].hub.Settle(t.Context(), "lobby", receipt.Seq); !hasCode(err, chathub.CodeUnavailable) {
			t.Errorf("a node that is silent: %v", err)
		}
		time.Sleep(10 * time.Second) // of the bubble: the node is given up
		if err := p[0].hub.Settle(t.Context(), "lobby", receipt.Seq); err != nil {
			t.Errorf("alone again: %v", err)
		}
		ana := p[0].dial("ana", "lobby")
		if err := p[0].hub.Settle(t.Context(), "lobby", receipt.Seq+1); !hasCode(err, chathub.CodeUnavailable) {
			t.Errorf("a position that is not there yet: %v", err)
		}
		ana.Drop()
		_ = p[0].hub.Close()
		if err := p[0].hub.Settle(t.Context(), "lobby", receipt.Seq); !errors.Is(err, chathub.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestSettleUnsteady: confirmations come whatever notes are lost or doubled.
func TestSettleUnsteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, p := unsteadyParties(t, 3, time.Minute)
		var seen atomic.Uint64
		go func() {
			_ = p[2].hub.Follow(t.Context(), "lobby", chathub.Position{}, func(_ context.Context, e chathub.Entry) error {
				time.Sleep(10 * time.Millisecond)
				seen.Store(e.Seq)
				return nil
			})
		}()
		broker.weather(0.3, 0.3, 20*time.Millisecond)
		for i := range 20 {
			receipt, err := p[i%3].hub.To("lobby").Post(t.Context(), chathub.Post{Data: i})
			if err != nil {
				t.Fatal(err)
			}
			if err := p[i%2].hub.Settle(t.Context(), "lobby", receipt.Seq); err != nil || seen.Load() < receipt.Seq {
				t.Errorf("message %d: %v, the function has had %d", receipt.Seq, err, seen.Load())
			}
		}
	})
}
