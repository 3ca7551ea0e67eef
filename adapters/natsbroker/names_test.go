package natsbroker_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// pair is a topic on a broker and on the one that it is compared with. Each
// message has a position in both.
type pair struct {
	t           *testing.T
	topic       chathub.Topic
	node, model *node
	subscribed  bool
	here, there []uint64 // positions on the node and in the model, ascending
	messages    []chathub.Message
}

// toModel returns the position in the model of one on the node.
func (p *pair) toModel(seq uint64) uint64 {
	i, found := slices.BinarySearch(p.here, seq)
	if !found {
		p.t.Fatalf("there is no position %d", seq)
	}
	return p.there[i]
}

func (p *pair) publish(m chathub.Message, at func(int) uint64) {
	p.t.Helper()
	code := func(err error) string {
		var e *chathub.Error
		if errors.As(err, &e) {
			return string(e.Code)
		}
		return fmt.Sprint(err)
	}
	m.Topic = p.topic
	other := m
	if m.Tied != 0 {
		other.Tied = p.toModel(m.Tied)
	}
	if m.Expect != nil && *m.Expect != 0 {
		seq := p.toModel(*m.Expect)
		other.Expect = &seq
	}
	got, err := p.node.Publish(p.t.Context(), m)
	want, wantErr := p.model.Publish(p.t.Context(), other)
	if code(err) != code(wantErr) || got.Duplicate != want.Duplicate {
		p.t.Fatalf("Publish(%+v): %+v, %v; want %+v, %v", m, got, err, want, wantErr)
	}
	if err != nil {
		return
	}
	if got.Duplicate {
		if p.toModel(got.Seq) != want.Seq {
			p.t.Fatalf("Publish(%+v) again: %+v, want %+v", m, got, want)
		}
		return
	}
	m.Seq = got.Seq
	p.here, p.there, p.messages = append(p.here, got.Seq), append(p.there, want.Seq), append(p.messages, m)
}

