package chathub_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// bomb is data whose methods panic.
type bomb struct{}

func (bomb) MarshalJSON() ([]byte, error) { panic("boom") }
func (*bomb) UnmarshalJSON([]byte) error  { panic("boom") }

// fuse is data whose validation panics.
type fuse struct{}

func (fuse) Validate() error { panic("boom") }

// dud is an error whose methods panic.
type dud struct{}

func (*dud) Error() string { panic("boom") }
func (*dud) Unwrap() error { panic("boom") }

// bombAuth is an Authenticator that panics for the token "boom".
type bombAuth struct{}

func (bombAuth) Authenticate(ctx context.Context, token string, r *http.Request) (chathub.Identity, error) {
	if token == "boom" {
		panic(token)
	}
	return hubtest.Auth{}.Authenticate(ctx, token, r)
}

// A panic in a callback is an internal error for that client, and a line in the
// log with the stack. The client and all others go on.
func TestPanics(t *testing.T) {
	on := func(event string, do func(ctx context.Context, c *chathub.Client) error) func(*chathub.Hub) {
		return func(h *chathub.Hub) {
			chathub.On(h, event, func(ctx context.Context, c *chathub.Client, _ struct{}) error { return do(ctx, c) })
		}
	}
	use := func(m func(next chathub.Handler, ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error)) func(*chathub.Hub) {
		return func(h *chathub.Hub) {
			h.Use(func(next chathub.Handler) chathub.Handler {
				return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
					if e.Type == "message" || e.Type == "online-users" {
						return next(ctx, c, e)
					}
					return m(next, ctx, c, e)
				}
			})
		}
	}
	custom := hubtest.Frame{Type: "custom"}
	for _, tc := range []struct {
		name  string
		cfg   chathub.Config
		set   func(*chathub.Hub)
		event hubtest.Frame
	}{
		{name: "Authenticate", cfg: chathub.Config{Auth: bombAuth{}}, event: hubtest.Frame{Type: "refresh-token", Data: raw(`{"token":"boom"}`)}},
		{
			name: "Authorize",
			cfg: chathub.Config{Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
				if a.Room == "red" {
					panic("boom")
				}
				return nil
			}},
			event: hubtest.Frame{Type: "join-room", Room: "red"},
		},
		{
			name:  "middleware",
			set:   use(func(chathub.Handler, context.Context, *chathub.Client, *chathub.Event) (any, error) { panic("boom") }),
			event: hubtest.Frame{Type: "join-room", Room: "red"},
		},
		{
			name: "middleware, afterwards",
			set: use(func(next chathub.Handler, ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				defer panic("boom")
				return next(ctx, c, e)
			}),
			event: hubtest.Frame{Type: "join-room", Room: "red"},
		},
		{
			name: "event type without a handler",
			set: use(func(next chathub.Handler, ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				e.Type = "boom"
				return next(ctx, c, e)
			}),
			event: hubtest.Frame{Type: "join-room", Room: "red"},
		},
		{name: "handler", set: on("custom", func(context.Context, *chathub.Client) error { panic("boom") }), event: custom},
		{
			name: "handler, runtime error",
			set: on("custom", func(_ context.Context, c *chathub.Client) error {
				_ = c.Rooms()[7]
				return nil
			}),
			event: custom,
		},
		{name: "error", set: on("custom", func(context.Context, *chathub.Client) error { return new(dud) }), event: custom},
		{name: "Emit", set: on("custom", func(ctx context.Context, c *chathub.Client) error { return c.Emit(ctx, "news", bomb{}) }), event: custom},
		{
			name: "UnmarshalJSON",
			set: func(h *chathub.Hub) {
				chathub.On(h, "custom", func(context.Context, *chathub.Client, bomb) error { return nil })
			},
			event: hubtest.Frame{Type: "custom", Data: raw(`{}`)},
		},
		{
			name: "Validate",
			set: func(h *chathub.Hub) {
				chathub.On(h, "custom", func(context.Context, *chathub.Client, fuse) error { return nil })
			},
			event: custom,
		},
		{
			name: "MarshalJSON",
			set: func(h *chathub.Hub) {
				chathub.OnAck(h, "custom", func(context.Context, *chathub.Client, struct{}) (bomb, error) { return bomb{}, nil })
			},
			event: custom,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBuffer
				tc.cfg.Logger = log.logger()
				p := newParty(t, tc.cfg)
				if tc.set != nil {
					tc.set(p.hub)
				}
				ana, bob := p.dial("ana"), p.dial("bob")
				log.take()
				got := ana.Request(tc.event)
				if got.Type != "error" || string(got.Data) != `{"code":"internal","message":"Internal error"}` {
					t.Errorf("got %s %s", got.Type, got.Data)
				}
				wantStack(t, &log)
				if rooms := ana.server.Rooms(); len(rooms) > 0 {
					t.Errorf("ana is in %q", rooms)
				}
				ana.Must(hubtest.Frame{Type: "message"})
				wantHeard(t, "bob", bob.Client, "message")
			})
		})
	}
}

