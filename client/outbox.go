package client

import (
	"cmp"
	"slices"
	"time"
)

// changeLife is how long a change is sent again. The server remembers an id for
// some minutes, and a change whose id it has forgotten is a new one, which
// might undo a later one.
const changeLife = 3 * time.Minute

// entry is a durable event that the server has not acknowledged.
type entry struct {
	id       string
	lane     string // the room or user, since those are in order
	room     *Room  // nil for other events
	text     []byte
	change   bool      // of a message
	sent     time.Time // when it was sent first
	inFlight bool      // sent on this connection
	refusals int       // how often the server has asked to send it later
	settle   func(Receipt, error)
}

// outbox keeps durable events, oldest first, until the server has answered. It
// sends one event at a time for each room and for each user, so that an event
// that has to be repeated is not overtaken by the next. The loop owns it.
type outbox struct {
	l    *loop
	all  []*entry
	pace pace
}

// add adds an event. Its settle is called once.
func (o *outbox) add(e *entry) {
	switch {
	case len(o.all) >= o.l.opts.MaxOutbox:
		e.settle(Receipt{}, ErrFull)
	case slices.ContainsFunc(o.all, func(other *entry) bool { return other.id == e.id }):
		e.settle(Receipt{}, &Error{Code: CodeConflict, Message: "An event with this id is waiting already"})
	default:
		o.all = append(o.all, e)
		o.flush(time.Now())
	}
}

// fail settles the chosen entries with err.
func (o *outbox) fail(choose func(*entry) bool, err error) {
	var failed []*entry
	o.all = slices.DeleteFunc(o.all, func(e *entry) bool {
		if choose(e) {
			failed = append(failed, e)
			return true
		}
		return false
	})
	for _, e := range failed {
		e.settle(Receipt{}, err)
	}
	if len(failed) > 0 {
		o.flush(time.Now())
	}
}

// dropped notes that the connection is gone.
func (o *outbox) dropped() {
	o.pace = pace{}
	for _, e := range o.all {
		e.inFlight = false
	}
}

// answer takes an answer. It reports false if the id is not one of the outbox.
func (o *outbox) answer(at time.Time, f frame, err error) bool {
	i := slices.IndexFunc(o.all, func(e *entry) bool { return e.inFlight && e.id == f.ID })
	if i < 0 {
		return false
	}
	e := o.all[i]
	e.inFlight = false
	if wait, again := temporary(err); again {
		e.refusals++
		o.pace.refused(at, wait)
		return true
	}
	o.all = slices.Delete(o.all, i, i+1)
	e.settle(o.l.receipt(f, e.room), err)
	if e.room != nil && hasCode(err, CodeNotInRoom) && e.room.feed.live {
		o.l.endRoom(e.room, err)
	}
	o.pace.answered(at, len(o.all))
	o.flush(at)
	return true
}

// flush sends all that can be sent now.
func (o *outbox) flush(at time.Time) {
	if !o.l.ready {
		return
	}
	// A change whose id the server may have forgotten.
	old := func(e *entry) bool {
		return e.change && !e.inFlight && !e.sent.IsZero() && at.Sub(e.sent) > changeLife
	}
	if slices.ContainsFunc(o.all, old) {
		o.fail(old, ErrDisconnected) // flushes
		return
	}
	if slices.ContainsFunc(o.all, func(e *entry) bool { return o.l.tooLarge(e.text) }) {
		o.fail(func(e *entry) bool { return o.l.tooLarge(e.text) }, errTooLarge) // flushes
		return
	}
	busy := make(map[string]bool)
	var next []*entry
	waiting := 0
	for _, e := range o.all {
		if e.inFlight {
			waiting++
		}
		if busy[e.lane] {
			continue
		}
		busy[e.lane] = true
		if !e.inFlight && (e.room == nil || e.room.feed.member) {
			next = append(next, e)
		}
	}
	// A room that the server goes on refusing does not hold up the others.
	slices.SortStableFunc(next, func(a, b *entry) int { return cmp.Compare(a.refusals, b.refusals) })
	for _, e := range next {
		if !o.pace.allows(at, waiting) {
			break
		}
		waiting++
		e.inFlight = true
		if e.sent.IsZero() {
			e.sent = at
		}
		o.l.write(e.text)
	}
}