// same fails if two lists of messages differ.
func (p *pair) same(what string, got, want []chathub.Message) {
	p.t.Helper()
	text := func(m chathub.Message, seq, tied uint64) string {
		return fmt.Sprintf("%d %q %q tied %d remove %v: %q", seq, m.Key, m.Name, tied, m.Remove, m.Body)
	}
	var a, b []string
	for _, m := range got {
		tied := m.Tied
		if tied != 0 {
			tied = p.toModel(tied)
		}
		a = append(a, text(m, p.toModel(m.Seq), tied))
	}
	for _, m := range want {
		b = append(b, text(m, m.Seq, m.Tied))
	}
	if !slices.Equal(a, b) {
		p.t.Fatalf("%v, %s:\n%s\nwant:\n%s", p.topic, what, strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

// TestNamesLikeMemory compares what a broker does with named messages with what
// the one in memory does.
func TestNamesLikeMemory(t *testing.T) {
	for _, mode := range inboxModes {
		for _, subscribed := range []bool{false, true} {
			for _, topic := range []chathub.Topic{room("lobby"), inbox("ana")} {
				t.Run(fmt.Sprintf("%s, subscribed %v, %v", mode.name, subscribed, topic), func(t *testing.T) {
					b := openEmbedded(t, t.TempDir(), append(mode.options, natsbroker.MemoryStorage())...)
					p := &pair{t: t, topic: topic, node: attach(t, b), model: attach(t, &chathub.MemoryBroker{}), subscribed: subscribed}
					hearing := attach(t, b)
					hearing.subscribe(topic)
					if subscribed {
						p.node.subscribe(topic)
					}
					testNames(p)
					last := p.here[len(p.here)-1]
					got := hearing.until(topic, last)
					var seqs []uint64
					for _, m := range got {
						seqs = append(seqs, m.Seq)
					}
					if !slices.Equal(seqs, p.here) {
						t.Errorf("delivered %v, want %v", seqs, p.here)
					}
				})
			}
		}
	}
}

func testNames(p *pair) {
	random := rand.New(rand.NewPCG(3, 4))
	owners := []string{"", "ana", "ben", "日本 &=%+"}
	newest := map[string]uint64{}
	var ordinary []uint64
	var removed [6]int
	for i := range 400 {
		m := chathub.Message{Key: fmt.Sprint(i), Sum: uint64(i + 1), Owner: owners[random.IntN(len(owners))], Body: fmt.Appendf(nil, "body %d", i)}
		switch what := random.IntN(10); {
		case what < 4 || len(ordinary) < 3:
			m.Notice = random.IntN(4) == 0
		case what < 7:
			k := random.IntN(6)
			m.Name = fmt.Sprintf("state/%d ü%d", k, removed[k])
			m.Remove = random.IntN(4) == 0
		default:
			m.Tied = ordinary[len(ordinary)-1-random.IntN(min(8, len(ordinary)))]
			m.Name = fmt.Sprintf("m/%d", m.Tied)
			m.Erase = random.IntN(3) == 0
		}
		if m.Name != "" && random.IntN(2) == 0 {
			expect := newest[m.Name]
			if random.IntN(5) == 0 {
				expect = p.here[random.IntN(len(p.here))]
			}
			m.Expect = &expect
		}
		before := len(p.here)
		p.publish(m, nil)
		if len(p.here) > before {
			seq := p.here[before]
			switch {
			case m.Name == "":
				ordinary = append(ordinary, seq)
			case m.Remove:
				// A broker may keep a removal when the name comes back, or not.
				k := int(m.Name[len("state/")] - '0')
				removed[k]++
			default:
				newest[m.Name] = seq
			}
		}
		if random.IntN(5) == 0 { // the answer was lost, perhaps
			p.publish(m, nil)
		}
		if i%20 == 19 {
			p.compare(random)
		}
	}
}

// compare compares what is read.
func (p *pair) compare(random *rand.Rand) {
	p.t.Helper()
	if p.subscribed {
		p.node.until(p.topic, p.here[len(p.here)-1])
	}
	{
		at := func() uint64 { return p.here[random.IntN(len(p.here))] }
		for range 20 {
			r := chathub.Range{Limit: 1 + random.IntN(40), Oldest: random.IntN(2) == 0, Ordinary: random.IntN(2) == 0}
			other := r
			if random.IntN(2) == 0 {
				r.After = at()
				other.After = p.toModel(r.After)
			}
			if random.IntN(2) == 0 {
				r.Before = at()
				other.Before = p.toModel(r.Before)
			}
			if random.IntN(3) == 0 {
				r.MaxBytes = 1 + random.IntN(100)
				other.MaxBytes = r.MaxBytes
			}
			got, want := p.node.read(p.topic, r), p.model.read(p.topic, other)
			p.same(fmt.Sprintf("Read(%+v)", r), got.Messages, want.Messages)
			if got.More != want.More || p.toModel(got.Head.Seq) != want.Head.Seq || got.Trimmed > r.After && r.After > 0 {
				p.t.Fatalf("Read(%+v): more %v, trimmed %d, head %d; want %+v", r, got.More, got.Trimmed, got.Head.Seq, want)
			}
		}
		queries := []chathub.NameQuery{
			{Topic: p.topic, Kind: "m"}, {Topic: p.topic, Kind: "state"}, {Topic: p.topic, Kind: "none"},
			{Topic: p.topic, Names: []string{"state/0 ü0", "state/1 ü1", "state/2 ü0", "state/2 ü1", "state/none", "bad", "state/1 ü1"}},
			{Topic: room("empty"), Names: []string{"a/b"}}, {Topic: room("empty"), Kind: "a"}, {},
			{Topic: p.topic, Kind: "m", From: at(), To: at()},
		}
		others := slices.Clone(queries)
		others[7].From, others[7].To = p.toModel(queries[7].From), p.toModel(queries[7].To)
		got, err := p.node.ReadNamed(p.t.Context(), queries)
		want, wantErr := p.model.ReadNamed(p.t.Context(), others)
		if err != nil || wantErr != nil {
			p.t.Fatal(err, wantErr)
		}
		for i := range queries {
			p.same(fmt.Sprintf("ReadNamed(%+v)", queries[i]), got[i], want[i])
		}
		var surveys, otherSurveys []chathub.SurveyQuery
		for range 10 {
			q := chathub.SurveyQuery{Topic: p.topic, Reader: "ana", Most: random.IntN(30), Last: random.IntN(2) == 0}
			if random.IntN(3) == 0 {
				q.From = "ben"
			}
			other := q
			if random.IntN(2) == 0 {
				q.After = at()
				other.After = p.toModel(q.After)
			}
			surveys, otherSurveys = append(surveys, q), append(otherSurveys, other)
		}
		stand, err := p.node.Survey(p.t.Context(), surveys)
		wantStand, wantErr := p.model.Survey(p.t.Context(), otherSurveys)
		if err != nil || wantErr != nil {
			p.t.Fatal(err, wantErr)
		}
		for i := range surveys {
			g, w := stand[i], wantStand[i]
			if g.Unread != w.Unread || p.toModel(g.Head.Seq) != w.Head.Seq || string(g.Last.Body) != string(w.Last.Body) {
				p.t.Fatalf("Survey(%+v): %+v, want %+v", surveys[i], g, w)
			}
		}
	}
}

// containsText reports which files of a directory contain a text.
func filesWith(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(text)) {
			found = append(found, path)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestErase checks that an erased text is in no file, and that no node has it,
// as soon as the erasure is acked. The text has been edited before.
func TestErase(t *testing.T) {
	const first, edited = "the-first-secret-text", "the-edited-secret-text"
	for _, topic := range []chathub.Topic{room("lobby"), inbox("ana")} {
		for _, blocks := range []int{0, 3} { // how much was stored in between
			dir := t.TempDir()
			b := openEmbedded(t, dir)
			n, other := attach(t, b), attach(t, b)
			other.subscribe(topic)
			said := n.sayAs("ben", topic, first)
			fill := func() {
				for range blocks * 40 {
					n.sayAs("carol", room("other"), strings.Repeat("x", 200_000))
				}
			}
			fill()
			name := "m/" + numbered(int(said.Seq))
			edit := n.publish(chathub.Message{Topic: topic, Name: name, Tied: said.Seq, Owner: "ben", Body: []byte(edited), Expect: new(uint64)})
			fill()
			for _, text := range []string{first, edited} {
				if len(filesWith(t, dir, text)) == 0 && blocks > 0 {
					t.Errorf("%q is in no file before it is erased, so this test says nothing", text)
				}
			}
			erase := n.publish(chathub.Message{Topic: topic, Name: name, Tied: said.Seq, Erase: true, EraseReplaced: true, Owner: "ben", Expect: &edit.Seq})
			for _, text := range []string{first, edited} {
				if files := filesWith(t, dir, text); len(files) > 0 {
					t.Errorf("%v: %q is still in %v", topic, text, files)
				}
			}
			other.until(topic, erase.Seq)
			for _, reader := range []*node{n, other} {
				for _, m := range reader.read(topic, chathub.Range{Limit: 10}).Messages {
					if strings.Contains(string(m.Body), "secret") {
						t.Errorf("%v: Read returns %q", topic, m.Body)
					}
				}
			}
			if p := n.read(topic, chathub.Range{After: said.Seq, Limit: 10}); p.Trimmed > said.Seq {
				t.Errorf("%v: trimmed %d after %d was erased", topic, p.Trimmed, said.Seq)
			}
		}
	}
}

// TestNamesGap checks that named messages that were not republished are
// delivered before the next one that is, or late if that is an ordinary one.
func TestNamesGap(t *testing.T) {
	for _, topic := range []chathub.Topic{room("lobby"), inbox("ana")} {
		s := serve(t)
		n := attach(t, connect(t, s.ClientURL(), natsbroker.Indirect()))
		n.subscribe(topic)
		js := jetStream(t, s.ClientURL())
		stream, err := js.Stream(t.Context(), "chathub")
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		republish := cfg.RePublish
		say := func(heard bool, name string) uint64 {
			cfg.RePublish = nil
			if heard {
				cfg.RePublish = republish
			}
			if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			return n.publish(chathub.Message{Topic: topic, Owner: "ben", Name: name, Body: []byte(name)}).Seq
		}
		var want []uint64
		for _, c := range []struct {
			lost, heard string
		}{{"", "a/1"}, {"a/2", "a/3"}, {"a/2", "b/2"}, {"", ""}, {"", "a/1"}} {
			if c.lost != "" {
				want = append(want, say(false, c.lost))
			}
			want = append(want, say(true, c.heard))
		}
		if got := positions(n.until(topic, want[len(want)-1])); !slices.Equal(got, want) {
			t.Errorf("%v: delivered %v, want %v", topic, got, want)
		}
		// An ordinary message of a room does not show that a named one is
		// missing.
		lost := say(false, "state/lost")
		last := say(true, "")
		n.until(topic, last)
		if err := natsbroker.Check(t.Context(), n.BrokerSession, topic); err != nil {
			t.Fatal(err)
		}
		got := positions(n.await(topic, func(got []chathub.Message) bool { return slices.Contains(positions(got), lost) }))
		if want := append(want, lost, last); len(got) != len(want) {
			t.Errorf("%v: delivered %v, want %v", topic, got, want)
		}
		if found := positions(n.read(topic, chathub.Range{After: last - 2, Before: last + 1, Limit: 9}).Messages); !slices.Equal(found, []uint64{lost, last}) {
			t.Errorf("%v: Read returns %v, want %d and %d", topic, found, lost, last)
		}
	}
}

// TestNamesOnce checks that no named message is delivered twice after a
// reconnect, when the session does not know yet whether it is connected to the
// stream's only server.
func TestNamesOnce(t *testing.T) {
	s := serve(t)
	link := newLink(t, s.Addr().String())
	n, other := attach(t, connect(t, link.url())), attach(t, connect(t, s.ClientURL()))
	topic := room("lobby")
	n.subscribe(topic)
	var want []uint64
	for i := range 100 {
		want = append(want, other.publish(chathub.Message{Topic: topic, Name: "state/" + numbered(i)}).Seq)
	}
	n.until(topic, want[99])
	for range 3 {
		link.cut()
		link.heal()
		eventually(t, "the topic is compared", func() bool { return natsbroker.Check(t.Context(), n.BrokerSession, topic) == nil })
		want = append(want, other.publish(chathub.Message{Topic: topic, Name: "state/again"}).Seq)
		if got := positions(n.until(topic, want[len(want)-1])); !slices.Equal(got, want) {
			t.Fatalf("delivered %v, want %v", got, want)
		}
	}
}

func positions(messages []chathub.Message) (all []uint64) {
	for _, m := range messages {
		all = append(all, m.Seq)
	}
	return all
}

// TestMaxNames checks that the names of a topic are bounded, those of one owner
// by half of that, and that existing names can still be changed and removed.
func TestMaxNames(t *testing.T) {
	const most = 20
	topic := room("lobby")
	b := openEmbedded(t, t.TempDir(), natsbroker.MaxNames(most))
	n := attach(t, b)
	publish := func(n *node, m chathub.Message) error {
		m.Topic, m.Body = topic, []byte("x")
		_, err := n.Publish(t.Context(), m)
		return err
	}
	refused := func(err error) bool {
		var e *chathub.Error
		return errors.As(err, &e) && e.Code == chathub.CodeLimitExceeded
	}
	for i := range most / 2 {
		if err := publish(n, chathub.Message{Owner: "ben", Name: "a/" + numbered(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []*node{n, attach(t, b)} { // one has stored them, the other has not
		if err := publish(n, chathub.Message{Owner: "ben", Name: "a/more"}); !refused(err) {
			t.Errorf("ben has more than half: %v", err)
		}
		if err := publish(n, chathub.Message{Owner: "ben", Name: "a/1"}); err != nil {
			t.Errorf("a name of ben's: %v", err)
		}
	}
	for i := range most / 2 {
		if err := publish(n, chathub.Message{Name: "b/" + numbered(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []*node{n, attach(t, b)} {
		zero := uint64(0)
		if err := publish(n, chathub.Message{Owner: "carol", Name: "c/1", Expect: &zero}); !refused(err) {
			t.Errorf("there are too many names: %v", err)
		}
		if err := publish(n, chathub.Message{Owner: "carol", Name: "a/1"}); err != nil {
			t.Errorf("a name that there is: %v", err)
		}
		if err := publish(n, chathub.Message{Owner: "carol", Name: "c/1", Remove: true}); err != nil {
			t.Errorf("a removal: %v", err)
		}
	}
}

// TestRemove checks that a name can come back after its removal, whose position
// nobody may expect.
func TestRemove(t *testing.T) {
	for _, subscribed := range []bool{false, true} {
		b := openEmbedded(t, t.TempDir())
		n, other := attach(t, b), attach(t, b)
		topic := room("lobby")
		if subscribed {
			n.subscribe(topic)
		}
		zero := uint64(0)
		first := n.publish(chathub.Message{Topic: topic, Name: "a/b", Body: []byte("first"), Expect: &zero})
		removal := n.publish(chathub.Message{Topic: topic, Name: "a/b", Remove: true, Expect: &first.Seq})
		for _, n := range []*node{n, other} {
			for _, seq := range []uint64{removal.Seq, first.Seq, 99} {
				var e *chathub.Error
				if _, err := n.Publish(t.Context(), chathub.Message{Topic: topic, Name: "a/b", Expect: &seq}); !errors.As(err, &e) || e.Code != chathub.CodeConflict {
					t.Errorf("expects %d after the removal at %d: %v", seq, removal.Seq, err)
				}
			}
			if got, err := n.ReadNamed(t.Context(), []chathub.NameQuery{{Topic: topic, Kind: "a"}}); err != nil || len(got[0]) > 0 {
				t.Errorf("after the removal: %v, %v", got, err)
			}
		}
		m := chathub.Message{Topic: topic, Key: "k", Name: "a/b", Body: []byte("again"), Expect: &zero}
		again := other.publish(m)
		if r := other.publish(m); !r.Duplicate || r.Seq != again.Seq {
			t.Errorf("repeated: %+v, want %d", r, again.Seq)
		}
	}
}

// TestNamesAge checks that a name stays when ordinary messages have become too
// old, that those tied to them and removals do not, and that a reader is told
// that it has missed something.
func TestNamesAge(t *testing.T) {
	for _, topic := range []chathub.Topic{room("lobby"), inbox("ana")} {
		b := openEmbedded(t, t.TempDir(), natsbroker.MaxAge(time.Second))
		n, reader := attach(t, b), attach(t, b)
		n.subscribe(topic)
		state := n.publish(chathub.Message{Topic: topic, Name: "state/a", Body: []byte("stays")})
		lost := n.sayAs("ben", topic, "becomes too old")
		n.publish(chathub.Message{Topic: topic, Name: "m/1", Tied: lost.Seq, Body: []byte("tied")})
		n.publish(chathub.Message{Topic: topic, Name: "state/b", Body: []byte("removed")})
		gone := n.publish(chathub.Message{Topic: topic, Name: "state/b", Remove: true})
		for _, r := range []*node{n, reader} {
			if p := r.read(topic, chathub.Range{After: state.Seq, Limit: 10}); p.Trimmed > state.Seq {
				t.Errorf("%v: trimmed %d, but nothing was dropped", topic, p.Trimmed)
			}
		}
		for _, r := range []*node{reader, n} {
			eventually(t, "the ordinary messages are gone", func() bool {
				p := r.read(topic, chathub.Range{After: state.Seq, Limit: 10})
				if len(p.Messages) == 0 && p.Trimmed < gone.Seq {
					t.Fatalf("%v: trimmed %d after %d, but a message at %d was dropped; head %d", topic, p.Trimmed, state.Seq, lost.Seq, p.Head.Seq)
				}
				return len(p.Messages) == 0
			})
			if got := bodies(r.read(topic, chathub.Range{Limit: 10}).Messages); !slices.Equal(got, []string{"stays"}) {
				t.Errorf("%v: %q is left", topic, got)
			}
			found, err := r.ReadNamed(t.Context(), []chathub.NameQuery{{Topic: topic, Kind: "state"}, {Topic: topic, Kind: "m"}})
			if err != nil || !slices.Equal(bodies(found[0]), []string{"stays"}) || len(found[1]) > 0 {
				t.Errorf("%v: names %v, %v", topic, found, err)
			}
		}
	}
}
