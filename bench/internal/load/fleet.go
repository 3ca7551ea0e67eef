//go:build linux

// Package load is a crowd of cheap WebSocket clients. A few threads read from
// all sockets and count messages in the bytes, so that the server is measured
// and not the clients.
package load

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/internal/histogram"
	"golang.org/x/sys/unix"
)

// Config describes a Fleet.
type Config struct {
	Addr     string // of the server, as 127.0.0.1:port
	Dialect  *Dialect
	Capacity int // the most clients
	// Readers is the number of threads that read. The default is one for every
	// four cores.
	Readers int
	// Sample reports whether the latency of messages is measured for a client.
	// Nil means for none.
	Sample func(id int) bool
	// Small reports whether a client has the smallest possible buffer in the
	// kernel. Nil means that none has.
	Small func(id int) bool
	TLS   bool
	// Handshakes is how many clients connect at a time. More would overflow the
	// server's queue of new connections. The default is 256.
	Handshakes int
	// Size is the size of a message's payload in bytes.
	Size int
}

// Fleet is a crowd of clients of one server.
type Fleet struct {
	Latency histogram.Histogram // of sampled clients, while Measure is on

	cfg     Config
	start   time.Time
	readers []*reader

	mu    sync.Mutex
	conns []*Conn
	lost  int
	err   error // the first loss

	settled   atomic.Int64
	change    chan struct{} // holds a token after a client has settled or was lost
	delivered atomic.Uint64
	bytes     atomic.Uint64
	measuring atomic.Bool
	closing   atomic.Bool
	flow      atomic.Pointer[flow]

	deflating sync.Mutex
	deflater  *deflater // nil if clients do not compress; guarded by deflating
}

// NewFleet returns a fleet without clients.
func NewFleet(cfg Config) (*Fleet, error) {
	f := &Fleet{cfg: cfg, start: time.Now(), change: make(chan struct{}, 1)}
	if f.cfg.Readers == 0 {
		f.cfg.Readers = max(1, runtime.NumCPU()/4)
	}
	if f.cfg.Handshakes == 0 {
		f.cfg.Handshakes = 256
	}
	if cfg.Dialect.Deflate {
		var err error
		if f.deflater, err = newDeflater(); err != nil {
			return nil, err
		}
	}
	for range f.cfg.Readers {
		r, err := newReader(f, cfg.Capacity)
		if err != nil {
			f.Close()
			return nil, err
		}
		f.readers = append(f.readers, r)
	}
	return f, nil
}

func (f *Fleet) now() time.Duration { return time.Since(f.start) }

// Delivered returns how many messages all clients have seen.
func (f *Fleet) Delivered() uint64 { return f.delivered.Load() }

// Bytes returns how many bytes all clients have received, handshakes included.
func (f *Fleet) Bytes() uint64 { return f.bytes.Load() }

// Measure starts or stops the recording of latencies. A start forgets earlier
// ones.
func (f *Fleet) Measure(on bool) {
	if on {
		f.Latency.Reset()
	}
	f.measuring.Store(on)
}

// Conns returns all clients, in the order in which they were dialed.
func (f *Fleet) Conns() []*Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns
}

// Err returns the first unexpected end of a connection, and how many there
// were.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		return nil
	}
	return fmt.Errorf("%d connections lost; the first: %w", f.lost, f.err)
}

func (f *Fleet) lose(err error) {
	if f.closing.Load() {
		return
	}
	f.mu.Lock()
	f.lost++
	if f.err == nil {
		f.err = err
	}
	f.mu.Unlock()
	f.signal()
}

func (f *Fleet) settle() {
	f.settled.Add(1)
	f.signal()
}

func (f *Fleet) signal() {
	select {
	case f.change <- struct{}{}:
	default:
	}
}

// Dial connects n more clients, each of which does its steps. Room returns the
// room of a client, or nil; room itself may be nil. Dial returns when all
// clients have settled.
func (f *Fleet) Dial(ctx context.Context, n int, room func(id int) *Room, steps func(c *Conn) []Step) error {
	conns := make([]*Conn, n)
	first := len(f.Conns())
	for i := range conns {
		c := &Conn{ID: first + i}
		if room != nil {
			if c.Room = room(c.ID); c.Room != nil {
				c.Room.enter(c)
			}
		}
		conns[i] = c
	}
	return f.dial(ctx, conns, steps)
}

