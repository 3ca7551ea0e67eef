package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const minute = time.Minute

func TestOutboxBounds(t *testing.T) {
	server, _ := pipe(t)
	c := New(server, nil, Limits{Outbox: 100, Grace: closeGrace})
	defer c.Abort()
	step := func(name string, got, want Result, waiting int) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: %d, want %d", name, got, want)
		}
		if n := waitingIn(c); n != waiting {
			t.Fatalf("%s: %d bytes wait, want %d", name, n, waiting)
		}
	}
	enqueue := func(n int, volatile bool) Result { return c.Enqueue(make([]byte, n), volatile) }

	step("more than there is room for", enqueue(101, false), Overflow, 0)
	step("volatile, over the half", enqueue(51, true), Dropped, 0)
	step("volatile, up to the half", enqueue(50, true), Ready, 50)
	step("volatile, one more", enqueue(1, true), Dropped, 50)
	step("up to the bound", enqueue(50, false), Queued, 100)
	step("one more", enqueue(1, false), Overflow, 100)
	if n, err := c.Write([]byte{finBit | opPong, 0}); n != 2 || err != nil {
		t.Errorf("pong over the bound: %d, %v", n, err)
	}
	step("after the pong", enqueue(1, false), Overflow, 100)
	step("a close frame", c.CloseWith(4001, "slow", false, minute), Queued, 108)
	step("after the close frame", enqueue(1, false), Gone, 108)
	step("volatile after the close frame", enqueue(1, true), Gone, 108)
	step("another close frame", c.CloseWith(4001, "slow", false, minute), Gone, 108)
}

// A slow reader with small buffers sees every frame whole and each sender's in order,
// whatever kind of connection it is, while many send at once.
func TestFramesStayWhole(t *testing.T) {
	overTransports(t, func(t *testing.T, server, client net.Conn) {
		const senders, each = 8, 150
		alone := &aloneWriter{Conn: server}
		c := New(server, nil, Limits{Outbox: 1 << 30, Grace: closeGrace})
		c.raw = alone
		defer c.Abort()

		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(s), 0))
				for i := range each {
					b := binary.BigEndian.AppendUint32([]byte{byte(s)}, uint32(i))
					if s%4 == 3 { // these send pongs, as the layer above does
						if _, err := c.Write(append([]byte{finBit | opPong, byte(len(b))}, b...)); err != nil {
							t.Error(err)
						}
						continue
					}
					b = append(b, make([]byte, fill(rng))...)
					if res := send(c, sealed(b)); res > Ready {
						t.Errorf("frame %d of sender %d: %d", i, s, res)
					}
				}
			})
		}
		read := make(chan error, 1)
		go func() { read <- readSenders(client, senders, each) }()
		wg.Wait()
		if c.CloseWith(1000, "", false, minute) == Ready {
			c.Flush()
		}
		if err := <-read; err != nil {
			t.Error(err)
		}
		await(t, "rest", func() bool { return atRest(c) })
		if s := c.StuckSince(); !s.IsZero() {
			t.Errorf("at rest, but stuck since %v", s)
		}
		if alone.broken {
			t.Error("two writes at once")
		}
	})
}

// fill is a length that is small as a rule, and now and then one that needs several
// writes.
func fill(rng *rand.Rand) int {
	switch rng.IntN(40) {
	case 0:
		return joined + rng.IntN(3*joined)
	case 1, 2:
		return drainPart - 20 + rng.IntN(40)
	default:
		return rng.IntN(300)
	}
}

// readSenders reads what TestFramesStayWhole sends, a little at a time, up to the
// close frame and the end.
func readSenders(client net.Conn, senders, each int) error {
	next := make([]uint32, senders)
	r := bufio.NewReaderSize(client, 600)
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		if f.op == opClose {
			break
		}
		s, i := f.payload[0], binary.BigEndian.Uint32(f.payload[1:])
		if i != next[s] {
			return fmt.Errorf("sender %d: frame %d, want %d", s, i, next[s])
		}
		if next[s]++; len(bytes.Trim(f.payload[5:], "\x00")) > 0 {
			return fmt.Errorf("sender %d: frame %d holds something else", s, i)
		}
	}
	for s, n := range next {
		if n != uint32(each) {
			return fmt.Errorf("sender %d: %d frames, want %d", s, n, each)
		}
	}
	return nil
}

// aloneWriter notices two writes at once.
type aloneWriter struct {
	net.Conn
	mu     sync.Mutex
	broken bool
}

func (w *aloneWriter) Write(p []byte) (int, error) {
	if !w.mu.TryLock() {
		w.broken = true
	} else {
		defer w.mu.Unlock()
	}
	return w.Conn.Write(p)
}

