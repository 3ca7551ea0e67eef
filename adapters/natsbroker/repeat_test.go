package natsbroker_test

import (
	"errors"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestRepeatDropped checks that nobody gets an ack for a message that is not
// there, if its id was used for another one that the log has dropped. A message
// that was erased does not come back.
func TestRepeatDropped(t *testing.T) {
	const most = 5
	for _, topic := range []chathub.Topic{room("lobby"), inbox("ana")} {
		s := serve(t)
		open := func() *node { return attach(t, connect(t, s.ClientURL(), natsbroker.MaxMessages(most))) }
		n, other := open(), open()
		conflicts := func(what string, n *node, m chathub.Message) {
			t.Helper()
			_, err := n.Publish(t.Context(), m)
			var e *chathub.Error
			if !errors.As(err, &e) || e.Code != chathub.CodeConflict {
				t.Errorf("%v, %s: %v", topic, what, err)
			}
		}
		m := chathub.Message{Topic: topic, Owner: "ben", Key: "k", Sum: 1, Body: []byte("one")}
		first := n.publish(m)
		for range most + 1 {
			n.sayAs("ben", topic, "later")
		}
		if r := n.publish(m); !r.Duplicate || r.Seq != first.Seq {
			t.Errorf("%v, repeated on its node: %+v, want %d", topic, r, first.Seq)
		}
		another := m
		another.Sum, another.Body = 2, []byte("two")
		conflicts("another message on the node of the first", n, another)

		r := other.publish(another)
		if p := other.read(topic, chathub.Range{After: r.Seq - 1, Limit: 1}); len(p.Messages) != 1 || string(p.Messages[0].Body) != "two" {
			t.Errorf("%v, another message on another node: the ack is for %d, where there is %v", topic, r.Seq, p.Messages)
		}
		if again := other.publish(another); !again.Duplicate || again.Seq != r.Seq {
			t.Errorf("%v, repeated: %+v, want %d", topic, again, r.Seq)
		}

		erased := chathub.Message{Topic: topic, Owner: "ben", Key: "e", Sum: 3, Body: []byte("erased")}
		e := n.publish(erased)
		n.publish(chathub.Message{Topic: topic, Owner: "ben", Name: "m/1", Tied: e.Seq, Erase: true})
		for _, n := range []*node{n, other, open()} {
			if r := n.publish(erased); !r.Duplicate || r.Seq != e.Seq {
				t.Errorf("%v, an erased message comes back at %d", topic, r.Seq)
			}
		}
	}
}
