package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
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
		if n := c.Waiting(); n != waiting {
			t.Fatalf("%s: %d bytes wait, want %d", name, n, waiting)
		}
	}
	enqueue := func(n int, kind Kind) Result { return c.Enqueue(make([]byte, n), kind) }

	step("more than there is room for", enqueue(101, Durable), Overflow, 0)
	step("volatile, over the half", enqueue(51, Volatile), Dropped, 0)
	step("volatile, up to the half", enqueue(50, Volatile), Ready, 50)
	step("volatile, one more", enqueue(1, Volatile), Dropped, 50)
	step("up to the bound", enqueue(50, Durable), Queued, 100)
	step("one more", enqueue(1, Durable), Overflow, 100)
	if n, err := c.Write([]byte{finBit | opPong, 0}); n != 2 || err != nil {
		t.Errorf("pong over the bound: %d, %v", n, err)
	}
	step("after the pong", enqueue(1, Durable), Overflow, 100)
	step("a close frame", c.CloseWith(4001, "slow", false, minute), Queued, 108)
	step("after the close frame", enqueue(1, Durable), Gone, 108)
	step("volatile after the close frame", enqueue(1, Volatile), Gone, 108)
	step("another close frame", c.CloseWith(4001, "slow", false, minute), Gone, 108)
}

// A slow reader with small buffers sees every frame whole, and the frames of
// each sender in order. This holds for each kind of connection, while many
// goroutines send.
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
					if s%4 == 3 { // a pong, as the layer above sends it
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

// fill returns a length that is usually small, and sometimes needs several
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

// readSenders reads what TestFramesStayWhole sends, a little at a time, up to
// the close frame and the end.
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

// aloneWriter notices two writes at the same time.
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

// If the peer does not read, senders go on until the outbox is full. When it
// reads again, it gets everything.
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
			case Overflow: // the socket may have taken some of it meanwhile
				return c.Waiting() > outbox-len(f) && !c.StuckSince().IsZero()
			default:
				t.Fatalf("frame %d: %d", accepted, res)
				return false
			}
		})
		if n := c.Waiting(); n > outbox {
			t.Errorf("%d bytes wait, more than the bound of %d", n, outbox)
		}
		if res := c.Enqueue(Ping, Volatile); res != Dropped {
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
			t.Errorf("a new connection is stuck since %v", s)
		}
		send(c, make([]byte, 3*drainPart))
		check(0)
		time.Sleep(3 * time.Second)
		check(0)
		send(c, Ping) // queuing is no progress
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

// A goroutine that may begin to flush finds no trace of the last one, which
// that one might remove later.
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
				t.Errorf("round %d: nobody flushes, but the connection is stuck", i)
			}
			c.mu.Unlock()
		}
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