// wantStack checks that a panic was logged with its stack.
func wantStack(t *testing.T, log *logBuffer) {
	t.Helper()
	s := log.take()
	for _, part := range []string{"level=ERROR", `msg="chathub: panic"`, "panic_test.go:"} {
		if !strings.Contains(s, part) {
			t.Errorf("the log does not mention %s: %s", part, s)
		}
	}
	if n := strings.Count(s, "level=ERROR"); n > 2 {
		t.Errorf("%d lines in the log: %s", n, s)
	}
}

// The same holds for the callbacks that run when clients come and go.
func TestPanicsOfConnections(t *testing.T) {
	const refused = `connect-error {"code":"internal","message":"Internal error"}`
	boom := func(c *chathub.Client) {
		if c.User().ID == "boom" {
			panic("boom")
		}
	}
	for _, tc := range []struct {
		name  string
		cfg   chathub.Config
		heard string // empty: the client is welcome
	}{
		{"Authenticate", chathub.Config{Auth: bombAuth{}}, refused},
		{"OnConnect", chathub.Config{OnConnect: func(_ context.Context, c *chathub.Client, _ *http.Request) error {
			boom(c)
			return nil
		}}, refused},
		{"error of OnConnect", chathub.Config{OnConnect: func(_ context.Context, c *chathub.Client, _ *http.Request) error {
			if c.User().ID == "boom" {
				return new(dud)
			}
			return nil
		}}, refused},
		{"OnDisconnect", chathub.Config{OnDisconnect: func(c *chathub.Client, _ chathub.Disconnect) { boom(c) }}, ""},
		{"Trace.Connected", chathub.Config{Trace: &chathub.Trace{Connected: boom}}, ""},
		{"Trace.Disconnected", chathub.Config{Trace: &chathub.Trace{
			Disconnected: func(c *chathub.Client, _ chathub.Disconnect) { boom(c) },
		}}, ""},
		{"Trace.Handled", chathub.Config{Trace: &chathub.Trace{
			Handled: func(c *chathub.Client, _ *chathub.Event, _ time.Duration, _ *chathub.Error) { boom(c) },
		}}, ""},
		{"Trace.Refused", chathub.Config{
			OnConnect: func(_ context.Context, c *chathub.Client, _ *http.Request) error {
				if c.User().ID == "boom" {
					return &chathub.Error{Code: chathub.CodeForbidden}
				}
				return nil
			},
			Trace: &chathub.Trace{Refused: func(*chathub.Error) { panic("boom") }},
		}, `connect-error {"code":"forbidden","message":""}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBuffer
				tc.cfg.Logger = log.logger()
				p := newParty(t, tc.cfg)
				bob := p.dial("bob")
				log.take()
				c := knock(t, p.hub, "boom")
				if tc.heard == "" {
					c.Wait("welcome")
					c.Must(hubtest.Frame{Type: "message"})
					wantHeard(t, "bob", bob.Client, "message")
					c.Must(hubtest.Frame{Type: "message"})
					wantHeard(t, "bob", bob.Client, "message")
					c.Close()
				} else {
					wantHeard(t, "boom", c, tc.heard)
				}
				c.Closed()
				synctest.Wait()
				s := log.take()
				if !strings.Contains(s, `msg="chathub: panic"`) || !strings.Contains(s, "panic_test.go:") {
					t.Errorf("log: %s", s)
				}
				if s := p.hub.Stats(); s.Connections != 1 {
					t.Errorf("%d connections are left, want only bob's", s.Connections)
				}
				if err := p.hub.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A client that does not offer the protocol gets the status.
func TestPanicOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		hub := hubtest.New(t, chathub.Config{Logger: log.logger(), Auth: panicky{}})
		status, body := upgradeStatus(t, hub, "")
		if status != http.StatusInternalServerError || body != `{"code":"internal","message":"Internal error"}` {
			t.Errorf("%d %s", status, body)
		}
		wantStack(t, &log)
	})
}

// panicky is an Authenticator that always panics.
type panicky struct{}

func (panicky) Authenticate(context.Context, string, *http.Request) (chathub.Identity, error) {
	panic("boom")
}

// If a handler does not return, events of its own client wait, and nothing else
// does. The hub still notices whether the client is there.
func TestEndlessHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ended := make(chan error)
		chathub.On(p.hub, "block", func(ctx context.Context, _ *chathub.Client, _ struct{}) error {
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil
		})
		ana, tab, bob := p.dial("ana", "red"), p.dial("ana", "red"), p.dial("bob", "red")
		ana.Send(hubtest.Frame{Type: "block"})
		for range 100 {
			ana.Send(hubtest.Frame{Type: "room-message", Room: "red"})
		}
		time.Sleep(10 * time.Minute) // with heartbeats
		wantHeard(t, "bob", bob.Client)
		tab.Must(hubtest.Frame{Type: "room-message", Room: "red", Data: raw(`"tab"`)})
		wantHeard(t, "bob", bob.Client, `room-message@red "tab"`)
		got := ana.heard()
		last := len(got) - 1
		if got[last] != `room-message@red "tab"` {
			t.Errorf("ana heard %q", got[last])
		}
		for _, s := range got[:last] { // more events came than are kept waiting
			if !strings.HasPrefix(s, `error {"code":"rate_limited",`) {
				t.Errorf("ana heard %q", s)
			}
		}
		if last < 50 || last > 95 {
			t.Errorf("%d of 100 events behind the handler were refused", last)
		}
		if users := roomUsers(t, p.hub, "red"); len(users) != 2 {
			t.Errorf("users in the room: %v", users)
		}
		ana.Drop()
		if err := <-ended; err != chathub.ErrClientGone { //nolint:errorlint // the cause itself
			t.Errorf("the context ended with %v", err)
		}
		wantHeard(t, "bob", bob.Client) // waiting events are not handled any more
	})
}

// A client that asks whether the server is still there must not take a slow
// handler for a dead server.
func TestPingDuringHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		release := make(chan struct{})
		chathub.On(p.hub, "block", func(context.Context, *chathub.Client, struct{}) error {
			<-release
			return nil
		})
		ana := p.dial("ana")
		ana.Send(hubtest.Frame{Type: "block", ID: "b"})
		for range 3 {
			start := time.Now()
			ana.Send(hubtest.Frame{Type: "ping", ID: "p"})
			ana.Wait("pong")
			if f := ana.Next(); f.Type != "ack" || f.ID != "p" {
				t.Errorf("after the pong came %s %s", f.Type, f.ID)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("the pong took %v", took)
			}
			time.Sleep(time.Minute)
		}
		close(release)
		if f := ana.Next(); f.Type != "ack" || f.ID != "b" {
			t.Errorf("the last frame is %s %s", f.Type, f.ID)
		}
	})
}
