package chathub_test

import (
	"context"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/golang-jwt/jwt/v5"
)

var secret = []byte("a secret of thirty-two bytes, so")

// tokenFor returns a token that the tests' JWT authenticator accepts.
func tokenFor(t testing.TB, id string, expires time.Time) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"userId": id, "sub": "not " + id, "name": strings.ToUpper(id), "exp": expires.Unix(),
	}).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// authFunc is an Authenticator that is a function.
type authFunc func(token string, r *http.Request) (chathub.Identity, error)

func (f authFunc) Authenticate(_ context.Context, token string, r *http.Request) (chathub.Identity, error) {
	return f(token, r)
}

// closedAfter checks that a connection is open until the given time after
// start, and then ends with code. It may be a second late, because expiry is
// checked once a second.
func closedAfter(t *testing.T, c *hubtest.Client, start time.Time, want time.Duration, code int) {
	t.Helper()
	time.Sleep(time.Until(start.Add(want - time.Second)))
	c.Must(hubtest.Frame{Type: "ping"})
	got, _ := c.Closed()
	if late := time.Since(start) - want; got != code || late < 0 || late > time.Second {
		t.Errorf("closed with %d, %v after it was due, want %d", got, late, code)
	}
}

func TestExpiryEndsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Auth: &chathub.JWT{Key: secret}})
		start := time.Now()
		c := hubtest.Dial(t, hub, tokenFor(t, "ana", start.Add(90*time.Second)))
		closedAfter(t, c, start, 90*time.Second, 4003)
	})
}

// An expiry that stands for never, such as the end of the year 9999, is not
// taken for one in the past.
func TestExpiryFarAway(t *testing.T) {
	for _, expires := range []time.Time{
		time.Unix(0, math.MaxInt64),
		time.Unix(0, math.MaxInt64).Add(time.Second),
		time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC),
	} {
		t.Run(expires.Format(time.DateOnly), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{Auth: &chathub.JWT{Key: secret}})
				c := hubtest.Dial(t, hub, tokenFor(t, "ana", expires))
				time.Sleep(time.Minute)
				c.Must(hubtest.Frame{Type: "ping"})
			})
		})
	}
}

func TestRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Auth: &chathub.JWT{Key: secret}})
		start := time.Now()
		refresh := func(data any) hubtest.Frame {
			return hubtest.Frame{Type: "refresh-token", Data: hubtest.Data(data)}
		}
		withToken := func(token string) hubtest.Frame { return refresh(map[string]string{"token": token}) }
		c := hubtest.Dial(t, hub, tokenFor(t, "ana", start.Add(time.Minute)))

		later := start.Add(2 * time.Minute)
		ack := c.Must(withToken(tokenFor(t, "ana", later)))
		if got := dataOf[map[string]int64](t, ack); len(got) != 1 || got["expires"] != later.Unix()*1000 {
			t.Errorf("answer is %s", ack.Data)
		}

		for _, tc := range []struct {
			name  string
			frame hubtest.Frame
			code  chathub.Code
		}{
			{"another user's", withToken(tokenFor(t, "bob", start.Add(time.Hour))), chathub.CodeForbidden},
			{"bad", withToken("x.y.z"), chathub.CodeUnauthenticated},
			{"over 8 KiB", withToken(strings.Repeat("x", 8<<10+1)), chathub.CodeUnauthenticated},
			{"expired", withToken(tokenFor(t, "ana", start.Add(-time.Minute))), chathub.CodeTokenExpired},
			{"empty", withToken(""), chathub.CodeBadRequest},
			{"none", refresh(struct{}{}), chathub.CodeBadRequest},
			{"no data", hubtest.Frame{Type: "refresh-token"}, chathub.CodeBadRequest},
		} {
			t.Log(tc.name)
			expectRefused(t, c, tc.frame, tc.code)
		}
		closedAfter(t, c, start, 2*time.Minute, 4003)
	})
}

// An application's own token may have no expiry.
func TestRefreshWithoutExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Auth: authFunc(func(token string, r *http.Request) (chathub.Identity, error) {
			id := chathub.Identity{User: chathub.User{ID: "ana"}}
			if token != "forever" {
				id.Expires = time.Now().Add(time.Minute)
			}
			if (token == "session") != (r != nil) {
				t.Errorf("Authenticate got the token %q with request %v", token, r)
			}
			return id, nil
		})})
		c := hubtest.Dial(t, hub, "session")
		ack := c.Must(hubtest.Frame{Type: "refresh-token", Data: hubtest.Data(map[string]string{"token": "forever"})})
		if string(ack.Data) != "{}" {
			t.Errorf("answer is %s", ack.Data)
		}
		time.Sleep(time.Hour)
		c.Must(hubtest.Frame{Type: "ping"})
	})
}

// TestRefreshTokenChangesRights: claims and name follow the newest token.
func TestRefreshTokenChangesRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{
			Auth: authFunc(func(token string, _ *http.Request) (chathub.Identity, error) {
				return chathub.Identity{
					User:   chathub.User{ID: "ana", Name: "Ana, " + token},
					Claims: hubtest.Data(map[string]string{"role": token}),
				}, nil
			}),
			Authorize: func(_ context.Context, c *chathub.Client, a chathub.Action) error {
				var claims struct {
					Role string `json:"role"`
				}
				if err := c.Claims(&claims); err != nil {
					return err
				}
				if a.Type == "join-room" && claims.Role != "admin" {
					return &chathub.Error{Code: chathub.CodeForbidden}
				}
				return nil
			},
		})
		c := hubtest.Dial(t, hub, "admin")
		c.Must(hubtest.Frame{Type: "join-room", Room: "red"})
		c.Must(hubtest.Frame{Type: "refresh-token", Data: hubtest.Data(map[string]string{"token": "guest"})})
		expectRefused(t, c, hubtest.Frame{Type: "join-room", Room: "blue"}, chathub.CodeForbidden)
		c.Send(hubtest.Frame{Type: "room-message", Room: "red", Data: hubtest.Data("Hello")})
		if from := c.Wait("room-message").From; from == nil || from.Name != "Ana, guest" {
			t.Errorf("the message is from %v, want the new name", from)
		}
		if users, err := hub.RoomUsers(t.Context(), "red"); err != nil || len(users) != 1 || users[0].Name != "Ana, guest" {
			t.Errorf("in the room are %v, %v, want the new name", users, err)
		}
	})
}
