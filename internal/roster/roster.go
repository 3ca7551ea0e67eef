// Package roster knows who is there: the users of a hub or of one of its rooms,
// on this node and on all others. Arrivals, announcements of other nodes and
// the time go in; changes for clients and announcements for other nodes come
// out.
//
// It does no I/O, reads no clock and starts no goroutine. The rosters of a node
// belong to one goroutine, which calls them and passes them the time.
package roster

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// Node is what the rosters of one node have in common.
type Node struct {
	// Grace is for how long a user is still there that has lost its last
	// connection. 0 or less: it is gone at once.
	Grace time.Duration
	// Others is how many other nodes hear announcements.
	Others int

	// position is the last one that was given to a state of this node, in any
	// of its rosters. They only grow, so that a position of a roster that was
	// forgotten is never mistaken for one of the roster that took its place.
	position uint64
}

func (n *Node) next() uint64 {
	n.position++
	return n.position
}

// Roster is who is in one place: in a room, or online. It counts users, not
// connections. To a roster, another node is one more connection of each user
// that it has announced, so that grace and changes are those of a single node.
//
// A user is here if it has a connection to any node, and present if it is here
// or in its grace. Clients learn of changes from Settle, some time after them.
// These hold between calls:
//
//   - count is the number of entries that are present.
//   - An entry that is not present has left, and is in unsettled until Settle
//     removes it. One in its grace is in unsettled as well.
//   - unsettled is in the order of the last change of each entry.
//   - An entry's nodes is the number of replicas that have its user.
//   - If position is not 0, announced is the number of users that the other
//     nodes know to be at this node, as of position. Entries that have changed
//     since are in pending, removed ones included.
//   - If position is 0, the other nodes know nothing that is valid, and
//     announced means nothing.
type Roster struct {
	node      *Node
	entries   map[string]*entry // by user id
	count     int
	version   uint64
	unsettled []*entry
	shown     bool // someone got the list since the last Settle, with changes in it

	position  uint64
	announced int
	pending   []*entry
	replicas  map[string]*replica // by node
}

// entry is a user of a roster.
type entry struct {
	user      note.User
	conns     int       // to this node
	nodes     int       // others that have it
	graceFrom time.Time // when its grace began; zero: it is not in its grace

	known     bool // the clients know of it, as of the last Settle
	flapped   bool // it has left since then, and may have come back
	unsettled bool // in the list of that name

	announced bool // the other nodes know of it
	renamed   bool // but under another name
	quit      bool // it left this node of its own accord
	pending   bool // in the list of that name
}

func (e *entry) here() bool { return e.conns+e.nodes > 0 }

func (e *entry) present() bool { return e.here() || !e.graceFrom.IsZero() }

// New returns the empty roster of a place at a node.
func New(n *Node) Roster { return Roster{node: n} }

// Changes are users to tell clients of, in the order of their last change.
type Changes struct {
	In, Out []note.User
}

// Arrive counts a connection of u to this node.
func (r *Roster) Arrive(u note.User) {
	e := r.enter(u)
	if e.conns++; e.conns == 1 || e.renamed {
		r.announceLater(e)
	}
}

// Rename gives a user another name. Clients see it in the list, and with the
// next change of that user.
func (r *Roster) Rename(u note.User) {
	if e := r.entries[u.ID]; e != nil && e.user != u {
		r.setUser(e, u)
		r.announceLater(e)
	}
}

func (r *Roster) setUser(e *entry, u note.User) {
	e.renamed = e.announced
	e.user = u
	r.version++
}

// Depart takes back one Arrive of a user. If that was its last connection, its
// grace begins at since; zero: it left of its own accord, and has none.
func (r *Roster) Depart(id string, since time.Time) {
	e := r.entries[id]
	if e.conns--; e.conns > 0 {
		return
	}
	e.quit = since.IsZero()
	r.announceLater(e)
	r.exit(e, since)
}

// enter returns the entry of u, which is about to be counted once more.
func (r *Roster) enter(u note.User) *entry {
	if r.entries == nil {
		r.entries = make(map[string]*entry)
	}
	e := r.entries[u.ID]
	if e == nil {
		e = &entry{}
		r.entries[u.ID] = e
	}
	if e.user != u {
		r.setUser(e, u)
	}
	if e.here() {
		return e
	}
	if e.graceFrom.IsZero() {
		r.count++
		r.version++
		r.settleLater(e)
	}
	e.graceFrom = time.Time{} // back within its grace: nobody noticed
	return e
}

// exit follows the end of a connection or node of e. If it was the last, the
// grace begins at since; zero: there is none.
func (r *Roster) exit(e *entry, since time.Time) {
	if e.here() {
		return
	}
	if !since.IsZero() && r.node.Grace > 0 {
		e.graceFrom = since
	} else {
		e.flapped = true
		r.count--
		r.version++
	}
	r.settleLater(e)
}

// settleLater puts e at the end of the changes that wait for Settle.
func (r *Roster) settleLater(e *entry) {
	if e.unsettled {
		i := slices.Index(r.unsettled, e)
		r.unsettled = slices.Delete(r.unsettled, i, i+1)
	}
	e.unsettled = true
	r.unsettled = append(r.unsettled, e)
}

// Unsettled reports whether there is anything for Settle to do, now or later:
// changes that wait, or users in their grace.
func (r *Roster) Unsettled() bool { return len(r.unsettled) > 0 }

// Settle ends the graces that are over, and returns what has changed since it
// was called last. A user that came and left in between is in neither list, and
// so is one that left and came back, unless someone was shown the list
// meanwhile (see Show).
func (r *Roster) Settle(now time.Time) (c Changes) {
	r.unsettled = slices.DeleteFunc(r.unsettled, func(e *entry) bool {
		if !e.graceFrom.IsZero() && now.Sub(e.graceFrom) >= r.node.Grace {
			e.graceFrom = time.Time{}
			r.count--
			r.version++
		}
		present := e.present()
		switch {
		case present && (!e.known || r.shown && e.flapped):
			c.In = append(c.In, e.user)
		case !present && (e.known || r.shown):
			c.Out = append(c.Out, e.user)
		}
		e.known, e.flapped = present, false
		e.unsettled = !e.graceFrom.IsZero()
		if !present {
			delete(r.entries, e.user.ID)
		}
		return !e.unsettled
	})
	r.shown = false
	return c
}

// Show says that a client is about to see the users as they are now, changes
// that wait included. The next Settle returns those changes for everyone; so
// those that are taken back until then, which it would pass over, are returned
// as well.
func (r *Roster) Show() { r.shown = r.shown || len(r.unsettled) > 0 }

// Users returns the users that are present, by name.
func (r *Roster) Users() []note.User {
	users := make([]note.User, 0, r.count)
	for _, e := range r.entries {
		if e.present() {
			users = append(users, e.user)
		}
	}
	slices.SortFunc(users, func(a, b note.User) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return users
}

// Has reports whether a user is here, or in a grace that is not over at now. It
// does not wait for Settle.
func (r *Roster) Has(id string, now time.Time) bool {
	e := r.entries[id]
	return e != nil && (e.here() || !e.graceFrom.IsZero() && now.Sub(e.graceFrom) < r.node.Grace)
}

// Count returns how many users are present.
func (r *Roster) Count() int { return r.count }

// Version changes whenever Users and Count may have changed.
func (r *Roster) Version() uint64 { return r.version }

// Empty reports whether nobody is present and no change waits: nothing is lost
// if the roster is forgotten.
func (r *Roster) Empty() bool { return len(r.entries) == 0 }
