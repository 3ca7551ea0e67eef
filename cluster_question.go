package chathub

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/chathub-go/chathub/internal/note"
)

// Answer is what one connection answered to [Target.EmitWithAck].
type Answer struct {
	ClientID string
	User     User
	// Data is the answer; nil where there is none.
	Data jsontext.Value
	// Err says why there is none: the context's error, [ErrClientGone], or an
	// [Error] that the client answered with.
	Err error
}

// EmitWithAck asks every connection that t names, on every node, and returns one
// answer for each when all have answered, have gone, or ctx has ended. Where a node did not say, in
// time or within Config.NodeLease, whom it has asked, it returns the answers that it has, and an
// [Error] with [CodeUnavailable]. Connections that come while it waits are not asked.
func (t Target) EmitWithAck(ctx context.Context, event string, data any) ([]Answer, error) {
	e, err := newEnvelope(event, data)
	if err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	var here []*Client
	var there *asking
	err = t.hub.onLoop(func(l *loop) {
		here = l.find(t.question(e))
		if len(l.peers.all) > 0 && len(t.topics) > 0 {
			there = l.startAsking(ctx, t, e)
		}
	})
	if err != nil {
		return nil, err
	}
	answers := make([]Answer, len(here))
	var wg sync.WaitGroup
	for i, c := range here {
		wg.Go(func() {
			a := c.question(ctx, e)
			answers[i] = Answer{ClientID: c.id, User: c.user, Data: a.data, Err: a.err}
		})
	}
	if there != nil {
		err = there.wait(ctx, t.hub)
	}
	wg.Wait()
	if there != nil {
		answers = append(answers, there.answers(ctx)...)
	}
	return answers, err
}

// question is what other nodes are asked.
func (t Target) question(e *envelope) *note.Note {
	n := &note.Note{Op: note.OpQuestion, Except: t.except, Clients: t.clients, Event: e.typ, Data: e.data}
	for _, topic := range t.topics {
		n.Topics = append(n.Topics, note.Topic(topic))
	}
	return n
}

// find returns the clients of this hub that an ask is for, each once.
func (l *loop) find(n *note.Note) (clients []*Client) {
	found := make(map[*Client]bool)
	for _, topic := range n.Topics {
		a := l.audienceOf(Topic(topic))
		if a == nil {
			continue
		}
		for _, c := range l.recipients(a, &incoming{Routed: note.Routed{Except: n.Except, Clients: n.Clients}}) {
			if !found[c] {
				found[c] = true
				clients = append(clients, c)
			}
		}
	}
	return clients
}

// asking is a question of this hub to connections of others. It belongs to the loop
// until done is closed.
type asking struct {
	id      uint64
	ask     note.Note
	until   time.Time // zero: for ever
	peers   map[string]*asksPeer
	missing bool // a node did not say whom it has asked
	ended   bool
	done    chan struct{} // closed when nothing more will come
}

// asksPeer is what a peer has said to a question.
type asksPeer struct {
	said    bool // how many it asks:
	total   int
	over    bool // nothing more will come
	settled int  // replies that are not waiting
	replies []note.Reply
	index   map[string]int // by client
}

// complete reports whether it has said whom it asks.
func (p *asksPeer) complete() bool { return p.said && len(p.replies) == p.total }

func (l *loop) startAsking(ctx context.Context, t Target, e *envelope) *asking {
	a := &asking{
		id:    l.question(),
		ask:   *t.question(e),
		peers: make(map[string]*asksPeer),
		done:  make(chan struct{}),
	}
	a.until, _ = ctx.Deadline()
	for id := range l.peers.all {
		a.peers[id] = &asksPeer{index: make(map[string]int)}
	}
	l.peers.asking[a.id] = a
	l.sayAsk(Topic{}, a, 0)
	return a
}

// sayAsk asks, or, where that was said before, asks for what has been answered.
func (l *loop) sayAsk(t Topic, a *asking, have int) {
	n := a.ask
	n.ID, n.Have = a.id, uint64(have)
	if !a.until.IsZero() {
		n.Timeout = max(time.Until(a.until), time.Millisecond)
	}
	l.say(t, &n)
}

// wait waits until all peers have answered or gone, or ctx has ended.
func (a *asking) wait(ctx context.Context, h *Hub) error {
	select {
	case <-a.done:
	case <-ctx.Done():
	case <-h.life.done:
	}
	_ = h.onLoop(func(l *loop) { // a closed hub does not look at it any more
		delete(l.peers.asking, a.id)
		l.say(Topic{}, &note.Note{Op: note.OpQuestionDone, ID: a.id})
		a.end()
	})
	select {
	case <-a.done:
	case <-h.life.loopEnded:
	}
	for _, p := range a.peers {
		a.missing = a.missing || !p.complete() && !p.over
	}
	if a.missing {
		return errNodeSilent
	}
	return nil
}

// answers returns what has come, once wait has returned.
func (a *asking) answers(ctx context.Context) (answers []Answer) {
	for _, p := range a.peers {
		for _, r := range p.replies {
			b := Answer{ClientID: r.Client, User: User(r.User)}
			switch {
			case r.State == note.Answered:
				b.Data = r.Data
			case r.State == note.Refused:
				b.Err = &Error{Code: Code(r.Code), Message: r.Message, answered: true}
			case r.State == note.Waiting && !p.over && ctx.Err() != nil:
				b.Err = ctx.Err()
			default:
				b.Err = ErrClientGone
			}
			answers = append(answers, b)
		}
	}
	return answers
}