// Where the peer does not read, whoever sends goes on until the outbox is full;
// where it reads again, it gets everything.
func TestPeerThatDoesNotRead(t *testing.T) {
	overTransports(t, func(t *testing.T, server, client net.Conn) {
		const outbox = 1 << 20
		c := New(server, nil, Limits{Outbox: outbox, Grace: closeGrace})
		defer c.Abort()
		f := sealed(make([]byte, 5000))
		accepted := 0
		await(t, "a full outbox whose write is stuck", func() bool {
			switch res := send(c, f); res {
			case Queued, Ready:
				accepted++
				return false
			case Overflow: // the socket may have taken some since
				return waitingIn(c) > outbox-len(f) && !c.StuckSince().IsZero()
			default:
				t.Fatalf("frame %d: %d", accepted, res)
				return false
			}
		})
		if n := waitingIn(c); n > outbox {
			t.Errorf("%d bytes wait where %d may", n, outbox)
		}
		if res := c.Enqueue(Ping, true); res != Dropped {
			t.Errorf("a volatile frame: %d, want %d", res, Dropped)
		}
		r := bufio.NewReader(client)
		for i := range accepted {
			if got, err := readFrame(r); err != nil || len(got.payload) != 5000 {
				t.Fatalf("frame %d of %d: %v", i, accepted, err)
			}
		}
		await(t, "rest", func() bool { return atRest(c) })
		if s := c.StuckSince(); !s.IsZero() {
			t.Errorf("nothing waits, but stuck since %v", s)
		}
		if res := send(c, f); res != Ready {
			t.Errorf("after that: %d, want %d", res, Ready)
		}
		if _, err := readFrame(r); err != nil {
			t.Error(err)
		}
	})
}

func TestStuckSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := pipe(t)
		c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
		defer c.Abort()
		begin := time.Now()
		check := func(want time.Duration) {
			t.Helper()
			synctest.Wait()
			if got := c.StuckSince(); got.IsZero() || got.Sub(begin) != want {
				t.Errorf("stuck since %v, want %v", got.Sub(begin), want)
			}
		}
		if s := c.StuckSince(); !s.IsZero() {
			t.Errorf("a new one is stuck since %v", s)
		}
		send(c, make([]byte, 3*drainPart))
		check(0)
		time.Sleep(3 * time.Second)
		check(0)
		send(c, Ping) // what is sent is no progress
		check(0)
		for part := range 3 { // each begins when the one before has been read
			if err := readAll(client, make([]byte, drainPart)); err != nil {
				t.Fatal(err)
			}
			check(time.Duration(3+part) * time.Second)
			time.Sleep(time.Second)
			check(time.Duration(3+part) * time.Second)
		}
		if err := readAll(client, make([]byte, len(Ping))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := c.StuckSince(); !s.IsZero() {
			t.Errorf("nothing waits, but stuck since %v", s)
		}
	})
}

// Who may begin to flush finds no trace of the last one, which it might take away
// later.
func TestStuckAcrossFlushers(t *testing.T) {
	server, client := pipe(t)
	c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
	defer c.Abort()
	buf := make([]byte, len(Ping))
	for i := range 10_000 {
		send(c, Ping)
		if err := readAll(client, buf); err != nil {
			t.Fatal(err)
		}
		for owned := true; owned; runtime.Gosched() {
			c.mu.Lock()
			if owned = c.owned; !owned && !c.StuckSince().IsZero() {
				t.Errorf("round %d: nobody flushes, but one is stuck", i)
			}
			c.mu.Unlock()
		}
	}
}

// halfSocket takes a random part of each write without waiting, like a socket
// with a buffer that is full at times.
type halfSocket struct {
	rng *rand.Rand
	got []byte
}

func (s *halfSocket) tryWrite(p []byte) (int, error) {
	n := s.rng.IntN(len(p) + 1)
	s.got = append(s.got, p[:n]...)
	return n, nil
}

// Random steps, compared with a model: a Ready is given exactly when nobody
// flushes, bounds are kept, and what was taken arrives in order.
func TestConnAgainstModel(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 0))
				m := newModel(t, rng, seed%2 == 0)
				for range 200 {
					m.step()
				}
				m.end()
			})
		})
	}
}

type model struct {
	t      *testing.T
	rng    *rand.Rand
	c      *Conn
	client net.Conn
	socket *halfSocket // its got is all that the peer has read
	limit  int

	ready     bool // a Ready was given, and not yet answered by Flush
	flushing  bool // something waits at the peer
	sealed    bool
	discarded bool
	taken     [][]byte // frames
	bytes     int      // of taken
}

func newModel(t *testing.T, rng *rand.Rand, fast bool) *model {
	server, client := pipe(t)
	m := &model{t: t, rng: rng, client: client, limit: 100 + rng.IntN(100_000), socket: &halfSocket{rng: rng}}
	m.c = New(server, nil, Limits{Outbox: m.limit, Grace: closeGrace})
	if fast {
		m.c.fast = m.socket
	}
	return m
}

func (m *model) step() {
	switch k := m.rng.IntN(100); {
	case k < 55:
		m.enqueue()
	case k < 60:
		m.pong()
	case k < 75 && m.ready:
		m.flush()
	case k < 99 && m.flushing:
		m.read(1 + m.rng.IntN(m.limit))
	case k == 99 && m.rng.IntN(3) == 0:
		m.close()
	}
}

