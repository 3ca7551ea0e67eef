package chathub

import (
	"log/slog"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// FuzzIncomingNote: whatever another node says, a loop that hears it survives,
// and keeps nothing of a node that has gone.
func FuzzIncomingNote(f *testing.F) {
	u := note.User{ID: "u1", Name: "Ünal"}
	for _, n := range []note.Note{
		{Op: note.OpBeat, ID: 7, Seq: 1 << 40},
		{Op: note.OpBye},
		{Op: note.OpState, Room: "red", Prev: 1, Seq: 2, Part: 3, More: true, Users: []note.Movement{
			{User: u}, {User: u, How: note.Went}, {User: u, How: note.Left}, {User: u, How: note.Lingers, Age: 1500 * time.Millisecond},
		}},
		{Op: note.OpState, Seq: 1},
		{Op: note.OpCheck, ID: 1, Fresh: true, Marks: []note.Mark{{Seq: 1}, {Room: "red"}}},
		{Op: note.OpCheckDone, ID: 1},
		{Op: note.OpQuestion, ID: 2, Timeout: time.Second, Have: 3, Topics: []note.Topic{{}, {Room: "red"}, {User: "u1"}},
			Except: []string{"c_1"}, Clients: []string{"c_2", "c_3"}, Event: "ask", Data: []byte(`{}`)},
		{Op: note.OpQuestion, Event: "ask"},
		{Op: note.OpAnswers, ID: 2, Have: 4, Replies: []note.Reply{
			{Client: "c_1", User: u}, {Client: "c_2", User: u, State: note.Answered, Data: []byte("1")},
			{Client: "c_3", User: u, State: note.Refused, Code: "conflict", Message: "No"}, {Client: "c_4", User: u, State: note.Gone},
		}},
		{Op: note.OpQuestionDone, ID: 2},
	} {
		n.From = "n_1"
		f.Add(n.Encode())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var n note.Note
		if n.Decode(body) != nil {
			return
		}
		l := deafLoop()
		r := l.newRoom("red")
		r.known = true
		known := note.Note{Op: note.OpState, From: n.From, Room: "red", Seq: 1, Users: []note.Movement{{User: note.User{ID: "u1"}}}}
		for _, n := range []note.Note{known, n, n} {
			(&incomingNote{n}).run(l)
		}
		l.announcePresence()
		l.settlePresence(time.Now().Add(time.Hour))
		l.sweepNodes(time.Now().Add(time.Second))
		for _, gone := range l.nodes.all {
			l.dropNode(gone, time.Now(), false)
		}
		l.settlePresence(time.Now().Add(2 * time.Hour))
		all := []*presence{&l.presence.online}
		for _, r := range l.rooms {
			all = append(all, &r.presence)
		}
		for _, p := range all {
			if p.roster.Count() != 0 || !p.roster.Empty() || p.roster.Known(n.From) != 0 {
				t.Errorf("of nodes that have gone there remain %d users, %+v", p.roster.Count(), p.roster.Users())
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
