package chathub

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/roster"
)

// node is another hub on the broker. It belongs to the loop.
type node struct {
	id        string
	heardAt   time.Time // when it was heard last
	beat      uint64    // number of its last beat; 0: none has come
	checkedAt time.Time // when some rooms were compared with it last
	silent    bool      // it did not answer a lookup, and was not heard since
}

// nodes is what the loop knows of the other nodes. A hub alone sends a beat now
// and then, and nothing else here happens.
type nodes struct {
	all      map[string]*node
	goodbyes map[string]time.Time // when nodes have said goodbye
	self     roster.Node          // what the rosters of this node share
	pending  []*presence          // with changes to announce
	beats    uint64               // how many were sent
	beatAt   time.Time            // when the last was sent
	courier  *courier             // sends notes

	lastID     uint64  // of lookups and inquiries
	lookup     *lookup // under way
	nextLookup *lookup // waits for it
	inquiries  map[uint64]*inquiry
	questions  map[questionKey]*question // of other nodes
	away       awayNodes
}

const (
	// beatsPerLease is how often a node says that it is alive within its lease.
	// All of these beats but one may be late or lost.
	beatsPerLease = 5
	// goodbyeKept is how long a node that said goodbye does not count as alive
	// because of notes that it had sent before.
	goodbyeKept = time.Minute
	// checkRooms is how many rooms are compared with one node at each sweep.
	checkRooms = 256
	// maxNotes bounds the notes that wait to be sent. Those beyond are dropped,
	// which heals like any other loss.
	maxNotes = 4096
)

func (ns *nodes) init(h *Hub) {
	ns.all = make(map[string]*node)
	ns.goodbyes = make(map[string]time.Time)
	ns.self.Grace = h.cfg.PresenceGrace
	ns.courier = &h.courier
	ns.inquiries = make(map[uint64]*inquiry)
	ns.questions = make(map[questionKey]*question)
	ns.away.init()
}

// hearNote is the part of deliver for notes.
func (h *Hub) hearNote(m Message) {
	cmd := &incomingNote{}
	if err := cmd.Decode(m.Body); err != nil {
		// A newer node may say what this one does not understand, and often.
		h.logLimited("unreadable note", slog.LevelError, "chathub: message from another node cannot be read", func() []any {
			return []any{"topic", m.Topic, "err", err}
		})
		return
	}
	if cmd.From != h.node {
		_ = h.post(cmd) // a closed hub has nobody to deliver to
	}
}

// incomingNote is the command that carries out what another node says.
type incomingNote struct{ note.Note }

func (cmd *incomingNote) run(l *loop) {
	n := &cmd.Note
	from := l.hear(n.From)
	if from == nil {
		return
	}
	switch n.Op {
	case note.OpBeat:
		l.hearBeat(from, n)
	case note.OpBye:
		l.nodes.goodbyes[from.id] = l.now()
		l.dropNode(from, l.now(), true)
	case note.OpState:
		l.hearState(from, n)
	case note.OpCheck:
		l.hearCheck(from, n)
	case note.OpCheckDone:
		l.lookupAnswered(from, n.ID)
	case note.OpQuestion:
		l.hearQuestion(from, n)
	case note.OpAnswers:
		l.hearAnswers(from, n)
	case note.OpQuestionDone:
		l.hearQuestionDone(from, n)
	case note.OpRevoke:
		l.hearRevoke(from, n)
	case note.OpInspect:
		l.hearInspect(from, n)
	case note.OpTold:
		l.hearTold(n)
	case note.OpSettle:
		l.hearSettle(from, n)
	case note.OpAway:
		l.hearAway(from, n)
	}
}

// hear returns the node that has sent something; nil if it has said goodbye.
func (l *loop) hear(id string) *node {
	if _, ended := l.nodes.goodbyes[id]; ended {
		return nil
	}
	from := l.nodes.all[id]
	if from == nil {
		from = &node{id: id}
		l.meet(from)
	}
	from.heardAt = l.now()
	if from.silent {
		from.silent = false
		l.checkAll(from)
	}
	return from
}