// frame returns the next frame, numbered.
func (m *model) frame() []byte {
	n := m.rng.IntN(100)
	if m.rng.IntN(10) == 0 {
		n = m.rng.IntN(m.limit)
	}
	return sealed(binary.BigEndian.AppendUint32(make([]byte, n), uint32(len(m.taken))))
}

func (m *model) enqueue() {
	f, volatile := m.frame(), m.rng.IntN(3) == 0
	n := waitingIn(m.c) + len(f)
	want := Queued
	switch {
	case m.sealed:
		want = Gone
	case volatile && n > m.limit/2:
		want = Dropped
	case n > m.limit:
		want = Overflow
	case !m.ready && !m.flushing:
		want = Ready
	}
	got := m.c.Enqueue(f, volatile)
	if got != want {
		m.t.Fatalf("Enqueue of %d bytes where %d of %d wait: %d, want %d", len(f), n-len(f), m.limit, got, want)
	}
	if got <= Ready {
		m.take(f)
		m.ready = m.ready || got == Ready
	}
}

func (m *model) take(f []byte) {
	m.taken = append(m.taken, f)
	m.bytes += len(f)
}

// pong goes through Write, which flushes by itself.
func (m *model) pong() {
	f := binary.BigEndian.AppendUint32([]byte{finBit | opPong, 4}, uint32(len(m.taken)))
	fits := !m.sealed && waitingIn(m.c)+len(f) <= m.limit
	if n, err := m.c.Write(f); n != len(f) || err != nil {
		m.t.Fatalf("Write: %d, %v", n, err)
	}
	if fits {
		m.take(f)
	}
	m.settle()
}

func (m *model) flush() {
	m.ready = false
	m.c.Flush()
	m.settle()
}

// settle waits until only the peer can go on.
func (m *model) settle() {
	synctest.Wait()
	if m.ready {
		return
	}
	left := waitingIn(m.c)
	m.flushing = left > 0
	if unread := m.bytes - len(m.socket.got); !m.discarded && (left < unread || left >= unread+drainPart) {
		m.t.Fatalf("%d bytes wait where the peer has not read %d", left, unread)
	}
	if m.flushing == m.c.StuckSince().IsZero() {
		m.t.Fatalf("%d bytes wait, stuck since %v", left, m.c.StuckSince())
	}
}

// read has the peer read n bytes or what there is.
func (m *model) read(n int) {
	for n > 0 && m.flushing {
		buf := make([]byte, n)
		k, err := m.client.Read(buf)
		if err != nil {
			m.t.Fatal(err)
		}
		n -= k
		m.socket.got = append(m.socket.got, buf[:k]...)
		m.settle()
	}
}

func (m *model) close() {
	discard := m.rng.IntN(2) == 0
	want := Queued
	switch {
	case m.sealed:
		want = Gone
	case !m.ready && !m.flushing:
		want = Ready
	}
	got := m.c.CloseWith(4000, "bye", discard, time.Hour)
	if got != want {
		m.t.Fatalf("CloseWith: %d, want %d", got, want)
	}
	if got == Gone {
		return
	}
	m.sealed, m.discarded = true, discard
	m.take(closeFrame(4000, "bye"))
	m.ready = m.ready || got == Ready
}

// end has everything sent and compares it with what was taken.
func (m *model) end() {
	if m.ready {
		m.flush()
	}
	for m.flushing {
		m.read(m.limit)
	}
	if !atRest(m.c) {
		m.t.Error("not at rest in the end")
	}
	frames := parseAll(m.t, m.socket.got)
	if !m.discarded {
		if !bytes.Equal(m.socket.got, bytes.Join(m.taken, nil)) {
			m.t.Errorf("%d frames taken, %d sent, or others", len(m.taken), len(frames))
		}
	} else if n := len(frames); n == 0 || frames[n-1].op != opClose || n > len(m.taken) {
		m.t.Errorf("%d frames taken, %d sent, and no close frame behind them", len(m.taken), n)
	} else {
		for i, f := range frames[:n-1] {
			if got := binary.BigEndian.Uint32(f.payload[len(f.payload)-4:]); got != uint32(i) {
				m.t.Fatalf("frame %d is number %d", i, got)
			}
		}
	}
	m.c.Abort()
	synctest.Wait()
	if _, err := m.client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		m.t.Errorf("after Abort: %v", err)
	}
}

func TestWriteErrors(t *testing.T) {
	overTransports(t, func(t *testing.T, server, client net.Conn) {
		c := New(server, nil, Limits{Outbox: 1 << 30, Grace: closeGrace})
		client.Close()
		f := sealed(make([]byte, 1000))
		await(t, "the end", func() bool { return send(c, f) == Gone })
		await(t, "rest", func() bool { return atRest(c) })
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the reader was not woken")
		}
		if n, err := c.Write([]byte{finBit | opPong, 0}); n != 2 || err != nil {
			t.Errorf("a pong after the end: %d, %v", n, err)
		}
	})
}
