package natsbroker

import (
	"context"
	"errors"
	"sync"

	"github.com/chathub-go/chathub"
)

// published is what tells a message from another one with the same id.
type published struct {
	attempt uint64
	sum     uint64
	time    int64
}

// judge says what it means that a message has an id that is known: a repetition
// of this call, of another one, or another message. The receipt has the
// position that the stream gave the id first.
func (s *session) judge(ctx context.Context, m *chathub.Message, f *frame, id string, r *chathub.Receipt) error {
	first, err := s.first(ctx, r.Seq)
	if err != nil {
		return err
	}
	if first == (published{}) {
		first = s.broker.recent.find(id)
	}
	if first == (published{}) && m.Name == "" {
		dropped, err := s.isDropped(ctx, m, r.Seq)
		switch {
		case err != nil:
			return err
		case dropped:
			return errFirstDropped
		}
	}
	switch {
	case first.attempt == f.attempt: // this call has repeated itself
		s.broker.recent.add(id, f)
		return nil
	case first.sum != f.sum && first.sum != 0 && f.sum != 0:
		return errOtherMessage
	}
	r.Duplicate = true
	if first.time > 0 {
		r.Time = first.time
	}
	return nil
}

// first returns the message that was stored under a repeated key. It returns
// zero if the stream has dropped that message.
func (s *session) first(ctx context.Context, seq uint64) (published, error) {
	var m entry
	if err := s.persist(ctx, func(ctx context.Context) (err error) {
		m, err = s.get(ctx, `{"seq":`+formatSeq(seq)+`}`)
		return err
	}); err != nil || m.seq == 0 {
		return published{}, err
	}
	var f frame
	err := f.decode(m.data)
	return published{f.attempt, f.sum, f.time}, err
}

// errFirstDropped reports that the message that has an id is not in the log any
// more.
var errFirstDropped = errors.New("natsbroker: the first message was dropped")

// isDropped reports whether a log has dropped the message at a position, which
// does not exist. If it has not, the message was erased.
func (s *session) isDropped(ctx context.Context, m *chathub.Message, seq uint64) (dropped bool, err error) {
	if s.erasures.has(seq) {
		return false, nil
	}
	err = s.persist(ctx, func(ctx context.Context) error {
		first, err := s.oldest(ctx, s.broker.cfg.logSubject(m))
		if err != nil {
			return err
		}
		if first.seq != 0 && first.seq < seq {
			return nil
		}
		st, err := s.refresh(ctx)
		if err != nil {
			return err
		}
		lost, err := s.lost(ctx, st)
		dropped = st.isFull(first.count) || seq <= lost
		return err
	})
	return dropped, err
}

// recentKept bounds what a broker remembers of what it has stored.
const recentKept = 8192

// recent has what the sessions of a broker have stored lately, in a place for
// each message id. An id that has the place of another one displaces it. Its
// methods may be called concurrently.
type recent struct {
	mu     sync.Mutex
	places []recentPlace
}

type recentPlace struct {
	id string
	published
}

func (r *recent) add(id string, f *frame) {
	if f.key == "" {
		return // nobody else has this id
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.places == nil {
		r.places = make([]recentPlace, recentKept)
	}
	r.places[placeOf(id)] = recentPlace{id, published{f.attempt, f.sum, f.time}}
}

func (r *recent) find(id string) published {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.places == nil || r.places[placeOf(id)].id != id {
		return published{}
	}
	return r.places[placeOf(id)].published
}

// placeOf returns the place of a message id, which is a hash in base64.
func placeOf(id string) uint {
	return (uint(id[0])*31*31*31 + uint(id[1])*31*31 + uint(id[2])*31 + uint(id[3])) % recentKept
}
