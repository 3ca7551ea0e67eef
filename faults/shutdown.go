//go:build linux

package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub/hubtest"
)

// broadcast is a busy room: members that read, speakers, and what both have
// seen.
type broadcast struct {
	t       *trial
	have    []*seen        // by member
	working sync.WaitGroup // all goroutines

	enough   chan struct{} // closed when the shutdown may begin
	isEnough func()

	mu    sync.Mutex
	codes map[int]int       // of members
	acked map[string]uint64 // seq by "user/id" of a message
	sent  int
}

// shutdown shuts the hub down in the middle of broadcasts, while some peers
// read nothing. Another hub on the same broker takes its place, and all members
// come back to it.
func shutdown(t *trial) {
	const deadline = 8 * time.Second
	members, stuck, speakers := t.scale(200, 30), t.scale(50, 8), 5
	b := &broadcast{
		t: t, have: make([]*seen, members),
		enough: make(chan struct{}), codes: make(map[int]int), acked: make(map[string]uint64),
	}
	b.isEnough = sync.OnceFunc(func() { close(b.enough) })
	stuckPeers := t.stuck(stuck, "busy")
	t.each(members, b.listen)
	for k := range speakers {
		b.speak(fmt.Sprint("speaker", k), time.Duration(members*speakers)*50*time.Microsecond)
	}
	<-b.enough
	r := t.order(order{Do: "shutdown", Wait: deadline})
	if r.Took > deadline+2*time.Second {
		t.failf("it took %v, with a deadline of %v", r.Took, deadline)
	}
	for _, p := range stuckPeers {
		p.drop()
	}
	b.working.Wait()
	if b.codes[4000] != members {
		t.failf("members were closed %s, want %d × 4000", tallied(b.codes), members)
	}
	head, bySpeakers, missing := b.stored()
	t.order(order{Do: "restart"})
	lost, doubled := t.resumeAll(b.have, "member", head)
	ended := "in order"
	if r.Err != "" {
		ended = r.Err
	}
	t.figure("%d speakers, %d members, %d peers that read nothing: over in %s (%s; deadline %s), members closed %s; of %d sent, %d stored, %d acked, %d of these not in the log; resumed on the next hub: %d lost, %d doubled",
		speakers, members, stuck, round(r.Took), ended, deadline, tallied(b.codes), b.sent, bySpeakers, len(b.acked), missing, lost, doubled)
}

// stuck connects n clients that join a room and read nothing.
func (t *trial) stuck(n int, room string) []*peer {
	d := t.dialer
	d.receive = 4 << 10
	peers := make([]*peer, n)
	t.each(n, func(i int) {
		p, err := d.connect(t, fmt.Sprint("stuck", i))
		t.must(err)
		t.must(p.join(room))
		peers[i] = p
	})
	return peers
}

// listen connects a member, which reads until its connection ends.
func (b *broadcast) listen(i int) {
	p := b.t.member(fmt.Sprint("member", i), "busy")
	s := newSeen(p, "busy")
	b.have[i] = s
	b.working.Go(func() {
		defer p.drop()
		code := p.readAll(s.note)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.codes[code]++
	})
}

// speak connects a speaker that sends a message each pace. Once enough is
// closed, it sends a burst, so that the shutdown comes in the middle of it.
func (b *broadcast) speak(user string, pace time.Duration) {
	p := b.t.member(user, "busy")
	b.working.Go(func() {
		defer p.drop()
		defer b.isEnough() // in case it fails earlier
		p.readAll(func(e hubtest.Frame) { b.note(user, e) })
	})
	b.working.Go(func() {
		words := hubtest.Data(fmt.Sprintf("%1000d", 1))
		// The members share this machine: a faster pace would make them slow
		// consumers.
		tick := time.Tick(pace)
		for i, burst := 0, 100; burst > 0; i++ {
			select {
			case <-tick:
			case <-b.enough:
				burst--
			}
			if p.send(hubtest.Frame{Type: "room-message", ID: fmt.Sprint(i), Room: "busy", Data: words}) != nil {
				return
			}
			b.mu.Lock()
			b.sent++
			b.mu.Unlock()
		}
	})
}

// note notes the acks that a speaker gets. After 200 of them, the shutdown may
// begin.
func (b *broadcast) note(user string, e hubtest.Frame) {
	if e.Type != "ack" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acked[user+"/"+e.ID] = e.Seq
	if len(b.acked) == 200 {
		b.isEnough()
	}
}

// stored reads the room's log. It returns the last seq and how many messages
// are from speakers. Messages that were acked and are missing are a problem.
func (b *broadcast) stored() (head uint64, bySpeakers, missing int) {
	stored := b.t.order(order{Do: "stored", Room: "busy"}).Keys
	for key, seq := range b.acked {
		if stored[key] != seq {
			missing++
		}
	}
	for key, seq := range stored {
		head = max(head, seq)
		if strings.HasPrefix(key, "speaker") {
			bySpeakers++
		}
	}
	if missing > 0 {
		b.t.failf("%d messages were acked and are not in the log", missing)
	}
	return head, bySpeakers, missing
}
