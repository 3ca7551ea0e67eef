package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// countingSocket takes everything, and counts the calls.
type countingSocket struct {
	writes atomic.Int64
	got    []byte
}

func (s *countingSocket) tryWrite(p []byte) (int, error) {
	s.writes.Add(1)
	s.got = append(s.got, p...)
	return len(p), nil
}

func TestFlusher(t *testing.T) {
	for _, n := range []int{0, 1, flushHere, flushHere + 1, flushPart - 1, flushPart, flushPart + 1, 10*flushPart + 7, 100 * flushPart} {
		t.Run(fmt.Sprint("conns=", n), func(t *testing.T) {
			f := NewFlusher()
			conns, sockets := make([]*Conn, n), make([]countingSocket, n)
			server, _ := pipe(t)
			var want []byte
			for i := range conns {
				conns[i] = New(server, nil, Limits{Outbox: 1000, Grace: closeGrace})
				conns[i].fast = &sockets[i]
			}
			const rounds = 3
			for range rounds {
				for _, c := range conns {
					if res := c.Enqueue(sealed("one"), false); res != Ready {
						t.Fatal(res)
					}
					if res := c.Enqueue(sealed("two"), false); res != Queued {
						t.Fatal(res)
					}
				}
				want = append(append(want, sealed("one")...), sealed("two")...)
				ready := append([]*Conn(nil), conns...)
				f.Flush(ready)
				clear(ready) // Flush must not keep them
				f.Wait()
				for i, c := range conns {
					if !atRest(c) {
						t.Fatalf("connection %d is not at rest after Wait", i)
					}
				}
			}
			f.Close()
			for i := range sockets {
				if w := sockets[i].writes.Load(); w != rounds || !bytes.Equal(sockets[i].got, want) {
					t.Fatalf("connection %d: %d bytes in %d writes, want %d in %d", i, len(sockets[i].got), w, len(want), rounds)
				}
			}
		})
	}
}

// gatedSocket does not return from a write until it may.
type gatedSocket struct {
	asked, pass chan struct{}
}

func (s *gatedSocket) tryWrite(p []byte) (int, error) {
	close(s.asked)
	<-s.pass
	return len(p), nil
}

func TestFlusherWaits(t *testing.T) {
	for _, tt := range []struct {
		name        string
		wait, after func(f *Flusher)
	}{
		{"Wait", (*Flusher).Wait, (*Flusher).Close},
		{"Close", (*Flusher).Close, func(*Flusher) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, _ := pipe(t)
				c := New(server, nil, Limits{Outbox: 1000, Grace: closeGrace})
				gate := &gatedSocket{make(chan struct{}), make(chan struct{})}
				c.fast = gate
				conns := []*Conn{c}
				for range flushHere { // so many that they are handed over
					other := New(server, nil, Limits{Outbox: 1000, Grace: closeGrace})
					other.fast = &countingSocket{}
					conns = append(conns, other)
				}
				for _, c := range conns {
					c.Enqueue(Ping, false)
				}
				f := NewFlusher()
				f.Flush(conns)
				<-gate.asked
				done := make(chan struct{})
				go func() {
					tt.wait(f)
					close(done)
				}()
				synctest.Wait()
				select {
				case <-done:
					t.Error("it came back while a write was under way")
				default:
				}
				close(gate.pass)
				<-done
				if !atRest(c) {
					t.Error("not at rest after that")
				}
				tt.after(f)
			})
		})
	}
}

