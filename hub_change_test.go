package chathub_test

import (
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
)

// TestChangesOfFailedDeletion: a reaction that waits behind a deletion is not
// refused because of it if it cannot be stored.
func TestChangesOfFailedDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &lossyBroker{Broker: &chathub.MemoryBroker{}}
		p := newParty(t, chathub.Config{Broker: broker})
		ana, phone, bob := p.dial("ana", "red"), p.dial("ana", "red"), p.dial("bob", "red")
		say(ana.Client, "red", "one")
		gate := make(chan struct{})
		broker.set(func(m *chathub.Message) error {
			<-gate
			return errLost
		}, nil)
		ana.Send(editOf("1", "red", 1, "1"))
		synctest.Wait()
		phone.Send(deleteOf("2", "red", 1))
		synctest.Wait()
		bob.Send(reactTo("3", "red", 1, "k", true))
		synctest.Wait()
		close(gate)
		for _, g := range []guest{ana, phone, bob} {
			if got := ofType(arrived(g.Client), "error"); len(got) != 1 || got[0].Code() != chathub.CodeUnavailable {
				t.Errorf("%s was answered with %+v", g.server.User().ID, got)
			}
		}
	})
}
