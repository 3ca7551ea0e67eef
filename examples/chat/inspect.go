package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/inspect"
	"github.com/chathub-go/chathub/moderation"
)

// serveInspect serves the page for operators at an address of its own, until
// ctx ends. Whoever reaches the address is an operator, so it should be one
// that only operators reach, such as 127.0.0.1:5001.
func serveInspect(ctx context.Context, addr string, hub *chathub.Hub, mod *moderation.Moderation, log *slog.Logger) error {
	if addr == "" {
		return nil
	}
	page, err := inspect.New(hub, inspect.Options{
		Allow:  func(*http.Request) bool { return true },
		Logger: log,
		Ban: func(ctx context.Context, tenant, user string, lasting time.Duration, reason string) error {
			_, err := mod.Tenant(tenant).Decide(ctx, moderation.Decision{
				Kind: moderation.Ban, User: user, Until: time.Now().Add(lasting), Reason: reason, By: "operator",
			})
			return err
		},
	})
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	if a, ok := ln.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		log.Warn("the page for operators has no log-in, and is open to everyone who reaches it", "addr", ln.Addr())
	}
	srv := &http.Server{Handler: page, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	go func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the page for operators has ended", "err", err)
		}
	}()
	log.Info("the page for operators is ready", "inspect", urlOf(ln.Addr()))
	return nil
}
