package chathub

import (
	"bytes"
	"log/slog"
	"reflect"
	"testing"
	"time"
)

// sampleNotes has each kind of note, with all its fields.
func sampleNotes() []note {
	u := User{ID: "u1", Name: "Ünal"}
	return []note{
		{op: opBeat, id: 7, seq: 1 << 40},
		{op: opBye},
		{op: opState, room: "red", prev: 1, seq: 2, part: 3, more: true, users: []movement{
			{user: u}, {user: u, how: went}, {user: u, how: left}, {user: u, how: lingers, age: 1500 * time.Millisecond},
		}},
		{op: opState, seq: 1},
		{op: opCheck, id: 1, fresh: true, marks: []mark{{"", 1}, {"red", 0}}},
		{op: opChecked, id: 1},
		{op: opAsk, id: 2, timeout: time.Second, have: 3, topics: []Topic{{}, {Room: "red"}, {User: "u1"}},
			except: []string{"c_1"}, clients: []string{"c_2", "c_3"}, event: "ask", data: []byte(`{}`)},
		{op: opAsk, event: "ask"},
		{op: opAnswers, id: 2, have: 4, replies: []reply{
			{client: "c_1", user: u}, {client: "c_2", user: u, state: answered, data: []byte("1")},
			{client: "c_3", user: u, state: refused, code: "conflict", message: "No"}, {client: "c_4", user: u, state: gone},
		}},
		{op: opAsked, id: 2},
	}
}

func TestNotes(t *testing.T) {
	for _, n := range sampleNotes() {
		n.from = "n_1"
		body := n.encode()
		var got note
		if err := got.decode(body); err != nil || !reflect.DeepEqual(got, n) {
			t.Errorf("%+v became %+v, %v", n, got, err)
		}
		for i := range body {
			if err := new(note).decode(body[:i]); err == nil {
				t.Errorf("%+v: the first %d bytes of %d are read", n, i, len(body))
			}
		}
		if err := new(note).decode(append(body, 0)); err == nil {
			t.Errorf("%+v with a byte more is read", n)
		}
		if err := new(routed).decode(body); err == nil {
			t.Errorf("%+v is read as what hubs carry for clients", n)
		}
	}
	r := routed{op: opEmit}
	if isNote(r.encode(0)) {
		t.Error("what hubs carry for clients is taken for a note")
	}
	if err := new(note).decode([]byte{byte(opNotesEnd), 0, 0}); err == nil {
		t.Error("an unknown note is read")
	}
}

// FuzzNotes: whatever another node sends, it is refused or means the same when it is
// written again; and a loop that is told it survives.
func FuzzNotes(f *testing.F) {
	for _, n := range sampleNotes() {
		n.from = "n_1"
		f.Add(n.encode())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var n note
		if n.decode(body) != nil {
			return
		}
		var again note
		b := n.encode()
		if err := again.decode(b); err != nil || !bytes.Equal(again.encode(), b) {
			t.Errorf("%+v becomes %+v, %v", n, again, err)
		}
		l := deafLoop()
		r := l.newRoom("red")
		r.looked = true
		known := &note{op: opState, from: n.from, room: "red", seq: 1, users: []movement{{user: User{ID: "u1"}}}}
		for _, n := range []*note{known, &n, &again} {
			n.run(l)
		}
		l.sayPresence()
		l.tellPresence(time.Now().Add(time.Hour))
		l.sweepPeers(time.Now().Add(time.Second))
		for _, p := range l.peers.all {
			l.lose(p, time.Now(), false)
		}
		l.tellPresence(time.Now().Add(2 * time.Hour))
		all := []*presence{&l.presence.online}
		for _, r := range l.rooms {
			all = append(all, &r.presence)
		}
		for _, p := range all {
			if p.visible != 0 || len(p.users) != 0 || len(p.replicas) != 0 {
				t.Errorf("of nodes that have gone there remain %d users, %+v", p.visible, p.users)
			}
		}
	})
}

// deafLoop returns a loop that nobody runs and that says nothing to anyone.
func deafLoop() *loop {
	cfg := Config{Auth: Anonymous{}}.withDefaults()
	h := &Hub{cfg: cfg, log: slog.New(slog.DiscardHandler), node: "n_self", noteCourierRuns: true}
	h.life.init()
	h.life.cancel()
	close(h.life.done)
	h.courier.init()
	return newLoop(h)
}
