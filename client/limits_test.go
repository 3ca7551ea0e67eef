package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// TestSlowReader reads a room more slowly than it speaks. Nothing is lost, and
// answers come all the same.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{ReplayLimit: 1000})
		ana, network := dial(t, hub, client.Options{QueueBytes: 10 << 10})
		red := join(t, ana, "red", client.JoinOptions{})
		inbox, err := ana.Inbox(t.Context(), client.InboxOptions{})
		if err != nil {
			t.Fatal(err)
		}
		const messages = 200
		var want []string
		text := strings.Repeat("x", 100)
		for i := range messages {
			want = append(want, fmt.Sprintf(`"%d%s"`, i, text))
			for _, to := range []chathub.Target{hub.To("red"), hub.ToUser("ana")} {
				if err := to.Emit(t.Context(), "news", fmt.Sprint(i, text)); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		if _, err := red.History(t.Context(), client.Query{Limit: 1}); err != nil {
			t.Error(err)
		}
		for name, s := range map[string]source{"room": red, "inbox": inbox} {
			var got []string
			for e := range s.Events(t.Context()) {
				if e.Type == "news" || e.Type == client.TypeGap {
					got = append(got, string(e.Data))
				}
				if len(got) == messages {
					break
				}
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%s: got %v", name, got)
			}
		}
		if network.count() != 1 {
			t.Errorf("it connected %d times", network.count())
		}
		// It is live again.
		if _, err := red.Send(t.Context(), "live"); err != nil {
			t.Fatal(err)
		}
		next(t, red, client.TypeRoomMessage)
	})
}

// TestVolatileFirst drops volatile events before durable ones.
func TestVolatileFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, network := dial(t, hub, client.Options{QueueBytes: 10 << 10})
		red := join(t, ana, "red", client.JoinOptions{})
		for range 100 {
			if err := hub.To("red").Volatile().Emit(t.Context(), "tick", 1); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			if err := hub.To("red").Emit(t.Context(), "news", i); err != nil {
				t.Fatal(err)
			}
		}
		if got := texts(arrived(red, "news")); got != "0 1 2 3 4 5 6 7 8 9" || network.last().messages.Load() != 1 {
			t.Errorf("got %s, after %d messages to the server", got, network.last().messages.Load())
		}
	})
}

// TestRemovedWhileBehind ends a room whose events are not read.
func TestRemovedWhileBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, _ := dial(t, hub, client.Options{QueueBytes: 1000})
		red := join(t, ana, "red", client.JoinOptions{})
		for i := range 10 {
			if err := hub.To("red").Emit(t.Context(), "news", i); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if err := hub.To("red").Remove(t.Context(), "Closed", "red"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var all []string
		for e := range red.Events(t.Context()) { // ends by itself
			all = append(all, e.Type)
		}
		if len(all) < 3 || all[len(all)-1] != client.TypeRemoved || !isCode(red.Err(), client.CodeNotInRoom) || !strings.Contains(red.Err().Error(), "Closed") {
			t.Errorf("got %v, %v", all, red.Err())
		}
		if _, err := red.Send(t.Context(), 1); !errors.Is(err, red.Err()) {
			t.Errorf("sending: %v", err)
		}
		join(t, ana, "red", client.JoinOptions{})
	})
}

// TestRateLimits sends more than the server allows, without losing the order or
// the connection.
func TestRateLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Rate: 5, Burst: 5, UserRate: 5, UserBurst: 5})
		ana, network := dial(t, hub, client.Options{})
		reader := hubtest.Dial(t, hub, "bob")
		rooms := make([]*client.Room, 3)
		for i := range rooms {
			name := fmt.Sprint("room", i)
			rooms[i] = join(t, ana, name, client.JoinOptions{SendOnly: true})
			reader.Must(hubtest.Frame{Type: "join-room", Room: name})
			time.Sleep(10 * time.Second)
		}
		const messages = 30
		var sending sync.WaitGroup
		for i := range messages {
			for _, r := range rooms {
				sending.Go(func() {
					if _, err := r.Send(t.Context(), i); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait() // so that the calls have an order
		}
		reads := make(chan error)
		go func() {
			_, err := rooms[0].History(t.Context(), client.Query{})
			reads <- err
		}()
		sending.Wait()
		if err := <-reads; err != nil {
			t.Error(err)
		}
		last := make(map[string]int)
		synctest.Wait()
		for _, f := range reader.Pending() {
			if f.Type == "room-message" {
				if got := string(f.Data); got != fmt.Sprint(last[f.Room]) {
					t.Errorf("%s: got %s, want %d", f.Room, got, last[f.Room])
				}
				last[f.Room]++
			}
		}
		// At first 32 are under way at once. Then they go one at a time.
		if n := hub.Stats().RateLimited; n > 100 {
			t.Errorf("the server has refused %d events", n)
		}
		if fmt.Sprint(last) != "map[room0:30 room1:30 room2:30]" || network.count() != 1 {
			t.Errorf("got %v, on %d connections", last, network.count())
		}
	})
}

