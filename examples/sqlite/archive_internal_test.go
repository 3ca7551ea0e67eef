package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

func TestSaved(t *testing.T) {
	s := newServer(t, file(t), nil)
	ana, bob := hubtest.Dial(t, s, "ana"), hubtest.Dial(t, s, "bob")
	room := join(t, ana, nil)
	join(t, bob, nil)
	ack := ana.Must(say("m1", map[string]string{"text": "Zürich 🚋"}))
	if ack.Seq != 1 {
		t.Errorf("ack %+v", ack)
	}
	for range 2 { // without an id, the second one is not a repetition
		ana.Send(hubtest.Frame{Type: "room-message", Room: "red"})
	}
	ana.Must(hubtest.Frame{Type: "private-message", ID: "m2", To: "bob", Data: hubtest.Data("hush")})
	bob.Must(hubtest.Frame{Type: "private-message", ID: "m1", To: "ana", Data: hubtest.Data("yes")})
	bob.Must(hubtest.Frame{Type: "private-message", ID: "m2", To: "bob", Data: hubtest.Data("note to myself")})
	ana.Must(hubtest.Frame{Type: "send-notification", To: "bob", Data: hubtest.Data("not saved")})

	got := decode[page](t, bob.Must(hubtest.Frame{Type: "room-archive", Room: "red"}))
	if len(got.Messages) != 3 || got.More {
		t.Fatalf("room: %+v", got)
	}
	want := message{N: 1, Epoch: room.Epoch, Type: "room-message", ID: "m1", Room: "red",
		From: chathub.User{ID: "ana", Name: "ana"}, Seq: 1, TS: ack.TS, Data: hubtest.Data(map[string]string{"text": "Zürich 🚋"})}
	if a, b := string(hubtest.Data(got.Messages[0])), string(hubtest.Data(want)); a != b {
		t.Errorf("room: %s, want %s", a, b)
	}
	if m := got.Messages[2]; m.ID != "" || m.Data != nil || m.Seq != 3 {
		t.Errorf("room: %+v", m)
	}
	for _, tc := range []struct{ who, other, want string }{
		{"ana", "bob", `ana→bob "hush", bob→ana "yes"`},
		{"bob", "ana", `ana→bob "hush", bob→ana "yes"`},
		{"bob", "bob", `bob→bob "note to myself"`},
		{"ana", "ana", ``},
		{"cid", "bob", ``},
		{"cid", "ana", ``},
	} {
		c := hubtest.Dial(t, s, tc.who)
		var all []string
		for _, m := range decode[page](t, c.Must(hubtest.Frame{Type: "private-archive", To: tc.other})).Messages {
			all = append(all, fmt.Sprintf("%s→%s %s", m.From.ID, m.To, m.Data))
		}
		if got := strings.Join(all, ", "); got != tc.want {
			t.Errorf("%s with %s: %s, want %s", tc.who, tc.other, got, tc.want)
		}
	}
	cid := hubtest.Dial(t, s, "cid")
	if f := cid.Request(hubtest.Frame{Type: "room-archive", Room: "red"}); f.Code() != chathub.CodeNotInRoom {
		t.Errorf("who is not in the room gets %s %s", f.Type, f.Data)
	}
}

// TestSavedBeforeAck checks that a message is in the database when it is acked.
func TestSavedBeforeAck(t *testing.T) {
	s := newServer(t, file(t), nil)
	ana := hubtest.Dial(t, s, "ana")
	join(t, ana, nil)
	want := []string{}
	for i := range 50 {
		ana.Must(say(fmt.Sprint("m", i), i))
		want = append(want, fmt.Sprintf("ana/m%d %d", i, i))
		equal(t, "stored", s.stored(t), want)
	}
}

