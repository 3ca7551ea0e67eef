package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/coder/websocket"
)

// upgradeStatus asks for a WebSocket and returns the HTTP answer, which must be
// a refusal.
func upgradeStatus(t *testing.T, h http.Handler, protocol string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	r.Header.Set("Authorization", "Bearer ana")
	if protocol != "" {
		r.Header.Set("Sec-WebSocket-Protocol", protocol)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 4 * time.Second
		p := newParty(t, chathub.Config{DrainWindow: window, MaxConnsPerUser: -1})
		var guests []guest
		for range 50 {
			guests = append(guests, p.dial("ana", "red"))
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := p.hub.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := errors.Join(p.hub.Shutdown(t.Context()), p.hub.Close()); err != nil {
			t.Errorf("the second time: %v", err)
		}

		after := make(map[int64]bool)
		for _, g := range guests {
			var data struct {
				AfterMs int64 `json:"afterMs"`
			}
			unmarshal(t, g.Wait("reconnect").Data, &data)
			after[data.AfterMs] = true
			if data.AfterMs < 0 || data.AfterMs >= window.Milliseconds() {
				t.Errorf("told to come back after %d ms, want within %v", data.AfterMs, window)
			}
			if code, _ := g.Closed(); code != 4000 {
				t.Errorf("closed with %d, want 4000", code)
			}
		}
		if len(after) < 10 { // by chance, that is next to impossible
			t.Errorf("50 clients were told only %d different times", len(after))
		}
	})
}

func TestAfterShutdown(t *testing.T) {
	for _, how := range []string{"Shutdown", "Close"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParty(t, chathub.Config{})
				ana := p.dial("ana", "red")
				ctx := t.Context()
				if how == "Shutdown" {
					if err := p.hub.Shutdown(ctx); err != nil {
						t.Fatal(err)
					}
				} else if err := p.hub.Close(); err != nil {
					t.Fatal(err)
				}
				for _, protocol := range []string{"", "chathub.v1"} {
					status, body := upgradeStatus(t, p.hub, protocol)
					if status != http.StatusServiceUnavailable || body != `{"code":"unavailable","message":"Server is shutting down"}` {
						t.Errorf("ServeHTTP for %q: %d %s", protocol, status, body)
					}
				}
				_, clientsErr := p.hub.To("red").EmitWithAck(ctx, "ask", nil)
				_, noneErr := p.hub.To().EmitWithAck(ctx, "ask", nil)
				for call, err := range map[string]error{
					"Hub.Emit":            p.hub.Emit(ctx, "news", nil),
					"To.Emit":             p.hub.To("red").Emit(ctx, "news", nil),
					"To.Volatile.Emit":    p.hub.To("red").Volatile().Emit(ctx, "news", nil),
					"To of nobody.Emit":   p.hub.To().Emit(ctx, "news", nil),
					"ToUser.Emit":         p.hub.ToUser("ana").Emit(ctx, "news", nil),
					"ToUser.Join":         p.hub.ToUser("ana").Join(ctx, "red"),
					"To.Leave":            p.hub.To("red").Leave(ctx, "red"),
					"ToClient.Disconnect": p.hub.ToClient(ana.server.ID()).Disconnect(ctx, ""),
					"To.EmitWithAck":      clientsErr,
					"To nobody":           noneErr,
					"Broadcast.Emit":      ana.server.Broadcast().Emit(ctx, "news", nil),
				} {
					if !errors.Is(err, chathub.ErrClosed) {
						t.Errorf("%s: %v, want ErrClosed", call, err)
					}
				}
				for call, err := range map[string]error{
					"Emit":        ana.server.Emit(ctx, "news", nil),
					"EmitWithAck": ana.server.EmitWithAck(ctx, "ask", nil, nil),
				} {
					if !errors.Is(err, chathub.ErrClientGone) {
						t.Errorf("Client.%s: %v, want ErrClientGone", call, err)
					}
				}
				for call, err := range map[string]error{
					"Join":  ana.server.Join(ctx, "blue"),
					"Leave": ana.server.Leave(ctx, "red"),
				} {
					if !errors.Is(err, chathub.ErrClosed) && !errors.Is(err, chathub.ErrClientGone) {
						t.Errorf("Client.%s: %v", call, err)
					}
				}
				ana.server.Disconnect("")
				if u, r := onlineUsers(t, p.hub), roomUsers(t, p.hub, "red"); len(u)+len(r) > 0 {
					t.Errorf("users online %v, in the room %v", u, r)
				}
				p.hub.Stats()
				p.hub.Use()
			})
		})
	}
}