// meet makes a node known, tells it of this one, and asks for all its state.
func (l *loop) meet(to *node) {
	led := l.hook.led && l.leads()
	l.nodes.all[to.id] = to
	l.countNodes()
	if !l.hub.noteCourierRuns {
		// Notes get a courier of their own from now on. The other one does work
		// that may take long, and beats must not wait for it.
		l.hub.noteCourierRuns = true
		l.nodes.courier = &l.hub.noteCourier
		go l.hub.noteCourier.run(l.hub)
	}
	l.sendNote(Topic{Node: to.id}, &note.Note{Op: note.OpBeat, ID: l.nodes.beats, Seq: l.position(&l.presence.online)})
	l.checkAll(to)
	if l.cfg.OnPresence != nil {
		for _, r := range l.worlds {
			l.sendWhole(to, &r.presence)
		}
	}
	if led {
		l.tellHooked(to)
	}
}

func (l *loop) countNodes() {
	l.nodes.self.Others = len(l.nodes.all)
	l.hub.nodeCount.Store(int64(len(l.nodes.all)))
}

// dropNode forgets a node that has gone. The grace of its users begins at
// since.
func (l *loop) dropNode(gone *node, since time.Time, goodbye bool) {
	delete(l.nodes.all, gone.id)
	l.countNodes()
	l.dropReplicas(gone, since)
	l.lookupAnswered(gone, 0)
	l.dropQuestions(gone, goodbye)
	l.dropAway(gone)
}

// sendNote sends n to a topic, in as many notes as it takes. It does not wait.
func (l *loop) sendNote(t Topic, n *note.Note) {
	n.From = l.hub.node
	for part := range n.Split() {
		if l.nodes.courier.length() >= maxNotes {
			return
		}
		m := Message{Topic: t, Body: part.Encode()}
		l.nodes.courier.add(func(h *Hub) { h.sendNote(m) })
	}
}

// sendNote sends a note, and logs when that begins to fail and to work again.
func (h *Hub) sendNote(m Message) {
	ctx, cancel := h.brokerContext()
	defer cancel()
	err := h.session.Send(ctx, m)
	if err == nil {
		h.noteSentAt.Store(time.Now().UnixNano())
	}
	if failing := err != nil; failing != h.notesFailing.Swap(failing) && h.life.ctx.Err() == nil {
		if failing {
			h.log.Warn("chathub: other nodes cannot be told of this one", "err", err)
		} else {
			h.notesSince.Store(time.Now().UnixNano())
			h.log.Info("chathub: other nodes can be told of this one again")
		}
	}
}

// sendBye tells the other nodes that this hub ends, and what it leaves to be
// done. Its loop has ended before.
func (h *Hub) sendBye() {
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeout)
	defer cancel()
	notes := []*note.Note{{Op: note.OpBye, From: h.node}}
	if h.cfg.OnAway != nil {
		left := note.Note{Op: note.OpAway, From: h.node, Jobs: append([]note.Job{{State: note.JobNone}}, h.away.all()...)}
		notes = append(slices.Collect(left.Split()), notes...)
	}
	for _, n := range notes {
		if err := h.session.Send(ctx, Message{Body: n.Encode()}); err != nil {
			h.log.Warn("chathub: goodbye to other nodes", "err", err) // they find out
			return
		}
	}
}

