package chathub

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// presence counts the users of the hub or of a room, not their connections, here
// and on all other nodes. It belongs to the loop. Changes are gathered and told by
// tellPresence.
type presence struct {
	audience *audience
	room     string // name of the room; empty: the hub
	users    map[string]*present
	visible  int        // users that are there, those in their grace included
	touched  []*present // changed, or in their grace
	due      time.Time  // when changes are told next; zero: none wait
	listed   bool       // someone got a snapshot while changes were waiting
	snapshot []byte     // cached data of online-users; nil: stale
	round    *round     // not nil while a count is being told

	// For and from the other nodes; see replica.go.
	unsaid   []*present // changed here since they were told
	seq      uint64     // position of what they were told; 0: nothing is valid
	said     int        // users that are here, as they were told
	replicas map[string]*replica
}

// present is a user of a presence.
type present struct {
	user    User
	conns   int       // of this hub
	nodes   int       // others that have it
	gone    time.Time // since when it is nowhere and its grace runs; zero: none
	told    bool      // the audience knows of it
	flapped bool      // left for good since the audience was told
	touched bool      // in the list of that name

	unsaid  bool // in the list of that name
	said    bool // the other nodes know of it
	renamed bool // but under another name
	quit    bool // it left at its own wish
}

func (e *present) here() bool { return e.conns+e.nodes > 0 }

// countOnlyFactor is how much longer changes are gathered where only counts are
// sent: there are many to send them to.
const countOnlyFactor = 10

// arrive counts a connection of u.
func (l *loop) arrive(p *presence, u User) {
	e := l.enter(p, u)
	if e.conns++; e.conns == 1 || e.renamed {
		l.toSay(p, e)
	}
}

// enter returns the entry of u, who is about to be counted once more.
func (l *loop) enter(p *presence, u User) *present {
	if p.users == nil {
		p.users = make(map[string]*present)
	}
	e := p.users[u.ID]
	if e == nil {
		e = &present{}
		p.users[u.ID] = e
	}
	if e.user != u {
		e.renamed = e.said
		e.user = u
		p.snapshot = nil
	}
	if e.here() {
		return e
	}
	if e.gone.IsZero() {
		p.visible++
		p.snapshot = nil
		l.touch(p, e)
	}
	e.gone = time.Time{} // back within its grace: nobody noticed
	return e
}

// depart takes back one arrival of a user. Without grace, its last connection
// gone is told with the next changes.
func (l *loop) depart(p *presence, id string, grace bool) {
	e := p.users[id]
	if e.conns--; e.conns > 0 {
		return
	}
	e.quit = !grace
	l.toSay(p, e)
	since := time.Time{}
	if grace {
		since = l.now()
	}
	l.exit(p, e, since)
}

// exit is the end of a connection or node of e. Where it was the last, the grace
// runs since then; zero: there is none.
func (l *loop) exit(p *presence, e *present, since time.Time) {
	if e.here() {
		return
	}
	if !since.IsZero() && l.cfg.PresenceGrace > 0 {
		e.gone = since
	} else {
		e.flapped = true
		p.visible--
		p.snapshot = nil
	}
	l.touch(p, e)
}

// touch has e looked at when changes are told, after those that came before.
func (l *loop) touch(p *presence, e *present) {
	if e.touched {
		i := slices.Index(p.touched, e)
		p.touched = append(slices.Delete(p.touched, i, i+1), e)
		return
	}
	e.touched = true
	if len(p.touched) == 0 {
		l.presence.changed = append(l.presence.changed, p)
	}
	p.touched = append(p.touched, e)
	if p.due.IsZero() {
		p.due = l.now().Add(l.gatherTime(p))
	}
}

func (l *loop) gatherTime(p *presence) time.Duration {
	if l.countsOnly(p) {
		forAll := time.Duration(len(p.audience.members)) * time.Second / countsPerSecond
		return max(countOnlyFactor*l.presence.interval, forAll)
	}
	return l.presence.interval
}

// countsOnly reports whether p has too many users to name them.
func (l *loop) countsOnly(p *presence) bool {
	return l.cfg.PresenceListLimit >= 0 && p.visible > l.cfg.PresenceListLimit
}

// gatherPresence tells the other nodes and the audiences what has changed.
func (l *loop) gatherPresence() {
	l.sayPresence()
	l.tellPresence(l.now())
}

// tellPresence tells the audiences what has changed, and keeps in l.changed
// those that have something left to tell later.
func (l *loop) tellPresence(now time.Time) {
	l.presence.changed = slices.DeleteFunc(l.presence.changed, func(p *presence) bool {
		if now.Before(p.due) || p.round != nil {
			return false
		}
		l.settle(p, now)
		return len(p.touched) == 0
	})
}

// settle tells one audience of its changes.
func (l *loop) settle(p *presence, now time.Time) {
	var joined, left []User
	p.touched = slices.DeleteFunc(p.touched, func(e *present) bool {
		grace := !e.gone.IsZero()
		if grace && now.Sub(e.gone) >= l.cfg.PresenceGrace {
			grace = false
			e.gone = time.Time{}
			p.visible--
			p.snapshot = nil
		}
		here := e.here() || grace
		switch {
		case here && (!e.told || p.listed && e.flapped):
			joined = append(joined, e.user)
		case !here && (e.told || p.listed):
			left = append(left, e.user)
		}
		e.told, e.touched, e.flapped = here, grace, false
		if !here {
			delete(p.users, e.user.ID)
		}
		return !grace
	})
	p.listed = false
	p.due = time.Time{}
	if len(p.touched) > 0 {
		p.due = now.Add(l.gatherTime(p)) // graces to end
	}
	if l.presenceOn() {
		in, out := eventUserOnline, eventUserOffline
		if p.room != "" {
			in, out = eventUserJoined, eventUserLeft
		}
		l.tell(p, in, joined)
		l.tell(p, out, left)
	}
	if p.room != "" {
		l.dropIfUnused(l.rooms[p.room])
	}
}

