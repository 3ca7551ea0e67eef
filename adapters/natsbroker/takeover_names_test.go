package natsbroker_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// lastVersion returns the stream of the version that had no named messages.
func lastVersion() jetstream.StreamConfig {
	cfg := oldStream
	cfg.Subjects = []string{"chathub.log.*.*.*.*"}
	cfg.RePublish = &jetstream.RePublish{Source: "chathub.log.*.*.*.*", Destination: "chathub.hear.{{wildcard(1)}}.{{wildcard(2)}}"}
	return cfg
}

// TestTakeoverNames checks that a stream that has no named messages yet, and
// whose messages have no owners, is used as it is by nodes of this version
// beside those of the earlier one.
func TestTakeoverNames(t *testing.T) {
	topics := []chathub.Topic{room("lobby"), inbox("ana")}
	fill := func(t *testing.T, url string) (js jetstream.JetStream, seqs map[chathub.Topic]uint64) {
		js = jetStream(t, url)
		if _, err := js.CreateStream(t.Context(), lastVersion()); err != nil {
			t.Fatal(err)
		}
		seqs = map[chathub.Topic]uint64{}
		for i := range 3 {
			for _, topic := range topics {
				seqs[topic] = sayBefore(t, js, topic, numbered(i))
			}
		}
		return js, seqs
	}
	check := func(t *testing.T, b *natsbroker.Broker, seqs map[chathub.Topic]uint64) {
		n := attach(t, b)
		for _, topic := range topics {
			n.subscribe(topic)
			p := n.read(topic, chathub.Range{Limit: 10})
			if got := bodies(p.Messages); !slices.Equal(got, []string{"0", "1", "2"}) || p.Head.Seq != seqs[topic] {
				t.Fatalf("%v: %q, head %d, want %d", topic, got, p.Head.Seq, seqs[topic])
			}
			// Messages of the earlier version have no owner, so they are
			// others'.
			s, err := n.Survey(t.Context(), []chathub.SurveyQuery{{Topic: topic, Reader: "ben", Most: 10, Last: true}})
			if err != nil || s[0].Unread != 3 || string(s[0].Last.Body) != "2" {
				t.Errorf("%v: Survey: %+v, %v", topic, s, err)
			}
			edit := n.publish(chathub.Message{Topic: topic, Name: "m/1", Tied: p.Messages[1].Seq, Body: []byte("edited")})
			erase := n.publish(chathub.Message{Topic: topic, Name: "m/2", Tied: p.Messages[2].Seq, Erase: true})
			n.until(topic, erase.Seq)
			if got := bodies(n.read(topic, chathub.Range{After: p.Messages[0].Seq, Limit: 10}).Messages); !slices.Equal(got, []string{"1", "edited", ""}) {
				t.Errorf("%v: after an edit and an erasure: %q", topic, got)
			}
			if edit.Seq <= seqs[topic] {
				t.Errorf("%v: position %d of the edit, the head was %d", topic, edit.Seq, seqs[topic])
			}
		}
	}
	t.Run("embedded", func(t *testing.T) {
		dir := t.TempDir()
		s := &natsServer{t: t, opts: server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true}}
		s.start()
		_, seqs := fill(t, s.ClientURL())
		s.stop()
		check(t, openEmbedded(t, dir), seqs)
	})
	t.Run("connect", func(t *testing.T) {
		s := serve(t)
		js, seqs := fill(t, s.ClientURL())
		_, err := connect(t, s.ClientURL(), natsbroker.ExistingStream()).Attach(t.Context(), func(chathub.Message) {})
		if err == nil || !strings.Contains(err.Error(), "allow_rollup_hdrs") || !strings.Contains(err.Error(), "allow_msg_ttl") {
			t.Errorf("the operator's stream: error %v does not say what to change", err)
		}
		b := connect(t, s.ClientURL())
		check(t, b, seqs)
		// A node of the earlier version goes on, and is heard.
		n := attach(t, b)
		n.subscribe(topics[0])
		seq := sayBefore(t, js, topics[0], "from a node of the earlier version")
		if got := bodies(n.until(topics[0], seq)); !slices.Equal(got, []string{"from a node of the earlier version"}) {
			t.Errorf("delivered %q", got)
		}
	})
}

// sayBefore stores an ordinary message as the version without names does.
func sayBefore(t *testing.T, js jetstream.JetStream, topic chathub.Topic, text string) uint64 {
	t.Helper()
	m := natsbroker.Raw(chathub.Message{Topic: topic, Key: text, Body: []byte(text)})
	m.Header = nats.Header{"Nats-Msg-Id": m.Header["Nats-Msg-Id"]}
	ack, err := js.PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}
