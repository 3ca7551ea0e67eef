package chathub

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/change"
	"github.com/chathub-go/chathub/internal/note"
)

// changes carries out the changes of messages. Those of one message that come
// at the same time are stored together. Any goroutine may use it.
type changes struct {
	hub *Hub

	mu      sync.Mutex
	running map[changeKey]*changer
}

// changeKey is the message that changes, in the log that decides first.
type changeKey struct {
	topic Topic
	name  string
}

// mergeTime is for how long reactions to one message are gathered after one was
// stored. The first one does not wait, and neither does what else changes the
// message, or the application.
const mergeTime = 100 * time.Millisecond

// changeTries is how often a change is tried again because another node has
// changed the message meanwhile.
const changeTries = 50

// changer stores the changes of one message, one after another. It ends when
// there was nothing to do for mergeTime.
type changer struct {
	all  *changes
	key  changeKey
	wake chan struct{} // holds one: there is something that does not wait

	waiting []*changeOp // guarded by changes.mu

	// Of the goroutine that runs:
	state   *change.State // nil: to be read
	version Message       // that says so; Seq 0: the message never changed
}

// changeOp is a change that somebody waits for.
type changeOp struct {
	change.Op
	message *changing
	from    *User // nil: the application
	done    chan struct{}

	receipt Receipt
	err     error
}

// apply carries out a change and returns where it is stored. If ctx ends first,
// the change may be stored all the same. That of a client is not stored later
// than apply returns, since a revocation waits for it.
func (ch *changes) apply(ctx context.Context, m *changing, op *change.Op, from *User) (Receipt, error) {
	o := &changeOp{Op: *op, message: m, from: from, done: make(chan struct{})}
	w := ch.add(o)
	select {
	case <-o.done:
		return o.receipt, o.err
	case <-ctx.Done():
	}
	if ch.withdraw(w, o) || from == nil {
		return Receipt{}, Unavailable(ctx.Err())
	}
	<-o.done
	return o.receipt, o.err
}

// add hands a change to the changer of its message.
func (ch *changes) add(o *changeOp) *changer {
	at := &o.message.copies[0]
	key := changeKey{at.topic, at.name}
	ch.mu.Lock()
	w := ch.running[key]
	isNew := w == nil
	if isNew {
		w = &changer{all: ch, key: key, wake: make(chan struct{}, 1)}
		if ch.running == nil {
			ch.running = make(map[changeKey]*changer)
		}
		ch.running[key] = w
	}
	w.waiting = append(w.waiting, o)
	ch.mu.Unlock()
	switch {
	case isNew:
		go w.run()
	case o.Kind != change.React || o.from == nil:
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return w
}

// withdraw takes a change back, unless it is being stored or has been.
func (ch *changes) withdraw(w *changer, o *changeOp) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	i := slices.Index(w.waiting, o)
	if i < 0 {
		return false
	}
	w.waiting = slices.Delete(w.waiting, i, i+1)
	return true
}

func (w *changer) run() {
	for {
		w.all.mu.Lock()
		ops := w.waiting
		w.waiting = nil
		if len(ops) == 0 {
			delete(w.all.running, w.key)
			w.all.mu.Unlock()
			return
		}
		w.all.mu.Unlock()

		var err error
		if guarded := w.all.hub.guard("a change of a message", func() error { err = w.store(ops); return nil }); guarded != nil {
			err = guarded
		}
		for _, o := range ops {
			if o.err == nil && o.receipt.Seq == 0 {
				o.receipt, o.err = Receipt{}, err
			}
			close(o.done)
		}
		timer := time.NewTimer(mergeTime)
		select {
		case <-timer.C:
		case <-w.wake:
		case <-w.all.hub.life.done:
		}
		timer.Stop()
	}
}

// store carries out changes, and stores what the message has become. It sets
// the results of those that it has decided about. The others get its error.
func (w *changer) store(ops []*changeOp) error {
	ctx, cancel := w.all.hub.brokerContext()
	defer cancel()
	for range changeTries {
		remembered := w.state != nil
		if !remembered {
			st, m, err := w.all.hub.stateOf(ctx, w.key.topic, w.key.name)
			if err != nil {
				return err
			}
			w.state, w.version = st, m
		}
		next := w.state.Clone()
		last := w.decide(next, ops)
		if last == nil && remembered {
			w.state = nil // nothing is stored that would tell whether it is out of date
			continue
		}
		if last == nil {
			var err error
			if last, err = w.unerased(ctx, ops); err != nil {
				return err
			}
		}
		if last == nil {
			w.settle(ops, Receipt{})
			w.follow(ctx, ops, nil)
			return nil
		}
		r, err := w.publish(ctx, 0, last, w.state, next, &w.version.Seq)
		if err == nil {
			w.state, w.version = next, Message{Seq: r.Seq, Time: r.Time}
			w.settle(ops, r)
			w.follow(ctx, ops, last)
			return nil
		}
		w.state = nil
		if err := w.mayRetry(ctx, &last.message.copies[0], err); err != nil {
			return err
		}
	}
	return errOthersChange()
}

