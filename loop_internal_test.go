package chathub

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

func TestQueueAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Config{Auth: Anonymous{}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		post := func(f func(*loop)) {
			if err := h.post(call(f)); err != nil {
				t.Fatal(err)
			}
		}
		begin, hold, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
		post(func(*loop) { <-begin })
		synctest.Wait()
		for range burst { // more than the loop takes at once
			post(func(*loop) {})
		}
		post(func(*loop) { <-hold })
		post(func(*loop) { close(end) })
		if s := h.Stats(); s.QueueLength != burst+2 || s.QueueAge != 0 {
			t.Errorf("before: %+v", s)
		}
		close(begin)
		time.Sleep(time.Second)
		if s := h.Stats(); s.QueueLength != 1 || s.QueueAge != time.Second {
			t.Errorf("held: %+v", s)
		}
		close(hold)
		<-end
		synctest.Wait()
		if s := h.Stats(); s.QueueLength != 0 || s.QueueAge != 0 {
			t.Errorf("after: %+v", s)
		}
	})
}

// Each client is checked in every second, however many there are. Other work of
// the loop waits only for a part of them.
func TestSweepInParts(t *testing.T) {
	hub := newBenchHub(t, 0)
	l := &loop{hub: hub, cfg: &hub.cfg}
	l.nodes.init(hub)
	const clients = 2*sweepPart + 500
	for range clients {
		server, _ := net.Pipe()
		c := &Client{hub: hub, conn: wire.New(server, nil, wire.Limits{Outbox: 1 << 10})}
		t.Cleanup(c.conn.Abort)
		c.identify(&Identity{Expires: time.Unix(0, 1)}) // so that it is closed when it is checked
		l.everyone.members = append(l.everyone.members, member{c: c})
	}
	now := time.Now()
	for _, want := range []int{sweepPart, 2 * sweepPart, clients, clients} {
		if next := l.sweep(now); next != sweepInterval/3 {
			t.Errorf("the next part is due in %v", next)
		}
		if len(l.out.closed) != want {
			t.Errorf("%d clients were checked, want %d", len(l.out.closed), want)
		}
		now = now.Add(sweepInterval / 3)
	}
	l.everyone.members = l.everyone.members[:10] // most have gone, in the middle of a round
	if next := l.sweep(now); next != sweepInterval || l.sweeping.next != 0 {
		t.Errorf("the next part is due in %v, and begins at %d", next, l.sweeping.next)
	}
}
