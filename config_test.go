package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// deaf is a Broker that cannot be attached to.
type deaf struct{}

var errDeaf = errors.New("nobody there")

func (deaf) Attach(context.Context, func(chathub.Message)) (chathub.BrokerSession, error) {
	return nil, errDeaf
}

func TestNewMistakes(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  chathub.Config
		want string
	}{
		{"no Auth", chathub.Config{}, "Auth is nil: use &JWT{...}, an Authenticator of your own, or Anonymous{}"},
		{"JWT", chathub.Config{Auth: &chathub.JWT{}}, "JWT.Key"},
		{"short key", chathub.Config{Auth: &chathub.JWT{Key: []byte("short")}}, "at least 32"},
		{"nil JWT", chathub.Config{Auth: (*chathub.JWT)(nil)}, "JWT is a nil pointer"},
		{"origin", chathub.Config{Origins: []string{"https://good.example", "bad.example"}}, `Origins: `},
		{"origins", chathub.Config{Origins: []string{"https://good.example"}, DangerouslyAllowAnyOrigin: true}, "DangerouslyAllowAnyOrigin"},
		{"short lease", chathub.Config{NodeLease: time.Second}, "NodeLease (1s) must be at least 3s"},
		{"no lease", chathub.Config{NodeLease: -1}, "NodeLease"},
		{"no outbox", chathub.Config{MaxOutboxBytes: -1}, "MaxOutboxBytes cannot be off"},
		{"small outbox", chathub.Config{MaxOutboxBytes: 100 << 10}, "MaxOutboxBytes (102400) must be at least four times MaxMessageBytes (65536)"},
		{"large messages", chathub.Config{MaxMessageBytes: 1 << 20}, "MaxOutboxBytes (1048576) must be at least four times MaxMessageBytes (1048576)"},
		{"no write timeout", chathub.Config{WriteTimeout: -1}, "WriteTimeout cannot be off"},
		{"rate", chathub.Config{Rate: math.NaN()}, "Rate"},
		{"user rate", chathub.Config{UserRate: math.Inf(1)}, "UserRate"},
		{"broker's mistake", chathub.Config{Broker: &chathub.MemoryBroker{MaxTotalBytes: -1}}, "MemoryBroker: MaxTotalBytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.cfg.Auth == nil && tc.name != "no Auth" {
				tc.cfg.Auth = hubtest.Auth{}
			}
			hub, err := chathub.New(tc.cfg)
			if err == nil || hub != nil {
				t.Fatalf("New returned %v, %v", hub, err)
			}
			if s := err.Error(); !strings.HasPrefix(s, "chathub: invalid Config: ") || !strings.Contains(s, tc.want) || strings.Contains(s, "\n") {
				t.Errorf("the error is %q, want %q", s, tc.want)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		_, err := chathub.New(chathub.Config{Origins: []string{"x"}, MaxOutboxBytes: -1, WriteTimeout: -1})
		if err == nil {
			t.Fatal("want an error")
		}
		for _, want := range []string{"Auth", "Origins", "MaxOutboxBytes", "WriteTimeout"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error lacks %s: %v", want, err)
			}
		}
	})
	t.Run("broker", func(t *testing.T) {
		_, err := chathub.New(chathub.Config{Auth: hubtest.Auth{}, Broker: deaf{}})
		if !errors.Is(err, errDeaf) || !strings.HasPrefix(err.Error(), "chathub: ") {
			t.Errorf("the error is %v", err)
		}
	})
}

// With everything off that can be off, a hub still works.
func TestConfigOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{
			MaxMessageBytes:    -1,
			MaxRooms:           -1,
			MaxConns:           -1,
			MaxConnsPerUser:    -1,
			MaxConnsPerAddress: -1,
			Rate:               -1,
			Burst:              -1,
			UserRate:           -1,
			UserBurst:          -1,
			PingInterval:       -1,
			PongTimeout:        -1,
			MessageTimeout:     -1,
			PresenceInterval:   -1,
			PresenceGrace:      -1,
			PresenceListLimit:  -1,
			TypingTimeout:      -1,
			ReplayLimit:        -1,
			DrainWindow:        -1,
		})
		ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		if s := string(ana.Welcome.Data); !strings.Contains(s, `"pingInterval":0,"maxMessage":0`) {
			t.Errorf("welcome: %s", s)
		}
		for i := range 300 { // no limit of rooms or events
			ana.Must(hubtest.Frame{Type: "join-room", Room: fmt.Sprint("room", i)})
		}
		bob.Must(hubtest.Frame{Type: "join-room", Room: "room0"})
		ana.Must(hubtest.Frame{Type: "typing", Room: "room0"})
		ana.Must(hubtest.Frame{Type: "room-message", Room: "room0", Data: hubtest.Data(strings.Repeat("x", 100<<10))})
		if f := ana.Request(hubtest.Frame{Type: "history", Room: "room0"}); f.Code() != chathub.CodeForbidden {
			t.Errorf("history: %s", f.Data)
		}
		if f := ana.Request(hubtest.Frame{Type: "online-users"}); f.Type != "error" {
			t.Errorf("online-users: %s", f.Data)
		}
		time.Sleep(time.Hour) // nobody is pinged, and no typing ends
		got := heard(bob)
		if len(got) != 2 || got[0] != "typing@room0" || !strings.HasPrefix(got[1], "room-message@room0") {
			t.Errorf("bob heard %d frames", len(got))
		}
		ana.Drop()
		synctest.Wait()
		if users := onlineUsers(t, hub); len(users) != 1 {
			t.Errorf("users without a grace: %v", users)
		}
		bob.Must(hubtest.Frame{Type: "ping"})
		if err := hub.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if got := heard(bob); got[0] != `reconnect {"afterMs":0}` {
			t.Errorf("bob heard %q", got)
		}
	})
}

// Each configuration of rates lets the right number of events through. A hub
// that is configured for few events must not refuse all of them.
func TestConfigRates(t *testing.T) {
	for _, tc := range []struct {
		name      string
		cfg       chathub.Config
		one, both int // of 200 events at once from one connection, and from two
	}{
		{"default", chathub.Config{}, 100, 200},
		{"off", chathub.Config{Rate: -1}, 200, 400},
		{"few", chathub.Config{Rate: 0.1}, 1, 2},
		{"burst", chathub.Config{Rate: 10, Burst: 150}, 150, 300},
		{"no burst limit", chathub.Config{Burst: -1, UserBurst: -1}, 200, 400},
		{"user only", chathub.Config{Rate: -1, UserRate: 50}, 100, 100},
		{"user's burst", chathub.Config{Rate: 10, UserRate: 10, UserBurst: 30}, 20, 30},
		{"connection only", chathub.Config{Rate: 10, UserRate: -1}, 20, 40},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.cfg.PresenceInterval = -1
				passed := 0
				hub := hubtest.New(t, tc.cfg)
				chathub.On(hub, "count", func(context.Context, *chathub.Client, struct{}) error {
					passed++
					return nil
				})
				for _, want := range []int{tc.one, tc.both} {
					c := hubtest.Dial(t, hub, "ana")
					for range 200 {
						c.Send(hubtest.Frame{Type: "count"})
					}
					synctest.Wait()
					if passed != want {
						t.Errorf("%d events passed, want %d", passed, want)
					}
				}
			})
		})
	}
}
