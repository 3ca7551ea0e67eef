// Command service has four small programs around a chat: a search index, a bot,
// an HTTP endpoint that posts messages, and an importer. Each is a node of the
// cluster of the chat's servers, on the same NATS server. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

const usage = `usage: service search|find|bot|web|import [flags]; -h has the flags of each`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	if err != nil && ctx.Err() == nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) (err error) {
	if len(args) == 0 {
		return errors.New(usage)
	}
	command := args[0]
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	url := flags.String("nats", "nats://127.0.0.1:4222", "URL of the NATS server")
	room := flags.String("room", "lobby", "room of search, find, bot and import")
	file := flags.String("file", "service.db", "database of search and find; where bot and import note how far they are")
	addr := flags.String("addr", "127.0.0.1:5002", "address of web")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if command == "find" {
		return find(ctx, *file, flags.Args(), stdout)
	}
	hub, closeHub, err := openHub(*url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeHub()) }()
	switch command {
	case "search":
		ix, err := openIndex(ctx, *file)
		if err != nil {
			return err
		}
		ix.indexed = func(e chathub.Entry) { _, _ = fmt.Fprintln(stdout, "indexed", e.Seq) }
		return errors.Join(ix.follow(ctx, hub, *room), ix.close())
	case "bot":
		return (&bot{hub: hub, room: *room, file: *file}).run(ctx)
	case "web":
		return serve(ctx, *addr, newPoster(hub))
	case "import":
		im := &importer{hub: hub, room: *room, file: *file, report: func(n int) { _, _ = fmt.Fprintln(stdout, n, "lines") }}
		return im.run(ctx, stdin)
	}
	return errors.New(usage)
}

// openHub returns a node of the cluster. It has no clients: nobody can sign in.
func openHub(url string) (*chathub.Hub, func() error, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	// The chat's servers have made the stream, with bounds of their choice.
	broker, err := natsbroker.Connect(url, natsbroker.ExistingStream(), natsbroker.Logger(log))
	if err != nil {
		return nil, nil, err
	}
	hub, err := chathub.New(chathub.Config{Auth: nobody{}, Broker: broker, Logger: log})
	if err != nil {
		return nil, nil, errors.Join(err, broker.Close())
	}
	return hub, func() error { return errors.Join(hub.Close(), broker.Close()) }, nil
}

type nobody struct{}

func (nobody) Authenticate(context.Context, string, *http.Request) (chathub.Identity, error) {
	return chathub.Identity{}, &chathub.Error{Code: chathub.CodeUnauthenticated, Message: "Not a server for clients"}
}

// serve serves HTTP until ctx ends.
func serve(ctx context.Context, addr string, h http.Handler) error {
	srv := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.ListenAndServe() }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return srv.Shutdown(ctx)
}