// A handler that is running finishes and is acked, while its client is still
// there. Events that wait behind it do not begin.
func TestShutdownFinishesHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended record
		p := newParty(t, chathub.Config{
			OnDisconnect: func(c *chathub.Client, _ chathub.Disconnect) { ended.add("%s", c.User().ID) },
		})
		var calls record
		chathub.OnAck(p.hub, "work", func(ctx context.Context, c *chathub.Client, n int) (int, error) {
			calls.add("%d begins", n)
			defer calls.add("%d ends", n)
			time.Sleep(3 * time.Second)
			if err := c.To("red").Emit(ctx, "worked", n); err != nil {
				return 0, err
			}
			var sure bool
			return n, c.EmitWithAck(ctx, "ask", "sure?", &sure)
		})
		ana, idle := p.dial("ana", "red"), p.dial("idle", "red")
		ana.Send(hubtest.Frame{Type: "work", ID: "w1", Data: raw(`1`)})
		ana.Send(hubtest.Frame{Type: "work", ID: "w2", Data: raw(`2`)})
		time.Sleep(time.Second)
		start := time.Now()
		done := make(chan error, 1) // buffered, so that the goroutine ends even if nobody receives
		go func() { done <- p.hub.Shutdown(t.Context()) }()
		synctest.Wait()
		ended.want(t, "at once", "idle")
		answer(ana.Client, "ack", `true`)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("it took %v, want 2 s", took)
		}
		wantHeard(t, "ana", ana.Client, `ack 1`)
		if code, _ := ana.Closed(); code != 4000 {
			t.Errorf("closed with %d, want 4000", code)
		}
		if got := idle.heard(); len(got) != 1 || !strings.HasPrefix(got[0], "reconnect ") {
			t.Errorf("the idle client heard %q", got)
		}
		calls.want(t, "handlers", "1 begins", "1 ends")
		ended.want(t, "at the end", "ana")
	})
}

// Every message that was acked is in the log, whenever the hub shuts down.
func TestShutdownLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{MaxMessages: -1}
		p := newParty(t, chathub.Config{Broker: broker})
		logs := openJournal(t, broker)
		var guests []guest
		for i := range 10 {
			guests = append(guests, p.dial(fmt.Sprint("user", i), "red"))
		}
		for i := range 200 {
			for _, g := range guests {
				g.Send(hubtest.Frame{Type: "room-message", ID: fmt.Sprint(i), Room: "red", Data: raw(`"hello"`)})
			}
		}
		guests[0].Wait("ack") // the messages are under way
		if err := p.hub.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		page, err := logs.Read(t.Context(), chathub.Topic{Room: "red"}, chathub.Range{Limit: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		stored := make(map[uint64]bool)
		for _, m := range page.Messages {
			stored[m.Seq] = true
		}
		acked := 1
		synctest.Wait()
		for _, g := range guests {
			for _, f := range g.Pending() {
				if f.Type != "ack" {
					continue
				}
				acked++
				if !stored[f.Seq] {
					t.Errorf("message %d was acked and is not in the log", f.Seq)
				}
			}
		}
		if acked != len(stored) {
			t.Errorf("%d messages were acked, %d stored", acked, len(stored))
		}
	})
}

