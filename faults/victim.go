//go:build linux

package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// victim is a user who is away during a flood, and comes back after it. Before
// the flood, a friend has sent them messages, which were acked.
type victim struct {
	inbox, room chathub.Position    // as the victim left
	stored      map[string][]string // ids of the friend's messages, by room ("": the inbox)
}

// quietRoom is a room that nobody is in during the flood.
const quietRoom = "quiet"

// whatWaits is how many messages of each type wait for the victim.
var whatWaits = []struct {
	typ string
	n   int
}{{"private-message", 20}, {"send-notification", 5}, {"room-message", 5}}

// leave connects a user who leaves again, and lets a friend send messages.
func leave(t *trial) *victim {
	p := t.member("victim", quietRoom)
	v := &victim{inbox: p.inbox, room: p.room, stored: make(map[string][]string)}
	p.drop()
	friend := t.member("friend", quietRoom)
	for _, waits := range whatWaits {
		for range waits.n {
			e := hubtest.Frame{Type: waits.typ, Data: hubtest.Data(fmt.Sprintf("%1000d", 1))}
			if e.Type == "room-message" {
				e.Room = quietRoom
			} else {
				e.To = "victim"
			}
			r, err := friend.request(e)
			t.must(err)
			if r.Type != "ack" {
				t.must(fmt.Errorf("a message to the victim: %s %s", r.Type, r.Data))
			}
			v.stored[e.Room] = append(v.stored[e.Room], r.ID)
		}
	}
	friend.drop()
	const calm = 2
	t.until("the victim and the friend to be gone", func() bool {
		r := t.order(order{Do: "stats"})
		return r.Connections == calm && r.Users == calm
	})
	return v
}

// comeBack connects the victim again, who must get each message once, and in
// order. If partly, the hub may say that these are not all that there were.
func (v *victim) comeBack(t *trial, partly bool) {
	p := t.connect("victim")
	defer p.drop()
	r, err := p.request(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{
		"rooms": map[string]any{quietRoom: v.room}, "inbox": v.inbox,
	})})
	t.must(err)
	type recovery struct {
		chathub.Position `json:",inline"`
		Recovered        bool `json:"recovered"`
	}
	var answer struct {
		Rooms map[string]recovery `json:"rooms"`
		Inbox recovery            `json:"inbox"`
	}
	t.must(json.Unmarshal(r.Data, &answer))
	room := answer.Rooms[quietRoom]
	sameEpochs := answer.Inbox.Epoch == v.inbox.Epoch && room.Epoch == v.room.Epoch
	recovered := answer.Inbox.Recovered && room.Recovered
	t.must(p.send(hubtest.Frame{Type: "ping"})) // the pong comes after what is recovered
	came, n := make(map[string][]string), 0
	for pong := false; !pong; {
		e, err := p.next()
		t.must(err)
		pong = e.Type == "pong"
		if sender(e) == "friend" {
			came[e.Room] = append(came[e.Room], e.ID)
			n++
		}
	}
	all := len(v.stored[""]) + len(v.stored[quietRoom])
	text := fmt.Sprintf("For the user who was away, %d of %d messages", n, all)
	if sameEpochs {
		text += ", same epochs"
	}
	if recovered {
		text += ", recovered"
	}
	if !maps.EqualFunc(came, v.stored, slices.Equal) || !sameEpochs || !recovered && !partly {
		t.failf("%s: %v %v", text, answer, came)
	}
	t.figure("%s", text)
}

// beside lets a user be away during a flood.
func beside(flood func(*trial)) func(*trial) {
	return func(t *trial) {
		v := leave(t)
		flood(t)
		// Once a broker on disk has dropped any message, of whatever room, it
		// cannot tell what a quiet log had before that.
		v.comeBack(t, t.data != "")
	}
}

// floodTime is how long a flood of a shared bound lasts.
func (t *trial) floodTime() time.Duration {
	if t.long {
		return 10 * time.Minute
	}
	return time.Duration(t.scale(5000, 1000)) * time.Millisecond
}

// flooding reports whether a flood that lasts until then goes on.
func (t *trial) flooding(until time.Time) bool {
	return t.Err() == nil && time.Now().Before(until)
}