// TestRepeated checks that a message that is sent again with the same id has
// one row, is delivered once, and is acked each time. It may come from the same
// connection or another one, later or at the same time.
func TestRepeated(t *testing.T) {
	s := newServer(t, file(t), nil)
	ana, tab, bob := hubtest.Dial(t, s, "ana"), hubtest.Dial(t, s, "ana"), hubtest.Dial(t, s, "bob")
	for _, c := range []*hubtest.Client{ana, tab, bob} {
		join(t, c, nil)
	}
	for _, f := range []hubtest.Frame{say("m0", "red"), {Type: "private-message", ID: "p0", To: "bob", Data: hubtest.Data("hush")}} {
		first := ana.Must(f)
		for _, c := range []*hubtest.Client{ana, tab} {
			again := c.Must(f)
			if again.Seq != first.Seq || again.TS != first.TS || !decode[chathub.Receipt](t, again).Duplicate {
				t.Errorf("%s: first ack %+v, again %+v", f.Type, first, again)
			}
		}
		other := hubtest.Frame{Type: f.Type, ID: f.ID, Room: f.Room, To: f.To, Data: hubtest.Data("something else")}
		if r := ana.Request(other); r.Code() != chathub.CodeConflict {
			t.Errorf("another message with the id of a %s: %s %s", f.Type, r.Type, r.Data)
		}
	}
	const n = 100
	var wg sync.WaitGroup
	acks := make([][]hubtest.Frame, 2)
	for i, c := range []*hubtest.Client{ana, tab} {
		wg.Go(func() {
			for k := range n {
				acks[i] = append(acks[i], c.Must(say(fmt.Sprint("m", k+1), k)))
			}
		})
	}
	wg.Wait()
	want := []string{`"red"`, `"hush"`}
	for k := range n {
		want = append(want, fmt.Sprint(k))
		a, b := decode[chathub.Receipt](t, acks[0][k]), decode[chathub.Receipt](t, acks[1][k])
		if a.Seq != b.Seq || a.Duplicate == b.Duplicate {
			t.Errorf("m%d: acks %+v and %+v", k+1, a, b)
		}
	}
	equal(t, "bob heard", heard(bob), want)
	if got := s.stored(t); len(got) != n+2 {
		t.Errorf("%d rows, want %d", len(got), n+2)
	}
}

// TestRepeatedElsewhere checks that an id stands for a new message in another
// room or conversation, as it does for the hub.
func TestRepeatedElsewhere(t *testing.T) {
	name := file(t)
	frames := []hubtest.Frame{
		say("m1", "red"),
		{Type: "room-message", ID: "m1", Room: "blue", Data: hubtest.Data("red")}, // the same text
		{Type: "room-message", ID: "m1", Room: "green", Data: hubtest.Data("green")},
		{Type: "private-message", ID: "m1", To: "bob", Data: hubtest.Data("to bob")},
		{Type: "private-message", ID: "m1", To: "cid", Data: hubtest.Data("to cid")},
		{Type: "private-message", ID: "m1", To: "ana", Data: hubtest.Data("to ana")},
	}
	want := []string{`ana/m1 "green"`, `ana/m1 "red"`, `ana/m1 "red"`, `ana/m1 "to ana"`, `ana/m1 "to bob"`, `ana/m1 "to cid"`}
	for life := range 2 { // the second hub knows of none of them
		s := newServer(t, name, nil)
		ana := hubtest.Dial(t, s, "ana")
		for _, room := range []string{"red", "blue", "green"} {
			ana.Must(hubtest.Frame{Type: "join-room", Room: room})
		}
		for i, f := range frames {
			for again := range 2 {
				if r := decode[chathub.Receipt](t, ana.Must(f)); r.Duplicate != (life+again > 0) {
					t.Errorf("life %d, frame %d, time %d: %+v", life, i, again, r)
				}
			}
			f.Data = hubtest.Data("something else")
			if r := ana.Request(f); r.Code() != chathub.CodeConflict {
				t.Errorf("life %d, frame %d with other content: %s %s", life, i, r.Type, r.Data)
			}
		}
		got := s.stored(t)
		slices.Sort(got)
		equal(t, "stored", got, want)
	}
}