func (a *asking) end() {
	if !a.ended {
		a.ended = true
		close(a.done)
	}
}

// settle ends a question to which all have said what they will.
func (a *asking) settle() {
	for _, p := range a.peers {
		if !p.over && !(p.complete() && p.settled == p.total) {
			return
		}
	}
	a.end()
}

// hearAnswers takes in what a peer's clients have said.
func (l *loop) hearAnswers(from *peer, n *note.Note) {
	a := l.peers.asking[n.ID]
	if a == nil || a.ended || a.peers[from.id] == nil {
		return
	}
	p := a.peers[from.id]
	for _, r := range n.Replies {
		i, known := p.index[r.Client]
		switch {
		case !known:
			p.index[r.Client] = len(p.replies)
			p.replies = append(p.replies, r)
			if r.State != note.Waiting {
				p.settled++
			}
		case p.replies[i].State == note.Waiting && r.State != note.Waiting:
			p.replies[i] = r
			p.settled++
		}
	}
	p.said, p.total = true, int(min(n.Have, math.MaxInt32))
	a.settle()
}

// loseAsked ends what a peer that has gone was asked, and what it has asked.
func (l *loop) loseAsked(gone *peer, farewell bool) {
	for _, a := range l.peers.asking {
		if p := a.peers[gone.id]; p != nil {
			a.missing = a.missing || !p.complete() && !farewell
			p.over = true
			a.settle()
		}
	}
	for key, a := range l.peers.asked {
		if key.node == gone.id {
			a.cancel()
			delete(l.peers.asked, key)
		}
	}
}

// askedKey names a question of another node.
type askedKey struct {
	node string
	id   uint64
}

// asked is a question of another node to connections of this one. It belongs to the
// loop. It is kept for a lease after it was heard of last, so that what comes twice is not
// asked twice; the node asks again, about once a second, for as long as it waits.
type asked struct {
	cancel  context.CancelFunc
	heard   time.Time
	replies []note.Reply
	settled int // of them, that are not waiting
}

// hearAsk asks clients of this node for another, or repeats what they have said.
func (l *loop) hearAsk(from *peer, n *note.Note) {
	key := askedKey{from.id, n.ID}
	a := l.peers.asked[key]
	if a != nil {
		if a.heard = l.now(); n.Have != uint64(1+a.settled) {
			l.sayReplies(key, a, a.replies)
		}
		return
	}
	var ctx context.Context
	a = &asked{heard: l.now()}
	if n.Timeout > 0 {
		ctx, a.cancel = context.WithTimeout(l.hub.life.ctx, n.Timeout)
	} else {
		ctx, a.cancel = context.WithCancel(l.hub.life.ctx)
	}
	l.peers.asked[key] = a
	clients := l.find(n)
	for _, c := range clients {
		a.replies = append(a.replies, note.Reply{Client: c.id, User: note.User(c.user)})
	}
	l.sayReplies(key, a, a.replies)
	e := &envelope{typ: n.Event, data: n.Data}
	for i, c := range clients {
		go func() {
			r := replyOf(c, c.question(ctx, e))
			if r.State == note.Waiting { // its time is over, for who asked too
				return
			}
			_ = l.hub.post(call(func(l *loop) { // a closed hub has said goodbye
				a.replies[i] = r
				a.settled++
				l.sayReplies(key, a, a.replies[i:i+1])
			}))
		}()
	}
}

// replyOf is what a client has said.
func replyOf(c *Client, a answer) note.Reply {
	r := note.Reply{Client: c.id, User: note.User(c.user)}
	var e *Error
	switch {
	case a.err == nil:
		r.State, r.Data = note.Answered, a.data
	case errors.As(a.err, &e) && e.answered:
		r.State, r.Code, r.Message = note.Refused, string(e.Code), e.Message
	case errors.Is(a.err, context.Canceled), errors.Is(a.err, context.DeadlineExceeded):
	default:
		r.State = note.Gone
	}
	return r
}

// sayReplies tells who asked some of the replies.
func (l *loop) sayReplies(to askedKey, a *asked, replies []note.Reply) {
	n := &note.Note{Op: note.OpAnswers, ID: to.id, Have: uint64(len(a.replies)), Replies: replies}
	l.say(Topic{Node: to.node}, n)
}

// hearAsked ends what another node does not wait for any more.
func (l *loop) hearAsked(from *peer, n *note.Note) {
	if a := l.peers.asked[askedKey{from.id, n.ID}]; a != nil {
		a.cancel()
	}
}

// sweepAsked asks again where answers may have got lost, and forgets what nobody has
// asked about for a lease.
func (l *loop) sweepAsked(now time.Time) {
	for _, a := range l.peers.asking {
		for id, p := range a.peers {
			if p.over || p.complete() && p.settled == p.total {
				continue
			}
			have := 0
			if p.complete() {
				have = 1 + p.settled
			}
			l.sayAsk(Topic{Node: id}, a, have)
		}
	}
	for key, a := range l.peers.asked {
		if now.Sub(a.heard) >= l.cfg.NodeLease {
			a.cancel()
			delete(l.peers.asked, key)
		}
	}
}
