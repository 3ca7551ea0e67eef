package roster

import (
	"slices"
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// announceLater puts e among those whose change at this node the other nodes
// have yet to hear of.
func (r *Roster) announceLater(e *entry) {
	if r.node.Others == 0 {
		r.position = 0 // a node that comes is told everything
		return
	}
	if !e.pending {
		e.pending = true
		r.pending = append(r.pending, e)
	}
}

// Pending reports whether there is anything to announce.
func (r *Roster) Pending() bool { return len(r.pending) > 0 }

// Announce returns what the other nodes have to hear of the users at this node,
// in order: the difference from what was announced before, in notes that fit,
// or, if nothing valid was, the whole. The notes have no Room and no From yet.
func (r *Roster) Announce() []*note.Note {
	pending := r.pending
	r.pending = nil
	for _, e := range pending {
		e.pending = false
	}
	switch {
	case len(pending) == 0:
		return nil
	case r.node.Others == 0:
		r.position = 0
		return nil
	case r.position == 0:
		if r.rebase(); r.announced == 0 {
			return nil
		}
		return []*note.Note{{Op: note.OpState, Seq: r.position, Users: r.announcement()}}
	}
	var users []note.Movement
	for _, e := range pending {
		if how, news := e.movement(); news {
			users = append(users, note.Movement{User: e.user, How: how})
			r.setAnnounced(e, e.conns > 0)
		}
	}
	return r.difference(users)
}

// movement returns what has changed at this node since it was announced.
func (e *entry) movement() (how note.How, news bool) {
	switch {
	case e.conns > 0:
		return note.Came, !e.announced || e.renamed
	case e.quit:
		return note.Left, e.announced
	}
	return note.Went, e.announced
}

func (r *Roster) setAnnounced(e *entry, announced bool) {
	if e.announced {
		r.announced--
	}
	if announced {
		r.announced++
	}
	e.announced, e.renamed = announced, false
}

// difference leads from the present position to the next one, or, in several
// notes, from one to the other.
func (r *Roster) difference(users []note.Movement) (notes []*note.Note) {
	if len(users) == 0 {
		return nil
	}
	all := note.Note{Op: note.OpState, Prev: r.position, Users: users}
	for n := range all.Split() {
		n.Prev, n.Seq = r.position, r.node.next()
		r.position = n.Seq
		notes = append(notes, n)
	}
	return notes
}

// rebase begins anew with what the other nodes know: everyone at this node, as
// they are now.
func (r *Roster) rebase() {
	r.announced = 0
	for _, e := range r.entries {
		e.announced = false
		r.setAnnounced(e, e.conns > 0)
	}
	if r.announced > 0 {
		r.position = r.node.next()
	}
}

// announcement returns the users at this node as they were announced.
func (r *Roster) announcement() []note.Movement {
	users := make([]note.Movement, 0, r.announced)
	for _, e := range r.entries {
		if e.announced {
			users = append(users, note.Movement{User: e.user, How: note.Came})
		}
	}
	return users
}

// Position returns the position of the users at this node; 0: nobody is here.
// Changes that wait for Announce have to be announced before.
func (r *Roster) Position() uint64 {
	if r.position == 0 {
		r.rebase()
	}
	if r.announced == 0 {
		return 0
	}
	return r.position
}

// Whole returns the users at this node, at its Position, for another node that
// does not know them. Those who are in their grace come with them, for the sake
// of a node that has just begun. The note has no Room and no From yet.
func (r *Roster) Whole(now time.Time) *note.Note {
	n := &note.Note{Op: note.OpState, Seq: r.Position()}
	if n.Seq > 0 {
		n.Users = r.announcement()
	} else {
		n.Seq = r.node.next()
	}
	for _, e := range r.unsettled {
		if !e.graceFrom.IsZero() {
			n.Users = append(n.Users, note.Movement{User: e.user, How: note.Lingers, Age: now.Sub(e.graceFrom)})
		}
	}
	return n
}

// Lingering reports whether someone is in the grace.
func (r *Roster) Lingering() bool {
	return slices.ContainsFunc(r.unsettled, func(e *entry) bool { return !e.graceFrom.IsZero() })
}
