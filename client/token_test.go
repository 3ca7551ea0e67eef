package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
)

// expiring is an Authenticator whose tokens are "user.expiry", in Unix seconds.
type expiring struct{}

func (expiring) Authenticate(_ context.Context, token string, _ *http.Request) (chathub.Identity, error) {
	user, at, _ := strings.Cut(token, ".")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return chathub.Identity{}, &chathub.Error{Code: chathub.CodeUnauthenticated, Message: "Invalid token"}
	}
	expires := time.Unix(seconds, 0)
	if !time.Now().Before(expires) {
		return chathub.Identity{}, &chathub.Error{Code: chathub.CodeTokenExpired, Message: "Token expired"}
	}
	return chathub.Identity{User: chathub.User{ID: user, Name: user}, Expires: expires}, nil
}

// TestRefresh keeps one connection over many tokens.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Auth: expiring{}})
		var asked []time.Duration
		began := time.Now()
		_, network := dial(t, hub, client.Options{Token: func(context.Context) (string, error) {
			asked = append(asked, time.Since(began))
			if len(asked) == 3 {
				return "", errors.New("cannot sign now")
			}
			return fmt.Sprint("ana.", time.Now().Add(10*time.Minute).Unix()), nil
		}})
		time.Sleep(time.Hour)
		if network.count() != 1 {
			t.Errorf("it connected %d times", network.count())
		}
		// A minute before the end, and after a failure 30 s before it.
		if fmt.Sprint(asked[:5]) != "[0s 9m0s 18m0s 18m30s 27m30s]" {
			t.Errorf("it asked for tokens after %v", asked)
		}
	})
}

// TestExpiry gets a new token after the server has closed with 4003.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Auth: expiring{}})
		var fail atomic.Bool
		ana, network := dial(t, hub, client.Options{Token: func(context.Context) (string, error) {
			if fail.Load() {
				return "", errors.New("cannot sign now")
			}
			return fmt.Sprint("ana.", time.Now().Add(time.Minute).Unix()), nil
		}})
		red := join(t, ana, "red", client.JoinOptions{})
		fail.Store(true)
		time.Sleep(30 * time.Second)
		s := until(t, ana, client.Waiting)
		if s.CloseCode != 4003 {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Minute)
		if s := ana.Status(); s.State == client.Connected || network.count() != 1 {
			t.Errorf("without a token: %+v, %d handshakes", s, network.count())
		}
		fail.Store(false)
		if _, err := red.Send(t.Context(), "back"); err != nil {
			t.Error(err)
		}
	})
}

// TestExpired gets a new token if the server says that the present one has
// expired, whatever the welcome said.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		var asked atomic.Int64
		go func() { (<-server.peers).send(welcomeFrame) }()
		ana, network := dial(t, server, client.Options{Token: func(context.Context) (string, error) {
			return fmt.Sprint("token", asked.Add(1)), nil
		}})
		network.cut()
		p := server.accept(t)
		until(t, ana, client.Connected)
		_ = p.ws.Close(4003, "expired")
		server.accept(t)
		var got []string
		for _, h := range network.headers {
			got = append(got, h.Get("Authorization"))
		}
		if fmt.Sprint(got) != "[Bearer token1 Bearer token1 Bearer token2]" {
			t.Errorf("handshakes with %v", got)
		}
	})
}

// TestKeptToken checks that a reconnect asks for no other token.
func TestKeptToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		asked := 0
		ana, network := dial(t, hub, client.Options{Token: func(context.Context) (string, error) {
			asked++
			return "ana", nil
		}})
		network.cut()
		until(t, ana, client.Waiting)
		until(t, ana, client.Connected)
		if asked != 1 || network.count() != 2 {
			t.Errorf("%d tokens, %d connections", asked, network.count())
		}
	})
}

