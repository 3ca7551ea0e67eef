package natsbroker_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestRead compares pages with those of a list. The topics of the stream are
// mixed unevenly, and some are full.
func TestRead(t *testing.T) {
	t.Run("by a node without the topics", func(t *testing.T) { testRead(t, false, 64<<20) })
	t.Run("by one that has them", func(t *testing.T) { testRead(t, true, 64<<20) })
	t.Run("by one that has them, and little memory", func(t *testing.T) { testRead(t, true, 40_000) })
}

func testRead(t *testing.T, subscribed bool, cache int) {
	const most = 600
	n := attach(t, openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage(), natsbroker.MaxMessages(most), natsbroker.CacheBytes(cache)))
	random := rand.New(rand.NewPCG(1, 2)) // the same numbers in each run
	topics := []chathub.Topic{room("busy"), room("steady"), room("early"), room("late"), {User: "rare"}}
	logs := make([][]uint64, len(topics))
	for i := range 3000 {
		if i == 100 && subscribed {
			for _, topic := range topics {
				n.subscribe(topic)
			}
		}
		at := 0
		switch r := random.IntN(100); {
		case r < 25:
			at = 1
		case r < 60 && i < 300:
			at = 2
		case r < 60 && i > 2500:
			at = 3
		case r == 60:
			at = 4
		}
		logs[at] = append(logs[at], n.say(topics[at], numbered(i)).Seq)
	}
	for at, topic := range topics {
		log := logs[at]
		if subscribed {
			n.until(topic, log[len(log)-1])
		}
		kept := log[max(0, len(log)-most):]
		dropped := uint64(0)
		if len(kept) < len(log) {
			dropped = log[len(log)-len(kept)-1]
		}
		for range 20 {
			r := chathub.Range{Limit: random.IntN(1+random.IntN(2*most)) + 1}
			if random.IntN(2) == 0 {
				r.After = random.Uint64N(3100)
			}
			if random.IntN(2) == 0 {
				r.Before = random.Uint64N(3100)
			}
			switch random.IntN(4) {
			case 0:
				r.After = kept[len(kept)-1-random.IntN(min(len(kept), 30))]
				r.Before = log[len(log)-1] + 1
			case 1:
				r.After = kept[random.IntN(len(kept))]
			}
			var want []uint64
			for _, seq := range kept {
				if r.After < seq && (r.Before == 0 || seq < r.Before) {
					want = append(want, seq)
				}
			}
			more := len(want) > r.Limit
			want = want[max(0, len(want)-r.Limit):]

			p := n.read(topic, r)
			var got []uint64
			for _, m := range p.Messages {
				got = append(got, m.Seq)
			}
			if !slices.Equal(got, want) || p.More != more {
				t.Fatalf("%v %+v: got %d messages %v, more %v; want %d %v, more %v", topic, r, len(got), got, p.More, len(want), want, more)
			}
			if p.Head.Seq != log[len(log)-1] || p.Trimmed < dropped && r.After < dropped || p.Trimmed > r.After && p.Trimmed >= kept[0] && !p.More {
				t.Fatalf("%v %+v: head %d, trimmed %d; want %d, %d", topic, r, p.Head.Seq, p.Trimmed, log[len(log)-1], dropped)
			}
		}
	}
}

// TestTrimmed checks that Read knows whether a log has lost messages.
func TestTrimmed(t *testing.T) {
	dir := t.TempDir()
	b := openEmbedded(t, dir, natsbroker.MaxMessages(3))
	n, reader := attach(t, b), attach(t, b) // reader has an empty cache
	topic, other := room("lobby"), room("other")
	n.say(other, "so that positions begin later")
	joined := n.subscribe(topic) // while the log is empty
	one := n.say(topic, "1")
	n.say(other, "in between")
	two := n.say(topic, "2")
	if p := reader.read(topic, chathub.Range{After: joined.Seq, Limit: 9}); p.Trimmed > joined.Seq || len(p.Messages) != 2 {
		t.Errorf("since joining an empty room: trimmed %d, %d messages; joined at %d", p.Trimmed, len(p.Messages), joined.Seq)
	}
	n.say(topic, "3")
	n.say(topic, "4")
	if p := reader.read(topic, chathub.Range{After: joined.Seq, Limit: 9}); p.Trimmed < one.Seq || len(p.Messages) != 3 {
		t.Errorf("a full log: trimmed %d, %d messages; seq %d is gone", p.Trimmed, len(p.Messages), one.Seq)
	}
	if p := reader.read(topic, chathub.Range{After: two.Seq, Limit: 9}); p.Trimmed > two.Seq || len(p.Messages) != 2 {
		t.Errorf("since the oldest: trimmed %d, %d messages; it has seq %d", p.Trimmed, len(p.Messages), two.Seq)
	}

	// If the bound is raised, the log does not look complete.
	_ = n.Close(t.Context())
	_ = reader.Close(t.Context())
	closeBroker(t, b)
	n = attach(t, openEmbedded(t, dir, natsbroker.MaxMessages(9)))
	if p := n.read(topic, chathub.Range{After: joined.Seq, Limit: 9}); p.Trimmed < one.Seq || len(p.Messages) != 3 {
		t.Errorf("after raising the bound: trimmed %d, %d messages; seq %d is gone", p.Trimmed, len(p.Messages), one.Seq)
	}
	for range 6 {
		n.say(topic, "more")
	}
	if p := n.read(topic, chathub.Range{Limit: 20}); len(p.Messages) != 9 {
		t.Errorf("%d messages, want 9", len(p.Messages))
	}
}

// TestMaxAge checks that Read knows when a log has lost all its messages.
func TestMaxAge(t *testing.T) {
	n := attach(t, openEmbedded(t, t.TempDir(), natsbroker.MaxAge(time.Second)))
	topic := room("lobby")
	first := n.subscribe(topic)
	gone := n.say(topic, "gone")
	timeout := time.After(patience)
	for {
		p := n.read(topic, chathub.Range{After: first.Seq, Limit: 9})
		if len(p.Messages) == 0 && p.Trimmed < gone.Seq {
			t.Fatalf("head %+v, trimmed %d; seq %d is gone", p.Head, p.Trimmed, gone.Seq)
		}
		if p.Head == (chathub.Position{}) {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-timeout:
			t.Fatal("the message does not go")
		}
	}
	if p := n.read(topic, chathub.Range{Before: gone.Seq + 1, Limit: 9}); len(p.Messages) != 0 {
		t.Errorf("%d messages are in memory still", len(p.Messages))
	}
	if p := n.subscribe(room("another")); p.Seq < gone.Seq {
		t.Errorf("a new topic begins at %d, before %d", p.Seq, gone.Seq)
	}
}

// TestMaxBytes checks that a full stream drops the oldest messages of all
// topics, and stores new ones.
func TestMaxBytes(t *testing.T) {
	n := attach(t, openEmbedded(t, t.TempDir(), natsbroker.MaxBytes(1<<20), natsbroker.MemoryStorage()))
	topic := room("lobby")
	first := n.subscribe(topic)
	body := string(make([]byte, 10_000))
	var last chathub.Receipt
	for range 200 {
		last = n.say(topic, body)
	}
	p := n.read(topic, chathub.Range{After: first.Seq, Limit: 500})
	if len(p.Messages) < 50 || len(p.Messages) > 105 || p.Head.Seq != last.Seq || p.Trimmed < p.Messages[0].Seq-1 {
		t.Errorf("%d messages, head %d of %d, trimmed %d", len(p.Messages), p.Head.Seq, last.Seq, p.Trimmed)
	}
}
