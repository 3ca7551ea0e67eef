package chathub

import (
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// replica is what this node knows of another's users, in a room or online. It
// belongs to the loop.
type replica struct {
	users   map[string]struct{}
	seq     uint64       // position of that; 0: nothing is known
	asked   time.Time    // when its state was asked for
	ahead   []*note.Note // differences that came before what they are from
	parts   []note.Movement
	partsOf uint64 // position of the whole that parts are of
	next    uint64 // part that comes next
}

// aheadKept is how many differences wait for the whole that was asked for.
const aheadKept = 64

// mark is the position that the peer is asked to compare with its own.
func (r *replica) mark() uint64 {
	if r == nil || len(r.users) == 0 {
		return 0 // as of one that has nobody there
	}
	return r.seq
}

func (r *replica) markOf(room string) note.Mark { return note.Mark{Room: room, Seq: r.mark()} }

func (p *presence) replica(node string) *replica {
	r := p.replicas[node]
	if r == nil {
		if p.replicas == nil {
			p.replicas = make(map[string]*replica)
		}
		r = &replica{users: make(map[string]struct{})}
		p.replicas[node] = r
	}
	return r
}

// presenceOf returns who is in a room, or online; nil where nobody here knows.
func (l *loop) presenceOf(room string) *presence {
	if room == "" {
		return &l.presence.online
	}
	if r := l.rooms[room]; r != nil {
		return &r.presence
	}
	return nil
}

// followed reports whether what other nodes say of the room is heard and kept.
func (r *room) followed() bool { return len(r.members) > 0 || r.looked || r.look != nil }

// hearState takes in what a peer says of its users.
func (l *loop) hearState(from *peer, n *note.Note) {
	p := l.presenceOf(n.Room)
	if p == nil || n.Room != "" && !l.rooms[n.Room].followed() {
		return
	}
	r := p.replica(from.id)
	switch {
	case n.Prev == 0:
		if r.add(n) {
			l.applyWhole(p, r)
		}
	case n.Seq <= r.seq: // it came twice, or late
	case n.Prev == r.seq:
		l.applyChange(p, r, n)
	default:
		if len(r.ahead) < aheadKept {
			r.ahead = append(r.ahead, n)
		}
		l.checkOne(from, p)
	}
}

// add collects the parts of a whole, and reports whether they are all there.
func (r *replica) add(n *note.Note) bool {
	if n.Part == 0 {
		r.parts, r.partsOf, r.next = nil, n.Seq, 0
	}
	if n.Seq <= r.seq || n.Seq != r.partsOf || n.Part != r.next {
		return false
	}
	r.next++
	r.parts = append(r.parts, n.Users...)
	return !n.More
}

// applyWhole makes a replica what its parts say.
func (l *loop) applyWhole(p *presence, r *replica) {
	first := r.seq == 0
	whole := make(map[string]struct{}, len(r.parts))
	for _, m := range r.parts {
		if m.How == note.Came {
			whole[m.User.ID] = struct{}{}
			l.enterReplica(p, r, User(m.User))
		}
	}
	for id := range r.users {
		if _, in := whole[id]; !in {
			l.exitReplica(p, r, id, l.now())
		}
	}
	if first {
		for _, m := range r.parts {
			if m.How == note.Lingers {
				l.linger(p, m)
			}
		}
	}
	ahead := r.ahead
	*r = replica{users: r.users, seq: r.partsOf}
	for _, n := range ahead {
		if n.Prev == r.seq {
			l.applyChange(p, r, n)
		}
	}
}

func (l *loop) applyChange(p *presence, r *replica, n *note.Note) {
	r.seq = n.Seq
	for _, m := range n.Users {
		switch m.How {
		case note.Came:
			l.enterReplica(p, r, User(m.User))
		case note.Went:
			l.exitReplica(p, r, m.User.ID, l.now())
		case note.Left:
			l.exitReplica(p, r, m.User.ID, time.Time{})
		case note.Lingers:
		}
	}
}

func (l *loop) enterReplica(p *presence, r *replica, u User) {
	e := l.enter(p, u)
	if _, in := r.users[u.ID]; !in {
		r.users[e.user.ID] = struct{}{}
		e.nodes++
	}
}

func (l *loop) exitReplica(p *presence, r *replica, id string, since time.Time) {
	if _, in := r.users[id]; in {
		delete(r.users, id)
		e := p.users[id]
		e.nodes--
		l.exit(p, e, since)
	}
}

// linger takes over the grace of a user whom nobody here has seen.
func (l *loop) linger(p *presence, m note.Movement) {
	if p.users[m.User.ID] != nil || l.cfg.PresenceGrace <= m.Age {
		return
	}
	e := l.enter(p, User(m.User))
	e.gone = l.now().Add(-m.Age)
}

// graced reports whether someone is in the grace.
func (p *presence) graced() bool {
	for _, e := range p.touched {
		if !e.gone.IsZero() {
			return true
		}
	}
	return false
}

// dropReplica forgets what is known of a node, whose users are gone since then.
func (l *loop) dropReplica(p *presence, node string, since time.Time) {
	r := p.replicas[node]
	if r == nil {
		return
	}
	for id := range r.users {
		l.exitReplica(p, r, id, since)
	}
	delete(p.replicas, node)
}

// unfollow forgets what other nodes said of a room that is not heard of any more.
func (l *loop) unfollow(r *room) {
	for id := range r.presence.replicas {
		l.dropReplica(&r.presence, id, time.Time{})
	}
	r.looked, r.look = false, nil
}

// toSay has the other nodes be told of a change of e.
func (l *loop) toSay(p *presence, e *present) {
	if len(l.peers.all) == 0 {
		p.seq = 0 // if one comes, it is told of all there is then
		return
	}
	if e.unsaid {
		return
	}
	e.unsaid = true
	if len(p.unsaid) == 0 {
		l.peers.unsaid = append(l.peers.unsaid, p)
	}
	p.unsaid = append(p.unsaid, e)
}

// sayPresence tells the other nodes what has changed.
func (l *loop) sayPresence() {
	for _, p := range l.peers.unsaid {
		l.sayChanges(p)
	}
	clear(l.peers.unsaid)
	l.peers.unsaid = l.peers.unsaid[:0]
}

// sayChanges tells those who hear of p what has changed, as the difference from what
// they were told last.
func (l *loop) sayChanges(p *presence) {
	changed := p.unsaid
	p.unsaid = nil
	for _, e := range changed {
		e.unsaid = false
	}
	switch {
	case len(l.peers.all) == 0:
		p.seq = 0
		return
	case p.seq == 0:
		if l.rebase(p); p.said > 0 {
			l.say(Topic{Room: p.room}, &note.Note{Op: note.OpState, Room: p.room, Seq: p.seq, Users: p.stated()})
		}
		return
	}
	var users []note.Movement
	for _, e := range changed {
		m := note.Movement{User: note.User(e.user)}
		switch here := e.conns > 0; {
		case here && (!e.said || e.renamed):
			m.How = note.Came
		case here || !e.said:
			continue
		case e.quit:
			m.How = note.Left
		default:
			m.How = note.Went
		}
		if e.said {
			p.said--
		}
		if e.said = e.conns > 0; e.said {
			p.said++
		}
		e.renamed = false
		users = append(users, m)
	}
	if len(users) == 0 {
		return
	}
	change := note.Note{Op: note.OpState, Room: p.room, Prev: p.seq, Users: users}
	for n := range change.Split() {
		n.Prev = p.seq
		p.seq = l.nextPosition()
		n.Seq = p.seq
		l.say(Topic{Room: p.room}, n)
	}
}

// rebase begins anew with what the other nodes are told of p, where nothing valid was.
func (l *loop) rebase(p *presence) {
	p.said = 0
	for _, e := range p.users {
		e.said, e.renamed = e.conns > 0, false
		if e.said {
			p.said++
		}
	}
	if p.said > 0 {
		p.seq = l.nextPosition()
	}
}

// position is where p stands, after all that has happened; 0: nobody is here.
func (l *loop) position(p *presence) uint64 {
	switch {
	case len(p.unsaid) > 0:
		l.sayChanges(p)
	case p.seq == 0:
		l.rebase(p)
	}
	if p.said == 0 {
		return 0
	}
	return p.seq
}

// nextPosition is after all positions of this node: one that a room had before it was
// forgotten is not mistaken for a later one.
func (l *loop) nextPosition() uint64 {
	l.peers.said++
	return l.peers.said
}

// stated returns the users that are on this node, as the others were told.
func (p *presence) stated() []note.Movement {
	users := make([]note.Movement, 0, p.said)
	for _, e := range p.users {
		if e.said {
			users = append(users, note.Movement{User: note.User(e.user), How: note.Came})
		}
	}
	return users
}

// sayWhole tells a peer who is here, in a room or online; p is nil where nobody is.
func (l *loop) sayWhole(to *peer, room string, p *presence) {
	n := &note.Note{Op: note.OpState, Room: room}
	var users []note.Movement
	if p != nil {
		if n.Seq = l.position(p); n.Seq > 0 {
			users = p.stated()
		}
		now := l.now()
		for _, e := range p.touched {
			if !e.gone.IsZero() {
				users = append(users, note.Movement{User: note.User(e.user), How: note.Lingers, Age: now.Sub(e.gone)})
			}
		}
	}
	if n.Seq == 0 {
		n.Seq = l.nextPosition()
	}
	n.Users = users
	l.say(Topic{Node: to.id}, n)
}