func errOthersChange() *Error {
	return Unavailable(errors.New("chathub: other nodes change this message all the time"))
}

// mayRetry returns nil after a conflict with another node, once it is time to
// try again. Otherwise it returns why a state could not be stored.
func (w *changer) mayRetry(ctx context.Context, at *messageCopy, err error) error {
	if !hasCode(err, CodeConflict) {
		return err
	}
	if err := w.all.hub.checkKept(ctx, at); err != nil {
		return err
	}
	// Another node was faster. It may be about to try again, too.
	if err := sleep(ctx, rand.N(20*time.Millisecond)); err != nil {
		return Unavailable(err)
	}
	return nil
}

// unerased returns one of the changes that delete the message, if it is deleted
// and the log has its text all the same, since an earlier deletion was cut
// short.
func (w *changer) unerased(ctx context.Context, ops []*changeOp) (*changeOp, error) {
	i := slices.IndexFunc(ops, func(o *changeOp) bool { return o.Kind == change.Delete && o.err == nil })
	if i < 0 || w.state.Deleted == 0 {
		return nil, nil
	}
	at := &ops[i].message.copies[0]
	found, err := w.all.hub.messageAt(ctx, at.topic, at.seq)
	if found == nil || err != nil {
		return nil, err
	}
	return ops[i], nil
}

// decide applies changes to a state, and notes the errors. It returns the last
// one that makes a difference, or nil.
func (w *changer) decide(st *change.State, ops []*changeOp) (last *changeOp) {
	now := timestamp()
	for _, o := range ops {
		o.err, o.receipt = nil, Receipt{}
		err := st.Apply(&o.Op, now)
		switch {
		case err == nil:
			last = o
		case errors.Is(err, change.ErrRepeated), errors.Is(err, change.ErrUnchanged):
			o.receipt.Duplicate = true
		case errors.Is(err, change.ErrDeleted):
			o.err = errorf(CodeConflict, "The message is deleted")
		case errors.Is(err, change.ErrOther):
			o.err = errOtherMessage
		case errors.Is(err, change.ErrTooMany):
			o.err = errorf(CodeLimitExceeded, "The message has too many reactions")
		default:
			o.err = err
		}
	}
	return last
}

// settle gives those changes a receipt that have been decided.
func (w *changer) settle(ops []*changeOp, stored Receipt) {
	for _, o := range ops {
		switch {
		case o.err != nil:
		case o.receipt.Duplicate:
			o.receipt = Receipt{Epoch: stored.Epoch, Seq: w.version.Seq, Time: w.version.Time, Duplicate: true}
			if w.version.Seq == 0 { // it never changed
				o.receipt.Seq, o.receipt.Time = o.message.seq, o.message.time
			}
		default:
			o.receipt = stored
		}
	}
}

// follow brings the other copy of a private message up to date, and makes the
// receipts those of the users who wait. Last is the change that was stored, or
// nil if all were carried out before.
func (w *changer) follow(ctx context.Context, ops []*changeOp, last *changeOp) {
	if last == nil || len(last.message.copies) < 2 {
		i := slices.IndexFunc(ops, func(o *changeOp) bool { return o.err == nil && len(o.message.copies) > 1 })
		if i < 0 {
			return
		}
		last = ops[i]
	}
	if w.version.Seq == 0 {
		return
	}
	second := &last.message.copies[1]
	r, err := w.followIn(ctx, last)
	for _, o := range ops {
		isTheirs := o.from != nil && o.from.ID == plain(second.topic.User)
		switch {
		case o.err != nil:
		case err != nil && (isTheirs || !hasCode(err, CodeBadRequest)):
			o.receipt, o.err = Receipt{}, err
		case err == nil && isTheirs:
			r.Duplicate = o.receipt.Duplicate
			o.receipt = r
		}
	}
}

// followIn stores the state in the second inbox, unless that is up to date.
func (w *changer) followIn(ctx context.Context, o *changeOp) (Receipt, error) {
	at := &o.message.copies[1]
	for range changeTries {
		st, m, err := w.all.hub.stateOf(ctx, at.topic, at.name)
		if err != nil {
			return Receipt{}, err
		}
		if m.Seq > 0 && st.Count >= w.state.Count {
			var text *Message
			if w.state.Deleted > 0 {
				if text, err = w.all.hub.messageAt(ctx, at.topic, at.seq); err != nil {
					return Receipt{}, err
				}
			}
			if text == nil {
				return Receipt{Seq: m.Seq, Time: m.Time}, nil
			}
		}
		r, err := w.publish(ctx, 1, o, st, w.state.Clone(), &m.Seq)
		if err == nil {
			return r, nil
		}
		if err := w.mayRetry(ctx, at, err); err != nil {
			return Receipt{}, err
		}
	}
	return Receipt{}, errOthersChange()
}

