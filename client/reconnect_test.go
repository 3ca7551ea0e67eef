package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
)

// TestReconnect cuts connections at random moments, while messages flow both
// ways, and checks that each arrives once and in order.
func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		cfg := chathub.Config{Broker: broker, ReplayLimit: 1000, Rate: -1, UserRate: -1}
		hubs := []*chathub.Hub{hubtest.New(t, cfg), hubtest.New(t, cfg)}
		const rounds, messages = 20, 10
		ana, network := dial(t, hubs[0], client.Options{})
		bob, theirs := dial(t, hubs[1], client.Options{Token: token("bob")})
		red := join(t, ana, "red", client.JoinOptions{})
		blue := join(t, ana, "blue", client.JoinOptions{})
		join(t, bob, "red", client.JoinOptions{SendOnly: true})
		sender := join(t, bob, "blue", client.JoinOptions{})
		inbox, err := ana.Inbox(t.Context(), client.InboxOptions{})
		if err != nil {
			t.Fatal(err)
		}

		var sending sync.WaitGroup
		run := func(name string, send func(ctx context.Context, data any) (client.Receipt, error)) {
			sending.Go(func() {
				for i := range rounds * messages {
					if _, err := send(t.Context(), fmt.Sprint(name, i)); err != nil {
						t.Errorf("%s %d: %v", name, i, err)
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		run("r", red.Send)
		run("b", sender.Send)
		run("p", bob.Private("ana").Send)
		for i := range rounds {
			time.Sleep(time.Duration(i) * 37 * time.Millisecond)
			network.serve(hubs[i%2])
			network.cut()
			if i%3 == 0 {
				theirs.cut()
			}
			until(t, ana, client.Waiting)
			until(t, ana, client.Connected)
			until(t, bob, client.Connected)
		}
		sending.Wait()
		for name, s := range map[string]source{"r": red, "b": blue, "p": inbox} {
			var want []string
			for i := range rounds * messages {
				want = append(want, fmt.Sprintf("%q", fmt.Sprint(name, i)))
			}
			got := texts(arrived(s, client.TypeRoomMessage, client.TypePrivateMessage, client.TypeGap))
			if got != strings.Join(want, " ") {
				t.Errorf("%s: got %s", name, got)
			}
		}
	})
}

// TestLostAnswers loses the acks of messages that the server has stored.
func TestLostAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PingInterval: 2 * time.Second})
		ana, network := dial(t, hub, client.Options{PongTimeout: time.Second})
		red := join(t, ana, "red", client.JoinOptions{})
		stored := make(chan client.Receipt)
		for i := range 3 {
			go func() {
				r, err := red.Send(t.Context(), i)
				if err != nil {
					t.Error(err)
				}
				stored <- r
			}()
		}
		// The first is stored, but its answer and the others are lost.
		hub.Use(func(next chathub.Handler) chathub.Handler {
			return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				result, err := next(ctx, c, e)
				if r, ok := result.(chathub.Receipt); ok && network.count() == 1 && !r.Duplicate {
					network.mute()
				}
				return result, err
			}
		})
		duplicates := 0
		for range 3 {
			if r := <-stored; r.Duplicate {
				duplicates++
			}
		}
		if duplicates != 1 || network.count() != 2 {
			t.Errorf("%d messages were stored before, on %d connections", duplicates, network.count())
		}
		if got := arrived(red, client.TypeRoomMessage); len(got) != 3 {
			t.Errorf("got %s", texts(got))
		}
	})
}

// TestServerRestart comes back to a server that has lost its log.
func TestServerRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := hubtest.New(t, chathub.Config{})
		ana, network := dial(t, old, client.Options{})
		red := join(t, ana, "red", client.JoinOptions{})
		if _, err := red.Send(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		fresh := hubtest.New(t, chathub.Config{})
		if err := fresh.To("red").Emit(t.Context(), client.TypeRoomMessage, 2); err != nil {
			t.Fatal(err)
		}
		network.serve(fresh)
		if err := old.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := red.Send(t.Context(), 3); err != nil {
			t.Error(err)
		}
		if got := texts(arrived(red, client.TypeRoomMessage, client.TypeGap)); got != "1 gap 2 3" {
			t.Errorf("got %s", got)
		}
	})
}

