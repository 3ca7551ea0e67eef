//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/internal/tools/child"
	"github.com/go-json-experiment/json"
)

// settings are the first line that the server reads. Zero is the hub's default.
type settings struct {
	Outbox, Message                         int // bytes
	Ping, Pong, Write, Begun, Drain, Grace  time.Duration
	MaxConns, ConnsPerUser, ConnsPerAddress int
	Rate                                    float64
	Burst                                   int
	Replay                                  int
	Log                                     int // messages that the broker keeps of a room
}

// order is one line that the server carries out; see [server.carryOut].
type order struct {
	Do   string
	User string
	Room string
	Wait time.Duration
}

// reading is what the server says of itself, one line for each order.
type reading struct {
	Addr string `json:",omitzero"` // in the first
	child.Usage
	Connections, Users, Rooms int
	Ends                      map[string][]int `json:",omitzero"` // close codes by user, the oldest first
	Stacks                    int              // panics logged with their stacks
	Errors                    int              // everything else logged as an error
	Took                      time.Duration
	Err                       string            `json:",omitzero"`
	Keys                      map[string]uint64 `json:",omitzero"` // "user/id" of stored messages, and their seqs
}

// server is the process under test.
type server struct {
	set    settings
	broker *chathub.MemoryBroker
	hub    atomic.Pointer[chathub.Hub]

	released chan struct{} // closed: what waits for ever goes on

	mu      sync.Mutex
	ends    map[string][]int
	revoked map[string]bool // user/room
	stacks  int
	errors  int
}

// runServer serves until in ends, and carries out the orders that it reads there.
func runServer(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return errors.Join(errors.New("no settings"), lines.Err())
	}
	s := &server{released: make(chan struct{}), ends: make(map[string][]int), revoked: make(map[string]bool)}
	if err := json.Unmarshal(lines.Bytes(), &s.set, nanos); err != nil {
		return err
	}
	if s.set.Grace == 0 {
		s.set.Grace = 200 * time.Millisecond // so that a trial need not wait for the end of it
	}
	s.broker = &chathub.MemoryBroker{MaxMessages: s.set.Log, MaxBytes: 64 << 20}
	if err := s.open(); err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.hub.Load().ServeHTTP(w, r) }),
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if tcp, ok := c.(*net.TCPConn); ok {
				// So that who does not read is found out within seconds; but not so small that who
				// reads is held up by its own kernel, which acks 40 ms later where it has nothing to say.
				_ = tcp.SetWriteBuffer(256 << 10)
			}
			return ctx
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // connections that were broken off
	}
	go func() { _ = web.Serve(l) }() // until Close

	first := s.read(true)
	first.Addr = l.Addr().String()
	for err = say(out, first); err == nil && lines.Scan(); {
		var o order
		if err = json.Unmarshal(lines.Bytes(), &o, nanos); err == nil {
			err = say(out, s.carryOut(ctx, o))
		}
	}
	_ = web.Close()
	_ = s.hub.Load().Close()
	return errors.Join(err, lines.Err())
}

func say(out io.Writer, r reading) error {
	b, err := json.Marshal(r, nanosOut)
	if err == nil {
		_, err = out.Write(append(b, '\n'))
	}
	return err
}

// carryOut does what o says:
//
//	stats     nothing but the reading
//	idle      collects garbage first
//	logout    disconnects a user everywhere
//	revoke    takes a user out of a room, for good
//	release   ends the waiting of OnConnect and OnDisconnect
//	shutdown  shuts the hub down, within Wait
//	restart   puts a new hub on the same broker
//	stored    reads a room's log
func (s *server) carryOut(ctx context.Context, o order) reading {
	var err error
	keys := map[string]uint64(nil)
	hub, began := s.hub.Load(), time.Now()
	switch o.Do {
	case "logout":
		err = hub.ToUser(o.User).Disconnect(ctx, "logged out")
	case "revoke":
		s.mu.Lock()
		s.revoked[o.User+"/"+o.Room] = true
		s.mu.Unlock()
		err = hub.ToUser(o.User).Leave(ctx, o.Room)
	case "release":
		close(s.released)
	case "shutdown":
		ctx, cancel := context.WithTimeout(ctx, o.Wait)
		err = hub.Shutdown(ctx)
		cancel()
	case "restart":
		err = s.open()
	case "stored":
		keys, err = s.stored(ctx, o.Room)
	}
	took := time.Since(began)
	r := s.read(o.Do == "idle")
	r.Took, r.Keys = took, keys
	if err != nil {
		r.Err = err.Error()
	}
	return r
}

func (s *server) stored(ctx context.Context, room string) (map[string]uint64, error) {
	session, err := s.broker.Attach(ctx, func(chathub.Message) {})
	if err != nil {
		return nil, err
	}
	page, err := session.Read(ctx, chathub.Topic{Room: room}, chathub.Range{Limit: 1 << 30})
	keys := make(map[string]uint64, len(page.Messages))
	for _, m := range page.Messages {
		keys[strings.ReplaceAll(m.Key, "\x00", "/")] = m.Seq
	}
	return keys, errors.Join(err, session.Close(ctx))
}

func (s *server) read(collect bool) reading {
	r := reading{Usage: child.Measure(collect)}
	stats := s.hub.Load().Stats()
	r.Connections, r.Users, r.Rooms = stats.Connections, stats.Users, stats.Rooms
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Stacks, r.Errors = s.stacks, s.errors
	r.Ends = make(map[string][]int, len(s.ends))
	for user, codes := range s.ends {
		r.Ends[user] = codes
	}
	return r
}

// Handle implements slog.Handler: it counts.
func (s *server) Handle(_ context.Context, r slog.Record) error {
	stack := false
	r.Attrs(func(a slog.Attr) bool {
		stack = stack || a.Key == "stack" && strings.Contains(a.Value.String(), "callbacks.go")
		return true
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if stack {
		s.stacks++
	} else {
		s.errors++
	}
	return nil
}

// Enabled implements slog.Handler.
func (s *server) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

// WithAttrs implements slog.Handler.
func (s *server) WithAttrs([]slog.Attr) slog.Handler { return s }

// WithGroup implements slog.Handler.
func (s *server) WithGroup(string) slog.Handler { return s }