func TestRefused(t *testing.T) {
	http403 := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"code":"forbidden","message":"Origin not allowed"}`))
	})
	for name, tc := range map[string]struct {
		handler func(t *testing.T) http.Handler
		token   func(context.Context) (string, error)
		code    int
		want    client.Code
	}{
		"no token":    {code: 4500, want: client.CodeUnauthenticated, token: token("")},
		"plain HTTP":  {handler: func(*testing.T) http.Handler { return http403 }, want: client.CodeForbidden},
		"no identity": {token: func(context.Context) (string, error) { return "", &client.Error{Code: client.CodeUnauthenticated} }, want: client.CodeUnauthenticated},
		"banned": {code: 4505, want: client.CodeForbidden, handler: func(t *testing.T) http.Handler {
			return hubtest.New(t, chathub.Config{OnConnect: func(context.Context, *chathub.Client, *http.Request) error {
				return &chathub.Error{Code: chathub.CodeForbidden, Message: "Banned"}
			}})
		}},
		"a connection too many": {code: 4504, want: client.CodeLimitExceeded, handler: func(t *testing.T) http.Handler {
			hub := hubtest.New(t, chathub.Config{MaxConnsPerUser: 1})
			hubtest.Dial(t, hub, "ana")
			return hub
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var h http.Handler = hubtest.New(t, chathub.Config{})
				if tc.handler != nil {
					h = tc.handler(t)
				}
				if tc.token == nil {
					tc.token = token("ana")
				}
				n := &network{handler: h}
				_, err := client.Dial(t.Context(), "ws://hub.test/", client.Options{HTTPClient: &http.Client{Transport: n}, Token: tc.token})
				refused, ok := errors.AsType[*client.RefusedError](err)
				if !ok || refused.CloseCode != tc.code || !isCode(err, tc.want) {
					t.Errorf("%v", err)
				}
				if n.count() > 1 {
					t.Errorf("%d attempts", n.count())
				}
			})
		})
	}
}

// TestDisconnected ends a client that is connected, and everything that waits.
func TestDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		release := make(chan struct{})
		defer close(release)
		chathub.On(hub, "slow", func(context.Context, *chathub.Client, struct{}) error { <-release; return nil })
		ana, network := dial(t, hub, client.Options{})
		red := join(t, ana, "red", client.JoinOptions{})
		results := make(chan error, 3)
		go func() { results <- ana.Emit(t.Context(), "slow", nil, nil) }()
		synctest.Wait() // the handler is running, so the message waits
		go func() {
			_, err := red.Send(t.Context(), 1)
			results <- err
		}()
		go func() {
			for range red.Events(t.Context()) {
			}
			results <- red.Err()
		}()
		synctest.Wait()
		if err := hub.ToUser("ana").Disconnect(t.Context(), "Logged out"); err != nil {
			t.Fatal(err)
		}
		<-ana.Done()
		for range cap(results) {
			err := <-results
			refused, ok := errors.AsType[*client.RefusedError](err)
			if errors.Is(err, client.ErrDisconnected) { // the event, which was sent
				continue
			}
			if !ok || refused.CloseCode != 4503 || !strings.Contains(err.Error(), "Logged out") {
				t.Errorf("%v", err)
			}
		}
		if _, err := ana.Private("bob").Send(t.Context(), 1); err == nil || !errors.Is(err, ana.Err()) {
			t.Errorf("after the end: %v, not %v", err, ana.Err())
		}
		if err := ana.Shutdown(t.Context()); !errors.Is(err, ana.Err()) || ana.Status().State != client.Ended || network.count() != 1 {
			t.Errorf("shutdown: %v", err)
		}
	})
}

// TestOtherUser ends a client whose token is of another user than before.
func TestOtherUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Auth: expiring{}})
		var user atomic.Value
		user.Store("ana")
		ana, _ := dial(t, hub, client.Options{Token: func(context.Context) (string, error) {
			return fmt.Sprint(user.Load(), ".", time.Now().Add(time.Minute).Unix()), nil
		}})
		user.Store("bob")
		<-ana.Done()
		if err := ana.Err(); err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("%v", err)
		}
	})
}

// TestNoSecrets looks for secrets in errors and logs.
func TestNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		o := client.Options{
			Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Header: http.Header{"Cookie": {"session=SECRET"}},
			Token:  token("SECRET"),
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, h := range []http.Handler{nil, http.NotFoundHandler(), hubtest.New(t, chathub.Config{Auth: expiring{}})} {
			o.HTTPClient = &http.Client{Transport: &network{handler: h}}
			_, err := client.Dial(ctx, "ws://user:SECRET@hub.test/?token=SECRET", o)
			if err == nil {
				t.Fatal("it connected")
			}
			log.WriteString(err.Error() + "\n")
		}
		for _, bad := range []string{"ws://SECRET hub/", "ftp://SECRET/", "ws:?SECRET", "://SECRET"} {
			_, err := client.Dial(ctx, bad, o)
			if err == nil {
				t.Fatal("it connected")
			}
			log.WriteString(err.Error() + "\n")
		}
		for _, bad := range []string{"SECRET\n", strings.Repeat("SECRET", 2000)} {
			o.Token = token(bad)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err := client.Dial(ctx, "ws://hub.test/", o)
			cancel()
			if err == nil {
				t.Fatal("it connected")
			}
			log.WriteString(err.Error() + "\n")
		}
		if n := strings.Count(log.String(), "\n"); n < 20 || strings.Contains(log.String(), "SECRET") {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
	})
}
