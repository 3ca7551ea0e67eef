package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/chathub-go/chathub/internal/tools/child"
	"github.com/go-json-experiment/json"
)

// settings is the first line that the server reads. It is not an argument,
// since it holds the secret.
type settings struct {
	Secret    []byte `json:"secret"`
	LogLength int    `json:"logLength"`
	Broker    string `json:"broker"`  // memory or nats
	Failing   int    `json:"failing"` // of so many reads of the broker, one fails; 0: none
}

// open returns the broker that the settings name, and a function that ends it.
// One on NATS has its data in a directory that is removed then.
func (set *settings) open() (chathub.Broker, func() error, error) {
	if set.Broker != "nats" {
		b := &chathub.MemoryBroker{MaxMessages: set.LogLength, MaxBytes: 4 << 20}
		return b, func() error { return nil }, nil
	}
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return nil, nil, err
	}
	b, err := natsbroker.Embedded(dir, natsbroker.MaxMessages(set.LogLength))
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return b, func() error { return errors.Join(b.Close(), os.RemoveAll(dir)) }, nil
}

// reading is the server's answer to a command: its state.
type reading struct {
	Addr string `json:"addr,omitzero"` // only in the first
	child.Usage
	Connections int    `json:"connections"`
	Users       int    `json:"users"`
	Rooms       int    `json:"rooms"`
	Slow        uint64 `json:"slowConsumers"`
	Errors      int64  `json:"errors"` // logged since the start
	// Draining says that a replaced hub has not ended yet.
	Draining bool `json:"draining"`
}

const (
	// writeBuffer is the size of the kernel's buffer for each connection. It is
	// small, so that a client that does not read is found within seconds.
	writeBuffer = 16 << 10
	// outbox is the size of the hub's outbox, small for the same reason. Half
	// of it bounds what a client that comes back gets at once.
	outbox       = 128 << 10
	drainTimeout = 15 * time.Second
	replayLimit  = 1000
)

// The hub's times are short, so that a soak of seconds shows their effects.
const (
	pingInterval  = 2 * time.Second
	pongTimeout   = 2 * time.Second
	writeTimeout  = 3 * time.Second
	presenceGrace = time.Second
	drainWindow   = time.Second
)

// server is the process under test. It has one address and one broker, and one
// hub after another.
type server struct {
	broker   chathub.Broker
	end      func() error // of the broker
	auth     chathub.Authenticator
	hub      atomic.Pointer[chathub.Hub]
	draining atomic.Int32
	errors   atomic.Int64
}

// runServer serves until in ends, and answers the commands that it reads from
// it:
//
//	stats    a reading
//	restart  another hub takes the place of the present one, which shuts down
//	idle     a reading after a garbage collection
//	forget   the same, once hub and broker are gone; nothing is served after it
func runServer(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return errors.Join(errors.New("no settings"), lines.Err())
	}
	var set settings
	if err := json.Unmarshal(lines.Bytes(), &set); err != nil {
		return err
	}
	s := &server{auth: &chathub.JWT{Key: set.Secret}}
	var err error
	if s.broker, s.end, err = set.open(); err != nil {
		return err
	}
	if set.Failing > 0 {
		s.broker = &failing{Broker: s.broker, every: int64(set.Failing)}
	}
	defer func() { _ = s.end() }() // unless that was done already
	if err := s.replace(); err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.hub.Load().ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if tcp, ok := c.(*net.TCPConn); ok {
				// A larger buffer only takes longer to fill.
				_ = tcp.SetWriteBuffer(writeBuffer)
			}
			return ctx
		},
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(l) }()

	first := s.read(true)
	first.Addr = l.Addr().String()
	if err := say(out, first); err != nil {
		return err
	}
	for lines.Scan() {
		r, err := s.command(lines.Text())
		if err == nil {
			err = say(out, r)
		}
		if err != nil {
			return err
		}
	}
	_ = web.Close()
	if h := s.hub.Load(); h != nil {
		_ = h.Close()
	}
	if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return lines.Err()
}

func say(out io.Writer, r reading) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = out.Write(append(b, '\n'))
	return err
}

func (s *server) command(name string) (reading, error) {
	switch name {
	case "stats":
		return s.read(false), nil
	case "idle":
		return s.read(true), nil
	case "restart":
		old := s.hub.Load()
		if err := s.replace(); err != nil {
			return reading{}, err
		}
		s.drain(old)
		return s.read(false), nil
	case "forget":
		s.drain(s.hub.Swap(nil))
		for s.draining.Load() > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		err := s.end()
		s.broker, s.end = nil, func() error { return nil }
		return s.read(true), err
	}
	return reading{}, fmt.Errorf("unknown command %q", name)
}

// replace puts a new hub on the broker and behind the address.
func (s *server) replace() error {
	h, err := chathub.New(chathub.Config{
		Auth:           s.auth,
		Broker:         s.broker,
		Logger:         slog.New(counter{slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}), &s.errors}),
		MaxOutboxBytes: outbox,
		// MaxMessageBytes may be at most a quarter of the outbox.
		MaxMessageBytes: outbox / 8,
		ReplayLimit:     replayLimit,
		PingInterval:    pingInterval,
		PongTimeout:     pongTimeout,
		WriteTimeout:    writeTimeout,
		PresenceGrace:   presenceGrace,
		DrainWindow:     drainWindow,
	})
	if err == nil {
		s.hub.Store(h)
	}
	return err
}

// drain shuts down a hub in the background.
func (s *server) drain(h *chathub.Hub) {
	s.draining.Add(1)
	go func() {
		defer s.draining.Add(-1)
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			s.errors.Add(1)
			slog.Error("shutdown", "err", err)
		}
	}()
}

func (s *server) read(collect bool) reading {
	r := reading{
		Usage:    child.Measure(collect),
		Errors:   s.errors.Load(),
		Draining: s.draining.Load() > 0,
	}
	if h := s.hub.Load(); h != nil {
		stats := h.Stats()
		r.Connections, r.Users, r.Rooms, r.Slow = stats.Connections, stats.Users, stats.Rooms, stats.SlowConsumers
	}
	return r
}

// counter counts records of level error.
type counter struct {
	slog.Handler
	n *atomic.Int64
}

func (c counter) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		c.n.Add(1)
	}
	return c.Handler.Handle(ctx, r)
}
