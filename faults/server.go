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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
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

	// Of the MemoryBroker, or of a broker on disk, which takes Store alone:
	Log, LogBytes   int // each log
	Store, IdleLogs int // all together

	Data string // the directory of a broker on disk
}

// order is a line for the server; see [server.carryOut].
type order struct {
	Do    string
	User  string
	Room  string
	Wait  time.Duration
	Rooms []roomful
}

// roomful is messages that the application emits to a room. The last one is
// small.
type roomful struct {
	Room            string
	Messages, Bytes int
}

// reading is the server's answer to an order: its state.
type reading struct {
	Addr string `json:",omitzero"` // only in the first
	child.Usage
	CPU                       time.Duration // of the process, since it started
	Connections, Users, Rooms int
	Refused                   uint64 // handshakes

	Stacks int // panics logged with a stack
	Errors int // other errors logged
	Lines  int // logged from slog.LevelInfo on, with these two
	Took   time.Duration
	Err    string `json:",omitzero"`
	// Ends are the close codes by user, oldest first.
	Ends map[string][]int `json:",omitzero"`
	// Keys are the seqs of stored messages by "user/id".
	Keys map[string]uint64 `json:",omitzero"`
}

// server is the process under test.
type server struct {
	set    settings
	broker chathub.Broker
	hub    atomic.Pointer[chathub.Hub]

	released chan struct{} // closed to end callbacks that wait forever

	mu      sync.Mutex
	ends    map[string][]int
	revoked map[string]bool // by "user/room"
	stacks  int
	errors  int
	lines   int
}

// runServer serves until in ends, and carries out the orders that it reads from
// it.
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
		s.set.Grace = 200 * time.Millisecond // so that a trial does not wait long for it to end
	}
	closeBroker, err := s.openBroker()
	if err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return errors.Join(err, closeBroker())
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
				// A small buffer shows within seconds that a client does not
				// read. A smaller one would hold up clients that read: their
				// kernel acks 40 ms late if it has nothing to send.
				_ = tcp.SetWriteBuffer(256 << 10)
			}
			return ctx
		},
		// Connections that break off would fill the log.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { _ = web.Serve(l) }() // returns after Close

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
	return errors.Join(err, lines.Err(), closeBroker())
}

// openBroker opens the broker that the settings ask for.
func (s *server) openBroker() (shut func() error, err error) {
	if s.set.Data == "" {
		s.broker = &chathub.MemoryBroker{
			MaxMessages: s.set.Log, MaxBytes: s.set.LogBytes,
			MaxTotalBytes: s.set.Store, MaxIdleTopics: s.set.IdleLogs,
		}
		return func() error { return nil }, nil
	}
	options := []natsbroker.Option{natsbroker.Logger(slog.New(slog.DiscardHandler))}
	if s.set.Store > 0 {
		options = append(options, natsbroker.MaxBytes(int64(s.set.Store)))
	}
	disk, err := natsbroker.Embedded(s.set.Data, options...)
	if err != nil {
		return nil, err
	}
	s.broker = disk
	return disk.Close, nil
}

func say(out io.Writer, r reading) error {
	b, err := json.Marshal(r, nanosOut)
	if err == nil {
		_, err = out.Write(append(b, '\n'))
	}
	return err
}

// carryOut carries out an order:
//
//	stats     does nothing but the reading
//	idle      collects garbage before the reading
//	ends      says how connections ended
//	fill      emits messages to rooms
//	logout    disconnects a user everywhere
//	revoke    takes a user out of a room for good
//	release   lets OnConnect and OnDisconnect return
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
	case "fill":
		err = fill(ctx, hub, o.Rooms)
	}
	took := time.Since(began)
	r := s.read(o.Do == "idle")
	r.Took, r.Keys = took, keys
	if o.Do == "ends" {
		r.Ends = s.copyEnds()
	}
	if err != nil {
		r.Err = err.Error()
	}
	return r
}

func fill(ctx context.Context, hub *chathub.Hub, rooms []roomful) error {
	for _, r := range rooms {
		words := strings.Repeat("x", r.Bytes)
		for i := range r.Messages {
			if i == r.Messages-1 {
				words = "last"
			}
			if err := hub.To(r.Room).Emit(ctx, "room-message", words); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *server) copyEnds() map[string][]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends := make(map[string][]int, len(s.ends))
	for user, codes := range s.ends {
		ends[user] = slices.Clone(codes)
	}
	return ends
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
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) == nil {
		r.CPU = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	stats := s.hub.Load().Stats()
	r.Connections, r.Users, r.Rooms, r.Refused = stats.Connections, stats.Users, stats.Rooms, stats.Refused
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Stacks, r.Errors, r.Lines = s.stacks, s.errors, s.lines
	return r
}

// Handle implements slog.Handler. It counts lines.
func (s *server) Handle(_ context.Context, r slog.Record) error {
	stack := false
	r.Attrs(func(a slog.Attr) bool {
		stack = stack || a.Key == "stack" && strings.Contains(a.Value.String(), "callbacks.go")
		return true
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines++
	switch {
	case stack:
		s.stacks++
	case r.Level >= slog.LevelError:
		s.errors++
	}
	return nil
}

// Enabled implements slog.Handler.
func (s *server) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// WithAttrs implements slog.Handler.
func (s *server) WithAttrs([]slog.Attr) slog.Handler { return s }

// WithGroup implements slog.Handler.
func (s *server) WithGroup(string) slog.Handler { return s }