// publish stores a state in the log of one copy of the message, in place of an
// old one, and tells its audience.
func (w *changer) publish(ctx context.Context, i int, o *changeOp, old, st *change.State, expect *uint64) (Receipt, error) {
	m := o.message
	at := &m.copies[i]
	kind := o.Kind
	if st.Deleted > 0 {
		kind = change.Delete
		if at.body != nil {
			st.Head, _ = splitData(at.body)
		}
		st.Seq, st.Time = at.seq, at.time
	}
	env := envelope{typ: eventMessageChanged, room: m.room, from: o.from}
	data := append(make([]byte, 0, 256+len(st.Data)), '{')
	if m.room != "" {
		data = append(data, `"seq":`...)
		data = strconv.AppendUint(data, m.seq, 10)
	} else {
		env.to = o.peer()
		data = append(data, `"id":`...)
		data = appendQuoted(data, m.id)
		data = appendField(data, "author", m.author)
	}
	data = append(data, `,"change":"`...)
	data = append(data, kind...)
	data = append(data, `","message":`...)
	env.data = append(st.AppendMessage(data), '}')
	if most := w.all.hub.cfg.answerBytes(); len(env.data) > most && (kind == change.Edit || o.On) {
		return Receipt{}, errorf(CodeTooLarge, "The message and its reactions would have more than %d bytes", most)
	}
	r := note.Routed{Op: note.OpChange, State: st.Encode()}
	owner := "" // the application
	if o.from != nil {
		owner = o.from.ID
	}
	return w.all.hub.session.Publish(ctx, Message{
		Topic: at.topic,
		Owner: owner,
		Name:  at.name,
		Tied:  at.seq,
		Erase: st.Deleted > 0,
		// Only an edit has text of its own. One that a deletion replaced may
		// be left.
		EraseReplaced: old.Edited > 0 || old.Deleted > 0,
		Expect:        expect,
		Body:          env.body(&r),
	})
}

// peer is the other user of a private message, seen from who changes it.
func (o *changeOp) peer() string {
	if o.from != nil && o.from.ID == o.message.to {
		return o.message.author
	}
	return o.message.to
}

// EditMessage replaces the data of a room-message, whoever sent it, and tells
// the room, as an edit-message of its author does. Seq is the position of the
// message. The form of data and its errors are those of [Target.Emit]. If there
// is no such message, the error is an [Error] with [CodeBadRequest], and with
// [CodeConflict] if it is deleted.
func (h *Hub) EditMessage(ctx context.Context, room string, seq uint64, data any) (Receipt, error) {
	return h.Tenant("").EditMessage(ctx, room, seq, data)
}

// EditMessage replaces the data of a room-message. See [Hub.EditMessage].
func (t Tenant) EditMessage(ctx context.Context, room string, seq uint64, data any) (Receipt, error) {
	env, err := t.hub.newEnvelope(eventRoomMessage, data)
	if err != nil {
		return Receipt{}, err
	}
	if env.data == nil {
		env.data = []byte("null")
	}
	return t.changeMessage(ctx, room, seq, &change.Op{Kind: change.Edit, Data: env.data})
}

// DeleteMessage deletes a room-message, whoever sent it, and tells the room, as
// a delete-message does. When it returns nil, no log, cache or file of the
// Broker has the data of the message any more. If it was deleted before, that
// is no error. If there is no such message, the error is an [Error] with
// [CodeBadRequest].
func (h *Hub) DeleteMessage(ctx context.Context, room string, seq uint64) (Receipt, error) {
	return h.Tenant("").DeleteMessage(ctx, room, seq)
}

// DeleteMessage deletes a room-message. See [Hub.DeleteMessage].
func (t Tenant) DeleteMessage(ctx context.Context, room string, seq uint64) (Receipt, error) {
	return t.changeMessage(ctx, room, seq, &change.Op{Kind: change.Delete})
}

func (t Tenant) changeMessage(ctx context.Context, room string, seq uint64, op *change.Op) (Receipt, error) {
	topic, err := t.room(room)
	if err != nil {
		return Receipt{}, err
	}
	if err := checkSeq("seq", seq); err != nil {
		return Receipt{}, err
	}
	m, err := t.hub.roomMessage(ctx, topic, seq)
	if err != nil {
		return Receipt{}, err
	}
	return t.hub.changes.apply(ctx, m, op, nil)
}
