package chathub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// sessionOf attaches to a broker, as a hub that only reads.
func sessionOf(t *testing.T, broker chathub.Broker) chathub.BrokerSession {
	t.Helper()
	s, err := broker.Attach(t.Context(), func(chathub.Message) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s
}

// findText returns where a log has a text.
func findText(t *testing.T, s chathub.BrokerSession, topic chathub.Topic, text string) (where []string) {
	t.Helper()
	page, err := s.Read(t.Context(), topic, chathub.Range{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	named, err := s.ReadNamed(t.Context(), []chathub.NameQuery{{Topic: topic, Kind: "m"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(page.Messages, named[0]...) {
		if bytes.Contains(m.Body, []byte(text)) {
			where = append(where, fmt.Sprintf("%d %s %q", m.Seq, m.Name, m.Body))
		}
	}
	return where
}

// After the ack of a deletion, the text is nowhere: neither in a log nor in an
// answer.
func TestDeletedIsErased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		hub := hubtest.New(t, chathub.Config{Broker: broker, PresenceInterval: -1, Rate: -1, UserRate: -1, CompressFrom: 1})
		s := sessionOf(t, broker)
		ana := hubtest.Dial(t, hub, "ana")
		epoch := position(t, enter(ana, "red")).Epoch
		inbox := dataOf[welcomeData](t, ana.Welcome).Inbox
		bob := dialCompressed(t, hub, "bob")
		enter(bob, "red")
		ana.Must(roomMessage("m1", "red", `"secret one"`))
		ana.Must(editOf("e1", "red", 1, `"secret two"`))
		ana.Must(privateMessage("p1", "bob", `"secret one"`))
		ana.Must(editPrivate("e1", "bob", "p1", `"secret two"`))
		arrived(bob)
		topics := []chathub.Topic{{Room: "red"}, {User: "ana"}, {User: "bob"}}
		for _, topic := range topics {
			if len(findText(t, s, topic, "secret")) == 0 {
				t.Errorf("%+v does not have it to begin with", topic)
			}
		}
		ana.Must(deleteOf("d1", "red", 1))
		ana.Must(deletePrivate("d2", "bob", "p1"))
		for _, topic := range topics {
			if where := findText(t, s, topic, "secret"); len(where) > 0 {
				t.Errorf("%+v has it: %q", topic, where)
			}
		}
		ana.Must(roomMessage("m1", "red", `"secret one"`)) // a repetition is not stored again
		var heard []hubtest.Frame
		for _, c := range []*hubtest.Client{hubtest.Dial(t, hub, "ana"), dialCompressed(t, hub, "bob")} {
			c.Send(hubtest.Frame{Type: "resume", Data: hubtest.Data(resumeRequest{
				Rooms: map[string]chathub.Position{"red": {Epoch: epoch}}, Inbox: &chathub.Position{Epoch: inbox.Epoch}})})
			c.Send(hubtest.Frame{Type: "join-room", Room: "red", Data: raw(`{"history":10}`)})
			c.Send(hubtest.Frame{Type: "history", ID: "h1", Room: "red"})
			c.Send(hubtest.Frame{Type: "history", ID: "h2", To: "bob"})
			c.Send(hubtest.Frame{Type: "history", ID: "h3", To: "ana"})
			c.Send(hubtest.Frame{Type: "overview", ID: "o", Data: raw(`{"rooms":["red"],"inbox":true}`)})
			c.Send(editOf("x", "red", 1, `1`))
			heard = append(heard, arrived(c)...)
		}
		heard = append(heard, arrived(bob)...)
		if len(ofType(heard, "message-changed")) < 6 || len(ofType(heard, "ack")) < 8 {
			t.Errorf("heard too little: %+v", heard)
		}
		for _, f := range heard {
			if strings.Contains(string(hubtest.Data(f)), "secret") {
				t.Errorf("%s %s has it: %s", f.Type, f.ID, f.Data)
			}
		}
		for _, topic := range topics {
			if where := findText(t, s, topic, "secret"); len(where) > 0 {
				t.Errorf("afterwards %+v has it: %q", topic, where)
			}
		}
	})
}

// forget makes a broker lose what erases, as if it had crashed in between.
func forget(m *chathub.Message) error {
	m.Erase = false
	return nil
}

// If a deletion is cut short before the text is erased, nobody gets the text,
// and a repetition erases it: by the same id, by another, and from Go.
func TestDeletionCutShort(t *testing.T) {
	for name, again := range map[string]func(p *party, g guest) error{
		"same id":    func(_ *party, g guest) error { g.Must(deleteOf("d", "red", 1)); return nil },
		"another id": func(_ *party, g guest) error { g.Must(deleteOf("e", "red", 1)); return nil },
		"from Go": func(p *party, _ guest) error {
			_, err := p.hub.DeleteMessage(context.WithoutCancel(t.Context()), "red", 1)
			return err
		},
		"the user": func(p *party, _ guest) error {
			if n, err := p.hub.EraseUser(context.WithoutCancel(t.Context()), "ana", "red"); n != 1 || err != nil {
				return fmt.Errorf("%d, %w", n, err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := &chathub.MemoryBroker{}
				broker := &lossyBroker{Broker: memory}
				p := newParty(t, chathub.Config{Broker: broker, UserRate: -1})
				s := sessionOf(t, memory)
				ana, bob := p.dial("ana", "red"), p.dial("bob", "red")
				ana.Must(roomMessage("m", "red", `"secret"`))
				broker.set(forget, func(m *chathub.Message) error {
					if m.Name != "" {
						return errLost
					}
					return nil
				})
				expectRefused(t, ana.Client, deleteOf("d", "red", 1), chathub.CodeUnavailable)
				red := chathub.Topic{Room: "red"}
				if len(findText(t, s, red, "secret")) != 1 {
					t.Fatal("it is erased already")
				}
				bob.heard()
				wantPage(t, bob.Client, hubtest.Frame{Room: "red"}, `1  v2 deleted`)
				expectRefused(t, ana.Client, editOf("x", "red", 1, "1"), chathub.CodeConflict)
				broker.set(nil, nil)
				if err := again(p, ana); err != nil {
					t.Error(err)
				}
				if where := findText(t, s, red, "secret"); len(where) > 0 {
					t.Errorf("the log has it: %q", where)
				}
				wantPage(t, bob.Client, hubtest.Frame{Room: "red"}, `1  v3 deleted`)
				wantReceipt(t, ana.Client, deleteOf("f", "red", 1), 3, true)
			})
		})
	}
}

// Deletions, edits and reactions at once, from several users on two nodes, end
// in a deleted message. Everyone hears of the deletion last, and once.
func TestDeleteBeatsAll(t *testing.T) {
	for seed := range 10 {
		synctest.Test(t, func(t *testing.T) {
			broker := newUnsteady(uint64(seed))
			p := []*party{newParty(t, chathub.Config{Broker: broker, Moderator: func(context.Context, *chathub.Client, chathub.Action) bool { return true }}),
				newParty(t, chathub.Config{Broker: broker, Moderator: func(context.Context, *chathub.Client, chathub.Action) bool { return true }})}
			var all []guest
			for i, user := range []string{"ana", "ana", "bob", "bob", "cid", "cid"} {
				all = append(all, p[i%2].dial(user, "red"))
			}
			say(all[0].Client, "red", "one")
			for _, g := range all {
				g.heard()
			}
			frames := [][]hubtest.Frame{
				{editOf("1", "red", 1, "1"), editOf("2", "red", 1, "2"), deleteOf("3", "red", 1)},
				{editOf("4", "red", 1, "1"), deleteOf("5", "red", 1), editOf("6", "red", 1, "2")},
				{reactTo("1", "red", 1, "a", true), deleteOf("2", "red", 1)},
				{reactTo("3", "red", 1, "b", true), reactTo("4", "red", 1, "b", false)},
				{reactTo("1", "red", 1, "a", true), reactTo("2", "red", 1, "c", true)},
				{deleteOf("3", "red", 1)},
			}
			order := broker.rand.Perm(len(all))
			for _, i := range order {
				for _, f := range frames[i] {
					all[i].Send(f)
				}
			}
			time.Sleep(2 * time.Second)
			deleted := uint64(0)
			dups := 0
			for _, g := range all {
				got := arrived(g.Client)
				for _, f := range ofType(got, "ack") {
					if dataOf[receipt](t, f).Dup {
						dups++
					}
				}
				changed := ofType(got, "message-changed")
				last := changed[len(changed)-1]
				for i, f := range changed {
					if isLast := i == len(changed)-1; (dataOf[changedData](t, f).Change == "deleted") != isLast || i > 0 && f.Seq <= changed[i-1].Seq {
						t.Errorf("heard %d as number %d: %s", f.Seq, i, f.Data)
					}
				}
				if deleted == 0 {
					deleted = last.Seq
				}
				if last.Seq != deleted {
					t.Errorf("one heard of the deletion at %d, another at %d", deleted, last.Seq)
				}
			}
			if dups < 3 {
				t.Errorf("%d of 4 deletions changed nothing", dups)
			}
			wantPage(t, all[5].Client, hubtest.Frame{Room: "red"}, fmt.Sprintf("1  v%d deleted", deleted))
		})
	}
}

// Two nodes that change one message at once do so in one order, and lose
// nothing.
func TestChangesOnTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := cluster(t)
		a, b := one.dial("ana", "red"), two.dial("ana", "red")
		say(a.Client, "red", "one")
		b.heard()
		for i := range 30 {
			a.Send(editOf(fmt.Sprint("a", i), "red", 1, fmt.Sprint(i)))
			b.Send(editOf(fmt.Sprint("b", i), "red", 1, fmt.Sprint(-i)))
			a.Send(reactTo(fmt.Sprint("c", i), "red", 1, fmt.Sprint("a", i%9), i%2 == 0))
			b.Send(reactTo(fmt.Sprint("d", i), "red", 1, fmt.Sprint("b", i%9), i%2 == 0))
		}
		time.Sleep(time.Minute)
		var versions [2][]string
		acked := map[uint64]bool{}
		for i, g := range []guest{a, b} {
			got := arrived(g.Client)
			if acks := ofType(got, "ack"); len(acks) != 60 {
				t.Errorf("node %d acked %d, want 60: %+v", i, len(acks), ofType(got, "error"))
			} else {
				for _, f := range acks {
					acked[f.Seq] = true
				}
			}
			for _, f := range ofType(got, "message-changed") {
				versions[i] = append(versions[i], fmt.Sprint(f.Seq, " ", string(f.Data)))
				delete(acked, f.Seq)
			}
		}
		if len(versions[0]) < 60 || !slices.Equal(versions[0], versions[1]) {
			t.Errorf("one heard\n%q, two heard\n%q", versions[0], versions[1])
		}
		for _, f := range []string{"a", "b"} {
			for k := range 9 {
				last := 0
				for i := range 30 {
					if i%9 == k {
						last = i
					}
				}
				if want := last%2 == 0; strings.Contains(versions[0][len(versions[0])-1], fmt.Sprintf(`"%s%d"`, f, k)) != want {
					t.Errorf("%s%d is there: %t", f, k, !want)
				}
			}
		}
		// What a node remembers of a message does not make it believe that
		// there is nothing to do.
		a.Must(reactTo("x1", "red", 1, "x", true))
		b.Must(reactTo("x2", "red", 1, "x", false))
		if dataOf[receipt](t, a.Must(reactTo("x3", "red", 1, "x", true))).Dup {
			t.Error("a reaction that was taken back elsewhere is taken for one that is there")
		}
	})
}

