// Command sqlite is a chat server that saves every message in a SQLite database
// before it acknowledges the message. Messages that are older than the hub's
// log are served from the database. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/chathub-go/chathub"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "sqlite:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then shuts down.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("sqlite", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:5001", "address to listen on")
	file := flags.String("db", "chat.db", "file of the database")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	db, err := openDatabase(ctx, *file)
	if err != nil {
		return err
	}
	hub, err := chathub.New(chathub.Config{Auth: names{}, Logger: log})
	if err != nil {
		return errors.Join(err, db.close())
	}
	(&archive{db: db, log: log}).addTo(hub)
	// The database is closed after the last handler.
	return errors.Join(serve(ctx, *addr, hub, log), db.close())
}

// serve serves the hub until ctx ends.
func serve(ctx context.Context, addr string, hub *chathub.Hub, log *slog.Logger) error {
	defer func() { _ = hub.Close() }() // no effect after Shutdown
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: hub, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	log.Warn("for demonstration only: the token is the user's name, and is not verified")
	log.Info("ready", "url", "ws://"+ln.Addr().String())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	// Both at once, because a slow request may keep srv busy until ctx ends.
	drained := make(chan error, 1)
	go func() { drained <- hub.Shutdown(ctx) }()
	return errors.Join(srv.Shutdown(ctx), <-drained)
}

// names is an Authenticator for a demonstration. The token is the user's name.
type names struct{}

func (names) Authenticate(_ context.Context, token string, _ *http.Request) (chathub.Identity, error) {
	if token == "" {
		return chathub.Identity{}, &chathub.Error{Code: chathub.CodeUnauthenticated, Message: "Authentication required"}
	}
	return chathub.Identity{User: chathub.User{ID: token, Name: token}}, nil
}