// TestRefusedRoom checks that a room which the server goes on refusing does not
// hold up the others.
func TestRefusedRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		var mended atomic.Bool
		hub.Use(func(next chathub.Handler) chathub.Handler {
			return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				if e.Type == client.TypeRoomMessage && e.Room == "bad" && !mended.Load() {
					return nil, chathub.Unavailable(nil)
				}
				return next(ctx, c, e)
			}
		})
		ana, _ := dial(t, hub, client.Options{})
		bad := join(t, ana, "bad", client.JoinOptions{})
		good := join(t, ana, "good", client.JoinOptions{})
		result := make(chan error)
		go func() {
			_, err := bad.Send(t.Context(), 1)
			result <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for i := range 10 {
			if _, err := good.Send(ctx, i); err != nil {
				t.Fatal(err)
			}
		}
		mended.Store(true)
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func TestFullOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, network := dial(t, hub, client.Options{MaxOutbox: 3})
		red := join(t, ana, "red", client.JoinOptions{})
		network.serve(nil)
		network.cut()
		until(t, ana, client.Waiting)
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 3)
		for i := range 3 {
			go func() {
				_, err := red.Send(ctx, i)
				results <- err
			}()
		}
		synctest.Wait()
		if _, err := red.Send(t.Context(), 3); !errors.Is(err, client.ErrFull) {
			t.Errorf("a message too many: %v", err)
		}
		cancel() // they leave the outbox
		for range 3 {
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Errorf("a message that was given up: %v", err)
			}
		}
		go func() {
			_, err := red.Send(t.Context(), 4)
			results <- err
		}()
		network.serve(hub)
		if err := <-results; err != nil {
			t.Error(err)
		}
		if got := texts(arrived(red, client.TypeRoomMessage)); got != "4" {
			t.Errorf("the room has %s", got)
		}
	})
}

func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{MaxMessageBytes: 1000})
		ana, network := dial(t, hub, client.Options{})
		red := join(t, ana, "red", client.JoinOptions{})
		if _, err := red.Send(t.Context(), strings.Repeat("x", 1000)); !isCode(err, client.CodeTooLarge) {
			t.Errorf("%v", err)
		}
		// Positions that do not fit into one message.
		for i := range 20 {
			join(t, ana, fmt.Sprint(i, strings.Repeat("y", 100)), client.JoinOptions{})
		}
		network.cut()
		until(t, ana, client.Waiting)
		until(t, ana, client.Connected)
		if _, err := red.Send(t.Context(), 1); err != nil || network.count() != 2 {
			t.Errorf("%v, %d connections", err, network.count())
		}
	})
}

// TestIDs checks that a post with an id is stored once, over clients.
func TestIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		var receipts []client.Receipt
		for i := range 3 {
			c, _ := dial(t, hub, client.Options{})
			red := join(t, c, "red", client.JoinOptions{})
			r, err := red.Post(t.Context(), client.Post{ID: "build-17", Data: max(i, 1)})
			if i == 2 {
				if !isCode(err, client.CodeConflict) {
					t.Errorf("other data: %v", err)
				}
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			receipts = append(receipts, r)
			c.Close()
		}
		if receipts[0].Duplicate || !receipts[1].Duplicate || receipts[0].Position != receipts[1].Position {
			t.Errorf("receipts %+v", receipts)
		}
	})
}

// TestGivenUpJoin leaves a room while the join, or the resume, is waiting to be
// sent again.
func TestGivenUpJoin(t *testing.T) {
	const later = `{"code":"rate_limited","message":"Too many events","retryAfterMs":5000}`
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		first := make(chan *peer)
		go func() {
			p := <-server.peers
			p.send(welcomeFrame)
			first <- p
		}()
		ana, network := dial(t, server, client.Options{})
		p := <-first
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = ana.Join(ctx, "red", client.JoinOptions{}) }()
		p.answer(p.next(t, "join-room"), "error", later)
		synctest.Wait()
		cancel()
		p.answer(p.next(t, "leave-room"), "ack", "null")
		time.Sleep(20 * time.Second)
		for len(p.frames) > 0 {
			if f := <-p.frames; f.Type == "join-room" {
				t.Errorf("after leaving came %+v", f)
			}
		}

		const joined = `{"rooms":{"blue":{"epoch":"k3","seq":1,"recovered":true}}}`
		blue := make(chan *client.Room)
		go func() {
			r, _ := ana.Join(t.Context(), "blue", client.JoinOptions{Since: &client.Position{Epoch: "k3", Seq: 1}})
			blue <- r
		}()
		p.answer(p.next(t, "resume"), "ack", joined)
		r := <-blue
		network.cut()
		p = server.accept(t)
		resume := p.next(t, "resume")
		left := make(chan error)
		go func() { left <- r.Leave(t.Context()) }()
		leave := p.next(t, "leave-room")
		p.answer(resume, "error", later)
		p.answer(leave, "ack", "null")
		if err := <-left; err != nil {
			t.Error(err)
		}
		p.answer(p.next(t, "resume"), "ack", joined)
		p.next(t, "leave-room") // the resume has joined it again
	})
}