// Redial connects clients that were cut again, as the same users but in no
// Room. It returns their new connections.
func (f *Fleet) Redial(ctx context.Context, cut []*Conn, steps func(c *Conn) []Step) ([]*Conn, error) {
	conns := make([]*Conn, len(cut))
	for i, c := range cut {
		conns[i] = &Conn{ID: c.ID}
	}
	return conns, f.dial(ctx, conns, steps)
}

func (f *Fleet) dial(ctx context.Context, conns []*Conn, steps func(c *Conn) []Step) error {
	base := f.settled.Load()
	for i, c := range conns {
		c.fleet = f
		c.sampled = f.cfg.Sample != nil && f.cfg.Sample(c.ID)
		c.steps = steps(c)
		if err := c.dial(ctx); err != nil {
			return fmt.Errorf("client %d: %w", c.ID, err)
		}
		f.mu.Lock()
		f.conns = append(f.conns, c)
		f.mu.Unlock()
		if err := f.wait(ctx, base+int64(i+1-f.cfg.Handshakes)); err != nil {
			return err
		}
	}
	return f.wait(ctx, base+int64(len(conns)))
}

// Do makes settled clients do more steps, all at once. It returns when all have
// settled again.
func (f *Fleet) Do(ctx context.Context, conns []*Conn, steps func(c *Conn) []Step) error {
	base := f.settled.Load()
	for _, c := range conns {
		c.mu.Lock()
		c.steps, c.begun, c.settled = steps(c), false, false
		c.advance()
		c.mu.Unlock()
	}
	return f.wait(ctx, base+int64(len(conns)))
}

// wait waits until so many clients have settled. It fails if a connection is
// lost.
func (f *Fleet) wait(ctx context.Context, settled int64) error {
	return f.Until(ctx, func() bool { return f.settled.Load() >= settled })
}

// Until waits until done returns true. It fails if a connection is lost. It
// calls done when a client settles, and every few milliseconds.
func (f *Fleet) Until(ctx context.Context, done func() bool) error {
	if done() {
		return f.Err()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if err := f.Err(); err != nil {
			return err
		}
		select {
		case <-f.change:
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d settled, %d messages seen: %w", f.settled.Load(), f.Delivered(), ctx.Err())
		}
	}
	return nil
}

// sourcePorts is how many connections have one source address. It is less than
// Linux's default range of ephemeral ports (28,232).
const sourcePorts = 25_000

// dial connects and sends the request. The reader does the rest.
func (c *Conn) dial(ctx context.Context) error {
	f := c.fleet
	fd, err := connect(f.cfg.Addr, c.ID/sourcePorts, f.cfg.Small != nil && f.cfg.Small(c.ID))
	if err != nil {
		return err
	}
	c.fd = fd
	if f.cfg.TLS {
		return c.dialTLS(ctx)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	c.write([]byte(c.request()))
	return f.readers[c.ID%len(f.readers)].add(c)
}

func (c *Conn) request() string {
	d := c.fleet.cfg.Dialect
	room := ""
	if c.Room != nil {
		room = c.Room.Name
	}
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", d.Path(room), c.fleet.cfg.Addr)
	if d.Deflate {
		b.WriteString("Sec-WebSocket-Extensions: permessage-deflate\r\n")
	}
	if d.Header != nil {
		b.WriteString(d.Header(c.ID))
	}
	b.WriteString("\r\n")
	return b.String()
}

// Pause stops reading from clients, so that their sockets fill up.
func (f *Fleet) Pause(conns []*Conn) error {
	for _, c := range conns {
		if err := c.reader.pause(c); err != nil {
			return err
		}
	}
	return nil
}

// Cut breaks off clients without a close handshake.
func (f *Fleet) Cut(conns []*Conn) {
	for _, c := range conns {
		c.mu.Lock()
		c.closed.Store(true)
		c.reset()
		c.mu.Unlock()
	}
}

// reset closes the socket with a reset, so that its port can be used again at
// once.
func (c *Conn) reset() {
	if !c.shut.CompareAndSwap(false, true) {
		return
	}
	if c.tls != nil {
		_ = c.tls.NetConn().Close()
		return
	}
	_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(c.fd)
}

// Close ends all clients and readers.
func (f *Fleet) Close() {
	f.flow.Store(nil)
	f.closing.Store(true)
	for _, r := range f.readers {
		<-r.done
		_ = unix.Close(r.ep)
	}
	f.Cut(f.Conns())
}
