package chathub

import (
	"slices"
	"strconv"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/roster"
	"github.com/chathub-go/chathub/internal/wire"
)

// presence is who is online, or in a room, and how their audience hears of it.
// It belongs to the loop. Its roster has the rules. The loop gathers changes,
// and sends them.
type presence struct {
	roster   roster.Roster
	audience *audience
	room     string    // scoped; empty: the hub
	due      time.Time // of the next settle; zero: the roster is settled
	round    *round    // not nil while a count is being sent
	snapshot []byte    // cached data of online-users; nil: none
	version  uint64    // of the roster, when the snapshot was made

	announcing bool // it is in the loop's list of presences to announce
}

// isRoom reports whether p is the presence of a room, and not of a hub or
// tenant.
func (p *presence) isRoom() bool { return plain(p.room) != "" }

func (p *presence) world() world { return worldOf(p.room) }

// countOnlyFactor is how much longer changes are gathered if only counts are
// sent. They are sent to many.
const countOnlyFactor = 10

func (l *loop) newPresence(a *audience, room string) presence {
	return presence{roster: roster.New(&l.nodes.self), audience: a, room: room}
}

// arrive counts a connection of u.
func (l *loop) arrive(p *presence, u User) {
	p.roster.Arrive(note.User(u))
	l.afterChange(p)
}

// rename gives a user that is here another name.
func (l *loop) rename(p *presence, u User) {
	p.roster.Rename(note.User(u))
	l.afterChange(p)
}

// depart takes back one arrive of a user. A user without grace that has no
// other connection is gone with the next changes.
func (l *loop) depart(p *presence, id string, grace bool) {
	since := time.Time{}
	if grace {
		since = l.now()
	}
	p.roster.Depart(id, since)
	l.afterChange(p)
}

