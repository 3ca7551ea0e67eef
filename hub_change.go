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

// changeKey is the message that changes, in the log that decides first. An id
// that was used again names several private messages, so a name does not do.
type changeKey struct {
	topic Topic
	name  string
	seq   uint64
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
	version Message       // that the next one replaces; Seq 0: none
	by      origin        // the last change in state
	copies  int           // how many were read for state
	// stored is what the first copy has become. It is behind state if a change
	// has only reached the second one.
	stored *change.State
}

// changeOp is a change that somebody waits for. One without a Kind brings the
// copies of a private message together.
type changeOp struct {
	change.Op
	message *changing
	from    *User // nil: the application
	done    chan struct{}

	receipt Receipt
	err     error
}

// origin is where a change comes from, as its audience is told.
type origin struct {
	from *User  // nil: the application
	to   string // of a private message: the other user
	kind change.Kind
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
	key := changeKey{at.topic, at.name, at.seq}
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
		widest := widest(ops)
		remembered := w.state != nil && w.copies >= len(widest.message.copies)
		if !remembered {
			if err := w.read(ctx, widest.message); err != nil {
				return err
			}
		}
		next := w.state.Clone()
		last := w.decide(next, ops)
		if last == nil && remembered {
			w.state = nil // nothing is stored that would tell whether it is out of date
			continue
		}
		by := w.by
		switch {
		case last != nil:
			by = origin{last.from, last.peer(), last.Kind}
		case w.stored.Count < w.state.Count:
			last = widest
		default:
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
		r, err := w.publish(ctx, 0, last, by, w.stored, next, &w.version.Seq)
		if err == nil {
			w.by = by
			w.state, w.stored, w.version = next, next, Message{Seq: r.Seq, Time: r.Time}
			w.settle(ops, r)
			w.follow(ctx, ops, last)
			return nil
		}
		w.state = nil
		if err := w.mayRetry(ctx, &last.message.copies[0], err); err != nil {
			for _, o := range ops { // those refused may be because of what is not stored
				o.err = nil
			}
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
		err := change.ErrUnchanged
		if o.Kind != "" {
			err = st.Apply(&o.Op, now)
		}
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
			if w.state.Count == 0 { // it never changed
				o.receipt.Seq, o.receipt.Time = o.message.seq, o.message.time
			}
		default:
			o.receipt = stored
		}
	}
}

// publish stores a state in the log of one copy of the message, in place of an
// old one, and tells its audience who has made it. The user of o is charged.
func (w *changer) publish(ctx context.Context, i int, o *changeOp, by origin, old, st *change.State, expect *uint64) (Receipt, error) {
	m := o.message
	at := &m.copies[i]
	if st.Deleted > 0 {
		by.kind = change.Delete
		if at.body != nil {
			st.Head, _ = splitData(at.body)
		}
		st.Seq, st.Time = at.seq, at.time
	}
	env := envelope{typ: eventMessageChanged, room: m.room, from: by.from, to: by.to, trace: m.trace}
	data := append(make([]byte, 0, 256+len(st.Data)), '{')
	if m.room != "" {
		data = append(data, `"seq":`...)
		data = strconv.AppendUint(data, m.seq, 10)
	} else {
		data = append(data, `"id":`...)
		data = appendQuoted(data, m.id)
		data = appendField(data, "author", m.author)
	}
	data = append(data, `,"change":"`...)
	data = append(data, by.kind...)
	data = append(data, `","message":`...)
	env.data = append(st.AppendMessage(data), '}')
	if most := w.all.hub.cfg.answerBytes(); len(env.data) > most && (by.kind == change.Edit || o.On) {
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