// TestShutdown sends what waits, over a reconnect, and takes no more.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan chathub.Disconnect, 2)
		hub := hubtest.New(t, chathub.Config{OnDisconnect: func(_ *chathub.Client, d chathub.Disconnect) { ends <- d }})
		ana, network := dial(t, hub, client.Options{})
		red := join(t, ana, "red", client.JoinOptions{})
		network.serve(nil)
		network.cut()
		<-ends
		results := make(chan error, 5)
		for i := range cap(results) {
			go func() {
				_, err := red.Send(t.Context(), i)
				results <- err
			}()
			synctest.Wait()
		}
		ended := make(chan error)
		go func() { ended <- ana.Shutdown(t.Context()) }()
		synctest.Wait()
		if _, err := red.Send(t.Context(), 5); !errors.Is(err, client.ErrClosed) {
			t.Errorf("a message after it: %v", err)
		}
		network.serve(hub)
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if d := <-ends; d.Code != 1000 || !d.Remote {
			t.Errorf("the hub saw %+v", d)
		}
		var got []client.Event
		for e := range red.Events(t.Context()) {
			if e.Type == client.TypeRoomMessage {
				got = append(got, e)
			}
		}
		// An ack may come before the sender's own copy, so that may be missing.
		if !strings.HasPrefix(texts(got), "0 1 2 3") || !errors.Is(red.Err(), client.ErrClosed) {
			t.Errorf("events %s, %v", texts(got), red.Err())
		}
	})
}

// TestShutdownInVain gives up when ctx ends.
func TestShutdownInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, network := dial(t, hub, client.Options{})
		red := join(t, ana, "red", client.JoinOptions{})
		network.serve(nil)
		network.cut()
		until(t, ana, client.Waiting)
		result := make(chan error)
		go func() {
			_, err := red.Send(t.Context(), 1)
			result <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := ana.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-result; !errors.Is(err, client.ErrClosed) {
			t.Errorf("the message: %v", err)
		}
	})
}

// TestClose closes in each state. The bubble finds goroutines that are left.
func TestClose(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, c *client.Client, n *network){
		"connected": func(*testing.T, *client.Client, *network) {},
		"waiting": func(t *testing.T, c *client.Client, n *network) {
			n.serve(nil)
			n.cut()
			until(t, c, client.Waiting)
		},
		"deaf server": func(_ *testing.T, _ *client.Client, n *network) { n.mute() },
		"refreshing":  func(*testing.T, *client.Client, *network) { time.Sleep(10 * time.Minute) },
		"connecting": func(t *testing.T, c *client.Client, n *network) {
			n.serve(newFake())
			n.cut()
			until(t, c, client.Waiting)
			until(t, c, client.Connecting)
			synctest.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{Auth: expiring{}})
				calls := 0
				ana, n := dial(t, hub, client.Options{Token: func(ctx context.Context) (string, error) {
					if calls++; calls > 1 {
						<-ctx.Done()
						return "", ctx.Err()
					}
					return fmt.Sprint("ana.", time.Now().Add(10*time.Minute+time.Second).Unix()), nil
				}})
				red := join(t, ana, "red", client.JoinOptions{})
				reading := make(chan error)
				go func() {
					for range red.Events(t.Context()) {
					}
					reading <- red.Err()
				}()
				prepare(t, ana, n)
				began := time.Now()
				ana.Close()
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("it took %v", took)
				}
				if err := <-reading; !errors.Is(err, client.ErrClosed) || !errors.Is(ana.Err(), client.ErrClosed) {
					t.Errorf("the room has ended with %v, the client with %v", err, ana.Err())
				}
				ana.Close()
			})
		})
	}
}

// TestDialInVain goes on trying until ctx ends.
func TestDialInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n := &network{}
		_, err := client.Dial(ctx, "ws://hub.test/", client.Options{HTTPClient: &http.Client{Transport: n}})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") || n.count() < 3 {
			t.Errorf("%v, after %d attempts", err, n.count())
		}
	})
}