// tell sends one gathered change. Who arrived among users, which are in the order
// of their arrival, is told of those after it only: it had the others in its
// snapshot, and nobody is told of their own arrival.
func (l *loop) tell(p *presence, typ string, users []User) {
	if len(users) == 0 {
		return
	}
	frame := func(users []User) []byte {
		e := envelope{typ: typ, room: p.room, data: l.presenceData(p, users)}
		return e.frame()
	}
	d := delivery{frame: frame(users), kind: wire.Volatile}
	if !l.countsOnly(p) || len(users) == 1 {
		for i, u := range users {
			seats := l.seatsOf(p.audience, u.ID)
			if len(seats) == 0 {
				continue
			}
			var later []byte
			if i+1 < len(users) {
				later = frame(users[i+1:])
			}
			for _, s := range seats {
				d.except = append(d.except, p.audience.members[s].c.id)
				if later != nil {
					l.flushAudience(p.audience)
					l.deliverTo(&p.audience.members[s], &delivery{frame: later, kind: wire.Volatile})
				}
			}
		}
	}
	if l.countsOnly(p) && len(p.audience.members) > countsPart {
		l.tellCount(p, typ, d.except)
		return
	}
	l.deliver(p.audience, d)
}

// seatsOf returns where in an audience the connections of a user sit.
func (l *loop) seatsOf(a *audience, userID string) (at []int) {
	u := l.users[userID]
	if u == nil {
		return nil
	}
	for _, m := range u.members {
		if s := m.c.onLoop.seatIn(a); s >= 0 {
			at = append(at, m.c.onLoop.seats[s].i)
		}
	}
	return at
}

// presenceData is {"users":[...],"count":N}; only the count where there are too
// many to name.
func (l *loop) presenceData(p *presence, users []User) []byte {
	if l.countsOnly(p) {
		return p.countData()
	}
	b := append(make([]byte, 0, 32+48*len(users)), `{"users":[`...)
	for i, u := range users {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendUser(b, u)
	}
	b = append(b, `],"count":`...)
	b = strconv.AppendInt(b, int64(p.visible), 10)
	return append(b, '}')
}

// list returns the users that are there, by name.
func (p *presence) list() []User {
	users := make([]User, 0, p.visible)
	for _, e := range p.users {
		if e.here() || !e.gone.IsZero() {
			users = append(users, e.user)
		}
	}
	slices.SortFunc(users, func(a, b User) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return users
}

// snapshotOf returns the data of online-users for p. Whoever gets it must get
// what is told from then on.
func (l *loop) snapshotOf(p *presence) []byte {
	p.listed = p.listed || len(p.touched) > 0
	if p.snapshot == nil {
		var users []User
		if !l.countsOnly(p) {
			users = p.list()
		}
		p.snapshot = l.presenceData(p, users)
	}
	return p.snapshot
}

func (l *loop) presenceOn() bool { return l.cfg.PresenceInterval > 0 }

const (
	// countsPerSecond bounds how many counts of one presence are sent: where 100,000 hear of
	// everyone who comes and goes, they do every 20 s.
	countsPerSecond = 5000
	// countsPart is how many of them are sent at once at most, so that what else is to be sent
	// does not wait for all: they take less than a millisecond.
	countsPart     = 100
	countsInterval = countsPart * time.Second / countsPerSecond
)

// round tells a large audience how many users there are, a part at a time, over the time
// for which changes are gathered. Each member hears what the count is when it is told.
type round struct {
	p    *presence
	part int
	next int // members before it are still to be told
	told []told
}

// told is an event that a round tells of.
type told struct {
	typ    string
	except []string // ids of clients that it is not for
}

// tellCount begins to tell all who hear p of its count.
func (l *loop) tellCount(p *presence, typ string, except []string) {
	if p.round == nil {
		all := len(p.audience.members)
		parts := max(int(l.gatherTime(p)/countsInterval), 1)
		p.round = &round{p: p, part: (all + parts - 1) / parts, next: all}
		l.presence.rounds = append(l.presence.rounds, p.round)
	}
	p.round.told = append(p.round.told, told{typ, except})
}

// tellRounds tells the next part of each audience.
func (l *loop) tellRounds() {
	l.presence.rounds = slices.DeleteFunc(l.presence.rounds, func(r *round) bool {
		l.tellPart(r)
		if r.next > 0 {
			return false
		}
		r.p.round = nil
		return true
	})
}

// tellPart goes on with a round, from the last member to the first: the place of one
// who goes is taken by the last, who is told again at worst, and who comes has a snapshot.
func (l *loop) tellPart(r *round) {
	a := r.p.audience
	l.flushAudience(a)
	from := min(r.next, len(a.members))
	r.next = max(from-r.part, 0)
	for _, t := range r.told {
		e := envelope{typ: t.typ, room: r.p.room, data: r.p.countData()}
		d := delivery{frame: e.frame(), kind: wire.Volatile, except: t.except}
		for i := from - 1; i >= r.next; i-- {
			l.deliverTo(&a.members[i], &d)
		}
	}
}

// countData is {"count":N}.
func (p *presence) countData() []byte {
	return append(strconv.AppendInt([]byte(`{"count":`), int64(p.visible), 10), '}')
}