// TestDatabaseDown checks that a message that cannot be saved is not acked.
// While the database is down, it is not sent either. If the database fails
// after the message was sent, a repetition saves it.
func TestDatabaseDown(t *testing.T) {
	s := newServer(t, file(t), nil)
	ana, bob := hubtest.Dial(t, s, "ana"), hubtest.Dial(t, s, "bob")
	join(t, ana, nil)
	join(t, bob, nil)
	refused := func(when string, f hubtest.Frame) {
		t.Helper()
		if r := ana.Request(f); r.Code() != chathub.CodeUnavailable || strings.Contains(string(r.Data), "SQL") {
			t.Errorf("%s, %s: %s %s", when, f.Type, r.Type, r.Data)
		}
	}
	private := hubtest.Frame{Type: "private-message", ID: "p1", To: "bob", Data: hubtest.Data("private")}
	ana.Must(say("m1", 1))

	s.exec(t, `ALTER TABLE messages RENAME TO away`)
	for _, f := range []hubtest.Frame{say("m2", 2), private,
		{Type: "room-archive", Room: "red"}, {Type: "private-archive", To: "bob"}} {
		refused("all fails", f)
	}
	ana.Must(hubtest.Frame{Type: "typing", Room: "red"})
	equal(t, "bob heard", heard(bob), []string{`1`})
	s.exec(t, `ALTER TABLE away RENAME TO messages`)
	ana.Must(say("m2", 2))
	ana.Must(private)
	equal(t, "bob heard", heard(bob), []string{`2`, `"private"`})

	s.exec(t, `PRAGMA query_only = ON`)
	refused("writing fails", say("m3", 3))
	refused("writing fails again", say("m3", 3))
	// Only in this case, a message is sent although the sender gets an error.
	equal(t, "bob heard", heard(bob), []string{`3`})
	equal(t, "stored", s.stored(t), []string{`ana/m1 1`, `ana/m2 2`, `ana/p1 "private"`})
	s.exec(t, `PRAGMA query_only = OFF`)
	if r := decode[chathub.Receipt](t, ana.Must(say("m3", 3))); r.Seq != 3 || !r.Duplicate {
		t.Errorf("the repetition: %+v", r)
	}
	equal(t, "bob heard", heard(bob), []string{})
	equal(t, "stored", s.stored(t), []string{`ana/m1 1`, `ana/m2 2`, `ana/m3 3`, `ana/p1 "private"`})
}

// TestSenderGoes checks that a message is saved if its sender disconnects
// before that.
func TestSenderGoes(t *testing.T) {
	s := newServer(t, file(t), nil)
	sent, gone := make(chan struct{}), make(chan struct{})
	// This middleware runs inside that of the archive.
	s.Use(func(next chathub.Handler) chathub.Handler {
		return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
			result, err := next(ctx, c, e)
			if e.ID == "last" {
				close(sent)
				<-ctx.Done()
				close(gone)
			}
			return result, err
		}
	})
	ana := hubtest.Dial(t, s, "ana")
	join(t, ana, nil)
	ana.Send(say("last", "words"))
	<-sent
	if err := s.ToUser("ana").Disconnect(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	<-gone
	if err := s.Shutdown(t.Context()); err != nil { // waits for handlers
		t.Fatal(err)
	}
	equal(t, "stored", s.stored(t), []string{`ana/last "words"`})
}

