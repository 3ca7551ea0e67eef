package chathub_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// inInbox returns a hook that fails what is stored in a user's inbox.
func inInbox(user string) func(*chathub.Message) error {
	return func(m *chathub.Message) error {
		if m.Topic.User == user {
			return errLost
		}
		return nil
	}
}

// TestCopiesOfHalfSentMessage: the recipient reacts to a message before the
// sender has completed it. Then both copies have the reaction, and go on
// together.
func TestCopiesOfHalfSentMessage(t *testing.T) {
	// The copy that decides is the sender's, or the other one.
	for _, names := range [][2]string{{"ana", "bob"}, {"dan", "cid"}} {
		synctest.Test(t, func(t *testing.T) {
			broker := &lossyBroker{Broker: &chathub.MemoryBroker{}}
			p := newParty(t, chathub.Config{Broker: broker})
			from, phone, to := p.dial(names[0]), p.dial(names[0]), p.dial(names[1])
			broker.set(inInbox(names[0]), nil)
			expectRefused(t, from.Client, privateMessage("p1", names[1], `"one"`), chathub.CodeUnavailable)
			broker.set(nil, nil)
			wantReceipt(t, to.Client, reactPrivate("1", names[0], names[0], "p1", "k", true), 2, false)
			time.Sleep(time.Second)
			phone.heard()
			for range 2 {
				from.Must(privateMessage("p1", names[1], `"one"`))
			}
			got := ofType(arrived(phone.Client), "message-changed")
			if len(got) != 1 || got[0].From.ID != names[1] || got[0].To != names[0] || dataOf[changedData](t, got[0]).Change != "reacted" {
				t.Errorf("the sender heard %+v", got)
			}
			wantPage(t, from.Client, hubtest.Frame{To: names[1]}, fmt.Sprintf(`1 "one" v2 map[k:{1 [%s]}]`, names[1]))
			wantReceipt(t, from.Client, editPrivate("2", names[1], "p1", `"ONE"`), 3, false)
			wantPage(t, from.Client, hubtest.Frame{To: names[1]}, fmt.Sprintf(`1 "ONE" v3 edited map[k:{1 [%s]}]`, names[1]))
			wantPage(t, to.Client, hubtest.Frame{To: names[0]}, fmt.Sprintf(`1 "ONE" v3 edited map[k:{1 [%s]}] mine [k]`, names[1]))
		})
	}
}

// TestCopiesDeletionCompleted: a deletion that has reached one inbox only is
// completed by the next one who wants to change the message, in the name of its
// author.
func TestCopiesDeletionCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &lossyBroker{Broker: &chathub.MemoryBroker{}}
		l := newLetters(t, chathub.Config{Broker: broker})
		broker.set(inInbox("bob"), nil)
		expectRefused(t, l.ana.Client, deletePrivate("1", "bob", "p1"), chathub.CodeUnavailable)
		broker.set(nil, nil)
		wantPage(t, l.bob.Client, hubtest.Frame{To: "ana", Data: raw(`{"before":2}`)}, `1 "one"`)
		l.quiet()
		expectRefused(t, l.bob.Client, reactPrivate("1", "ana", "ana", "p1", "k", true), chathub.CodeConflict)
		got := ofType(arrived(l.tablet.Client), "message-changed")
		if len(got) != 1 || got[0].From.ID != "ana" || got[0].To != "bob" || dataOf[changedData](t, got[0]).Change != "deleted" {
			t.Errorf("bob heard %+v", got)
		}
		wantPage(t, l.bob.Client, hubtest.Frame{To: "ana", Data: raw(`{"before":2}`)}, `1  v3 deleted`)
	})
}

// TestCopiesSentAgain: an id is used again when the log has dropped the message
// that had it, while changes of that one are still under way. None of them
// reaches the new message.
func TestCopiesSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &lossyBroker{Broker: &chathub.MemoryBroker{MaxMessages: 3, DuplicateWindow: time.Second}}
		p := newParty(t, chathub.Config{Broker: broker})
		ana, bob, tablet := p.dial("ana"), p.dial("bob"), p.dial("bob")
		ana.Must(privateMessage("p1", "bob", `"one"`))
		gate := make(chan struct{})
		broker.set(func(m *chathub.Message) error {
			if m.Name != "" {
				<-gate
			}
			return nil
		}, nil)
		bob.Send(reactPrivate("1", "ana", "ana", "p1", "a", true))
		synctest.Wait()
		tablet.Send(reactPrivate("2", "ana", "ana", "p1", "b", true)) // waits for that one
		synctest.Wait()
		for i := range 3 {
			ana.Must(privateMessage(fmt.Sprint("m", i), "bob", `1`))
		}
		time.Sleep(2 * time.Second)
		ana.Must(privateMessage("p1", "bob", `"again"`))
		ana.Send(editPrivate("3", "bob", "p1", `"AGAIN"`))
		synctest.Wait()
		close(gate)
		time.Sleep(time.Second)
		for _, g := range []guest{bob, tablet} {
			if got := ofType(arrived(g.Client), "error"); len(got) != 1 || got[0].Code() != chathub.CodeBadRequest {
				t.Errorf("a change of the first message was answered with %+v", got)
			}
		}
		if got := ofType(arrived(ana.Client), "ack"); len(got) != 1 {
			t.Errorf("the edit was answered with %+v", got)
		}
		for g, peer := range map[guest]string{ana: "bob", bob: "ana"} {
			wantPage(t, g.Client, hubtest.Frame{To: peer, Data: raw(`{"limit":1}`)}, `5 "AGAIN" v6 edited`)
		}
	})
}

// TestCopiesDeletedAndSentAgain: a deleted message that is sent again when its
// id is forgotten can be deleted again.
func TestCopiesDeletedAndSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{Broker: &chathub.MemoryBroker{DuplicateWindow: time.Second}})
		ana, bob := p.dial("ana"), p.dial("bob")
		ana.Must(privateMessage("p1", "bob", `"one"`))
		wantReceipt(t, ana.Client, deletePrivate("1", "bob", "p1"), 2, false)
		wantReceipt(t, ana.Client, deletePrivate("2", "bob", "p1"), 2, true)
		time.Sleep(2 * time.Second)
		ana.Must(privateMessage("p1", "bob", `"one"`))
		wantPage(t, bob.Client, hubtest.Frame{To: "ana", Data: raw(`{"limit":1}`)}, `3 "one"`)
		wantReceipt(t, ana.Client, reactPrivate("3", "bob", "ana", "p1", "k", false), 3, true)
		wantReceipt(t, ana.Client, deletePrivate("4", "bob", "p1"), 4, false)
		for g, peer := range map[guest]string{ana: "bob", bob: "ana"} {
			wantPage(t, g.Client, hubtest.Frame{To: peer, Data: raw(`{"limit":1}`)}, `3  v4 deleted`)
		}
	})
}