// TestReconnectEvent waits as long as the server says.
func TestReconnectEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		go func() {
			p := server.accept(t)
			p.send(`{"type":"reconnect","data":{"afterMs":300000}}`)
			time.Sleep(time.Second)
			_ = p.ws.Close(4000, "restart")
		}()
		ana, network := dial(t, server, client.Options{})
		s := until(t, ana, client.Waiting)
		if s.CloseCode != 4000 || time.Until(s.RetryAt) != 299*time.Second {
			t.Errorf("status %+v, in %v", s, time.Until(s.RetryAt))
		}
		server.accept(t)
		if !time.Now().Equal(s.RetryAt) || network.count() != 2 {
			t.Errorf("it came back at %v, not at %v", time.Now(), s.RetryAt)
		}
	})
}

// TestEarlyMessages ignores messages that come before the answer to resume,
// since they come again after it, in their place.
func TestEarlyMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t)
		s.over() // no calls
		s.network.cut()
		p := <-s.server.peers
		early := `{"type":"room-message","room":"lobby","seq":9,"data":9}`
		p.send(early)
		p.send(welcomeFrame)
		p.send(early)
		p.send(`{"type":"notification","to":"ana","seq":3,"data":3}`)
		p.answer(p.next(t, "resume"), "ack", `{"rooms":{"lobby":{"epoch":"k3","seq":9,"recovered":true}},
			"inbox":{"epoch":"a1","seq":3,"recovered":true}}`)
		for _, f := range []string{
			`{"type":"notification","to":"ana","seq":2,"data":2}`, `{"type":"notification","to":"ana","seq":3,"data":3}`,
			`{"type":"room-message","room":"lobby","seq":8,"data":8}`, early, early,
		} {
			p.send(f)
		}
		if got := texts(arrived(s.lobby, client.TypeRoomMessage, client.TypeGap)); got != "8 9" {
			t.Errorf("the room has %s", got)
		}
		if got := texts(arrived(s.inbox, client.TypeNotification, client.TypeGap)); got != "2 3" {
			t.Errorf("the inbox has %s", got)
		}
	})
}

func TestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{ReplayLimit: 2})
		ana, network := dial(t, hub, client.Options{})
		red := join(t, ana, "red", client.JoinOptions{})
		network.serve(nil)
		network.cut()
		for i := range 4 {
			if err := hub.To("red").Emit(t.Context(), client.TypeRoomMessage, i); err != nil {
				t.Fatal(err)
			}
		}
		network.serve(hub)
		if e := next(t, red, client.TypeGap); e.Room != "red" || e.Position.Seq != 4 {
			t.Errorf("the gap is %+v", e)
		}
		if got := texts(arrived(red, client.TypeRoomMessage)); got != "2 3" {
			t.Errorf("after the gap came %s", got)
		}
		page, err := red.History(t.Context(), client.Query{Before: 3})
		if err != nil || texts(page.Messages) != "0 1" {
			t.Errorf("before the gap: %s, %v", texts(page.Messages), err)
		}
	})
}

// TestSince continues where an earlier client has stopped.
func TestSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		first, _ := dial(t, hub, client.Options{})
		red := join(t, first, "red", client.JoinOptions{})
		for i := range 3 {
			if _, err := red.Send(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
		at := next(t, red, client.TypeRoomMessage).Position
		first.Close()
		second, _ := dial(t, hub, client.Options{})
		red = join(t, second, "red", client.JoinOptions{Since: &at})
		if got := texts(arrived(red, client.TypeRoomMessage, client.TypeGap)); got != "1 2" {
			t.Errorf("got %s", got)
		}
		third, _ := dial(t, hub, client.Options{})
		red = join(t, third, "red", client.JoinOptions{Since: &client.Position{Epoch: "other", Seq: 2}})
		if got := texts(arrived(red, client.TypeRoomMessage, client.TypeGap)); got != "gap 0 1 2" {
			t.Errorf("from another log: %s", got)
		}
	})
}