// Neither a peer that reads nothing nor a callback that does not return delays
// Shutdown beyond its context. The contexts of callbacks end with it.
func TestShutdownDeadline(t *testing.T) {
	for _, how := range []string{"deadline", "Close", "Close meanwhile", "deadline of another call"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParty(t, chathub.Config{
					OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
						if c.User().ID == "waiting" {
							<-ctx.Done()
						}
						return nil
					},
				})
				chathub.On(p.hub, "block", func(ctx context.Context, _ *chathub.Client, _ int) error {
					<-ctx.Done()
					return ctx.Err()
				})
				stuck, blocked := p.dial("stuck", "red"), p.dial("blocked")
				stuck.Pause()
				for range 5 {
					if err := p.hub.To("red").Emit(t.Context(), "news", strings.Repeat("x", 1<<10)); err != nil {
						t.Fatal(err)
					}
				}
				blocked.Send(hubtest.Frame{Type: "block"})
				waiting := knock(t, p.hub, "waiting")
				synctest.Wait()

				const patience = 3 * time.Second
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				start := time.Now()
				var err, want error
				var took time.Duration
				switch how {
				case "deadline":
					err, want, took = p.hub.Shutdown(ctx), context.DeadlineExceeded, patience
				case "Close":
					err = p.hub.Close()
				case "Close meanwhile":
					time.AfterFunc(time.Second, func() { _ = p.hub.Close() })
					err, want, took = p.hub.Shutdown(ctx), chathub.ErrClosed, time.Second
				case "deadline of another call":
					time.AfterFunc(time.Second, func() { _ = p.hub.Shutdown(ctx) })
					err, want, took = p.hub.Shutdown(t.Context()), context.DeadlineExceeded, patience
				}
				told := how == "deadline" || how == "deadline of another call"
				if told {
					took += lastGrace // for the stuck client, in vain
				}
				if !errors.Is(err, want) || time.Since(start) != took {
					t.Errorf("%v after %v, want %v after %v", err, time.Since(start), want, took)
				}
				for name, c := range map[string]*hubtest.Client{"stuck": stuck.Client, "blocked": blocked.Client, "waiting": waiting} {
					c.Resume()
					code := -1 // cut off
					if told && name == "blocked" {
						code = 4000
						c.Wait("reconnect")
					}
					if got, _ := c.Closed(); got != code {
						t.Errorf("%s was closed with %d, want %d", name, got, code)
					}
				}
				if err := p.hub.Close(); err != nil {
					t.Errorf("Close afterwards: %v", err)
				}
			}) // synctest.Test waits for all goroutines
		})
	}
}

// TestShutdownOfFew: a few clients come back soon, not at any time of the
// window.
func TestShutdownOfFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{DrainWindow: time.Hour})
		guests := []guest{p.dial("ana"), p.dial("ben")}
		if err := p.hub.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		for _, g := range guests {
			var data struct {
				AfterMs int64 `json:"afterMs"`
			}
			unmarshal(t, g.Wait("reconnect").Data, &data)
			if most := int64(2 * len(guests)); data.AfterMs >= most {
				t.Errorf("come back after %d ms, want less than %d", data.AfterMs, most)
			}
		}
	})
}

// lastGrace is how long a Shutdown whose ctx has ended waits for close
// handshakes.
const lastGrace = 250 * time.Millisecond

// TestShutdownWithoutTime: a Shutdown whose ctx has ended before the call tells
// every client to come back, those with running handlers included.
func TestShutdownWithoutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{MaxConnsPerUser: -1})
		chathub.On(p.hub, "block", func(ctx context.Context, _ *chathub.Client, _ int) error {
			<-ctx.Done()
			return ctx.Err()
		})
		var guests []guest
		for i := range 50 {
			g := p.dial("ana", "red")
			if i%2 == 0 {
				g.Send(hubtest.Frame{Type: "block"})
			}
			guests = append(guests, g)
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.hub.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown: %v, want %v", err, context.Canceled)
		}
		for i, g := range guests {
			g.Wait("reconnect")
			if code, _ := g.Closed(); code != 4000 {
				t.Errorf("client %d was closed with %d, want 4000", i, code)
			}
		}
	})
}

