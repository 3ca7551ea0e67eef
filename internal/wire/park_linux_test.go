package wire

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// sleeper reads a connection as a hub does, and parks it when it may.
type sleeper struct {
	c     *Conn
	read  atomic.Int64 // bytes
	parks atomic.Int64
	ended atomic.Pointer[error]
	ends  atomic.Int64
}

func newSleeper(t testing.TB, p *Poller) (*sleeper, net.Conn) {
	t.Helper()
	server, client := socketPair(t, "tcp", "127.0.0.1:0")
	s := &sleeper{c: New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})}
	s.c.rest.poller = p
	t.Cleanup(func() {
		s.c.Abort()
		await(t, "its end", func() bool { return s.parks.Load() == 0 || s.ended.Load() != nil })
	})
	return s, client
}

func newPoller(t testing.TB) *Poller {
	p := &Poller{}
	t.Cleanup(p.Close)
	return p
}

// Sleep implements Sleeper.
func (*sleeper) Sleep() {}

// Wake implements Sleeper.
func (s *sleeper) Wake() {
	buf := make([]byte, 1<<10)
	for s.c.Wait(s) {
		n, err := s.c.Read(buf)
		s.read.Add(int64(n))
		if err != nil {
			s.ends.Add(1)
			s.ended.Store(&err)
			return
		}
	}
	s.parks.Add(1)
}

// park parks it for the first time.
func (s *sleeper) park(t testing.TB) {
	t.Helper()
	s.parks.Add(1)
	if !s.c.Park(s) {
		t.Fatal("it cannot park")
	}
}

// hears sends s to it, and waits until it has read s.
func (s *sleeper) hears(t testing.TB, client net.Conn, frame []byte) {
	t.Helper()
	want := s.read.Load() + int64(len(frame))
	if _, err := client.Write(frame); err != nil {
		t.Fatal(err)
	}
	await(t, "a frame", func() bool { return s.read.Load() == want })
}

// rests asks it to park, and waits until it has parked.
func (s *sleeper) rests(t testing.TB) {
	t.Helper()
	before := s.parks.Load()
	await(t, "rest", func() bool {
		s.c.Rest()
		return s.parks.Load() > before
	})
}

func (s *sleeper) endsWith(t testing.TB, want error) {
	t.Helper()
	await(t, "the end", func() bool { return s.ended.Load() != nil })
	if err := *s.ended.Load(); !errors.Is(err, want) {
		t.Errorf("it ended with %v, want %v", err, want)
	}
}

func TestPark(t *testing.T) {
	s, client := newSleeper(t, newPoller(t))
	s.park(t)
	s.hears(t, client, text("one"))
	s.rests(t)
	s.hears(t, client, text("two"))
	s.hears(t, client, text("three")) // it has not parked meanwhile
	for range 20 {
		s.rests(t)
		s.hears(t, client, text("again"))
	}
	s.rests(t)
	client.Close()
	s.endsWith(t, io.EOF)
}

// Input that came before it parked wakes it, too.
func TestParkWithInput(t *testing.T) {
	s, client := newSleeper(t, newPoller(t))
	frame := text("early")
	if _, err := client.Write(frame); err != nil {
		t.Fatal(err)
	}
	s.park(t)
	await(t, "the frame", func() bool { return s.read.Load() == int64(len(frame)) })
}

// A pong has served its purpose once it came, so the connection parks again.
func TestParkAfterPong(t *testing.T) {
	s, client := newSleeper(t, newPoller(t))
	s.park(t)
	for parks := int64(2); parks < 5; parks++ {
		if _, err := client.Write(clientFrame(opPong, true, nil)); err != nil {
			t.Fatal(err)
		}
		await(t, "rest", func() bool { return s.parks.Load() == parks })
	}
	if n := s.read.Load(); n > 0 {
		t.Errorf("%d bytes were handed on", n)
	}
	s.hears(t, client, text("text"))
}

func TestParkEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(c *Conn)
		want error
	}{
		"abort":       {(*Conn).Abort, net.ErrClosed},
		"close":       {func(c *Conn) { c.CloseAfter(closeGrace) }, net.ErrClosed},
		"close later": {func(c *Conn) { c.Enqueue(Ping, false); c.CloseAfter(closeGrace) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSleeper(t, newPoller(t))
			s.park(t)
			tc.end(s.c)
			s.endsWith(t, tc.want)
			if s.c.Park(s) {
				t.Error("it parks although it has ended")
			}
			s.c.Rest() // changes nothing
		})
	}
}

func TestCannotPark(t *testing.T) {
	p := newPoller(t)
	t.Run("within a message", func(t *testing.T) {
		s, client := newSleeper(t, p)
		if _, err := client.Write(text("whole")[:3]); err != nil {
			t.Fatal(err)
		}
		go s.Wake()
		await(t, "a part", func() bool { return s.read.Load() == 3 })
		s.c.Rest()
		s.hears(t, client, text("whole")[3:])
		if n := s.parks.Load(); n > 0 {
			t.Errorf("it has parked %d times", n)
		}
		client.Close()
		s.endsWith(t, io.EOF)
	})
	t.Run("input waits", func(t *testing.T) {
		server, client := net.Pipe()
		defer client.Close()
		c := New(server, text("early"), Limits{})
		c.rest.poller = p
		defer c.Abort()
		if c.Park(&sleeper{c: c}) {
			t.Error("it parks")
		}
	})
	t.Run("no poller", func(t *testing.T) {
		s, client := newSleeper(t, nil)
		if s.c.Park(s) {
			t.Fatal("it parks")
		}
		go s.Wake()
		s.hears(t, client, text("one"))
		s.c.Rest()
		s.hears(t, client, text("two"))
		client.Close()
		s.endsWith(t, io.EOF)
	})
	t.Run("closed poller", func(t *testing.T) {
		closed := &Poller{}
		closed.Close()
		s, _ := newSleeper(t, closed)
		if s.c.Park(s) {
			t.Error("it parks")
		}
	})
}

// A broken limit is not forgotten while the connection is asked to rest.
func TestParkKeepsErrors(t *testing.T) {
	p := newPoller(t)
	for range 20 {
		s, client := newSleeper(t, p)
		s.c.in.scan.limit = 10
		s.park(t)
		s.hears(t, client, text("short"))
		go s.c.Rest()
		if _, err := client.Write(text("longer than ten")); err != nil {
			t.Fatal(err)
		}
		s.endsWith(t, ErrMessageTooBig)
	}
}

// TestParkedHaveNoGoroutine: parked connections have no goroutine.
func TestParkedHaveNoGoroutine(t *testing.T) {
	p := newPoller(t)
	before := runtime.NumGoroutine()
	var all []*sleeper
	var clients []net.Conn
	for range 100 {
		s, client := newSleeper(t, p)
		s.park(t)
		all, clients = append(all, s), append(clients, client)
	}
	if n := runtime.NumGoroutine(); n > before+10 {
		t.Errorf("%d goroutines more", n-before)
	}
	for i, s := range all {
		s.hears(t, clients[i], text("hello"))
	}
}

// TestParkRaces: whatever happens at the same time, no input is left unread,
// and every connection ends once.
func TestParkRaces(t *testing.T) {
	p := newPoller(t)
	for range 50 {
		s, client := newSleeper(t, p)
		s.park(t)
		var resting sync.WaitGroup
		var stop atomic.Bool
		resting.Go(func() {
			for !stop.Load() {
				s.c.Rest()
				runtime.Gosched()
			}
		})
		var sent int64
		for range 100 {
			frame := text(strings.Repeat("x", rand.IntN(100)))
			if _, err := client.Write(frame); err != nil {
				t.Fatal(err)
			}
			if sent += int64(len(frame)); rand.IntN(2) == 0 {
				await(t, "what was sent", func() bool { return s.read.Load() == sent })
			}
		}
		await(t, "everything", func() bool { return s.read.Load() == sent })
		if rand.IntN(2) == 0 {
			s.c.Abort()
		} else {
			client.Close()
		}
		await(t, "its end", func() bool { return s.ended.Load() != nil })
		stop.Store(true)
		resting.Wait()
		if n := s.ends.Load(); n != 1 {
			t.Fatalf("it has ended %d times", n)
		}
	}
}
