//go:build linux

package main

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// crowder is one of thousands of clients. It reads as little as it can of what
// it gets, since all of them share the machine with the server.
type crowder struct {
	*peer
	epoch string
	last  uint64 // seq; all before it were seen

	lost, doubled atomic.Int64
	at            atomic.Uint64 // last, for other goroutines
	presence      atomic.Int64  // events
	bytes         atomic.Int64  // of presence events
}

// follow reads until the connection has ended.
func (c *crowder) follow() {
	for {
		op, b, err := c.read()
		switch {
		case err != nil:
			return
		case op == opPing:
			_ = c.write(masked(nil, opPong, true, b, -1))
		case bytes.HasPrefix(b, []byte(`{"type":"room-message"`)):
			c.step(seqOf(b))
		case bytes.HasPrefix(b, []byte(`{"type":"user-`)), bytes.HasPrefix(b, []byte(`{"type":"online-users`)):
			c.presence.Add(1)
			c.bytes.Add(int64(len(b)))
		}
	}
}

func (c *crowder) step(seq uint64) {
	if seq <= c.last {
		c.doubled.Add(1)
		return
	}
	c.lost.Add(int64(seq - c.last - 1))
	c.last = seq
	c.at.Store(seq)
}

// seqOf returns the seq of an envelope, in which only ts follows it.
func seqOf(b []byte) uint64 {
	_, b, _ = bytes.Cut(b[bytes.LastIndex(b, []byte(`,"seq":`)):], []byte(":"))
	digits, _, _ := bytes.Cut(b, []byte(","))
	seq, _ := strconv.ParseUint(string(digits), 10, 64) // 0 counts as doubled
	return seq
}

// crowdSize returns how many of want connections the limit on open files
// allows.
func crowdSize(want int) int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return want
	}
	return min(want, int(l.Cur)-200)
}

// crowd lets thousands of clients connect and join a room at once, lose their
// connections at once, and come back at once, while someone speaks in the room.
func crowd(t *trial) {
	n := crowdSize(t.scale(5000, 300))
	speaker := t.member("speaker", "crowd")
	spoken, hush, silent := uint64(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(silent)
		for tick := time.Tick(100 * time.Millisecond); ; <-tick {
			r, err := speaker.request(hubtest.Frame{Type: "room-message", Room: "crowd", Data: hubtest.Data("words")})
			if err != nil || r.Type != "ack" {
				t.failf("the speaker: %s %v", r.Data, err)
				return
			}
			spoken = r.Seq // read once silent is closed
			select {
			case <-hush:
				return
			default:
			}
		}
	}()
	crowders := make([]*crowder, n)
	var following sync.WaitGroup
	var recovered atomic.Int64
	arrive := func(do func(c *crowder, i int)) time.Duration {
		began := time.Now()
		t.each(n, func(i int) {
			d := t.dialer
			p, err := d.connect(t, fmt.Sprint("user", i))
			t.must(err)
			if crowders[i] == nil {
				crowders[i] = &crowder{}
			}
			crowders[i].peer = p
			do(crowders[i], i)
			following.Go(crowders[i].follow)
		})
		return time.Since(began)
	}
	joining := arrive(func(c *crowder, _ int) {
		t.must(c.join("crowd"))
		c.epoch, c.last = c.room.Epoch, c.room.Seq
		c.at.Store(c.last)
	})
	time.Sleep(time.Second)
	for _, c := range crowders {
		c.drop()
	}
	following.Wait()
	returning := arrive(func(c *crowder, _ int) {
		r, err := c.request(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{"rooms": map[string]any{"crowd": chathub.Position{Epoch: c.epoch, Seq: c.last}}})})
		t.must(err)
		if bytes.Contains(r.Data, []byte(`"recovered":true`)) {
			recovered.Add(1)
		}
	})
	time.Sleep(time.Second)
	close(hush)
	<-silent
	for _, c := range crowders {
		t.until("everyone to have everything", func() bool { return c.at.Load() >= spoken })
	}
	var lost, doubled, most, mostBytes, all int64
	for _, c := range crowders {
		lost, doubled = lost+c.lost.Load(), doubled+c.doubled.Load()
		most, mostBytes, all = max(most, c.presence.Load()), max(mostBytes, c.bytes.Load()), all+c.presence.Load()
		c.drop()
	}
	speaker.drop()
	following.Wait()
	if lost+doubled > 0 || recovered.Load() != int64(n) {
		t.failf("%d lost, %d doubled, %d of %d recovered", lost, doubled, recovered.Load(), n)
	}
	// If each client were told of each arrival, everyone would get n.
	if bound := int64(100 + n/10); most > bound {
		t.failf("%d envelopes of presence for one client, want at most %d", most, bound)
	}
	t.figure("%d clients: joined within %s; dropped, resumed within %s, %d recovered; of %d messages meanwhile to each, %d lost, %d doubled; presence, besides the list on connecting: %.1f envelopes each, at most %d (%d bytes)",
		n, round(joining), round(returning), recovered.Load(), spoken, lost, doubled, float64(all)/float64(n), most, mostBytes)
	// The garbage of thousands of peers must not count for the next fault.
	runtime.GC()
}
