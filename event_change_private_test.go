package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// lossyBroker is a Broker that fails some of what it stores.
type lossyBroker struct {
	chathub.Broker

	mu sync.Mutex
	// before returns an error with which Publish fails, having stored nothing.
	before func(*chathub.Message) error
	// after returns one with which it fails, having stored the message.
	after func(*chathub.Message) error
}

type lossySession struct {
	chathub.BrokerSession
	b *lossyBroker
}

func (b *lossyBroker) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	s, err := b.Broker.Attach(ctx, deliver)
	return &lossySession{s, b}, err
}

func (b *lossyBroker) set(before, after func(*chathub.Message) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before, b.after = before, after
}

func (s *lossySession) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	s.b.mu.Lock()
	before, after := s.b.before, s.b.after
	s.b.mu.Unlock()
	if before != nil {
		if err := before(&m); err != nil {
			return chathub.Receipt{}, err
		}
	}
	r, err := s.BrokerSession.Publish(ctx, m)
	if err == nil && after != nil {
		err = after(&m)
	}
	return r, err
}

var errLost = chathub.Unavailable(errors.New("lost"))

// What a client sends to change a private message.

func editPrivate(id, to, of, data string) hubtest.Frame {
	return hubtest.Frame{Type: "edit-message", ID: id, To: to, Data: fmt.Appendf(nil, `{"id":%q,"data":%s}`, of, data)}
}

func deletePrivate(id, to, of string) hubtest.Frame {
	return hubtest.Frame{Type: "delete-message", ID: id, To: to, Data: fmt.Appendf(nil, `{"id":%q}`, of)}
}

func reactPrivate(id, to, author, of, key string, on bool) hubtest.Frame {
	return hubtest.Frame{Type: "react", ID: id, To: to, Data: fmt.Appendf(nil, `{"id":%q,"author":%q,"key":%q,"on":%t}`, of, author, key, on)}
}

// letters are two users with two connections each. The inbox of ana has one
// message more, so that positions differ.
type letters struct {
	*party
	ana, phone, bob, tablet guest
}

func newLetters(t *testing.T, cfg chathub.Config) *letters {
	t.Helper()
	p := newParty(t, cfg)
	l := &letters{p, p.dial("ana/Ana"), p.dial("ana/Ana"), p.dial("bob/Bob"), p.dial("bob/Bob")}
	l.ana.Must(notification("n", "ana", "1"))
	l.ana.Must(privateMessage("p1", "bob", `"one"`))
	l.ana.Must(privateMessage("p1", "cid", `"to cid"`))
	l.bob.Must(privateMessage("p1", "ana", `"back"`))
	l.quiet()
	return l
}

func (l *letters) quiet() {
	for _, g := range []guest{l.ana, l.phone, l.bob, l.tablet} {
		g.heard()
	}
}

// isTime finds the times in what a message has become.
var isTime = regexp.MustCompile(`"(edited|deleted)":\d+`)

// wantChanged lets someone change a message, and checks the receipt, and that
// all four connections have heard of it at the positions of their own inboxes.
func (l *letters) wantChanged(by guest, f hubtest.Frame, anaSeq, bobSeq uint64, want string) {
	l.t.Helper()
	l.quiet()
	by.Send(f)
	user := by.server.User().ID
	for i, g := range []guest{l.ana, l.phone, l.bob, l.tablet} {
		seq, to := anaSeq, "bob"
		if i >= 2 {
			seq = bobSeq
		}
		if user == "bob" {
			to = "ana"
		}
		got := arrived(g.Client)
		if acks := ofType(got, "ack"); g == by && (len(acks) != 1 || acks[0].Seq != seq || dataOf[receipt](l.t, acks[0]).Dup) {
			l.t.Errorf("%s %s was answered with %+v, want seq %d", f.Type, f.Data, acks, seq)
		}
		got = ofType(got, "message-changed")
		if len(got) != 1 || got[0].Seq != seq || got[0].To != to || got[0].Room != "" || got[0].From == nil || got[0].From.ID != user {
			l.t.Errorf("connection %d heard %+v, want seq %d from %s to %s", i, got, seq, user, to)
			continue
		}
		if s := isTime.ReplaceAllString(string(got[0].Data), `"$1":T`); s != want {
			l.t.Errorf("connection %d heard %s, want %s", i, s, want)
		}
	}
}

func TestChangePrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLetters(t, chathub.Config{}) // ana: n 1, p1 2, to cid 3, back 4; bob: p1 1, back 2
		l.wantChanged(l.ana, editPrivate("1", "bob", "p1", `"ONE"`), 5, 3, `{"id":"p1","author":"ana","change":"edited","message":{"data":"ONE","edited":T}}`)
		wantReceipt(t, l.phone.Client, editPrivate("1", "bob", "p1", `"ONE"`), 5, true)
		time.Sleep(time.Second)
		l.wantChanged(l.bob, reactPrivate("1", "ana", "ana", "p1", "k", true), 6, 4,
			`{"id":"p1","author":"ana","change":"reacted","message":{"data":"ONE","edited":T,"reactions":{"k":{"count":1,"users":["bob"]}}}}`)
		wantReceipt(t, l.tablet.Client, reactPrivate("1", "ana", "ana", "p1", "k", true), 4, true)
		time.Sleep(time.Second)
		l.wantChanged(l.ana, reactPrivate("2", "bob", "ana", "p1", "k", true), 7, 5,
			`{"id":"p1","author":"ana","change":"reacted","message":{"data":"ONE","edited":T,"reactions":{"k":{"count":2,"users":["bob","ana"]}}}}`)
		// The same id stands for another message from bob, and one to cid.
		l.wantChanged(l.bob, editPrivate("2", "ana", "p1", `"BACK"`), 8, 6, `{"id":"p1","author":"bob","change":"edited","message":{"data":"BACK","edited":T}}`)
		wantReceipt(t, l.ana.Client, editPrivate("3", "cid", "p1", `"TO CID"`), 9, false)
		l.quiet()
		for _, tc := range []struct {
			by   guest
			f    hubtest.Frame
			code chathub.Code
		}{
			{l.ana, editPrivate("1", "bob", "p1", `"other"`), chathub.CodeConflict},
			{l.bob, reactPrivate("1", "ana", "ana", "p1", "k", false), chathub.CodeConflict},
			{l.bob, reactPrivate("9", "cid", "ana", "p1", "k", true), chathub.CodeBadRequest},
			{l.bob, reactPrivate("9", "cid", "cid", "p1", "k", true), chathub.CodeBadRequest},
			{l.ana, deletePrivate("9", "dan", "p1"), chathub.CodeBadRequest},
			{l.ana, deletePrivate("9", "bob", "n"), chathub.CodeBadRequest},
		} {
			expectRefused(t, tc.by.Client, tc.f, tc.code)
		}
		l.wantChanged(l.ana, deletePrivate("4", "bob", "p1"), 10, 7, `{"id":"p1","author":"ana","change":"deleted","message":{"deleted":T}}`)
		wantReceipt(t, l.phone.Client, deletePrivate("5", "bob", "p1"), 10, true)
		expectRefused(t, l.bob.Client, reactPrivate("3", "ana", "ana", "p1", "k", false), chathub.CodeConflict)
		for _, g := range []guest{l.ana, l.bob} {
			if got := ofType(arrived(g.Client), "message-changed"); len(got) > 0 {
				t.Errorf("%s heard %+v", g.server.User().ID, got)
			}
		}
		wantPage(t, l.phone.Client, hubtest.Frame{To: "bob"}, `2  v10 deleted`, `4 "BACK" v8 edited`)
		wantPage(t, l.phone.Client, hubtest.Frame{To: "cid"}, `3 "TO CID" v9 edited`)
		wantPage(t, l.bob.Client, hubtest.Frame{To: "ana"}, `1  v7 deleted`, `2 "BACK" v6 edited`)
	})
}

// A message to oneself is stored once, and changes once.
func TestChangeOwnLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLetters(t, chathub.Config{})
		l.ana.Must(privateMessage("me", "ana", `"memo"`))
		l.quiet()
		wantReceipt(t, l.ana.Client, editPrivate("1", "ana", "me", `"MEMO"`), 6, false)
		got := ofType(arrived(l.phone.Client), "message-changed")
		if len(got) != 1 || got[0].To != "ana" || got[0].From.ID != "ana" || dataOf[changedData](t, got[0]).Author != "ana" {
			t.Errorf("heard %+v", got)
		}
		wantReceipt(t, l.ana.Client, reactPrivate("2", "ana", "ana", "me", "k", true), 7, false)
		wantPage(t, l.ana.Client, hubtest.Frame{To: "ana"}, `5 "MEMO" v7 edited map[k:{1 [ana]}] mine [k]`)
		wantReceipt(t, l.phone.Client, deletePrivate("3", "ana", "me"), 8, false)
		wantPage(t, l.ana.Client, hubtest.Frame{To: "ana"}, `5  v8 deleted`)
	})
}

