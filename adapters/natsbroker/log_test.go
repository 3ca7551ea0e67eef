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

// said is a message of a log.
type said struct {
	seq   uint64
	size  int
	owner string
}

// split returns the messages of a log that are there, and the newest position
// of those that are not. Each owner has a bound of its own in an inbox; full is
// the newest of the oldest messages of those who have reached it.
func split(log []said, topic chathub.Topic, most int) (kept []said, dropped, full uint64) {
	held := make(map[string]int)
	for _, m := range slices.Backward(log) {
		share := m.owner
		if topic.User == "" {
			share = ""
		}
		switch held[share]++; {
		case held[share] > most:
			dropped = max(dropped, m.seq)
			continue
		case held[share] == most:
			full = max(full, m.seq)
		}
		kept = append(kept, m)
	}
	slices.Reverse(kept)
	return kept, dropped, full
}

// pageOf returns the messages of a log that a page must have.
func pageOf(kept []said, r chathub.Range) (want []uint64, more bool) {
	size := 0
	for _, m := range slices.Backward(kept) {
		if m.seq <= r.After || r.Before > 0 && m.seq >= r.Before {
			continue
		}
		if size += m.size; more || len(want) == r.Limit || r.MaxBytes > 0 && size > r.MaxBytes {
			more = true
			break
		}
		want = append(want, m.seq)
	}
	slices.Reverse(want)
	return want, more
}

func testRead(t *testing.T, subscribed bool, cache int) {
	const most = 400
	n := attach(t, openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage(), natsbroker.MaxMessages(most), natsbroker.CacheBytes(cache)))
	random := rand.New(rand.NewPCG(1, 2)) // the same numbers in each run
	topics := []chathub.Topic{room("busy"), room("steady"), room("early"), room("late"), inbox("rare"), inbox("many"), inbox("large")}
	logs := make([][]said, len(topics))
	for i := range 4000 {
		if i == 100 && subscribed {
			for _, topic := range topics {
				n.subscribe(topic)
			}
		}
		at, size, owner := 0, random.IntN(30), random.IntN(3)
		switch r := random.IntN(100); {
		case r < 15:
			at = 1
		case r < 50 && i < 300:
			at = 2
		case r < 50 && i > 3500:
			at = 3
		case r < 50:
			at = 5
			owner = owner * random.IntN(2) // uneven
		case r == 60:
			at = 4
		case r < 70:
			at, size = 6, random.IntN(5000)
		}
		body := string(make([]byte, size))
		r := n.sayAs(numbered(owner), topics[at], body)
		logs[at] = append(logs[at], said{r.Seq, size, numbered(owner)})
	}
	for at, topic := range topics {
		log := logs[at]
		head := log[len(log)-1].seq
		if subscribed {
			n.until(topic, head)
		}
		kept, dropped, full := split(log, topic, most)
		for range 60 {
			r := chathub.Range{Limit: random.IntN(1+random.IntN(2*most)) + 1}
			if random.IntN(2) == 0 {
				r.After = random.Uint64N(4100)
			}
			if random.IntN(2) == 0 {
				r.Before = random.Uint64N(4100)
			}
			if random.IntN(2) == 0 {
				r.MaxBytes = random.IntN(1+random.IntN(20_000)) + 1
			}
			switch random.IntN(4) {
			case 0:
				r.After = kept[len(kept)-1-random.IntN(min(len(kept), 30))].seq
				r.Before = head + 1
			case 1:
				r.After = kept[random.IntN(len(kept))].seq
			}
			want, more := pageOf(kept, r)
			p := n.read(topic, r)
			var got []uint64
			for _, m := range p.Messages {
				got = append(got, m.Seq)
			}
			if !slices.Equal(got, want) || p.More != more {
				t.Fatalf("%v %+v: got %d messages %v, more %v; want %d %v, more %v", topic, r, len(got), got, p.More, len(want), want, more)
			}
			if p.Head.Seq != head || p.Trimmed < dropped && r.After < dropped {
				t.Fatalf("%v %+v: head %d, trimmed %d; want %d, %d", topic, r, p.Head.Seq, p.Trimmed, head, dropped)
			}
			if p.Trimmed > r.After && p.Trimmed >= max(full, kept[0].seq) && !p.More {
				t.Fatalf("%v %+v: trimmed %d, but nothing after %d", topic, r, p.Trimmed, dropped)
			}
		}
	}
}

// TestReadSize checks that little more is fetched than a page may have, however
// long the log is and however the sizes of its messages differ.
func TestReadSize(t *testing.T) {
	const bound = 100_000
	b := openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage())
	n, reader := attach(t, b), attach(t, b)
	for _, c := range []struct {
		name string
		size func(i int) int
	}{
		{"medium", func(int) int { return 10_000 }},
		{"large", func(int) int { return 60_000 }},
		{"small, then large", func(i int) int { return 100 + i/400*60_000 }},
		{"large, then small", func(i int) int { return 60_000 - i/100*14_900 }},
	} {
		for _, topic := range []chathub.Topic{room(c.name), inbox(c.name)} {
			var log []said
			for i := range 500 {
				size := c.size(i)
				log = append(log, said{n.sayAs(numbered(i%3), topic, string(make([]byte, size))).Seq, size, ""})
				n.say(room("other"), "")
			}
			for _, r := range []chathub.Range{
				{Limit: 200},
				{After: log[0].seq, Limit: 200},
				{After: log[250].seq, Limit: 200},
				{After: log[450].seq, Limit: 1000},
				{After: log[490].seq, Before: log[499].seq + 1, Limit: 200},
				{Before: log[250].seq, Limit: 200},
				{After: log[100].seq, Before: log[450].seq, Limit: 200},
			} {
				r.MaxBytes = bound
				before := natsbroker.Received(reader.BrokerSession)
				p := reader.read(topic, r)
				got := natsbroker.Received(reader.BrokerSession) - before
				if want, more := pageOf(log, r); len(p.Messages) != len(want) || p.More != more {
					t.Errorf("%v %+v: %d messages, more %v; want %d, %v", topic, r, len(p.Messages), p.More, len(want), more)
				}
				if got > 16*bound {
					t.Errorf("%v %+v: %d bytes were received, for %d", topic, r, got, bound)
				}
				t.Logf("%v %+v: %d bytes were received", topic, r, got)
			}
		}
	}
	topic := room("lobby")
	n.say(topic, "small")
	n.say(topic, string(make([]byte, bound+1)))
	if p := reader.read(topic, chathub.Range{Limit: 10, MaxBytes: bound}); len(p.Messages) != 0 || !p.More {
		t.Errorf("the newest message does not fit, but there are %d, more %v", len(p.Messages), p.More)
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
