package chathub

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/go-json-experiment/json/jsontext"
)

// Answer is the answer of one connection to [Target.EmitWithAck].
type Answer struct {
	ClientID string
	User     User
	// Data is the answer, or nil if there is none.
	Data jsontext.Value
	// Err says why there is no answer: it is the error of the context,
	// [ErrClientGone], or an [Error] with which the client answered.
	Err error
}

// EmitWithAck sends an event to every connection that t names, on every node,
// and waits for answers. It returns one Answer for each connection, once all of
// them have answered or are gone, or ctx has ended. Connections that come
// meanwhile are not asked.
//
// A node has until ctx ends, and Config.NodeLease, to say which connections it
// asks. If one does not, EmitWithAck returns the answers that it has, and an
// [Error] with [CodeUnavailable].
func (t Target) EmitWithAck(ctx context.Context, event string, data any) ([]Answer, error) {
	e, err := t.hub.newEnvelope(event, data)
	if err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	ask := t.note(note.OpQuestion)
	ask.Event, ask.Data = e.typ, e.data
	var here []*Client
	var there *inquiry
	err = t.hub.onLoop(func(l *loop) {
		here = l.find(ask)
		if len(l.nodes.all) > 0 && len(t.topics) > 0 {
			there = l.startInquiry(ctx, ask)
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
			answers[i] = Answer{ClientID: c.id, User: c.User(), Data: a.data, Err: a.err}
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

// note returns a note to other nodes about the clients that t names there.
func (t Target) note(op note.Op) *note.Note {
	n := &note.Note{Op: op, Except: t.except, Clients: t.clients}
	for _, topic := range t.topics {
		n.Topics = append(n.Topics, note.Topic(topic))
	}
	return n
}

// find returns the clients of this hub that a question is for, each once.
func (l *loop) find(n *note.Note) (clients []*Client) {
	found := make(map[*Client]bool)
	for _, topic := range n.Topics {
		a := l.audienceOf(Topic(topic))
		if a == nil {
			continue
		}
		for _, c := range l.recipients(a, &incoming{topic: Topic(topic), Routed: note.Routed{Except: n.Except, Clients: n.Clients}}) {
			if !found[c] {
				found[c] = true
				clients = append(clients, c)
			}
		}
	}
	return clients
}

// inquiry is a question of this hub to clients of other nodes. It belongs to
// the loop until done is closed.
type inquiry struct {
	note    note.Note
	until   time.Time // zero: for ever
	nodes   map[string]*nodeAnswers
	missing bool // a node did not say which clients it has asked
	ended   bool
	done    chan struct{} // closed when nothing more will come
}

// nodeAnswers are the answers of one node to an inquiry.
type nodeAnswers struct {
	counted bool // the node has said how many clients it asks: total
	total   int
	gone    bool // nothing more will come
	final   int  // replies that are not waiting
	replies []note.Reply
	index   map[string]int // in replies, by client
}

// named reports whether the node has said which clients it asks.
func (na *nodeAnswers) named() bool { return na.counted && len(na.replies) == na.total }

// complete reports whether nothing more is expected of the node.
func (na *nodeAnswers) complete() bool { return na.gone || na.named() && na.final == na.total }

func (l *loop) startInquiry(ctx context.Context, question *note.Note) *inquiry {
	q := &inquiry{note: *question, nodes: make(map[string]*nodeAnswers), done: make(chan struct{})}
	q.note.ID = l.nodes.newID()
	q.until, _ = ctx.Deadline()
	for id := range l.nodes.all {
		q.nodes[id] = &nodeAnswers{index: make(map[string]int)}
	}
	l.nodes.inquiries[q.note.ID] = q
	l.sendQuestion(Topic{}, q, 0)
	return q
}

// sendQuestion asks a question, or, with have, asks for the answers that are
// missing.
func (l *loop) sendQuestion(t Topic, q *inquiry, have int) {
	n := q.note
	n.Have = uint64(have)
	if !q.until.IsZero() {
		n.Timeout = max(time.Until(q.until), time.Millisecond)
	}
	l.sendNote(t, &n)
}

// wait waits until all nodes have answered or are gone, or ctx has ended.
func (inq *inquiry) wait(ctx context.Context, h *Hub) error {
	select {
	case <-inq.done:
	case <-ctx.Done():
	case <-h.life.done:
	}
	_ = h.onLoop(func(l *loop) { // a closed hub does not touch it any more
		delete(l.nodes.inquiries, inq.note.ID)
		l.sendNote(Topic{}, &note.Note{Op: note.OpQuestionDone, ID: inq.note.ID})
		inq.end()
	})
	select {
	case <-inq.done:
	case <-h.life.loopEnded:
	}
	for _, a := range inq.nodes {
		inq.missing = inq.missing || !a.named() && !a.gone
	}
	if inq.missing {
		return errNodeSilent
	}
	return nil
}

// answers returns the answers, once wait has returned.
func (inq *inquiry) answers(ctx context.Context) (answers []Answer) {
	for _, a := range inq.nodes {
		for _, r := range a.replies {
			b := Answer{ClientID: r.Client, User: User(r.User)}
			switch {
			case r.State == note.Answered:
				b.Data = r.Data
			case r.State == note.Refused:
				b.Err = &Error{Code: Code(r.Code), Message: r.Message, answered: true}
			case r.State == note.Waiting && !a.gone && ctx.Err() != nil:
				b.Err = ctx.Err()
			default:
				b.Err = ErrClientGone
			}
			answers = append(answers, b)
		}
	}
	return answers
}

func (inq *inquiry) end() {
	if !inq.ended {
		inq.ended = true
		close(inq.done)
	}
}

// endIfComplete ends an inquiry of which nothing more is expected.
func (inq *inquiry) endIfComplete() {
	for _, a := range inq.nodes {
		if !a.complete() {
			return
		}
	}
	inq.end()
}

// hearAnswers takes in answers of a node's clients.
func (l *loop) hearAnswers(from *node, n *note.Note) {
	q := l.nodes.inquiries[n.ID]
	if q == nil || q.ended || q.nodes[from.id] == nil {
		return
	}
	a := q.nodes[from.id]
	for _, r := range n.Replies {
		i, known := a.index[r.Client]
		switch {
		case !known:
			a.index[r.Client] = len(a.replies)
			a.replies = append(a.replies, r)
			if r.State != note.Waiting {
				a.final++
			}
		case a.replies[i].State == note.Waiting && r.State != note.Waiting:
			a.replies[i] = r
			a.final++
		}
	}
	a.counted, a.total = true, int(min(n.Have, math.MaxInt32))
	q.endIfComplete()
}

// dropQuestions ends the questions to a node that has gone, and those of it.
func (l *loop) dropQuestions(gone *node, goodbye bool) {
	for _, q := range l.nodes.inquiries {
		if a := q.nodes[gone.id]; a != nil {
			q.missing = q.missing || !a.named() && !goodbye
			a.gone = true
			q.endIfComplete()
		}
	}
	for key, q := range l.nodes.questions {
		if key.node == gone.id {
			q.cancel()
			delete(l.nodes.questions, key)
		}
	}
}

// questionKey names a question of another node.
type questionKey struct {
	node string
	id   uint64
}

// question is a question of another node to clients of this one. It belongs to
// the loop, and is kept for a lease after it was heard last, so that no client
// is asked twice. The other node repeats it about once a second while it waits.
type question struct {
	cancel  context.CancelFunc
	heardAt time.Time
	replies []note.Reply
	final   int // replies that are not waiting
}

// hearQuestion asks clients for another node, or repeats their answers.
func (l *loop) hearQuestion(from *node, n *note.Note) {
	key := questionKey{from.id, n.ID}
	q := l.nodes.questions[key]
	if q != nil {
		if q.heardAt = l.now(); n.Have != uint64(1+q.final) {
			l.sendReplies(key, q, q.replies)
		}
		return
	}
	var ctx context.Context
	q = &question{heardAt: l.now()}
	if n.Timeout > 0 {
		ctx, q.cancel = context.WithTimeout(l.hub.life.ctx, n.Timeout)
	} else {
		ctx, q.cancel = context.WithCancel(l.hub.life.ctx)
	}
	l.nodes.questions[key] = q
	clients := l.find(n)
	for _, c := range clients {
		q.replies = append(q.replies, note.Reply{Client: c.id, User: note.User(c.User())})
	}
	l.sendReplies(key, q, q.replies)
	e := &envelope{typ: n.Event, data: n.Data}
	for i, c := range clients {
		go func() {
			r := replyOf(c, c.question(ctx, e))
			if r.State == note.Waiting { // its time is over, at the other node too
				return
			}
			_ = l.hub.post(call(func(l *loop) { // a closed hub has said goodbye
				q.replies[i] = r
				q.final++
				l.sendReplies(key, q, q.replies[i:i+1])
			}))
		}()
	}
}

// replyOf returns a client's answer for another node.
func replyOf(c *Client, a answer) note.Reply {
	r := note.Reply{Client: c.id, User: note.User(c.User())}
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

// promise begins an inquiry of another node that asks no clients. It returns
// the command that says that this hub has done what it was asked to. If the
// inquiry was heard before, it returns nil, and repeats the answer if there is
// one.
func (l *loop) promise(from *node, n *note.Note, cancel func()) (confirm call) {
	key := questionKey{from.id, n.ID}
	if q := l.nodes.questions[key]; q != nil {
		if q.heardAt = l.now(); q.final > 0 {
			l.sendReplies(key, q, nil)
		}
		return nil
	}
	q := &question{cancel: cancel, heardAt: l.now()}
	l.nodes.questions[key] = q
	return func(l *loop) {
		q.final = 1
		l.sendReplies(key, q, nil)
	}
}

// sendReplies sends some of the replies to the node that has asked.
func (l *loop) sendReplies(to questionKey, q *question, replies []note.Reply) {
	n := &note.Note{Op: note.OpAnswers, ID: to.id, Have: uint64(len(q.replies)), Replies: replies}
	l.sendNote(Topic{Node: to.node}, n)
}

// hearQuestionDone ends a question for whose answers nobody waits any more.
func (l *loop) hearQuestionDone(from *node, n *note.Note) {
	if q := l.nodes.questions[questionKey{from.id, n.ID}]; q != nil {
		q.cancel()
	}
}

// sweepQuestions asks again for answers that are missing, and forgets questions
// that were not repeated for a lease.
func (l *loop) sweepQuestions(now time.Time) {
	for _, q := range l.nodes.inquiries {
		for id, a := range q.nodes {
			if a.complete() {
				continue
			}
			have := 0
			if a.named() {
				have = 1 + a.final
			}
			l.sendQuestion(Topic{Node: id}, q, have)
		}
	}
	for key, q := range l.nodes.questions {
		if now.Sub(q.heardAt) >= l.cfg.NodeLease {
			q.cancel()
			delete(l.nodes.questions, key)
		}
	}
}
