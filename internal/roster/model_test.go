package roster_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/roster"
)

// TestNodesAgree: users with connections to several nodes come and go at
// random, nodes are killed and new ones begin, while what nodes tell each other
// gets lost, doubled and late. After each step all invariants hold. Once it has
// been quiet for a while, every roster says what is the case, and so does each
// client that was shown a list and told the changes since.
func TestNodesAgree(t *testing.T) {
	for _, tc := range []struct {
		name string
		weather
		grace time.Duration
		kills bool
	}{
		{name: "calm", grace: grace},
		{name: "no grace"},
		{name: "late", grace: grace, weather: weather{delay: 700 * time.Millisecond}},
		{name: "doubled", grace: grace, weather: weather{twice: 0.5, delay: 50 * time.Millisecond}},
		{name: "lost", grace: grace, weather: weather{lost: 0.3}},
		{name: "all of it", grace: grace, weather: weather{lost: 0.2, twice: 0.3, delay: 400 * time.Millisecond}},
		{name: "all of it, no grace", weather: weather{lost: 0.2, twice: 0.3, delay: 400 * time.Millisecond}},
		{name: "kills", grace: grace, kills: true},
		{name: "kills and all of it", grace: grace, kills: true, weather: weather{lost: 0.2, twice: 0.3, delay: 400 * time.Millisecond}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for seed := range uint64(4) {
				w := newWorld(t, seed, tc.grace)
				for range 4 {
					w.weather = tc.weather
					for range 100 {
						w.act(tc.kills)
						w.pass(time.Duration(w.rand.IntN(4)) * 30 * time.Millisecond)
					}
					w.weather = weather{}
					w.pass(12 * time.Second)
					w.expectTruth()
				}
				if t.Failed() {
					t.Fatalf("with seed %d", seed)
				}
			}
		})
	}
}

// weather is what happens to a message between two nodes.
type weather struct {
	lost, twice float64       // how likely
	delay       time.Duration // the longest
}

// world is some nodes, each with one roster, and the network between them.
type world struct {
	t       *testing.T
	rand    *rand.Rand
	now     time.Time
	grace   time.Duration
	weather weather
	nodes   []*member
	begun   int // nodes, over time
	mail    []mail
}

// member is a node, and a client of it.
type member struct {
	id      string
	node    roster.Node
	roster  roster.Roster
	conns   map[string]int       // connections of each user
	others  map[string]time.Time // when they were heard last
	settle  time.Time            // when it is due
	beat    time.Time
	list    map[string]bool // what the client makes of what it was told; nil: it has no list
	version uint64
	users   []note.User
}

// mail is a message on its way.
type mail struct {
	at       time.Time
	from, to string
	body     []byte
}

const (
	gatherTime = 100 * time.Millisecond
	beatTime   = time.Second
	lease      = 5 * time.Second
	tick       = 10 * time.Millisecond
)

func newWorld(t *testing.T, seed uint64, grace time.Duration) *world {
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 0)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), grace: grace}
	for range 3 {
		w.begin()
	}
	return w
}

func (w *world) begin() {
	w.begun++
	m := &member{id: fmt.Sprint("n", w.begun), conns: make(map[string]int), others: make(map[string]time.Time)}
	m.node.Grace = w.grace
	m.roster = roster.New(&m.node)
	w.nodes = append(w.nodes, m)
}

// act does one thing at random.
func (w *world) act(kills bool) {
	i := w.rand.IntN(len(w.nodes))
	m := w.nodes[i]
	user := note.User{ID: fmt.Sprint("user", w.rand.IntN(6)), Name: fmt.Sprint("Name ", w.rand.IntN(2))}
	switch n := w.rand.IntN(100); {
	case kills && n == 0:
		w.nodes = slices.Delete(w.nodes, i, i+1)
		w.begin()
	case n < 10:
		m.roster.Show()
		m.list = make(map[string]bool)
		for _, u := range m.roster.Users() {
			m.list[u.ID] = true
		}
	case n < 15:
		m.roster.Rename(user)
	case n < 50 && m.conns[user.ID] < 3:
		m.conns[user.ID]++
		m.roster.Arrive(user)
	case m.conns[user.ID] > 0:
		m.conns[user.ID]--
		since := w.now
		if n%2 == 0 {
			since = time.Time{}
		}
		m.roster.Depart(user.ID, since)
	}
	w.verify(m)
}

