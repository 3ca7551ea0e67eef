// Command push is a chat whose users get Web Push notifications of what they
// have not read. It shows Config.OnAway and Config.Members; the README says
// what to look for.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/chathub-go/chathub"
)

func main() {
	if err := run(); err != nil {
		slog.Error("push", "err", err)
		os.Exit(1)
	}
}

func run() error {
	addr := flag.String("addr", "localhost:8080", "where to listen")
	dir := flag.String("dir", "push-data", "where the keys and the subscriptions are")
	site := flag.String("site", "http://localhost:8080", "where users read their messages, without a slash at the end")
	contact := flag.String("contact", "https://localhost", "whom push services write to: a URL, or an address without mailto")
	flag.Parse()
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	keys, err := loadKeys(filepath.Join(*dir, "vapid.json"))
	if err != nil {
		return err
	}
	devices, err := openDevices(filepath.Join(*dir, "devices.json"))
	if err != nil {
		return err
	}
	p := newPusher(keys, devices, *site, *contact)
	// A phone that was put away keeps its connection for some time. Wait until
	// the hub has noticed: PingInterval and PongTimeout.
	hub, err := newHub(p, 40*time.Second)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", hub)
	p.handle(mux, byName)
	srv := &http.Server{Addr: *addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	slog.Info("listening", "addr", *addr)
	select {
	case err := <-failed:
		return errors.Join(err, hub.Close())
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- hub.Shutdown(ctx) }()
	return errors.Join(srv.Shutdown(ctx), <-ended)
}

// newHub returns a hub that has p told of messages for users who are away.
func newHub(p *pusher, delay time.Duration) (*chathub.Hub, error) {
	return chathub.New(chathub.Config{Auth: nameAuth{}, OnAway: p.push, Members: p.devices.members, AwayDelay: delay})
}

// nameAuth is for a demonstration: the token is the name of the user.
type nameAuth struct{}

func (nameAuth) Authenticate(_ context.Context, token string, _ *http.Request) (chathub.Identity, error) {
	if token == "" {
		return chathub.Identity{}, &chathub.Error{Code: chathub.CodeUnauthenticated, Message: "Sign in"}
	}
	return chathub.Identity{User: chathub.User{ID: token, Name: token}}, nil
}

// byName returns who sends a request, for a demonstration.
func byName(r *http.Request) (string, bool) {
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return name, ok && name != ""
}

// writeFile replaces a file, so that a crash leaves the old or the new one.
func writeFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it has another name if all went well
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(f.Name(), name)
}
