package chathub

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/chathub-go/chathub/internal/change"
	"github.com/chathub-go/chathub/internal/note"
	"github.com/go-json-experiment/json"
)

// widest returns a change that knows of as many copies as any.
func widest(ops []*changeOp) *changeOp {
	return slices.MaxFunc(ops, func(a, b *changeOp) int { return cmp.Compare(len(a.message.copies), len(b.message.copies)) })
}

// read reads what the message has become. If the second copy is ahead, that is
// what counts: the first one may have been stored after the other had changed,
// or a crash may have left it behind.
func (w *changer) read(ctx context.Context, m *changing) error {
	w.state, w.copies = nil, len(m.copies)
	st, says, err := w.all.hub.stateOfCopy(ctx, &m.copies[0])
	if err != nil {
		return err
	}
	w.stored, w.version = st, says
	if len(m.copies) > 1 {
		switch other, m, err := w.all.hub.stateOfCopy(ctx, &m.copies[1]); {
		case hasCode(err, CodeBadRequest): // it is gone
		case err != nil:
			return err
		case other.Count > st.Count:
			st, says = other, m
		}
	}
	w.by = origin{}
	if st.Count > 0 {
		if w.by, err = originIn(&says); err != nil {
			return err
		}
	}
	w.state = st
	return nil
}

// originIn returns where the state that a named message carries comes from.
func originIn(m *Message) (by origin, err error) {
	var r note.Routed
	var said struct {
		From *User  `json:"from"`
		To   string `json:"to"`
		Data struct {
			Change change.Kind `json:"change"`
		} `json:"data"`
	}
	if r.Decode(m.Body) != nil || json.Unmarshal(r.Body, &said) != nil {
		return by, errNoState
	}
	return origin{said.From, said.To, said.Data.Change}, nil
}

// stateOfCopy returns what one copy of a message has become, and the message
// that says so, or that the next state replaces: the log may have dropped or
// erased another private message of this name, and have its state.
func (h *Hub) stateOfCopy(ctx context.Context, at *messageCopy) (*change.State, Message, error) {
	st, m, err := h.stateOf(ctx, at.topic, at.name)
	if err != nil || m.Seq == 0 || m.Tied == at.seq {
		return st, m, err
	}
	older, err := h.messageAt(ctx, at.topic, min(m.Tied, at.seq))
	switch {
	case err != nil:
		return nil, Message{}, err
	case older != nil:
		return nil, Message{}, errSentAgain // who tries again finds the one that has changed
	case m.Tied > at.seq:
		return nil, Message{}, errNoMessage()
	}
	return &change.State{}, Message{Seq: m.Seq}, nil
}

var errSentAgain = Unavailable(errors.New("chathub: the message was sent again meanwhile"))

// follow brings the other copy of a private message up to date, and makes the
// receipts those of the users who wait. Last is the change that was stored, or
// nil if all were carried out before, or refused.
func (w *changer) follow(ctx context.Context, ops []*changeOp, last *changeOp) {
	if last == nil || len(last.message.copies) < 2 {
		last = widest(ops)
	}
	if len(last.message.copies) < 2 || w.state.Count == 0 {
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
		st, m, err := w.all.hub.stateOfCopy(ctx, at)
		if err != nil {
			return Receipt{}, err
		}
		if st.Count >= w.state.Count {
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
		r, err := w.publish(ctx, 1, o, w.by, st, w.state.Clone(), &m.Seq)
		if err == nil {
			return r, nil
		}
		if err := w.mayRetry(ctx, at, err); err != nil {
			return Receipt{}, err
		}
	}
	return Receipt{}, errOthersChange()
}

// together brings the copies of a private message together, of which the
// sender's may have been stored after the other one had changed.
func (s *sender) together(ctx context.Context, env *envelope, copies ...messageCopy) error {
	m := &changing{author: s.user, id: env.id, to: env.to, copies: copies}
	for i := range copies {
		copies[i].name = changedPrivateName(m.author, m.to, m.id)
	}
	m.inOrder()
	_, err := s.tenant.hub.changes.apply(ctx, m, &change.Op{}, env.from)
	if errors.Is(err, errSentAgain) || hasCode(err, CodeBadRequest) {
		return nil // this message cannot change any more
	}
	return err
}
