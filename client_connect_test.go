package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

func TestOnConnectVeto(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want string
		code int
	}{
		{"plain", errors.New("secret"), `connect-error {"code":"internal","message":"Internal error"}`, 4000},
		{"own", fmt.Errorf("secret: %w", &chathub.Error{Code: chathub.CodeForbidden, Message: "You are banned"}),
			`connect-error {"code":"forbidden","message":"You are banned"}`, 4505},
		{"own of another code", &chathub.Error{Code: chathub.CodeConflict, Message: "You are here already"},
			`connect-error {"code":"conflict","message":"You are here already"}`, 4505},
		{"for now", &chathub.Error{Code: chathub.CodeUnavailable, Message: "Try again"},
			`connect-error {"code":"unavailable","message":"Try again"}`, 4000},
		{"of a context", context.DeadlineExceeded,
			`connect-error {"code":"unavailable","message":"Try again"}`, 4000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ended record
				hub := hubtest.New(t, chathub.Config{
					MaxConnsPerUser: 1,
					OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
						if c.User().ID != "ana" {
							return nil
						}
						return errors.Join(c.Join(ctx, "red"), c.Emit(ctx, "news", 1), tc.err)
					},
					OnDisconnect: func(c *chathub.Client, _ chathub.Disconnect) { ended.add("%s", c.User().ID) },
				})
				bob := hubtest.Dial(t, hub, "bob")
				wantHeard(t, "bob", bob, `online-users {"users":[{"id":"bob","name":"bob"}],"count":1}`)
				for range 3 { // one after the other, so that each gives its place back
					ana := knock(t, hub, "ana")
					wantHeard(t, "ana", ana, tc.want)
					if code, _ := ana.Closed(); code != tc.code {
						t.Errorf("closed with %d, want %d", code, tc.code)
					}
				}
				time.Sleep(time.Minute)
				wantHeard(t, "bob", bob)
				ended.want(t, "OnDisconnect was called for")
				if s := hub.Stats(); s.Refused != 3 || s.Accepted != 1 || s.Connections != 1 || s.Rooms != 0 {
					t.Errorf("stats: %+v", s)
				}
			})
		})
	}
}

// What OnConnect does for its client happens after the welcome, in order, and
// before anything else.
func TestOnConnectPrepares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hub := hubtest.New(t, chathub.Config{
			OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
				if c.User().ID != "ana" {
					return c.Join(ctx, "red")
				}
				if err := c.Join(ctx, "red", "blue"); err != nil {
					return err
				}
				if err := c.Emit(ctx, "first", nil); err != nil {
					return err
				}
				if err := c.To("red").Emit(ctx, "ana-comes", nil); err != nil {
					return err
				}
				<-release
				return c.Emit(ctx, "second", nil)
			},
		})
		bob := hubtest.Dial(t, hub, "bob")
		heard(bob)
		ana := knock(t, hub, "ana")
		wantHeard(t, "ana, in OnConnect", ana)
		wantHeard(t, "bob", bob, "ana-comes@red")
		if got := fmt.Sprint(onlineUsers(t, hub), roomUsers(t, hub, "red"), roomUsers(t, hub, "blue")); got != "[{bob bob}] [{bob bob}] []" {
			t.Errorf("users while ana is in OnConnect: %s", got)
		}
		hubtest.Dial(t, hub, "cid") // it does not hold up others
		close(release)
		got := heard(ana)
		for i, s := range got {
			got[i], _, _ = strings.Cut(s, " ")
		}
		if want := []string{"welcome", "online-users", "first", "second"}; !slices.Equal(got, want) {
			t.Errorf("ana heard %q, want %q", got, want)
		}
		if err := hub.To("blue").Emit(t.Context(), "news", nil); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if got := heard(ana); !slices.Contains(got, "news@blue") {
			t.Errorf("ana heard %q", got)
		}
		if got := fmt.Sprint(roomUsers(t, hub, "red"), roomUsers(t, hub, "blue")); got != "[{ana ana} {bob bob} {cid cid}] [{ana ana}]" {
			t.Errorf("users: %s", got)
		}
	})
}

// OnConnect can read the handshake's request, with what the application's own
// middleware has put into its context.
func TestOnConnectRequest(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		var got record
		hub := hubtest.New(t, chathub.Config{
			OnConnect: func(ctx context.Context, c *chathub.Client, r *http.Request) error {
				got.add("%s %v %v", r.Header.Get("X-Device"), r.Context().Value(key{}), ctx.Err())
				return nil
			},
		})
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hub.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "tenant")))
		})
		c, err := hubtest.DialHeader(t, h, http.Header{"Authorization": {"Bearer ana"}, "X-Device": {"phone"}})
		if err != nil {
			t.Fatal(err)
		}
		c.Wait("welcome")
		got.want(t, "seen", "phone tenant <nil>")
	})
}

// OnConnect may disconnect the user's older connections, and the new connection
// is not one of them.
func TestOnConnectSingleSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub *chathub.Hub
		hub = hubtest.New(t, chathub.Config{
			OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
				return hub.ToUser(c.User().ID).Disconnect(ctx, "signed in elsewhere")
			},
		})
		old := hubtest.Dial(t, hub, "ana")
		fresh := hubtest.Dial(t, hub, "ana")
		if code, reason := old.Closed(); code != 4503 || reason != "signed in elsewhere" {
			t.Errorf("the older connection was closed with %d %q", code, reason)
		}
		fresh.Must(hubtest.Frame{Type: "ping"})
	})
}

func TestOnConnectDisconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{
			OnConnect: func(_ context.Context, c *chathub.Client, _ *http.Request) error {
				c.Disconnect("not today")
				return nil
			},
		})
		ana := knock(t, hub, "ana")
		if code, reason := ana.Closed(); code != 4503 || reason != "not today" {
			t.Errorf("closed with %d %q", code, reason)
		}
		time.Sleep(time.Minute)
		if users, s := onlineUsers(t, hub), hub.Stats(); len(users) > 0 || s.Connections > 0 {
			t.Errorf("users %v, stats %+v", users, s)
		}
	})
}

// brief is an Authenticator whose identities expire after a minute.
type brief struct{}

func (brief) Authenticate(ctx context.Context, token string, r *http.Request) (chathub.Identity, error) {
	id, err := hubtest.Auth{}.Authenticate(ctx, token, r)
	id.Expires = time.Now().Add(time.Minute)
	return id, err
}

func TestOnDisconnect(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(p *party, g guest)
		want chathub.Disconnect
	}{
		{"close", func(_ *party, g guest) { g.Close() }, chathub.Disconnect{Code: 1000, Remote: true}},
		{"drop", func(_ *party, g guest) { g.Drop() }, chathub.Disconnect{Code: 1006, Reason: "connection lost", Remote: true}},
		{"Client.Disconnect", func(_ *party, g guest) {
			g.server.Disconnect("first")
			g.server.Disconnect("second")
			g.Drop()
		}, chathub.Disconnect{Code: 4503, Reason: "first"}},
		{"Target.Disconnect", func(p *party, _ guest) {
			if err := p.hub.ToUser("ana").Disconnect(p.t.Context(), "logged out"); err != nil {
				p.t.Error(err)
			}
		}, chathub.Disconnect{Code: 4503, Reason: "logged out"}},
		{"expiry", func(*party, guest) { time.Sleep(2 * time.Minute) }, chathub.Disconnect{Code: 4003, Reason: "token expired"}},
		{"slow", func(p *party, g guest) {
			g.Pause()
			for range 100 {
				if err := p.hub.To("red").Emit(p.t.Context(), "news", strings.Repeat("x", 1<<10)); err != nil {
					p.t.Error(err)
				}
			}
		}, chathub.Disconnect{Code: 4001, Reason: "slow consumer"}},
		{"silent", func(_ *party, g guest) {
			g.Pause()
			time.Sleep(59 * time.Second)
		}, chathub.Disconnect{Code: 4002, Reason: "heartbeat timeout"}},
		{"too large", func(_ *party, g guest) { g.SendText(strings.Repeat(" ", 5000)) },
			chathub.Disconnect{Code: 1009, Reason: "message is over 4096 bytes"}},
		{"shutdown", func(p *party, _ guest) {
			if err := p.hub.Shutdown(p.t.Context()); err != nil {
				p.t.Error(err)
			}
		}, chathub.Disconnect{Code: 4000, Reason: "server is shutting down"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ends := make(chan chathub.Disconnect, 10) // with space for calls that should not be
				p := newParty(t, chathub.Config{
					Auth:            brief{},
					MaxMessageBytes: 4 << 10,
					MaxOutboxBytes:  16 << 10,
					PongTimeout:     5 * time.Second,
					OnDisconnect: func(c *chathub.Client, d chathub.Disconnect) {
						if c.Context().Err() == nil {
							t.Error("the context has not ended")
						}
						if err := c.Emit(t.Context(), "news", nil); !errors.Is(err, chathub.ErrClientGone) {
							t.Errorf("Emit: %v", err)
						}
						if err := c.Join(t.Context(), "blue"); !errors.Is(err, chathub.ErrClientGone) {
							t.Errorf("Join: %v", err)
						}
						if rooms := c.Rooms(); !slices.Equal(rooms, []string{"red"}) {
							t.Errorf("the client was in %q", rooms)
						}
						ends <- d
					},
				})
				ana := p.dial("ana", "red")
				tc.end(p, ana)
				if got := <-ends; got != tc.want {
					t.Errorf("got %+v, want %+v", got, tc.want)
				}
				ana.Resume()
				time.Sleep(5 * time.Minute)
				if len(ends) > 0 {
					t.Errorf("OnDisconnect was called again: %+v", <-ends)
				}
				if users := roomUsers(t, p.hub, "red"); len(users) > 0 {
					t.Errorf("users in the room: %v", users)
				}
			})
		})
	}
}

// claimed is an Authenticator that passes on the claims of its tokens.
type claimed struct{}

func (claimed) Authenticate(_ context.Context, token string, _ *http.Request) (chathub.Identity, error) {
	id := chathub.Identity{User: chathub.User{ID: "ana"}}
	if token != "none" {
		id.Claims = []byte(token)
	}
	return id, nil
}

func TestClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{Auth: claimed{}})
		for _, tc := range []struct {
			token, want string
			ok          bool
		}{
			{`{"role":"admin","Role":"guest"}`, "admin", true},
			{`{}`, "", true},
			{`none`, "", true},
			{`{"role":7}`, "", false},
		} {
			var claims struct {
				Role string `json:"role"`
			}
			err := p.dial(tc.token).server.Claims(&claims)
			if claims.Role != tc.want || (err == nil) != tc.ok {
				t.Errorf("%s: role %q, %v", tc.token, claims.Role, err)
			}
		}
	})
}