// Without a deadline, a peer that reads nothing is given up after
// Config.WriteTimeout.
func TestShutdownStuckPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{WriteTimeout: 7 * time.Second})
		p.dial("ana").Pause()
		start := time.Now()
		if err := p.hub.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 7*time.Second {
			t.Errorf("it took %v, want at most 7 s", took)
		}
	})
}

// A client in the middle of OnConnect is let through, and told to come back.
func TestShutdownWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hub := hubtest.New(t, chathub.Config{
			PresenceInterval: -1,
			OnConnect: func(context.Context, *chathub.Client, *http.Request) error {
				<-release
				return nil
			},
		})
		ana := knock(t, hub, "ana")
		synctest.Wait()
		done := make(chan error, 1) // buffered, so that the goroutine ends even if nobody receives
		go func() { done <- hub.Shutdown(t.Context()) }()
		synctest.Wait()
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if code, _ := ana.Closed(); code != 4000 {
			t.Errorf("closed with %d, want 4000", code)
		}
		for _, s := range heard(ana) {
			if typ, _, _ := strings.Cut(s, " "); !slices.Contains([]string{"welcome", "reconnect"}, typ) {
				t.Errorf("ana heard %q", s)
			}
		}
	})
}

// The http.Server and the hub shut down together, over real sockets.
func TestShutdownWithServer(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
	mux := http.NewServeMux()
	mux.Handle("/ws", hub)
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Handler: mux}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1) // buffered, so that the goroutine ends even if nobody receives
	go func() { served <- server.Serve(listener) }()

	url := "ws://" + listener.Addr().String() + "/ws"
	ws, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{
		Subprotocols: []string{"chathub.v1"},
		HTTPHeader:   http.Header{"Authorization": {"Bearer ana"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	read := func() (hubtest.Frame, error) {
		var f hubtest.Frame
		_, b, err := ws.Read(t.Context())
		if err == nil {
			unmarshal(t, b, &f)
		}
		return f, err
	}
	if f, err := read(); err != nil || f.Type != "welcome" {
		t.Fatalf("%s, %v", f.Type, err)
	}

	var wg sync.WaitGroup
	for _, shutdown := range []func(context.Context) error{server.Shutdown, hub.Shutdown} {
		wg.Go(func() {
			if err := shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	if f, err := read(); err != nil || f.Type != "reconnect" {
		t.Errorf("%s, %v", f.Type, err)
	}
	if _, err := read(); websocket.CloseStatus(err) != 4000 {
		t.Errorf("the connection ended with %v, want 4000", err)
	}
	wg.Wait()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// A hub may be closed while everything in it is going on.
func TestCloseRaces(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t, chathub.Config{
				OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error { return c.Join(ctx, "blue") },
			})
			ana := p.dial("ana", "red")
			ctx := t.Context()
			var wg sync.WaitGroup
			until := func(call func() error) {
				wg.Go(func() {
					for err := error(nil); err == nil; err = call() {
					}
				})
			}
			for range 3 {
				until(func() error {
					for _, users := range [][]chathub.User{onlineUsers(t, p.hub), roomUsers(t, p.hub, "red")} {
						if len(users) == 0 {
							return chathub.ErrClosed
						}
					}
					return nil
				})
				until(func() error { return p.hub.To("red").Emit(ctx, "news", nil) })
				until(func() error { return p.hub.ToUser("ana").Join(ctx, "red", "green") })
				until(func() error { return errors.Join(ana.server.Leave(ctx, "green"), ana.server.Join(ctx, "green")) })
				until(func() error {
					_, err := hubtest.DialHeader(t, p.hub, http.Header{"Authorization": {"Bearer bob"}})
					return err
				})
			}
			if err := p.hub.Close(); err != nil {
				t.Error(err)
			}
			wg.Wait()
		})
	}
}