// sweepNodes is the part of sweep for the other nodes.
func (l *loop) sweepNodes(now time.Time) {
	s := &l.nodes
	// If this hub was asleep, notes of the others may be waiting in its queue.
	asleep := !l.sweeping.began.IsZero() && now.Sub(l.sweeping.began) > 2*sweepInterval
	lease := l.cfg.NodeLease
	for _, n := range s.all {
		if asleep {
			n.heardAt = now
		}
		// A sweep early, since the next one would be too late.
		if now.Sub(n.heardAt) > lease-sweepInterval {
			l.hub.log.Warn("chathub: another node is silent", "node", n.id)
			l.dropNode(n, n.heardAt, false)
		}
	}
	for id, at := range s.goodbyes {
		if now.Sub(at) > goodbyeKept {
			delete(s.goodbyes, id)
		}
	}
	if now.Sub(s.beatAt) > lease/beatsPerLease-sweepInterval/2 {
		l.beat(now)
	}
	if len(s.all) > 0 {
		l.checkSome(now)
	}
	l.sweepHooks(now)
	l.sweepLookup(now)
	l.sweepQuestions(now)
	l.sweepAway(now)
}

// beat says that this hub is alive.
func (l *loop) beat(now time.Time) {
	l.nodes.beatAt = now
	l.nodes.beats++
	n := &note.Note{Op: note.OpBeat, ID: l.nodes.beats}
	if len(l.nodes.all) > 0 {
		n.Seq = l.position(&l.presence.online)
	}
	l.sendNote(Topic{}, n)
}

// hearBeat compares the position of a node's online users with the known one.
func (l *loop) hearBeat(from *node, n *note.Note) {
	missed := from.beat != 0 && n.ID > from.beat+1
	from.beat = max(from.beat, n.ID)
	switch online := &l.presence.online; {
	case missed: // and perhaps other notes with it
		l.checkAll(from)
	case n.Seq != online.roster.Known(from.id):
		l.checkOne(from, online)
	}
}

// checkAll asks a node for everything that is not known of it.
func (l *loop) checkAll(of *node) {
	n := &note.Note{Op: note.OpCheck, Fresh: true}
	n.Marks = append(n.Marks, l.presence.online.mark(of))
	for _, r := range l.rooms {
		if r.followed() {
			n.Marks = append(n.Marks, r.presence.mark(of))
		}
	}
	l.sendNote(Topic{Node: of.id}, n)
}

// checkOne asks a node for the state of one room, or of the hub, unless it was
// asked a moment ago.
func (l *loop) checkOne(of *node, p *presence) {
	if p.roster.CheckDue(of.id, l.now()) {
		l.sendNote(Topic{Node: of.id}, &note.Note{Op: note.OpCheck, Marks: []note.Mark{p.mark(of)}})
	}
}

// checkSome compares some rooms with the node with which that was done least
// recently. It finds losses after which no other note has come.
func (l *loop) checkSome(now time.Time) {
	var of *node
	for _, n := range l.nodes.all {
		if of == nil || n.checkedAt.Before(of.checkedAt) {
			of = n
		}
	}
	of.checkedAt = now
	n := &note.Note{Op: note.OpCheck}
	for _, r := range l.rooms { // others each time: a map begins anywhere
		if len(n.Marks) == checkRooms {
			break
		}
		if r.followed() {
			n.Marks = append(n.Marks, r.presence.mark(of))
		}
	}
	if len(n.Marks) > 0 {
		l.sendNote(Topic{Node: of.id}, n)
	}
}

// hearCheck tells a node what it does not know.
func (l *loop) hearCheck(from *node, n *note.Note) {
	empty := presence{roster: roster.New(&l.nodes.self)}
	for _, m := range n.Marks {
		p := l.presenceOf(m.Room)
		if p == nil && m.Seq == 0 && l.hooked(m.Room) {
			p = &l.newRoom(m.Room).presence
			l.checkOne(from, p)
		}
		if p == nil {
			p = &empty
			p.room = m.Room
		}
		if l.position(p) != m.Seq || n.Fresh && p.roster.Lingering() {
			l.sendWhole(from, p)
		}
	}
	if n.Fresh && len(n.Marks) > 0 && n.Marks[0].Room == "" { // a checkAll
		l.sendAway(from)
	}
	if n.ID != 0 {
		l.sendNote(Topic{Node: from.id}, &note.Note{Op: note.OpCheckDone, ID: n.ID})
	}
}