// A hub that shuts down answers what waits, and leaves nothing behind.
func TestChangesAtShutdown(t *testing.T) {
	for _, end := range []string{"Close", "Shutdown"} {
		synctest.Test(t, func(t *testing.T) {
			broker := newGatedBroker()
			p := newParty(t, chathub.Config{Broker: broker})
			ana, tab, bob := p.dial("ana", "red"), p.dial("ana", "red"), p.dial("bob", "red")
			say(ana.Client, "red", "one")
			bob.Must(reactTo("1", "red", 1, "k", true))
			gate, red := make(chan struct{}), chathub.Topic{Room: "red"}
			set(broker, broker.publishing, red, gate)
			ana.Send(editOf("2", "red", 1, "1"))
			synctest.Wait()
			tab.Send(reactTo("3", "red", 1, "l", true))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := p.hub.EditMessage(ctx, "red", 1, "from Go"); codeOf(err) != chathub.CodeUnavailable || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the edit returned %v", err)
			}
			done := make(chan error)
			go func() {
				if end == "Close" {
					done <- p.hub.Close()
				} else {
					done <- p.hub.Shutdown(t.Context())
				}
			}()
			synctest.Wait()
			close(gate)
			if err := <-done; err != nil {
				t.Error(err)
			}
			for _, err := range []error{second(p.hub.EditMessage(t.Context(), "red", 1, 1)), second(p.hub.DeleteMessage(context.WithoutCancel(t.Context()), "red", 1)),
				second(p.hub.EraseUser(t.Context(), "ana", "red"))} {
				if !errors.Is(err, chathub.ErrClosed) {
					t.Errorf("afterwards the error is %v", err)
				}
			}
		})
	}
}

// codeOf returns the code of an error, or "".
func codeOf(err error) chathub.Code {
	if e, ok := errors.AsType[*chathub.Error](err); ok {
		return e.Code
	}
	return ""
}
