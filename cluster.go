package chathub

import (
	"context"
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// peer is another hub on the broker. It belongs to the loop.
type peer struct {
	id      string
	heard   time.Time // when it said something last
	beat    uint64    // number of its last beat; 0: none came yet
	checked time.Time // when a few rooms were compared with it last
	silent  bool      // it left a question without an answer, and has said nothing since
}

// peers is what the loop knows of the other hubs. Alone, a hub sends a beat now and
// then, and that is all that there is of this.
type peers struct {
	all       map[string]*peer
	left      map[string]time.Time // those that said so, and when
	said      uint64               // the last position given to a state of this hub
	beats     uint64
	beatAt    time.Time   // of the last
	unsaid    []*presence // have changes that the peers were not told of
	questions uint64      // the last id given to one
	look      *look       // under way
	next      *look       // waits for it
	asking    map[uint64]*asking
	asked     map[askedKey]*asked
	lane      *courier
}

const (
	// beatsPerLease is how often a node says that it is alive within its lease: so
	// many may be late or lost, but one.
	beatsPerLease = 5
	// leftKept is how long a node that said goodbye is not taken for alive because of
	// what it had said before.
	leftKept = time.Minute
	// checkRooms is how many rooms are compared with one peer at each sweep.
	checkRooms = 256
	// laneQueue bounds what waits to be said to peers: beyond it is lost, which
	// heals.
	laneQueue = 4096
)

func (p *peers) init(h *Hub) {
	p.all = make(map[string]*peer)
	p.left = make(map[string]time.Time)
	p.asking = make(map[uint64]*asking)
	p.asked = make(map[askedKey]*asked)
	p.lane = &h.courier
}

// hearNote is the part of deliver that is for the hub itself.
func (h *Hub) hearNote(m Message) {
	n := &heardNote{}
	if err := n.Decode(m.Body); err != nil {
		h.log.Error("chathub: message from another node cannot be read", "topic", m.Topic, "err", err)
		return
	}
	if n.From != h.node {
		_ = h.post(n) // a closed hub has nobody to deliver to
	}
}

// heardNote is the command that carries out what another node says.
type heardNote struct{ note.Note }

func (cmd *heardNote) run(l *loop) {
	n := &cmd.Note
	p := l.hear(n.From)
	if p == nil {
		return
	}
	switch n.Op {
	case note.OpBeat:
		l.hearBeat(p, n)
	case note.OpBye:
		l.peers.left[p.id] = l.now()
		l.lose(p, l.now(), true)
	case note.OpState:
		l.hearState(p, n)
	case note.OpCheck:
		l.hearCheck(p, n)
	case note.OpCheckDone:
		l.looked(p, n.ID)
	case note.OpQuestion:
		l.hearAsk(p, n)
	case note.OpAnswers:
		l.hearAnswers(p, n)
	case note.OpQuestionDone:
		l.hearAsked(p, n)
	}
}

// hear returns the peer that says something, nil for one that has said goodbye.
func (l *loop) hear(id string) *peer {
	if _, left := l.peers.left[id]; left {
		return nil
	}
	p := l.peers.all[id]
	if p == nil {
		p = &peer{id: id}
		l.meet(p)
	}
	p.heard = l.now()
	if p.silent {
		p.silent = false
		l.checkAll(p)
	}
	return p
}

// meet makes a peer known, tells it of this hub, and asks for all it has to say.
func (l *loop) meet(p *peer) {
	l.peers.all[p.id] = p
	l.countPeers()
	if !l.hub.noteCourierRuns {
		// A lane of its own from now on: what the courier does may take long, and
		// beats must not wait for it.
		l.hub.noteCourierRuns = true
		l.peers.lane = &l.hub.noteCourier
		go l.hub.noteCourier.run(l.hub)
	}
	l.say(Topic{Node: p.id}, &note.Note{Op: note.OpBeat, ID: l.peers.beats, Seq: l.position(&l.presence.online)})
	l.checkAll(p)
}

func (l *loop) countPeers() { l.hub.nodeCount.Store(int64(len(l.peers.all))) }

// lose takes away a peer, whose users have been gone since then.
func (l *loop) lose(p *peer, since time.Time, farewell bool) {
	delete(l.peers.all, p.id)
	l.countPeers()
	l.dropReplica(&l.presence.online, p.id, since)
	for _, r := range l.rooms {
		l.dropReplica(&r.presence, p.id, since)
	}
	l.looked(p, 0)
	l.loseAsked(p, farewell)
}

// say sends n to a topic, soon, in as many notes as it takes. It does not wait.
func (l *loop) say(t Topic, n *note.Note) {
	n.From = l.hub.node
	for part := range n.Split() {
		l.sayPart(Message{Topic: t, Body: part.Encode()})
	}
}

func (l *loop) sayPart(m Message) {
	if l.peers.lane.length() >= laneQueue {
		return
	}
	l.peers.lane.add(func(h *Hub) {
		ctx, cancel := h.brokerContext()
		defer cancel()
		err := h.session.Send(ctx, m)
		if down := err != nil; down != h.notesFailing.Swap(down) && h.life.ctx.Err() == nil {
			if down {
				h.log.Warn("chathub: other nodes cannot be told of this one", "err", err)
			} else {
				h.log.Info("chathub: other nodes can be told of this one again")
			}
		}
	})
}

// hearBeat compares what the peer's users should be with what they are known to be.
func (l *loop) hearBeat(p *peer, n *note.Note) {
	missed := p.beat != 0 && n.ID > p.beat+1
	p.beat = max(p.beat, n.ID)
	switch {
	case missed: // and who knows what else
		l.checkAll(p)
	case n.Seq != l.presence.online.replicas[p.id].mark():
		l.checkOne(p, &l.presence.online)
	}
}

// sweepPeers is the part of sweep that is for peers.
func (l *loop) sweepPeers(now time.Time) {
	s := &l.peers
	stalled := !l.sweeping.began.IsZero() && now.Sub(l.sweeping.began) > 2*sweepInterval
	lease := l.cfg.NodeLease
	for _, p := range s.all {
		if stalled { // by this hub: what they said may be waiting in the queue
			p.heard = now
		}
		// A sweep early, so that it is not too late at the next.
		if now.Sub(p.heard) > lease-sweepInterval {
			l.hub.log.Warn("chathub: another node is silent", "node", p.id)
			l.lose(p, p.heard, false)
		}
	}
	for id, at := range s.left {
		if now.Sub(at) > leftKept {
			delete(s.left, id)
		}
	}
	if now.Sub(s.beatAt) > lease/beatsPerLease-sweepInterval/2 {
		l.beat(now)
	}
	if len(s.all) > 0 {
		l.checkSome(now)
	}
	l.sweepLook(now)
	l.sweepAsked(now)
}

// beat says that this hub is alive.
func (l *loop) beat(now time.Time) {
	l.peers.beatAt = now
	l.peers.beats++
	n := &note.Note{Op: note.OpBeat, ID: l.peers.beats}
	if len(l.peers.all) > 0 {
		n.Seq = l.position(&l.presence.online)
	}
	l.say(Topic{}, n)
}

// checkAll asks a peer for whatever is not known of it.
func (l *loop) checkAll(p *peer) {
	n := &note.Note{Op: note.OpCheck, Fresh: true}
	n.Marks = append(n.Marks, l.presence.online.replicas[p.id].markOf(""))
	for name, r := range l.rooms {
		if r.followed() {
			n.Marks = append(n.Marks, r.presence.replicas[p.id].markOf(name))
		}
	}
	l.say(Topic{Node: p.id}, n)
}

// checkOne asks a peer for the state of one room, or the hub's, unless it was asked
// just now.
func (l *loop) checkOne(p *peer, of *presence) {
	r := of.replica(p.id)
	if now := l.now(); now.Sub(r.asked) >= sweepInterval {
		r.asked = now
		l.say(Topic{Node: p.id}, &note.Note{Op: note.OpCheck, Marks: []note.Mark{r.markOf(of.room)}})
	}
}

// checkSome compares some rooms with the peer with which that was done last: what got
// lost, and nothing after it told so, is found in time.
func (l *loop) checkSome(now time.Time) {
	var p *peer
	for _, o := range l.peers.all {
		if p == nil || o.checked.Before(p.checked) {
			p = o
		}
	}
	p.checked = now
	n := &note.Note{Op: note.OpCheck}
	for name, r := range l.rooms { // from anywhere: a map has no first
		if len(n.Marks) == checkRooms {
			break
		}
		if r.followed() {
			n.Marks = append(n.Marks, r.presence.replicas[p.id].markOf(name))
		}
	}
	if len(n.Marks) > 0 {
		l.say(Topic{Node: p.id}, n)
	}
}

// hearCheck tells a peer what it does not know.
func (l *loop) hearCheck(p *peer, n *note.Note) {
	for _, m := range n.Marks {
		of := l.presenceOf(m.Room)
		at := uint64(0)
		if of != nil {
			at = l.position(of)
		}
		if at != m.Seq || n.Fresh && of != nil && of.graced() {
			l.sayWhole(p, m.Room, of)
		}
	}
	if n.ID != 0 {
		l.say(Topic{Node: p.id}, &note.Note{Op: note.OpCheckDone, ID: n.ID})
	}
}

// sayBye tells the peers that this hub ends, whose loop has.
func (h *Hub) sayBye() {
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeout)
	defer cancel()
	n := &note.Note{Op: note.OpBye, From: h.node}
	if err := h.session.Send(ctx, Message{Body: n.Encode()}); err != nil {
		h.log.Warn("chathub: goodbye to other nodes", "err", err) // they find out
	}
}