// TestBackoff counts attempts while nobody is there.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, network := dial(t, hub, client.Options{BackoffMin: time.Second, BackoffMax: 8 * time.Second})
		network.serve(nil)
		network.cut()
		time.Sleep(10 * time.Minute)
		// On average one each 4 s.
		if n := network.count(); n < 100 || n > 225 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		var waits []time.Duration
		for i, at := range network.dials[1:] {
			waits = append(waits, at.Sub(network.dials[i]))
		}
		if most := slices.Max(waits[1:]); most > 8*time.Second || most < 7*time.Second {
			t.Errorf("the longest wait is %v", most)
		}
		if s := ana.Status(); s.State != client.Waiting && s.State != client.Connecting || s.Err == nil || !strings.Contains(s.Err.Error(), "connection refused") {
			t.Errorf("status %+v", s)
		}
		network.serve(hub)
		until(t, ana, client.Connected)
	})
}

// TestSilence finds a server that answers nothing any more, and does not ping a
// server that does.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PingInterval: 10 * time.Second})
		ana, network := dial(t, hub, client.Options{})
		time.Sleep(10 * time.Minute)
		if sent := network.last().messages.Load(); network.count() != 1 || sent != 0 {
			t.Errorf("an idle client has connected %d times, and sent %d messages", network.count(), sent)
		}
		network.mute()
		s := until(t, ana, client.Waiting)
		if s.CloseCode != 0 || s.Err == nil {
			t.Errorf("status %+v", s)
		}
		until(t, ana, client.Connected)
	})
}

// TestPing pings a server that sends no pings itself.
func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		answering := make(chan int)
		go func() {
			p := server.accept(t)
			for range 5 {
				p.next(t, "ping")
				p.send(`{"type":"pong"}`)
			}
			answering <- 5
		}()
		ana, network := dial(t, server, client.Options{PingAfter: 50 * time.Second})
		<-answering
		if network.count() != 1 {
			t.Errorf("it connected %d times while the server answered", network.count())
		}
		time.Sleep(30 * time.Second)
		if s := until(t, ana, client.Waiting); !strings.Contains(s.Err.Error(), "stopped responding") {
			t.Errorf("status %+v", s)
		}
	})
}

// TestEmitOnce checks that an event of the application is not sent again.
func TestEmitOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, network := dial(t, hub, client.Options{})
		var calls atomic.Int64
		chathub.OnAck(hub, "work", func(ctx context.Context, _ *chathub.Client, _ struct{}) (int, error) {
			if calls.Add(1) == 1 {
				network.cut()
				<-ctx.Done()
			}
			return 1, nil
		})
		if err := ana.Emit(t.Context(), "work", nil, nil); !errors.Is(err, client.ErrDisconnected) {
			t.Errorf("%v", err)
		}
		// Without a connection it waits for one.
		if err := ana.Emit(t.Context(), "work", nil, nil); err != nil || calls.Load() != 2 {
			t.Errorf("%v, %d calls", err, calls.Load())
		}
	})
}

// TestOldChange checks that a change is given up if the server may have
// forgotten its id.
func TestOldChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PingInterval: time.Second})
		ana, network := dial(t, hub, client.Options{PongTimeout: time.Second})
		red := join(t, ana, "red", client.JoinOptions{})
		r, err := red.Send(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, away := range []time.Duration{time.Minute, 5 * time.Minute} {
			network.mute()
			network.serve(nil)
			result := make(chan error)
			go func() {
				_, err := red.Edit(t.Context(), r.Position.Seq, away.String())
				result <- err
			}()
			time.Sleep(away)
			network.serve(hub)
			if err := <-result; away == time.Minute && err != nil || away > time.Minute && !errors.Is(err, client.ErrDisconnected) {
				t.Errorf("after %v: %v", away, err)
			}
			until(t, ana, client.Connected)
		}
	})
}

func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		_, network := dial(t, hub, client.Options{Header: http.Header{"X-Tool": {"bot"}}})
		h := network.headers[0]
		if h.Get("X-Tool") != "bot" || h.Get("Authorization") != "Bearer ana" || h.Get("Sec-Websocket-Protocol") != "chathub.v1" {
			t.Errorf("the handshake has %v", h)
		}
	})
}
