package natsbroker_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// oldStream is the stream of an earlier version.
var oldStream = jetstream.StreamConfig{
	Name: "chathub", Subjects: []string{"chathub.log.>"},
	RePublish:         &jetstream.RePublish{Source: "chathub.log.>", Destination: "chathub.hear.>"},
	MaxMsgsPerSubject: 1000, MaxAge: 30 * 24 * time.Hour, MaxBytes: 1 << 30, Duplicates: 5 * time.Minute, AllowDirect: true,
}

// backToOld is oldStream for an operator who goes back to it. JetStream does
// not allow to forbid messages with a time to live again.
func backToOld() jetstream.StreamConfig {
	cfg := oldStream
	cfg.AllowMsgTTL = true
	return cfg
}

// oldNode publishes as an earlier version did.
type oldNode struct {
	t  *testing.T
	js jetstream.JetStream
}

func oldNodeAt(t *testing.T, url string, cfg jetstream.StreamConfig) *oldNode {
	t.Helper()
	n := &oldNode{t, jetStream(t, url)}
	if _, err := n.js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *oldNode) publish(ctx context.Context, topic chathub.Topic, text string) (uint64, error) {
	subject := "chathub.log.u." + topic.User
	if topic.Room != "" {
		subject = "chathub.log.r." + topic.Room
	}
	data, id := natsbroker.Stored(chathub.Message{Topic: topic, Key: text, Body: []byte(text), Time: time.Now().UnixMilli()})
	ack, err := n.js.Publish(ctx, subject, data, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func (n *oldNode) say(topic chathub.Topic, text string) uint64 {
	n.t.Helper()
	seq, err := n.publish(n.t.Context(), topic, text)
	if err != nil {
		n.t.Fatal(err)
	}
	return seq
}

// TestTakeover checks that the stream of an earlier version is used as it is:
// its messages, positions, keys and bounds stay what they were.
func TestTakeover(t *testing.T) {
	topics := []chathub.Topic{room("lobby"), inbox("ana")}
	fill := func(n *oldNode) (positions [][]uint64) {
		for _, topic := range topics {
			var seqs []uint64
			for i := range 30 {
				n.say(room("other"), topic.Room+numbered(i))
				seqs = append(seqs, n.say(topic, numbered(i)))
			}
			positions = append(positions, seqs)
		}
		return positions
	}
	check := func(t *testing.T, b *natsbroker.Broker, epoch string, positions [][]uint64) {
		n := attach(t, b)
		for i, topic := range topics {
			seqs := positions[i]
			pos := n.subscribe(topic)
			if pos.Seq != seqs[29] || epoch != "" && pos.Epoch != epoch {
				t.Errorf("%v: position %+v, want %d", topic, pos, seqs[29])
			}
			if got := n.read(topic, chathub.Range{After: seqs[20], Limit: 100}); len(got.Messages) != 9 || got.Trimmed > seqs[20] || got.More {
				t.Errorf("%v: %d old messages, trimmed %d, more %v", topic, len(got.Messages), got.Trimmed, got.More)
			}
			again, err := n.Publish(t.Context(), chathub.Message{Topic: topic, Key: "7", Owner: "ben"})
			if err != nil || !again.Duplicate || again.Seq != seqs[7] {
				t.Errorf("%v: an old message repeated: %+v, %v; want seq %d", topic, again, err, seqs[7])
			}
			var want []string
			for k := range 30 {
				want = append(want, numbered(k))
			}
			var last chathub.Receipt
			for k := 30; k < 40; k++ {
				last = n.sayAs(numbered(k%3), topic, numbered(k))
				want = append(want, numbered(k))
			}
			if got := bodies(n.until(topic, last.Seq)); !slices.Equal(got, want[30:]) {
				t.Errorf("%v: delivered %v", topic, got)
			}
			reader := attach(t, b)
			for _, c := range []struct {
				r        chathub.Range
				from, to int
			}{
				{chathub.Range{Limit: 100}, 0, 40},
				{chathub.Range{Limit: 15}, 25, 40},
				{chathub.Range{Limit: 10}, 30, 40},
				{chathub.Range{Limit: 5}, 35, 40},
				{chathub.Range{After: seqs[9], Limit: 100}, 10, 40},
				{chathub.Range{After: seqs[29], Limit: 100}, 30, 40},
				{chathub.Range{Before: seqs[20], Limit: 100}, 0, 20},
				{chathub.Range{Before: seqs[20], Limit: 3}, 17, 20},
				{chathub.Range{Before: seqs[29] + 1, Limit: 3}, 27, 30},
				{chathub.Range{Limit: 100, MaxBytes: 26}, 27, 40},
			} {
				p := reader.read(topic, c.r)
				if got := bodies(p.Messages); !slices.Equal(got, want[c.from:c.to]) {
					t.Errorf("%v %+v: %v, want %v", topic, c.r, got, want[c.from:c.to])
				}
				oldest := uint64(0)
				if c.r.After > 0 {
					oldest = c.r.After
				}
				if more := c.from > 0 && oldest == 0; p.More != more || p.Trimmed > oldest || p.Head.Seq != last.Seq {
					t.Errorf("%v %+v: more %v, want %v; trimmed %d, head %d of %d", topic, c.r, p.More, more, p.Trimmed, p.Head.Seq, last.Seq)
				}
			}
		}
	}
	t.Run("embedded", func(t *testing.T) {
		dir := t.TempDir()
		s := &natsServer{t: t, opts: server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true}}
		s.start()
		positions := fill(oldNodeAt(t, s.ClientURL(), oldStream))
		s.stop()
		b := openEmbedded(t, dir)
		check(t, b, "", positions)
		n := attach(t, b)
		head := n.read(topics[0], chathub.Range{Limit: 1}).Head
		_ = n.Close(t.Context())
		closeBroker(t, b)
		n = attach(t, openEmbedded(t, dir))
		for _, topic := range topics {
			if p := n.read(topic, chathub.Range{Limit: 100}); len(p.Messages) != 40 || p.Head.Epoch != head.Epoch {
				t.Errorf("after another start: %v has %d messages, epoch %s, was %s", topic, len(p.Messages), p.Head.Epoch, head.Epoch)
			}
		}
	})
	t.Run("connect", func(t *testing.T) {
		s := serve(t)
		n := oldNodeAt(t, s.ClientURL(), oldStream)
		positions := fill(n)
		info, err := n.js.Stream(t.Context(), "chathub")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := connect(t, s.ClientURL(), natsbroker.ExistingStream()).Attach(t.Context(), func(chathub.Message) {}); err == nil ||
			!strings.Contains(err.Error(), "chathub.log.*.*.*.*") || !strings.Contains(err.Error(), "chathub.hear.{{wildcard(1)}}.{{wildcard(2)}}") {
			t.Errorf("the operator's stream: error %v does not say what to change", err)
		}
		var log logs
		b := connect(t, s.ClientURL(), natsbroker.Logger(slog.New(slog.NewTextHandler(&log, nil))))
		check(t, b, "", positions)
		if text := log.String(); !strings.Contains(text, "taking over") {
			t.Errorf("log: %s", text)
		}
		after, err := n.js.Stream(t.Context(), "chathub")
		if err != nil {
			t.Fatal(err)
		}
		if a, b := info.CachedInfo(), after.CachedInfo(); !a.Created.Equal(b.Created) || a.Config.MaxMsgsPerSubject != b.Config.MaxMsgsPerSubject {
			t.Errorf("the stream is another one: %+v, was %+v", b, a)
		}
	})
}

// TestTakeoverRefusesOldNodes checks that a process of an earlier version that
// still runs can store nothing, and that users on it miss nothing.
func TestTakeoverRefusesOldNodes(t *testing.T) {
	s := serve(t)
	old := oldNodeAt(t, s.ClientURL(), oldStream)
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var heard []*nats.Subscription // as an earlier version subscribes
	for _, subject := range []string{"chathub.hear.r.lobby", "chathub.hear.u.ana"} {
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, sub)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []chathub.Topic{room("lobby"), inbox("ana")} {
		before := old.say(topic, "before")
		n := attach(t, connect(t, s.ClientURL()))
		if _, err := old.publish(t.Context(), topic, "refused"); !errors.Is(err, jetstream.ErrNoStreamResponse) {
			t.Errorf("%v: an earlier version publishes: %v", topic, err)
		}
		n.subscribe(topic)
		n.until(topic, n.sayAs("ben", topic, "after").Seq)
		// A client whose position is from the old node gets everything.
		p := n.read(topic, chathub.Range{After: before, Limit: 10})
		if got := bodies(p.Messages); !slices.Equal(got, []string{"after"}) || p.Trimmed > before {
			t.Errorf("%v since the last message of the old node: %v, trimmed %d", topic, got, p.Trimmed)
		}
		if _, err := old.js.UpdateStream(t.Context(), backToOld()); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, sub := range heard {
		// An earlier version would take a later position for granted otherwise.
		if n, _, err := sub.Pending(); err != nil || n != 1 {
			t.Errorf("an old node heard %d messages on %s (%v), want that of its own version", n, sub.Subject, err)
		}
	}
}

// TestTakeoverTwice checks that nothing is missing if the operator goes back to
// the earlier version for a while.
func TestTakeoverTwice(t *testing.T) {
	s := serve(t)
	old := oldNodeAt(t, s.ClientURL(), oldStream)
	topics := []chathub.Topic{room("lobby"), inbox("ana")}
	texts := make([][]string, len(topics))
	positions := make([][]uint64, len(topics))
	var n *node
	for round := range 3 {
		if round > 0 {
			if _, err := old.js.UpdateStream(t.Context(), backToOld()); err != nil {
				t.Fatal(err)
			}
		}
		for i, topic := range topics {
			for k := range 10 {
				text := numbered(round) + " old " + numbered(k)
				texts[i] = append(texts[i], text)
				positions[i] = append(positions[i], old.say(topic, text))
			}
		}
		n = attach(t, connect(t, s.ClientURL()))
		for i, topic := range topics {
			if p := n.subscribe(topic); p.Seq != positions[i][len(positions[i])-1] {
				t.Errorf("%v: position %d, want %d", topic, p.Seq, positions[i])
			}
			for k := range 10 * (round % 2) { // none at last
				text := numbered(round) + " new " + numbered(k)
				texts[i] = append(texts[i], text)
				positions[i] = append(positions[i], n.sayAs(numbered(k%3), topic, text).Seq)
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i, topic := range topics {
		var log []said
		for k, seq := range positions[i] {
			log = append(log, said{seq: seq, size: len(texts[i][k])})
		}
		for range 100 {
			r := chathub.Range{Limit: 1 + random.IntN(2*len(log))}
			if random.IntN(2) == 0 {
				r.After = random.Uint64N(log[len(log)-1].seq)
			}
			if random.IntN(2) == 0 {
				r.Before = random.Uint64N(log[len(log)-1].seq)
			}
			if random.IntN(2) == 0 {
				r.MaxBytes = 1 + random.IntN(300)
			}
			want, more := pageOf(log, r)
			p := n.read(topic, r)
			var got []uint64
			for _, m := range p.Messages {
				got = append(got, m.Seq)
			}
			if !slices.Equal(got, want) || p.More != more || p.Head.Seq != log[len(log)-1].seq {
				t.Fatalf("%v %+v: %v, more %v, head %d; want %v, more %v", topic, r, got, p.More, p.Head.Seq, want, more)
			}
		}
	}
}

// TestTakeoverTrimmed checks that Read knows what a log has lost before and
// after its stream was taken over.
func TestTakeoverTrimmed(t *testing.T) {
	const most = 5
	for _, topic := range []chathub.Topic{room("lobby"), inbox("ana")} {
		for _, said := range []int{3, 8} {
			s := serve(t)
			cfg := oldStream
			cfg.MaxMsgsPerSubject = most
			old := oldNodeAt(t, s.ClientURL(), cfg)
			start := old.say(room("other"), "so that positions begin later")
			var seqs []uint64
			for i := range said {
				seqs = append(seqs, old.say(topic, numbered(i)))
			}
			n := attach(t, connect(t, s.ClientURL(), natsbroker.MaxMessages(most)))
			expect := func(what string, after uint64, messages int, trimmed bool) {
				t.Helper()
				p := n.read(topic, chathub.Range{After: after, Limit: 100})
				if len(p.Messages) != messages || p.Trimmed > after != trimmed {
					t.Errorf("%v, %d old messages, %s: %d messages since %d, trimmed %d; want %d, %v", topic, said, what, len(p.Messages), after, p.Trimmed, messages, trimmed)
				}
			}
			expect("from the start", start, min(said, most), said > most)
			expect("since the last", seqs[said-1], 0, false)
			for i := range 4 {
				n.sayAs("ben", topic, numbered(i))
			}
			expect("with new ones, from the start", start, min(said, most)+4, said > most)
			expect("with new ones, since the last old one", seqs[said-1], 4, false)
			for i := range 4 {
				n.sayAs("ben", topic, numbered(i))
			}
			expect("with too many new ones", seqs[said-1], most, true)
		}
	}
}

// TestTakeoverAge checks that an inbox works on after its old messages are
// gone.
func TestTakeoverAge(t *testing.T) {
	s := serve(t)
	cfg := oldStream
	cfg.MaxAge, cfg.Duplicates = time.Second, time.Second
	old := oldNodeAt(t, s.ClientURL(), cfg)
	topic := inbox("ana")
	last := old.say(topic, "old")
	n := attach(t, connect(t, s.ClientURL()))
	eventually(t, "the old message is gone", func() bool {
		p := n.read(topic, chathub.Range{After: last - 1, Limit: 10})
		return len(p.Messages) == 0 && p.Head == (chathub.Position{}) && p.Trimmed >= last
	})
	r := n.sayAs("ben", topic, "new")
	// The position after the last old message is that of storeFirst.
	if p := n.read(topic, chathub.Range{After: last + 1, Limit: 10}); !slices.Equal(bodies(p.Messages), []string{"new"}) || p.Trimmed > last+1 {
		t.Errorf("%+v after %d, seq %d", p, last, r.Seq)
	}
}