// A peer that does not read does not hold up the others of its part.
func TestFlusherPassesStuckPeers(t *testing.T) {
	stuckServer, _ := tcpPair(t)
	stuck := New(stuckServer, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
	defer stuck.Abort()
	server, client := tcpPair(t)
	c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
	defer c.Abort()
	stuck.Enqueue(sealed(make([]byte, 1<<19)), false) // more than its socket's buffers
	c.Enqueue(sealed("through"), false)
	f := NewFlusher()
	f.Flush([]*Conn{stuck, c})
	f.Close()
	if got, err := readFrame(client); err != nil || string(got.payload) != "through" {
		t.Errorf("%q, %v", got.payload, err)
	}
	if stuck.StuckSince().IsZero() {
		t.Error("the stuck one is not")
	}
}

// Small frames that wait together are sent in one write.
func TestFlushJoins(t *testing.T) {
	server, _ := pipe(t)
	c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
	socket := &countingSocket{}
	c.fast = socket
	var want []byte
	for i := range 1000 {
		f := sealed(fmt.Sprint("message ", i))
		want = append(want, f...)
		c.Enqueue(f, false)
	}
	c.Flush()
	if w := socket.writes.Load(); w != 1 || !bytes.Equal(socket.got, want) {
		t.Errorf("%d bytes in %d writes, want %d in one", len(socket.got), w, len(want))
	}
}

// errSocket fails.
type errSocket struct{}

var errTest = errors.New("test")

func (errSocket) tryWrite([]byte) (int, error) { return 0, errTest }

func TestFlushError(t *testing.T) {
	server, client := pipe(t)
	c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
	c.fast = errSocket{}
	c.Enqueue(sealed("lost"), false)
	c.Enqueue(sealed("lost too"), false)
	c.Flush()
	if !atRest(c) || c.batch != nil || c.queue != nil || c.spare != nil {
		t.Error("it holds on to frames")
	}
	if res := c.Enqueue(Ping, false); res != Gone {
		t.Errorf("Enqueue: %d, want %d", res, Gone)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the peer sees %v", err)
	}
}

// An idle connection keeps no big queue and no frame.
func TestIdleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := pipe(t)
		c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
		defer c.Abort()
		f := sealed("x")
		for _, n := range []int{1, 2, keepQueue, 1000, 1} {
			send(c, f)
			synctest.Wait() // it is being written; the next two bursts wait
			for range n {
				send(c, f)
			}
			if err := readAll(client, make([]byte, len(f))); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			for range n {
				send(c, f)
			}
			if err := readAll(client, make([]byte, 2*n*len(f))); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if !atRest(c) || cap(c.queue) > keepQueue || cap(c.spare) > keepQueue || c.batch != nil {
				t.Errorf("after %d frames: room for %d and %d", n, cap(c.queue), cap(c.spare))
			}
			for _, held := range slices.Concat(c.queue[:cap(c.queue)], c.spare[:cap(c.spare)]) {
				if held != nil {
					t.Errorf("after %d frames: one is still held", n)
				}
			}
		}
	})
}

// exchange makes c send frame, hands it over n times, and makes its peer read
// it.
func exchange(tb testing.TB, c *Conn, client net.Conn, frame []byte, n int, buf []byte) {
	for range n {
		if res := c.Enqueue(frame, false); res > Ready {
			tb.Fatal(res)
		}
	}
	c.Flush()
	if _, err := io.ReadFull(client, buf[:n*len(frame)]); err != nil {
		tb.Fatal(err)
	}
}

func TestFlushDoesNotAllocate(t *testing.T) {
	server, client := tcpPair(t)
	c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
	defer c.Abort()
	shared, buf := sealed(make([]byte, 200)), make([]byte, 1<<10)
	for _, tt := range []struct {
		name           string
		frames, rounds int
	}{
		{"single", 1, 10},
		// Two rounds, since with the race detector a sync.Pool forgets one of
		// four things.
		{"joined", keepQueue, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := testing.AllocsPerRun(500, func() {
				for range tt.rounds {
					exchange(t, c, client, shared, tt.frames, buf)
				}
			})
			if n > 0 {
				t.Errorf("%v allocations for %d times %d frames", n, tt.rounds, tt.frames)
			}
		})
	}
}

func BenchmarkEnqueueFlush(b *testing.B) {
	for _, n := range []int{1, 4, 16} {
		b.Run(fmt.Sprint("frames=", n), func(b *testing.B) {
			server, client := socketPair(b, "tcp", "127.0.0.1:0")
			c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
			defer c.Abort()
			shared := sealed(make([]byte, 200))
			buf := make([]byte, n*len(shared))
			b.ReportAllocs()
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				exchange(b, c, client, shared, n, buf)
			}
		})
	}
}
