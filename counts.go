package chathub

import (
	"slices"
	"strconv"
	"time"
)

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
		l.rounds = append(l.rounds, p.round)
	}
	p.round.told = append(p.round.told, told{typ, except})
}

// tellRounds tells the next part of each audience.
func (l *loop) tellRounds() {
	l.rounds = slices.DeleteFunc(l.rounds, func(r *round) bool {
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
		d := delivery{frame: e.frame(), volatile: true, except: t.except}
		for i := from - 1; i >= r.next; i-- {
			l.give(&a.members[i], &d)
		}
	}
}

// countData is {"count":N}.
func (p *presence) countData() []byte {
	return append(strconv.AppendInt([]byte(`{"count":`), int64(p.visible), 10), '}')
}
