package natsbroker_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/nats.go/jetstream"
)

// killed is what is left in the stream of a node that was killed.
type killed struct {
	t      *testing.T
	js     jetstream.JetStream
	stream jetstream.Stream
}

func killedNode(t *testing.T, url string) *killed {
	t.Helper()
	js := jetStream(t, url)
	stream, err := js.Stream(t.Context(), "chathub")
	if err != nil {
		t.Fatal(err)
	}
	return &killed{t, js, stream}
}

// store stores a named message, and does nothing else of what belongs to it.
func (k *killed) store(m chathub.Message) uint64 {
	k.t.Helper()
	m.Time = time.Now().UnixMilli()
	ack, err := k.js.PublishMsg(k.t.Context(), natsbroker.Raw(m))
	if err != nil {
		k.t.Fatal(err)
	}
	return ack.Sequence
}

func (k *killed) has(seq uint64) bool {
	k.t.Helper()
	_, err := k.stream.GetMsg(k.t.Context(), seq)
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		k.t.Fatal(err)
	}
	return err == nil
}

// TestEraseInterrupted checks that an erasure is completed if its node was
// killed between the two steps: by a node that has the topic, by one that
// reads it, and by a repetition of the call.
func TestEraseInterrupted(t *testing.T) {
	for _, topic := range []chathub.Topic{room("lobby"), inbox("ana")} {
		for _, c := range []struct {
			name string
			see  func(t *testing.T, s *natsServer, hearing *node, m chathub.Message, seq uint64)
		}{
			{"by a node that has the topic", func(t *testing.T, _ *natsServer, hearing *node, m chathub.Message, seq uint64) {
				hearing.until(m.Topic, seq)
				for _, m := range hearing.read(m.Topic, chathub.Range{Limit: 10}).Messages {
					if strings.Contains(string(m.Body), "secret") {
						t.Errorf("Read returns %q", m.Body)
					}
				}
			}},
			{"by a reader", func(t *testing.T, s *natsServer, _ *node, m chathub.Message, _ uint64) {
				n := attach(t, connect(t, s.ClientURL()))
				for _, m := range n.read(m.Topic, chathub.Range{Limit: 10}).Messages {
					if strings.Contains(string(m.Body), "secret") {
						t.Errorf("Read returns %q", m.Body)
					}
				}
			}},
			{"by a reader of names", func(t *testing.T, s *natsServer, _ *node, m chathub.Message, _ uint64) {
				n := attach(t, connect(t, s.ClientURL()))
				if _, err := n.ReadNamed(t.Context(), []chathub.NameQuery{{Topic: m.Topic, Kind: "m"}}); err != nil {
					t.Fatal(err)
				}
			}},
			{"by a repetition", func(t *testing.T, s *natsServer, _ *node, m chathub.Message, seq uint64) {
				n := attach(t, connect(t, s.ClientURL()))
				if r := n.publish(m); !r.Duplicate || r.Seq != seq {
					t.Errorf("repeated: %+v, want the position %d", r, seq)
				}
				if killedNode(t, s.ClientURL()).has(m.Tied) {
					t.Error("the message is still there")
				}
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				s := serve(t)
				n := attach(t, connect(t, s.ClientURL()))
				k := killedNode(t, s.ClientURL())
				hearing := n
				if c.name == "by a node that has the topic" {
					hearing = attach(t, connect(t, s.ClientURL()))
					hearing.subscribe(topic)
				}
				said := n.sayAs("ben", topic, "secret")
				m := chathub.Message{Topic: topic, Key: "k", Sum: 7, Name: "m/1", Tied: said.Seq, Erase: true}
				seq := k.store(m)
				c.see(t, s, hearing, m, seq)
				eventually(t, "the message is erased", func() bool { return !k.has(said.Seq) })
			})
		}
	}
}

