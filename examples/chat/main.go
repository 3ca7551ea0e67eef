// Command chat is a chat service in one program: a page, a hub, and a log-in
// without passwords. Its README lists what to try.
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
	"sync"
	"syscall"
	"time"

	"github.com/chathub-go/chathub"
	chatprom "github.com/chathub-go/chathub/adapters/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// shutdownTimeout is how long requests and connections may take to end.
const shutdownTimeout = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends the program
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then shuts down and returns nil.
func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) error {
	cfg, err := parseConfig(args, getenv, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if cfg.version {
		_, err := fmt.Fprintln(stderr, "chat", buildVersion())
		return err
	}
	if cfg.probe != "" {
		return probe(ctx, cfg.probe)
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: cfg.logLevel}))
	if cfg.secretIsRandom {
		log.Warn("JWT_SECRET is not set: tokens are signed with a random key and end with this process")
	}
	log.Warn("the log-in has no passwords, for demonstration only: anyone can take any name")

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	broker, closeBroker, err := openBroker(&cfg, registry, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := closeBroker(); err != nil {
			log.Error("closing the broker failed", "err", err)
		}
	}()
	hubConfig := chathub.Config{
		Broker:         broker,
		Auth:           &chathub.JWT{Key: cfg.secret},
		Origins:        cfg.origins,
		TrustedProxies: cfg.proxies,
		Rate:           cfg.rate,
		ReadReceipts:   true,
		ClientState:    maySet,
		// What the page for operators shows of a connection.
		KeepConnectionInfo: cfg.inspect != "",
		Logger:             log,
	}
	mod := cfg.moderators.moderation()
	mod.Install(&hubConfig)
	hub, err := chathub.New(hubConfig)
	if err != nil {
		return err
	}
	defer func() { _ = hub.Close() }() // does nothing after shutdown
	if err := mod.Start(ctx, hub); err != nil {
		return err
	}

	registry.MustRegister(chatprom.NewCollector(hub))
	if err := serveInspect(ctx, cfg.inspect, hub, mod, log); err != nil {
		return err
	}

	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.addr)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: routes(hub, &login{key: cfg.secret, origins: cfg.origins, log: log},
			promhttp.HandlerFor(registry, promhttp.HandlerOpts{})),
		// net/http lifts these deadlines when a connection becomes a WebSocket.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10, // a token can have 8 KiB
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1) // the goroutine ends even if nobody receives
	go func() { served <- srv.Serve(ln) }()
	log.Info("chat is ready", "url", urlOf(ln.Addr()))

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	log.Info("shutting down")
	shutdown(context.WithoutCancel(ctx), srv, hub, log)
	log.Info("bye")
	return nil
}

// maySet lets the members of a room set its topic, and pin messages. Whoever is
// in a room can set these two keys to anything, so the page checks the values.
func maySet(_ context.Context, _ *chathub.Client, _, key string) bool {
	return key == "topic" || key == "pinned"
}

// shutdown ends the server and the hub at the same time. Both are needed, since
// http.Server.Shutdown neither waits for WebSocket connections nor closes them.
// One after the other, a request that hangs would use up the time of the hub,
// and clients would not be told to come back.
func shutdown(ctx context.Context, srv *http.Server, hub *chathub.Hub, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for name, end := range map[string]func(context.Context) error{"server": srv.Shutdown, "hub": hub.Shutdown} {
		wg.Go(func() {
			if err := end(ctx); err != nil {
				log.Warn("shutdown did not finish in time", "of", name, "err", err)
			}
		})
	}
	wg.Wait()
}

// urlOf returns the URL of the page for a listener's address.
func urlOf(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}
