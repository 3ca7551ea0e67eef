package natsbroker

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// trimmed returns a position that is not below that of any message that the
// topic has lost. It is as low as what is known allows.
//
// Age and the size of the stream take the oldest messages of the whole stream.
// A subject that is full takes its own oldest ones. If it is not full, it has
// lost none in this way, unless its bound was raised since. Messages that were
// erased are not lost, but a subject may have been full before. For each of
// them there is a named message in the same topic, so these are counted, too.
func (s *session) trimmed(ctx context.Context, p place, after uint64, near vicinity) (uint64, error) {
	known, old := s.state.Load(), s.old.Load()
	if near.anchored && (!p.shared || after >= known.raised && !known.isFull(near.later)) {
		return after - 1, nil
	}
	var subjects []string
	if after < old {
		subjects = append(subjects, p.old)
	}
	if !p.shared {
		subjects = append(subjects, p.ordinary)
	}
	var firsts []oldest
	for _, subject := range subjects {
		o, err := s.oldest(ctx, subject)
		if err != nil {
			return 0, err
		}
		firsts = append(firsts, o)
	}
	if !p.shared && after >= old && firsts[0].seq > 0 && after >= firsts[0].seq-1 {
		return firsts[0].seq - 1, nil
	}
	st, err := s.refresh(ctx)
	if err != nil {
		return 0, err
	}
	lost, err := s.lost(ctx, st)
	if err != nil {
		return 0, err
	}
	if after < st.raised && p.shared {
		lost = max(lost, st.raised)
	}
	for i, o := range firsts {
		count := o.count
		if i == len(subjects)-1 && !p.shared && st.maxMessages > 0 && !st.isFull(count) {
			all, err := s.oldest(ctx, p.filter)
			if err != nil {
				return 0, err
			}
			count = max(count, all.count)
		}
		switch full := st.isFull(count); {
		case !full && after >= st.raised:
		case o.seq > 0:
			lost = max(lost, o.seq-1)
		case full:
			lost = max(lost, st.lastSeq) // all were erased, or have just been dropped
		default:
			lost = max(lost, st.raised)
		}
	}
	if !p.shared {
		return lost, nil
	}
	inShares, err := s.trimmedShares(ctx, p, max(after, lost), near)
	return max(lost, inShares), err
}

// ageMargin is by how much the clock of the leader may be ahead of what a node
// takes it for.
const ageMargin = 100 * time.Millisecond

// lost returns the position up to which the stream has lost ordinary messages
// to age or size. The oldest message that is left may be a named one, and these
// do not age.
func (s *session) lost(ctx context.Context, st *streamState) (uint64, error) {
	lost := st.firstSeq - 1
	if st.maxAge <= 0 {
		return lost, nil
	}
	oldest := time.UnixMilli(s.now()).Add(ageMargin - st.maxAge)
	if !st.firstTime.Before(oldest) {
		return lost, nil
	}
	m, err := s.get(ctx, `{"start_time":`+quote(oldest.UTC().Format(time.RFC3339Nano))+`}`)
	if err != nil {
		return 0, err
	}
	if m.seq == 0 {
		return max(lost, st.lastSeq), nil
	}
	return max(lost, m.seq-1), nil
}

// oldest is the first message of a subject.
type oldest struct {
	seq   uint64 // 0: there is none
	count uint64 // of all messages of the subject
}

func (s *session) oldest(ctx context.Context, subject string) (oldest, error) {
	first, pending, err := s.page(ctx, subject, 1, bounds{1, pageBytes})
	if err != nil {
		return oldest{}, err
	}
	if len(first) == 0 { // the server lags behind, or all were just dropped
		m, err := s.next(ctx, subject, 1)
		if err != nil || m.seq == 0 {
			return oldest{}, err
		}
		return oldest{m.seq, 1}, nil
	}
	return oldest{first[0].seq, pending + 1}, nil
}

// trimmedShares is trimmed of what the shares of an inbox have lost after a
// position because they are full. All messages of such a share come after it.
func (s *session) trimmedShares(ctx context.Context, p place, after uint64, near vicinity) (lost uint64, err error) {
	st := s.state.Load()
	if near.known && !st.isFull(near.later) {
		return 0, nil
	}
	some, pending, err := s.page(ctx, p.filter, after+1, bounds{1, pageBytes})
	if err != nil || !st.isFull(uint64(len(some))+pending) {
		return 0, err
	}
	info, err := s.info(ctx, fmt.Sprintf(`{"subjects_filter":%s}`, quote(p.filter)))
	if err != nil {
		return 0, err
	}
	named := uint64(0)
	for subject, count := range info.State.Subjects {
		if strings.Contains(subject, nameMark) {
			named += count
		}
	}
	if st.isFull(named) {
		lost = st.lastSeq // a share may have been full of messages that were erased
	}
	for subject, count := range info.State.Subjects {
		if !st.isFull(count+named) || strings.Contains(subject, nameMark) {
			continue
		}
		o, err := s.oldest(ctx, subject)
		if err != nil {
			return 0, err
		}
		if o.seq > after+1 {
			lost = max(lost, o.seq-1)
		}
	}
	return lost, nil
}