// TestEraseKeepsToTopic checks that a message of another topic, or a named one,
// cannot be erased.
func TestEraseKeepsToTopic(t *testing.T) {
	n := attach(t, openEmbedded(t, t.TempDir()))
	other := n.sayAs("ben", room("other"), "text")
	named := n.publish(chathub.Message{Topic: room("lobby"), Name: "state/a", Body: []byte("text")})
	for _, seq := range []uint64{other.Seq, named.Seq, 1, 99} {
		_, err := n.Publish(t.Context(), chathub.Message{Topic: room("lobby"), Name: "m/1", Tied: seq, Erase: true})
		var e *chathub.Error
		if !errors.As(err, &e) || e.Code != chathub.CodeConflict {
			t.Errorf("message %d was erased: %v", seq, err)
		}
	}
	if p := n.read(room("other"), chathub.Range{Limit: 10}); len(p.Messages) != 1 {
		t.Errorf("the other room has %d messages", len(p.Messages))
	}
}

// TestEraseRefused checks that an erasure with the key of another message
// erases nothing.
func TestEraseRefused(t *testing.T) {
	n := attach(t, openEmbedded(t, t.TempDir()))
	topic := room("lobby")
	said := n.sayAs("ben", topic, "text")
	edited := n.publish(chathub.Message{Topic: topic, Name: "m/1", Tied: said.Seq, Body: []byte("edited")})
	n.publish(chathub.Message{Topic: topic, Key: "k", Sum: 1, Body: []byte("the key is used")})
	for _, expect := range []*uint64{nil, &edited.Seq, new(uint64)} {
		_, err := n.Publish(t.Context(), chathub.Message{Topic: topic, Key: "k", Sum: 2, Name: "m/1", Tied: said.Seq, Erase: true, Expect: expect})
		var e *chathub.Error
		if !errors.As(err, &e) || e.Code != chathub.CodeConflict {
			t.Errorf("an erasure with a used key: %v", err)
		}
	}
	if got := bodies(n.read(topic, chathub.Range{Limit: 10}).Messages); !slices.Equal(got, []string{"text", "edited", "the key is used"}) {
		t.Errorf("the room has %q", got)
	}
}

// TestReplaceInterrupted checks that nobody sees an edited text that was left
// behind, and that it is removed.
func TestReplaceInterrupted(t *testing.T) {
	topic := room("lobby")
	for _, c := range []string{"ReadNamed", "ReadNamed, subscribed", "Publish", "Publish that expects the newest"} {
		t.Run(c, func(t *testing.T) {
			s := serve(t)
			n := attach(t, connect(t, s.ClientURL()))
			k := killedNode(t, s.ClientURL())
			if strings.Contains(c, "subscribed") {
				n.subscribe(topic)
			}
			said := n.sayAs("ben", topic, "first")
			m := chathub.Message{Topic: topic, Name: "m/1", Tied: said.Seq, EraseReplaced: true, Body: []byte("second")}
			left := n.publish(m).Seq
			m.Key, m.Body = "third", []byte("third")
			third := k.store(m)
			if got := bodies(n.read(topic, chathub.Range{Limit: 10}).Messages); !slices.Equal(got, []string{"first", "third"}) {
				t.Errorf("Read: %q", got)
			}
			if !k.has(left) {
				t.Fatal("nothing was left behind, so this test says nothing")
			}
			m.Key, m.Body = "fourth", []byte("fourth")
			switch c {
			case "Publish that expects the newest":
				m.Expect = &third
				fallthrough
			case "Publish":
				n.publish(m)
				if k.has(left) || k.has(third) {
					t.Error("Publish has left an older message")
				}
			default:
				got, err := n.ReadNamed(t.Context(), []chathub.NameQuery{{Topic: topic, Kind: "m"}, {Topic: topic, Names: []string{"m/1"}}})
				if err != nil || !slices.Equal(bodies(got[0]), []string{"third"}) || !slices.Equal(bodies(got[1]), []string{"third"}) {
					t.Errorf("ReadNamed: %v, %v", got, err)
				}
			}
			if c != "ReadNamed" { // a reader without the topic only asks for the newest
				eventually(t, "the older message is erased", func() bool { return !k.has(left) })
			}
		})
	}
}
