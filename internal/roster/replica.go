package roster

import (
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// replica is what this node knows of another node's users, in one place.
//
//   - users and position are what the other node has announced: exactly its
//     users at that position. 0: nothing is known.
//   - position only grows, until the node is dropped.
//   - parts are the first parts of the whole at partsOf, in order.
//   - ahead are differences from positions that are not known yet.
type replica struct {
	users     map[string]struct{}
	position  uint64
	checkedAt time.Time // when its state was asked for, and no whole has come since
	ahead     []*note.Note
	parts     []note.Movement
	partsOf   uint64
	nextPart  uint64
}

const (
	// maxAhead is how many differences wait for the whole that was asked for.
	maxAhead = 64
	// checkInterval is how long the answer to a check may take before it counts
	// as lost.
	checkInterval = time.Second
)

func (r *Roster) replica(node string) *replica {
	p := r.replicas[node]
	if p == nil {
		if r.replicas == nil {
			r.replicas = make(map[string]*replica)
		}
		p = &replica{users: make(map[string]struct{})}
		r.replicas[node] = p
	}
	return p
}

// Known returns the position up to which another node's users are known; 0:
// none are.
func (r *Roster) Known(node string) uint64 {
	if p := r.replicas[node]; p != nil && len(p.users) > 0 {
		return p.position
	}
	return 0 // as of a node that has nobody there
}

// CheckDue reports whether to ask another node for its state now, and counts
// that as done. It is not due while a check may still be answered.
func (r *Roster) CheckDue(node string, now time.Time) bool {
	p := r.replica(node)
	if now.Sub(p.checkedAt) < checkInterval {
		return false
	}
	p.checkedAt = now
	return true
}

// Hear takes in a state that another node has announced. It reports whether
// something that came before is missing, which is a reason to check.
func (r *Roster) Hear(node string, n *note.Note, now time.Time) (gap bool) {
	p := r.replica(node)
	switch {
	case n.Prev == 0:
		if p.collect(n) {
			r.applyWhole(p, now)
		}
	case n.Seq <= p.position: // it came twice, or late
	case n.Prev == p.position:
		r.applyDifference(p, n, now)
	default:
		if len(p.ahead) < maxAhead {
			p.ahead = append(p.ahead, n)
		}
		return true
	}
	return false
}

// collect takes in a part of a whole, and reports whether that was the last.
func (p *replica) collect(n *note.Note) (complete bool) {
	if n.Part == 0 {
		p.parts, p.partsOf, p.nextPart = nil, n.Seq, 0
	}
	if n.Seq <= p.position || n.Seq != p.partsOf || n.Part != p.nextPart {
		return false
	}
	p.nextPart++
	p.parts = append(p.parts, n.Users...)
	return !n.More
}

// applyWhole makes p what its parts say, and goes on from there.
func (r *Roster) applyWhole(p *replica, now time.Time) {
	first := p.position == 0
	whole := make(map[string]struct{}, len(p.parts))
	for _, m := range p.parts {
		if m.How == note.Came {
			whole[m.User.ID] = struct{}{}
			r.enterReplica(p, m.User)
		}
	}
	for id := range p.users {
		if _, in := whole[id]; !in {
			r.exitReplica(p, id, now)
		}
	}
	if first {
		for _, m := range p.parts {
			if m.How == note.Lingers {
				r.linger(m, now)
			}
		}
	}
	ahead := p.ahead
	*p = replica{users: p.users, position: p.partsOf}
	for _, n := range ahead {
		if n.Prev == p.position {
			r.applyDifference(p, n, now)
		}
	}
}

func (r *Roster) applyDifference(p *replica, n *note.Note, now time.Time) {
	p.position = n.Seq
	for _, m := range n.Users {
		switch m.How {
		case note.Came:
			r.enterReplica(p, m.User)
		case note.Went:
			r.exitReplica(p, m.User.ID, now)
		case note.Left:
			r.exitReplica(p, m.User.ID, time.Time{})
		case note.Lingers: // in a whole only
		}
	}
}

func (r *Roster) enterReplica(p *replica, u note.User) {
	e := r.enter(u)
	if _, in := p.users[u.ID]; !in {
		p.users[e.user.ID] = struct{}{}
		e.nodes++
	}
}

func (r *Roster) exitReplica(p *replica, id string, since time.Time) {
	if _, in := p.users[id]; in {
		delete(p.users, id)
		e := r.entries[id]
		e.nodes--
		r.exit(e, since)
	}
}

// linger takes over the grace of a user whom this node has never seen.
func (r *Roster) linger(m note.Movement, now time.Time) {
	if r.entries[m.User.ID] != nil || r.node.Grace <= m.Age {
		return
	}
	e := r.enter(m.User)
	e.graceFrom = now.Add(-m.Age)
}

// Drop forgets another node. The grace of users that were nowhere else begins
// at since; zero: they have none.
func (r *Roster) Drop(node string, since time.Time) {
	p := r.replicas[node]
	if p == nil {
		return
	}
	for id := range p.users {
		r.exitReplica(p, id, since)
	}
	delete(r.replicas, node)
}

// DropAll forgets all other nodes, and at once the users that were nowhere
// else.
func (r *Roster) DropAll() {
	for node := range r.replicas {
		r.Drop(node, time.Time{})
	}
}
