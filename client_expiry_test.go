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

// closedAfter checks that a connection is open until a time after start, and ends then with
// a code; what is swept for once a second may be late by so much.
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

// TestRefreshWithoutExpiry: an application's own token may have no end.
func TestRefreshWithoutExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Auth: authFunc(func(token string, r *http.Request) (chathub.Identity, error) {
			id := chathub.Identity{User: chathub.User{ID: "ana"}}
			if token != "forever" {
				id.Expires = time.Now().Add(time.Minute)
			}
			if (token == "session") != (r != nil) {
				t.Errorf("token %q came with request %v", token, r)
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
