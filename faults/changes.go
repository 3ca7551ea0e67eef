//go:build linux

package main

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// reacting is what one member of a room sees of the changes of a message.
type reacting struct {
	*peer
	events int    // message-changed
	last   uint64 // seq of the newest
	count  int    // of the reactions, as of the newest
	took   time.Duration
}

// watch reads until the message has as many reactions as there should be.
func (r *reacting) watch(all int) error {
	for r.count < all {
		op, b, err := r.read()
		switch {
		case err != nil:
			return err
		case op == opPing:
			_ = r.write(masked(nil, opPong, true, b, -1)) // the next read shows the end
		case bytes.HasPrefix(b, []byte(`{"type":"message-changed"`)):
			var e struct {
				Data struct {
					Message struct {
						Reactions map[string]struct {
							Count int `json:"count"`
						} `json:"reactions"`
					} `json:"message"`
				} `json:"data"`
			}
			if err := json.Unmarshal(b, &e); err != nil {
				return err
			}
			seq := seqOf(b)
			if seq <= r.last {
				return fmt.Errorf("a change at %d, after %d", seq, r.last)
			}
			r.events, r.last, r.count = r.events+1, seq, e.Data.Message.Reactions["👍"].Count
		}
	}
	return nil
}

// reactions lets everyone in a room react to one message within a second.
func reactions(t *trial) {
	n := t.scale(1000, 100)
	author := t.member("author", "reactions")
	defer author.drop()
	message, err := author.request(hubtest.Frame{Type: "room-message", Room: "reactions", Data: hubtest.Data("words")})
	t.must(err)
	members := make([]*reacting, n)
	t.each(n, func(i int) { members[i] = &reacting{peer: t.member(fmt.Sprint("member", i), "reactions")} })
	before := t.order(order{})
	began := time.Now()
	var mu sync.Mutex
	var waits []time.Duration
	var failed error
	t.each(n, func(i int) {
		m := members[i]
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(n))))
		sent := time.Now()
		err := m.send(hubtest.Frame{Type: "react", ID: fmt.Sprint("react", i), Room: "reactions", Data: hubtest.Data(map[string]any{"seq": message.Seq, "key": "👍", "on": true})})
		if err == nil {
			err = m.watch(n)
		}
		m.took = time.Since(began)
		mu.Lock()
		defer mu.Unlock()
		waits = append(waits, time.Since(sent))
		if err != nil {
			failed = err
		}
	})
	t.must(failed)
	after := t.order(order{})
	slices.SortFunc(members, func(a, b *reacting) int { return a.events - b.events })
	last := slices.MaxFunc(members, func(a, b *reacting) int { return int(a.took - b.took) })
	most := members[n-1].events
	if most > 60 {
		t.failf("%d events for one message", most)
	}
	for _, m := range members {
		m.drop()
	}
	t.figure("%d people react to one message within a second, in a room of %d: %d events to each (median %d), the server used %s of CPU; all %d reactions had reached everyone %s after the first",
		n, n, most, members[n/2].events, round(after.CPU-before.CPU), n, round(last.took))
}

// awayForChanges lets a client come back that was away for many changes of one
// message.
func awayForChanges(t *trial) {
	changes := t.scale(1000, 100)
	author := t.member("author", "away")
	defer author.drop()
	message, err := author.request(hubtest.Frame{Type: "room-message", Room: "away", Data: hubtest.Data("0")})
	t.must(err)
	away := t.member("away", "away")
	at := away.room
	away.drop()
	for i := range changes {
		r, err := author.request(hubtest.Frame{Type: "edit-message", Room: "away", Data: hubtest.Data(map[string]any{"seq": message.Seq, "data": i + 1})})
		t.must(err)
		if r.Type != "ack" {
			t.failf("edit %d: %s", i, r.Data)
			return
		}
	}
	began := time.Now()
	away = t.connect("away")
	defer away.drop()
	r, err := away.request(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{"rooms": map[string]any{"away": at}})})
	t.must(err)
	recovered := bytes.Contains(r.Data, []byte(`"recovered":true`))
	t.must(away.send(hubtest.Frame{Type: "ping"}))
	events, size := 0, 0
	for e, err := away.next(); e.Type != "pong"; e, err = away.next() {
		t.must(err)
		if e.Type == "message-changed" {
			events++
			size += len(e.Data)
		}
	}
	if events != 1 || !recovered {
		t.failf("%d events on return, recovered %t", events, recovered)
	}
	t.figure("%d edits of one message while a client was away: %d event of %d bytes on return, recovered, within %s", changes, events, size, round(time.Since(began)))
}