// If the second inbox fails, the change is not acked, and a repetition
// completes it.
func TestChangePrivateCutShort(t *testing.T) {
	for _, tc := range []struct {
		name     string
		by       func(l *letters) *hubtest.Client
		f        hubtest.Frame
		from     string
		seq      uint64
		ana, bob string
	}{
		{"edit", func(l *letters) *hubtest.Client { return l.ana.Client }, editPrivate("1", "bob", "p1", `"ONE"`), "ana", 5, `2 "ONE" v5 edited`, `1 "ONE" v3 edited`},
		{"delete", func(l *letters) *hubtest.Client { return l.ana.Client }, deletePrivate("1", "bob", "p1"), "ana", 5, `2  v5 deleted`, `1  v3 deleted`},
		{"react", func(l *letters) *hubtest.Client { return l.bob.Client }, reactPrivate("1", "ana", "ana", "p1", "k", true), "bob", 3,
			`2 "one" v5 map[k:{1 [bob]}]`, `1 "one" v3 map[k:{1 [bob]}] mine [k]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := &lossyBroker{Broker: &chathub.MemoryBroker{}}
				l := newLetters(t, chathub.Config{Broker: broker})
				broker.set(func(m *chathub.Message) error {
					if m.Topic.User == "bob" { // the second one
						return errLost
					}
					return nil
				}, nil)
				expectRefused(t, tc.by(l), tc.f, chathub.CodeUnavailable)
				expectRefused(t, tc.by(l), tc.f, chathub.CodeUnavailable)
				l.quiet()
				broker.set(nil, nil)
				wantReceipt(t, tc.by(l), tc.f, tc.seq, true)
				if got := ofType(arrived(l.tablet.Client), "message-changed"); len(got) != 1 || got[0].From.ID != tc.from {
					t.Errorf("bob heard %+v", got)
				}
				if got := ofType(arrived(l.phone.Client), "message-changed"); len(got) != 0 {
					t.Errorf("ana heard %+v, again", got)
				}
				wantPage(t, l.ana.Client, hubtest.Frame{To: "bob", Data: raw(`{"before":4}`)}, tc.ana)
				wantPage(t, l.bob.Client, hubtest.Frame{To: "ana", Data: raw(`{"before":2}`)}, tc.bob)
				wantReceipt(t, tc.by(l), tc.f, tc.seq, true)
				if got := ofType(arrived(l.tablet.Client), "message-changed"); len(got) != 0 {
					t.Errorf("bob heard %+v, again", got)
				}
			})
		})
	}
}

// A message that only one inbox still has can be changed by the user of that
// one.
func TestChangePrivateDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{Broker: &chathub.MemoryBroker{MaxMessages: 5}})
		// The inbox that is first belongs to one or the other.
		for _, names := range [][2]string{{"ana", "bob"}, {"dan", "cid"}} {
			from, to := p.dial(names[0]), p.dial(names[1])
			from.Must(privateMessage("p1", names[1], `"one"`))
			wantReceipt(t, to.Client, reactPrivate("1", names[0], names[0], "p1", "k", true), 2, false)
			wantReceipt(t, from.Client, editPrivate("2", names[1], "p1", `"ONE"`), 3, false)
			for i := range 5 {
				from.Must(privateMessage(fmt.Sprint("m", i), names[0], `1`))
			}
			from.heard()
			expectRefused(t, from.Client, editPrivate("3", names[1], "p1", `"1"`), chathub.CodeBadRequest)
			wantReceipt(t, to.Client, reactPrivate("4", names[0], names[0], "p1", "l", true), 4, false)
			if got := from.heard(); len(got) > 0 {
				t.Errorf("%s heard %q", names[0], got)
			}
			wantPage(t, to.Client, hubtest.Frame{To: names[0]}, fmt.Sprintf(`1 "ONE" v4 edited map[k:{1 [%s]} l:{1 [%s]}] mine [k l]`, names[1], names[1]))
		}
	})
}

// A long inbox is searched to its end, also behind a message that is larger
// than an answer.
func TestChangePrivateSearched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{UserRate: -1, MaxMessageBytes: 10_000, MaxOutboxBytes: 40_000,
			Broker: &chathub.MemoryBroker{MaxMessages: 10_000, MaxBytes: 1 << 24, MaxTotalBytes: 1 << 26}})
		ana := p.dial("ana")
		ana.Must(privateMessage("p1", "bob", `"one"`))
		ana.Close()
		big := strings.Repeat("x", 20_000-2)
		for i := range 5000 {
			var data any = i
			if i == 2500 {
				data = big
			}
			for _, user := range []string{"ana", "bob"} {
				if err := p.hub.ToUser(user).Emit(t.Context(), "news", data); err != nil {
					t.Fatal(err)
				}
			}
		}
		ana, bob := p.dial("ana"), p.dial("bob")
		bob.heard()
		wantReceipt(t, ana.Client, deletePrivate("1", "bob", "p1"), 5002, false)
		if got := bob.heard(); !strings.Contains(got[len(got)-1], `"change":"deleted"`) {
			t.Errorf("bob heard %q", got[len(got)-1])
		}
		expectRefused(t, ana.Client, deletePrivate("1", "bob", "p2"), chathub.CodeBadRequest)
	})
}

// TestChangePrivateDeletedMeanwhile: a private message that is deleted while it
// is looked for is answered as a deleted one, not as one that never was.
func TestChangePrivateDeletedMeanwhile(t *testing.T) {
	for _, changed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := &hooked{}
			p := newParty(t, chathub.Config{Broker: b})
			ana, bob := p.dial("ana"), p.dial("bob")
			ana.Must(privateMessage("p1", "bob", `1`))
			if changed {
				bob.Must(reactPrivate("1", "ana", "ana", "p1", "k", true))
			}
			time.Sleep(time.Second)
			arrived(bob.Client)
			b.before("Read", func() error {
				b.before("Read", nil)
				ana.Must(deletePrivate("2", "bob", "p1"))
				return nil
			})
			expectRefused(t, bob.Client, reactPrivate("3", "ana", "ana", "p1", "l", true), chathub.CodeConflict)
		})
	}
}
