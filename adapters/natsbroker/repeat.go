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

// recent has what the sessions of a broker have stored lately, by message id. Its methods may
// be called concurrently.
type recent struct {
	mu    sync.Mutex
	seen  map[string]published
	order []string // a ring of the ids in seen
	next  int
}

func (r *recent) add(id string, f *frame) {
	if f.key == "" {
		return // nobody else has this id
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = make(map[string]published)
	}
	if _, known := r.seen[id]; !known {
		if len(r.order) < recentKept {
			r.order = append(r.order, id)
		} else {
			delete(r.seen, r.order[r.next])
			r.order[r.next] = id
			r.next = (r.next + 1) % recentKept
		}
	}
	r.seen[id] = published{f.attempt, f.sum, f.time}
}

func (r *recent) find(id string) published {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[id]
}