// verify checks the invariants of a node's roster.
func (w *world) verify(m *member) {
	if err := m.roster.Invariants(); err != nil {
		w.t.Errorf("%s: %v", m.id, err)
	}
	users := m.roster.Users()
	if v := m.roster.Version(); v != m.version {
		m.version, m.users = v, users
	} else if !slices.Equal(users, m.users) {
		w.t.Errorf("%s: at the same version, there are %v and then %v", m.id, m.users, users)
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(tick) {
		w.deliver()
		for _, m := range w.nodes {
			w.work(m)
		}
	}
}

// work does what a hub does for its roster when it is time.
func (w *world) work(m *member) {
	for id, heard := range m.others {
		if w.now.Sub(heard) > lease {
			delete(m.others, id)
			m.node.Others = len(m.others)
			m.roster.Drop(id, heard)
			w.verify(m)
		}
	}
	if w.now.Sub(m.beat) >= beatTime {
		m.beat = w.now
		w.announce(m)
		w.send(m, "", &note.Note{Op: note.OpBeat, Seq: m.roster.Position()})
	}
	if w.now.Sub(m.settle) >= gatherTime {
		m.settle = w.now
		w.announce(m)
		w.tell(m)
	}
}

// tell tells the client of a node what has changed.
func (w *world) tell(m *member) {
	changes := m.roster.Settle(w.now)
	w.verify(m)
	for _, u := range changes.In {
		if slices.Contains(changes.Out, u) {
			w.t.Errorf("%s: %s is in and out", m.id, u.ID)
		}
	}
	if m.list == nil {
		return
	}
	for _, u := range changes.In {
		m.list[u.ID] = true
	}
	for _, u := range changes.Out {
		delete(m.list, u.ID)
	}
	present := make(map[string]bool)
	for _, u := range m.roster.Users() {
		present[u.ID] = true
	}
	if !maps.Equal(m.list, present) {
		w.t.Errorf("%s: the client sees %v after %+v, of %v", m.id, m.list, changes, present)
	}
}

func (w *world) announce(m *member) {
	for _, n := range m.roster.Announce() {
		w.send(m, "", n)
	}
	w.verify(m)
}

// send sends a note to a node, or to all others.
func (w *world) send(from *member, to string, n *note.Note) {
	n.From = from.id
	for _, m := range w.nodes {
		if m == from || to != "" && m.id != to {
			continue
		}
		times := 1
		switch f := w.rand.Float64(); {
		case f < w.weather.lost:
			times = 0
		case f < w.weather.lost+w.weather.twice:
			times = 2
		}
		for range times {
			at := w.now
			if w.weather.delay > 0 {
				at = at.Add(time.Duration(w.rand.Int64N(int64(w.weather.delay))))
			}
			w.mail = append(w.mail, mail{at, from.id, m.id, n.Encode()})
		}
	}
}

// deliver delivers what is due, the answers to it included.
func (w *world) deliver() {
	for i := 0; i < len(w.mail); {
		m := w.mail[i]
		if m.at.After(w.now) {
			i++
			continue
		}
		w.mail = slices.Delete(w.mail, i, i+1)
		for _, to := range w.nodes {
			if to.id == m.to {
				w.hear(to, m)
			}
		}
	}
}

// hear is what a hub does with a note.
func (w *world) hear(m *member, letter mail) {
	var n note.Note
	if err := n.Decode(letter.body); err != nil {
		w.t.Fatal(err)
	}
	if _, met := m.others[n.From]; !met {
		m.others[n.From] = w.now
		m.node.Others = len(m.others)
		w.announce(m)
		w.send(m, n.From, &note.Note{Op: note.OpBeat, Seq: m.roster.Position()})
		w.send(m, n.From, &note.Note{Op: note.OpCheck, Fresh: true, Marks: []note.Mark{{Seq: m.roster.Known(n.From)}}})
	}
	m.others[n.From] = w.now
	differs := false
	switch n.Op {
	case note.OpBeat:
		differs = n.Seq != m.roster.Known(n.From)
	case note.OpState:
		differs = m.roster.Hear(n.From, &n, w.now)
	case note.OpCheck:
		w.announce(m)
		if m.roster.Position() != n.Marks[0].Seq || n.Fresh && m.roster.Lingering() {
			w.send(m, n.From, m.roster.Whole(w.now))
		}
	}
	w.verify(m)
	if differs && m.roster.CheckDue(n.From, w.now) {
		w.send(m, n.From, &note.Note{Op: note.OpCheck, Marks: []note.Mark{{Seq: m.roster.Known(n.From)}}})
	}
}

// expectTruth checks what the nodes and their clients know.
func (w *world) expectTruth() {
	truth := make(map[string]bool)
	for _, m := range w.nodes {
		for id, conns := range m.conns {
			if conns > 0 {
				truth[id] = true
			}
		}
	}
	for _, m := range w.nodes {
		users := make(map[string]bool)
		for _, u := range m.roster.Users() {
			users[u.ID] = true
		}
		if !maps.Equal(users, truth) || m.roster.Count() != len(truth) {
			w.t.Errorf("%s knows of %d users, %v, want %v", m.id, m.roster.Count(), users, truth)
		}
		if m.list != nil && !maps.Equal(m.list, truth) {
			w.t.Errorf("the client of %s knows of %v, want %v", m.id, m.list, truth)
		}
		for _, o := range w.nodes {
			if o != m && m.roster.Known(o.id) != o.roster.Position() {
				w.t.Errorf("%s knows %s at %d, want %d", m.id, o.id, m.roster.Known(o.id), o.roster.Position())
			}
		}
		if m.roster.Replicas() > len(w.nodes)-1 {
			w.t.Errorf("%s keeps %d replicas", m.id, m.roster.Replicas())
		}
	}
}