// afterChange follows every change of p's roster, and sees to it that it is
// announced and settled in time.
func (l *loop) afterChange(p *presence) {
	if p.roster.Pending() && !p.announcing {
		p.announcing = true
		l.nodes.pending = append(l.nodes.pending, p)
	}
	if p.roster.Unsettled() && p.due.IsZero() {
		p.due = l.now().Add(l.gatherTime(p))
		l.presence.changed = append(l.presence.changed, p)
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
	return l.cfg.PresenceListLimit >= 0 && p.roster.Count() > l.cfg.PresenceListLimit
}

// gatherPresence tells the other nodes and the audiences what has changed.
func (l *loop) gatherPresence() {
	l.announcePresence()
	l.settlePresence(l.now())
	l.tellHooked(nil)
}

// settlePresence settles what is due, and keeps in l.presence.changed what has
// to be settled later.
func (l *loop) settlePresence(now time.Time) {
	l.presence.changed = slices.DeleteFunc(l.presence.changed, func(p *presence) bool {
		if now.Before(p.due) || p.round != nil {
			return false
		}
		l.settle(p, now)
		return p.due.IsZero()
	})
}

// settle tells one audience of its changes.
func (l *loop) settle(p *presence, now time.Time) {
	changes := p.roster.Settle(now)
	p.due = time.Time{}
	if p.roster.Unsettled() {
		p.due = now.Add(l.gatherTime(p)) // graces will end
	}
	if l.cfg.OnPresence != nil && !p.isRoom() {
		l.hookChanges(p.world(), changes.In, true)
		l.hookChanges(p.world(), changes.Out, false)
	}
	if l.shows(p) {
		in, out := eventUserOnline, eventUserOffline
		if p.isRoom() {
			in, out = eventUserJoined, eventUserLeft
		}
		l.tell(p, in, changes.In)
		l.tell(p, out, changes.Out)
	}
	if p.room != "" {
		l.dropIfUnused(l.rooms[p.room])
	}
}

// tell sends one gathered change. Users are in the order of their arrival. A
// user among them is told of the later ones only: the earlier ones were in its
// snapshot, and nobody is told of their own arrival.
func (l *loop) tell(p *presence, typ string, users []note.User) {
	if len(users) == 0 {
		return
	}
	frame := func(users []note.User) []byte {
		e := envelope{typ: typ, room: plain(p.room), data: l.presenceData(p, users)}
		return e.frame()
	}
	d := delivery{frame: frame(users), kind: wire.Volatile}
	if !l.countsOnly(p) || len(users) == 1 {
		for i, u := range users {
			seats := l.seatsOf(p, u.ID)
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

// seatsOf returns the indexes in the audience of p of a user's connections.
func (l *loop) seatsOf(p *presence, userID string) (at []int) {
	u := l.users[p.world().scoped(userID)]
	if u == nil {
		return nil
	}
	for _, m := range u.members {
		if s := m.c.onLoop.seatIn(p.audience); s >= 0 {
			at = append(at, m.c.onLoop.seats[s].i)
		}
	}
	return at
}

// presenceData is {"users":[...],"count":N}, or the count alone if there are
// too many users to name them.
func (l *loop) presenceData(p *presence, users []note.User) []byte {
	if l.countsOnly(p) {
		return p.countData()
	}
	b := append(make([]byte, 0, 32+48*len(users)), `{"users":[`...)
	for i, u := range users {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendUser(b, User(u))
	}
	b = append(b, `],"count":`...)
	b = strconv.AppendInt(b, int64(p.roster.Count()), 10)
	return append(b, '}')
}

// users returns the users that are present, by name.
func (p *presence) users() []User {
	present := p.roster.Users()
	users := make([]User, len(present))
	for i, u := range present {
		users[i] = User(u)
	}
	return users
}

// snapshotOf returns the data of online-users for p. A client that gets it must
// get every change from then on.
func (l *loop) snapshotOf(p *presence) []byte {
	p.roster.Show()
	if v := p.roster.Version(); p.snapshot == nil || p.version != v {
		var users []note.User
		if !l.countsOnly(p) {
			users = p.roster.Users()
		}
		p.snapshot, p.version = l.presenceData(p, users), v
	}
	return p.snapshot
}

// shows reports whether clients are told of the users of p.
func (l *loop) shows(p *presence) bool { return l.cfg.showsUsers(p.isRoom()) }

// showsUsers reports whether clients are told of the users of rooms, or of
// those of the hub.
func (cfg *Config) showsUsers(ofRooms bool) bool {
	if ofRooms {
		return cfg.PresenceInterval > 0 && !cfg.HideRoomUsers
	}
	return cfg.PresenceInterval > 0 && !cfg.HideOnlineUsers
}

const (
	// countsPerSecond bounds how many counts of one presence are sent. If
	// 100,000 clients hear of everyone who comes and goes, they do every 20 s.
	countsPerSecond = 5000
	// countsPart is how many of them are sent at once at most, so that other
	// deliveries do not wait for all. They take less than a millisecond.
	countsPart     = 100
	countsInterval = countsPart * time.Second / countsPerSecond
)

// round sends a large audience the number of its users, to a part at a time,
// over the time for which changes are gathered. Each member gets the count of
// the moment in which it is told.
type round struct {
	p      *presence
	part   int
	next   int // members before it are still to be told
	events []countEvent
}

// countEvent is an event that a round sends.
type countEvent struct {
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
	p.round.events = append(p.round.events, countEvent{typ, except})
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

// tellPart goes on with a round, from the last member to the first. If a member
// goes, the last one takes its place, and is told again at worst. A member that
// comes has a snapshot.
func (l *loop) tellPart(r *round) {
	a := r.p.audience
	l.flushAudience(a)
	from := min(r.next, len(a.members))
	r.next = max(from-r.part, 0)
	for _, event := range r.events {
		e := envelope{typ: event.typ, room: plain(r.p.room), data: r.p.countData()}
		d := delivery{frame: e.frame(), kind: wire.Volatile, except: event.except}
		for i := from - 1; i >= r.next; i-- {
			l.deliverTo(&a.members[i], &d)
		}
	}
}

// countData is {"count":N}.
func (p *presence) countData() []byte {
	return append(strconv.AppendInt([]byte(`{"count":`), int64(p.roster.Count()), 10), '}')
}
