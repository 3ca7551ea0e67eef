//go:build linux

package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub/hubtest"
)

// shutdown: the hub shuts down in the middle of broadcasts, with peers that read nothing. Another
// hub on the same broker takes its place, where all come back.
func shutdown(t *trial) {
	const deadline = 8 * time.Second
	n, stuck, speakers := t.scale(200, 30), t.scale(50, 8), 5
	deaf := t.dialer
	deaf.receive = 4 << 10
	var stuckPeers []*peer
	for i := range stuck {
		p, err := deaf.connect(t, fmt.Sprint("stuck", i))
		t.must(err)
		t.must(p.join("busy"))
		stuckPeers = append(stuckPeers, p)
	}
	members, have := make([]*peer, n), make([]*seen, n)
	codes := make(map[int]int)
	var mu sync.Mutex
	var reading sync.WaitGroup
	t.each(n, func(i int) {
		members[i] = t.member(fmt.Sprint("member", i), "busy")
		have[i] = newSeen(members[i], "busy")
		reading.Go(func() {
			for {
				e, err := members[i].next()
				if err != nil {
					mu.Lock()
					codes[endOf(err)]++
					mu.Unlock()
					members[i].drop()
					return
				}
				have[i].note(e)
			}
		})
	})
	acked, sent := make(map[string]uint64), 0
	enough := make(chan struct{})
	once := sync.OnceFunc(func() { close(enough) })
	words := hubtest.Data(fmt.Sprintf("%1000d", 1))
	for k := range speakers {
		user := fmt.Sprint("speaker", k)
		p := t.member(user, "busy")
		reading.Go(func() {
			defer p.drop()
			defer once() // where it fails before
			for {
				e, err := p.next()
				if err != nil {
					return
				}
				if e.Type == "ack" {
					mu.Lock()
					acked[user+"/"+e.ID] = e.Seq
					if len(acked) == 200 {
						once()
					}
					mu.Unlock()
				}
			}
		})
		reading.Go(func() {
			// The members share this machine: faster, and they would be slow consumers.
			pace := time.Tick(time.Duration(n*speakers) * 50 * time.Microsecond)
			for i, burst := 0, 100; burst > 0; i++ {
				select {
				case <-pace:
				case <-enough: // all that is left at once, so that the shutdown comes in the middle of it
					burst--
				}
				if p.send(hubtest.Frame{Type: "room-message", ID: fmt.Sprint(i), Room: "busy", Data: words}) != nil {
					return
				}
				mu.Lock()
				sent++
				mu.Unlock()
			}
		})
	}
	<-enough
	r := t.order(order{Do: "shutdown", Wait: deadline})
	if r.Took > deadline+2*time.Second {
		t.failf("it took %v, with a deadline of %v", r.Took, deadline)
	}
	for _, p := range stuckPeers {
		p.drop()
	}
	reading.Wait()
	stored := t.order(order{Do: "stored", Room: "busy"}).Keys
	missing, head, bySpeakers := 0, uint64(0), 0
	for key, seq := range acked {
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
		t.failf("%d messages were acked and are not in the log", missing)
	}
	if codes[4000] != n {
		t.failf("members were closed %s, want %d × 4000", tallied(codes), n)
	}
	t.order(order{Do: "restart"})
	lost, doubled := 0, 0
	t.each(n, func(i int) {
		p := t.connect(fmt.Sprint("member", i))
		defer p.drop()
		_, _, err := have[i].resume(p)
		t.must(err)
		l, d := have[i].count(head)
		mu.Lock()
		defer mu.Unlock()
		lost, doubled = lost+l, doubled+d
	})
	if lost+doubled > 0 {
		t.failf("%d lost, %d doubled", lost, doubled)
	}
	ended := "in order"
	if r.Err != "" {
		ended = r.Err
	}
	t.figure("%d speakers, %d members, %d peers that read nothing: over in %s (%s; deadline %s), members closed %s; of %d sent, %d stored, %d acked, %d of these not in the log; resumed on the next hub: %d lost, %d doubled",
		speakers, n, stuck, round(r.Took), ended, deadline, tallied(codes), sent, bySpeakers, len(acked), missing, lost, doubled)
}
