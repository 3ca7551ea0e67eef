//go:build linux

package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/chathub-go/chathub"
)

// open puts a new hub on the broker. Its callbacks do what the names of users,
// rooms and events say: panic, or wait forever.
func (s *server) open() error {
	hub, err := chathub.New(chathub.Config{
		Auth:         s,
		Broker:       s.broker,
		OnConnect:    s.onConnect,
		OnDisconnect: s.onDisconnect,
		Authorize:    s.authorize,
		Trace: &chathub.Trace{
			Connected: func(c *chathub.Client) { misbehave(c.Context(), c.User().ID, "connected") },
			Handled: func(c *chathub.Client, _ *chathub.Event, _ time.Duration, _ *chathub.Error) {
				misbehave(c.Context(), c.User().ID, "handled")
			},
		},
		Logger:             slogOf(s),
		MaxOutboxBytes:     s.set.Outbox,
		MaxMessageBytes:    s.set.Message,
		PingInterval:       s.set.Ping,
		PongTimeout:        s.set.Pong,
		WriteTimeout:       s.set.Write,
		MessageTimeout:     s.set.Begun,
		DrainWindow:        s.set.Drain,
		PresenceGrace:      s.set.Grace,
		MaxConns:           s.set.MaxConns,
		MaxConnsPerUser:    s.set.ConnsPerUser,
		MaxConnsPerAddress: s.set.ConnsPerAddress,
		Rate:               s.set.Rate,
		Burst:              s.set.Burst,
		ReplayLimit:        s.set.Replay,
	})
	if err != nil {
		return err
	}
	hub.Use(func(next chathub.Handler) chathub.Handler {
		return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
			misbehave(ctx, strings.Trim(string(e.Data), `"`), "middleware")
			return next(ctx, c, e)
		}
	})
	chathub.On(hub, "handler", func(ctx context.Context, _ *chathub.Client, how string) error {
		misbehave(ctx, how, "handler")
		return ctx.Err()
	})
	s.hub.Store(hub)
	return nil
}

// misbehave panics if name is "panic-WHERE", and waits for the end of ctx if it
// is "hang-WHERE". A number ("#1") may follow.
func misbehave(ctx context.Context, name, where string) {
	switch name, _, _ := strings.Cut(name, "#"); name {
	case "panic-" + where:
		panic(name)
	case "hang-" + where:
		<-ctx.Done()
	}
}

// Authenticate implements chathub.Authenticator. The token is the user's id.
// With "~1500" behind it, the token expires after so many milliseconds.
func (s *server) Authenticate(ctx context.Context, token string, r *http.Request) (chathub.Identity, error) {
	name, ttl, expires := strings.Cut(token, "~")
	if r != nil {
		ctx = r.Context()
	}
	misbehave(ctx, name, "authenticate")
	if name == "" {
		return chathub.Identity{}, &chathub.Error{Code: chathub.CodeUnauthenticated, Message: "Authentication required"}
	}
	id := chathub.Identity{User: chathub.User{ID: name, Name: name}}
	if expires {
		ms, err := strconv.Atoi(ttl)
		if err != nil {
			return chathub.Identity{}, &chathub.Error{Code: chathub.CodeUnauthenticated, Err: err}
		}
		id.Expires = time.Now().Add(time.Duration(ms) * time.Millisecond)
	}
	return id, nil
}

func (s *server) onConnect(ctx context.Context, c *chathub.Client, _ *http.Request) error {
	if strings.HasPrefix(c.User().ID, "hang-connect") {
		<-s.released // ctx does not end earlier: nothing is read before OnConnect returns
		return nil
	}
	misbehave(ctx, c.User().ID, "connect")
	return nil
}

// maxEnds bounds what the server remembers of the ends of one user, so that it
// does not count as memory of the hub.
const maxEnds = 1000

func (s *server) onDisconnect(c *chathub.Client, d chathub.Disconnect) {
	user := c.User().ID
	s.mu.Lock()
	if codes := s.ends[user]; len(codes) < maxEnds {
		s.ends[user] = append(codes, d.Code)
	}
	s.mu.Unlock()
	if strings.HasPrefix(user, "hang-disconnect") {
		<-s.released
		return
	}
	misbehave(context.Background(), user, "disconnect")
}

func (s *server) authorize(ctx context.Context, c *chathub.Client, a chathub.Action) error {
	misbehave(ctx, a.Room, "authorize")
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Room == "secret" && c.User().ID != "owner" || s.revoked[c.User().ID+"/"+a.Room] {
		return &chathub.Error{Code: chathub.CodeForbidden, Message: "Not for you"}
	}
	return nil
}
