package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// halfSocket takes a random part of each write without waiting, like a socket
// whose buffer is sometimes full.
type halfSocket struct {
	rng *script
	got []byte
}

func (s *halfSocket) tryWrite(p []byte) (int, error) {
	n := s.rng.IntN(len(p) + 1)
	s.got = append(s.got, p[:n]...)
	return n, nil
}

// script makes the choices of a run of the model. It uses three bytes for each,
// so that the fuzzer changes one choice by changing a byte. After the end of
// the script, all choices are 0.
type script struct{ left []byte }

// IntN returns a number from 0 to n-1.
func (s *script) IntN(n int) int {
	var b [4]byte
	s.left = s.left[copy(b[1:], s.left):]
	return int(binary.BigEndian.Uint32(b[:])) % n
}

// FuzzOutbox compares random steps with a model. A Ready is given exactly when
// nobody flushes, bounds are kept, and frames that were taken arrive in order.
// It covers sockets that take parts without waiting, and others.
func FuzzOutbox(f *testing.F) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		b := make([]byte, 400+4*seed)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, choices []byte, fast bool) {
		if len(choices) > 4<<10 {
			return // more of the same
		}
		synctest.Test(t, func(t *testing.T) {
			s := &script{choices}
			m := newModel(t, s, fast)
			for len(s.left) > 0 {
				m.step()
			}
			m.end()
		})
	})
}

type model struct {
	t      *testing.T
	rng    *script
	c      *Conn
	client net.Conn
	socket *halfSocket // its got is everything that the peer has read
	limit  int

	ready     bool // a Ready was given, and Flush was not called yet
	flushing  bool // the peer has something to read
	sealed    bool
	discarded bool
	taken     [][]byte // frames
	bytes     int      // of taken
}

func newModel(t *testing.T, rng *script, fast bool) *model {
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
	f, kind := m.frame(), Durable
	if m.rng.IntN(3) == 0 {
		kind = Volatile
	}
	n := m.c.Waiting() + len(f)
	want := Queued
	switch {
	case m.sealed:
		want = Gone
	case kind == Volatile && n > m.limit/2:
		want = Dropped
	case n > m.limit:
		want = Overflow
	case !m.ready && !m.flushing:
		want = Ready
	}
	got := m.c.Enqueue(f, kind)
	if got != want {
		m.t.Fatalf("Enqueue of %d bytes while %d of %d wait: %d, want %d", len(f), n-len(f), m.limit, got, want)
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

// pong calls Write, which flushes by itself.
func (m *model) pong() {
	f := binary.BigEndian.AppendUint32([]byte{finBit | opPong, 4}, uint32(len(m.taken)))
	fits := !m.sealed && m.c.Waiting()+len(f) <= m.limit
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
	left := m.c.Waiting()
	m.flushing = left > 0
	if unread := m.bytes - len(m.socket.got); !m.discarded && (left < unread || left >= unread+drainPart) {
		m.t.Fatalf("%d bytes wait, but the peer has not read %d", left, unread)
	}
	if m.flushing == m.c.StuckSince().IsZero() {
		m.t.Fatalf("%d bytes wait, stuck since %v", left, m.c.StuckSince())
	}
}

// read has the peer read n bytes, or as many as there are.
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

// end has everything sent, and compares it with the frames that were taken.
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
			m.t.Errorf("%d frames taken, %d sent, or wrong ones", len(m.taken), len(frames))
		}
	} else if n := len(frames); n == 0 || frames[n-1].op != opClose || n > len(m.taken) {
		m.t.Errorf("%d frames taken, %d sent, and no close frame after them", len(m.taken), n)
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