// TestScrollBack checks that every message comes once and in order, from the
// hub's log, from the database, and from earlier processes.
func TestScrollBack(t *testing.T) {
	const kept, epochs, each = 10, 3, 35
	name := file(t)
	n := 0
	var s *server
	for range epochs {
		s = newServer(t, name, &chathub.MemoryBroker{MaxMessages: kept})
		ana := hubtest.Dial(t, s, "ana")
		join(t, ana, nil)
		for range each {
			n++
			ana.Must(say(fmt.Sprint("m", n), n))
		}
	}
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i+1))
	}

	bob := hubtest.Dial(t, s, "bob")
	oldest := join(t, bob, map[string]int{"history": kept})
	all := heard(bob)
	equal(t, "of the log", all, want[n-kept:])
	oldest.Seq -= uint64(len(all) - 1)
	for more := true; more; {
		p := decode[page](t, bob.Must(hubtest.Frame{Type: "room-archive", Room: "red",
			Data: hubtest.Data(map[string]any{"before": oldest, "limit": 7})}))
		if len(p.Messages) == 0 || len(p.Messages) > 7 {
			t.Fatalf("a page of %d messages before %+v", len(p.Messages), oldest)
		}
		var older []string
		for _, m := range p.Messages {
			older = append(older, string(m.Data))
		}
		all = append(older, all...)
		oldest = chathub.Position{Epoch: p.Messages[0].Epoch, Seq: p.Messages[0].Seq}
		more = p.More
	}
	equal(t, "in all", all, want)

	// After a restart, the log is empty until somebody sends a message.
	s = newServer(t, name, nil)
	bob = hubtest.Dial(t, s, "bob")
	oldest = join(t, bob, map[string]int{"history": kept})
	oldest.Seq++
	p := decode[page](t, bob.Must(hubtest.Frame{Type: "room-archive", Room: "red",
		Data: hubtest.Data(map[string]any{"before": oldest, "limit": 3})}))
	if len(p.Messages) != 3 || string(p.Messages[2].Data) != want[n-1] || !p.More {
		t.Errorf("before an empty log: %+v", p)
	}
	// A message that an earlier process has acked is not sent again.
	if r := decode[chathub.Receipt](t, hubtest.Dial(t, s, "ana").Request(hubtest.Frame{Type: "room-message", ID: "m1", Room: "red", Data: hubtest.Data(1)})); r.Duplicate {
		t.Error("acked although not in the room")
	}
	ana := hubtest.Dial(t, s, "ana")
	join(t, ana, nil)
	if r := decode[chathub.Receipt](t, ana.Must(say("m1", 1))); r.Seq != 1 || !r.Duplicate {
		t.Errorf("the repetition: %+v", r)
	}
	equal(t, "bob heard", heard(bob), []string{})
}

// TestConversationInPages reads a conversation to its beginning, page by page.
func TestConversationInPages(t *testing.T) {
	s := newServer(t, file(t), nil)
	users := []string{"ana", "bob"}
	clients := []*hubtest.Client{hubtest.Dial(t, s, "ana"), hubtest.Dial(t, s, "bob")}
	var want, all []string
	for i := range 25 {
		clients[i%2].Must(hubtest.Frame{Type: "private-message", ID: fmt.Sprint("p", i), To: users[1-i%2], Data: hubtest.Data(i)})
		clients[i%2].Must(hubtest.Frame{Type: "private-message", ID: fmt.Sprint("q", i), To: "cid", Data: hubtest.Data("for cid")})
		want = append(want, fmt.Sprint(i))
	}
	before := int64(0)
	for more := true; more; {
		p := decode[page](t, clients[0].Must(hubtest.Frame{Type: "private-archive", To: "bob",
			Data: hubtest.Data(map[string]any{"before": before, "limit": 4})}))
		var older []string
		for _, m := range p.Messages {
			older = append(older, string(m.Data))
		}
		all = append(older, all...)
		before, more = p.Messages[0].N, p.More
	}
	equal(t, "in all", all, want)
}

// TestLargePage checks that a page is not too large for a client's outbox.
func TestLargePage(t *testing.T) {
	s := newServer(t, file(t), nil)
	ana := hubtest.Dial(t, s, "ana")
	join(t, ana, nil)
	text := strings.Repeat("x", 60_000)
	for i := range 30 {
		ana.Must(say(fmt.Sprint("m", i), text))
	}
	p := decode[page](t, ana.Must(hubtest.Frame{Type: "room-archive", Room: "red", Data: hubtest.Data(map[string]int{"limit": 1000})}))
	if n := len(p.Messages); n == 0 || n*len(text) > pageBytes || !p.More {
		t.Errorf("%d messages, more %t", n, p.More)
	}
}
