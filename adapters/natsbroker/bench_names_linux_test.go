package natsbroker_test

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/chathub-go/chathub"
)

// BenchmarkPublishNamed stores named messages, one at a time, each with the
// expected predecessor: of a name of its own (untied), or of one that is tied
// to a message, whose older text is erased.
func BenchmarkPublishNamed(b *testing.B) {
	for _, c := range rigs {
		for _, tied := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/tied=%v", c.name, tied), func(b *testing.B) {
				r := c.make(b)
				n := attach(b, r.broker)
				topic := room("lobby")
				m := chathub.Message{Topic: topic, Name: "m/1", Owner: "ben", Body: benchBody}
				if tied {
					m.Tied, m.EraseReplaced = n.sayAs("ben", topic, "text").Seq, true
				}
				expect := uint64(0)
				m.Expect = &expect
				r.measure(b, b.N, func() {
					for range b.N {
						m.Key = rand.Text()
						expect = n.publish(m).Seq
					}
				})
			})
		}
	}
}

// BenchmarkReadNamed reads the names of a page of 50 messages, of a room that
// has 1,000 messages with a name each.
func BenchmarkReadNamed(b *testing.B) {
	const messages, page = 1000, 50
	for _, c := range rigs {
		for _, subscribed := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/subscribed=%v", c.name, subscribed), func(b *testing.B) {
				r := c.make(b)
				n := attach(b, r.broker)
				topic := room("lobby")
				if subscribed {
					n.subscribe(topic)
				}
				seqs := make([]uint64, messages)
				for i := range seqs {
					seqs[i] = n.sayAs("ben", topic, string(benchBody)).Seq
				}
				parallel(messages, func(i int) {
					m := chathub.Message{Topic: topic, Name: "m/" + numbered(int(seqs[i])), Tied: seqs[i], Owner: "ben", Body: benchBody}
					if _, err := n.Publish(b.Context(), m); err != nil {
						b.Error(err)
					}
				})
				r.measure(b, b.N, func() {
					for i := range b.N {
						q := chathub.NameQuery{Topic: topic, Kind: "m", From: seqs[i%(messages-page)], To: seqs[i%(messages-page)+page-1]}
						found, err := n.ReadNamed(b.Context(), []chathub.NameQuery{q})
						if err != nil || len(found[0]) != page {
							b.Fatal(len(found[0]), err)
						}
					}
				})
			})
		}
	}
}

// BenchmarkSurvey asks for 500 rooms with 100 messages each: where nothing is
// unread, where 5 messages are in every tenth, and where all are in each.
func BenchmarkSurvey(b *testing.B) {
	const rooms, messages = 500, 100
	for _, c := range rigs {
		if c.name == "embedded-SyncAlways" {
			continue // nothing is stored
		}
		for _, subscribed := range []bool{false, true} {
			var queries [3][]chathub.SurveyQuery
			prepare := func(b *testing.B) (rig, *node) {
				r := c.make(b)
				n := attach(b, r.broker)
				heads := make([]uint64, rooms)
				fives := make([]uint64, rooms)
				starts := make([]uint64, rooms)
				for i := range rooms {
					if subscribed {
						n.subscribe(room(numbered(i)))
					}
				}
				for k := range messages {
					parallel(rooms, func(i int) {
						m := chathub.Message{Topic: room(numbered(i)), Owner: numbered(k % 5), Body: benchBody}
						receipt, err := n.Publish(b.Context(), m)
						if err != nil {
							b.Error(err)
						}
						switch k {
						case 0:
							starts[i] = receipt.Seq - 1
						case messages - 6:
							fives[i] = receipt.Seq
						}
						heads[i] = receipt.Seq
					})
				}
				queries = [3][]chathub.SurveyQuery{}
				for i := range rooms {
					q := chathub.SurveyQuery{Topic: room(numbered(i)), Reader: "ana", Most: 100, Last: true}
					for which, after := range []uint64{heads[i], fives[i], starts[i]} {
						if q.After = after; which == 1 && i%10 != 0 {
							q.After = heads[i]
						}
						queries[which] = append(queries[which], q)
					}
				}
				return r, n
			}
			for which, name := range []string{"none", "some", "all"} {
				b.Run(fmt.Sprintf("%s/subscribed=%v/unread=%s", c.name, subscribed, name), func(b *testing.B) {
					r, n := prepare(b)
					r.measure(b, b.N, func() {
						for range b.N {
							if _, err := n.Survey(b.Context(), queries[which]); err != nil {
								b.Fatal(err)
							}
						}
					})
				})
			}
		}
	}
}
