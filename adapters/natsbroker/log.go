package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats.go"
)

// A direct get is answered by any server that has the stream, even if its copy
// lags behind. Only the leader of a cluster knows that a message does not
// exist. So everything in this file asks the leader before it concludes that
// there are no more messages.

const (
	// pageSize and pageBytes bound the answer to one direct get.
	pageSize  = 256
	pageBytes = 1 << 20
)

// entry is one message of the stream.
type entry struct {
	seq  uint64
	data []byte
}

// entryAnswer is the API's answer to a request for one message.
type entryAnswer struct {
	answer
	Message struct {
		Seq  uint64 `json:"seq"`
		Data []byte `json:"data"`
	} `json:"message"`
}

// get asks the leader for one message. If it does not exist, the result has
// seq 0.
func (s *session) get(ctx context.Context, request string) (entry, error) {
	var m entryAnswer
	err := s.request(ctx, s.api.get, request, &m)
	var api *apiError
	switch {
	case err == nil:
		return entry{m.Message.Seq, m.Message.Data}, nil
	case errors.As(err, &api) && api.ErrCode == codeNoMessage:
		return entry{}, nil
	default:
		return entry{}, err
	}
}

// head returns the position of the newest message of a subject, or 0 if there
// is no message.
func (s *session) head(ctx context.Context, subject string) (uint64, error) {
	m, err := s.get(ctx, `{"last_by_subj":`+quote(subject)+`}`)
	return m.seq, err
}

// next returns the first message of a subject at or after seq, like get.
func (s *session) next(ctx context.Context, subject string, seq uint64) (entry, error) {
	return s.get(ctx, fmt.Sprintf(`{"seq":%d,"next_by_subj":%s}`, max(seq, 1), quote(subject)))
}

// page returns up to limit messages of a subject, starting at seq, and how many
// come after them. The newest messages may be missing.
func (s *session) page(ctx context.Context, subject string, seq uint64, limit int) (messages []entry, pending uint64, err error) {
	limit = min(limit, pageSize)
	reply, answers, forget := s.replies.expect(limit + 1)
	defer forget()
	request := fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%s,"batch":%d,"max_bytes":%d}`, max(seq, 1), quote(subject), limit, pageBytes)
	if err := s.nc.PublishRequest(s.api.direct, reply, request); err != nil {
		return nil, 0, err
	}
	last := uint64(0)
	for {
		var m *nats.Msg
		select {
		case m = <-answers:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
		switch status := statusOf(m); status {
		case "404":
			return nil, 0, nil
		case "204": // the end, with headers about the answers before it
			pending, err = number(m, "Nats-Num-Pending")
			if before, bad := number(m, "Nats-Last-Sequence"); err == nil && (bad != nil || before != last) {
				err = errors.New("an answer was lost")
			}
			return messages, pending, err
		case "503":
			return nil, 0, nats.ErrNoResponders
		case "":
		default:
			return nil, 0, fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
		}
		at, err := number(m, "Nats-Sequence")
		before, bad := number(m, "Nats-Last-Sequence")
		if err = errors.Join(err, bad); err != nil {
			return nil, 0, err
		}
		if before != last {
			return nil, 0, errors.New("an answer was lost")
		}
		last = at
		messages = append(messages, entry{at, m.Data})
	}
}

// scan calls yield for the messages of a subject from first to last, in order,
// until yield returns false. It requests batch messages at a time.
func (s *session) scan(ctx context.Context, subject string, first, last uint64, batch int, yield func(entry) bool) error {
	for first <= last {
		messages, _, err := s.page(ctx, subject, first, int(min(uint64(batch), last-first+1)))
		if err != nil {
			return err
		}
		if len(messages) == 0 {
			m, err := s.next(ctx, subject, first)
			if err != nil || m.seq == 0 {
				return err
			}
			messages = append(messages, m)
		}
		for _, m := range messages {
			if m.seq > last || !yield(m) {
				return nil
			}
			first = m.seq + 1
		}
	}
	return nil
}

// read is Read without retries.
func (s *session) read(ctx context.Context, t chathub.Topic, r chathub.Range) (chathub.Page, error) {
	subject := s.logSubject(t)
	head, err := s.head(ctx, subject)
	if err != nil {
		return chathub.Page{}, err
	}
	if head == 0 {
		st, err := s.refresh(ctx)
		if err != nil {
			return chathub.Page{}, err
		}
		return chathub.Page{Trimmed: st.firstSeq - 1}, nil
	}
	if r.Before == 0 {
		if page, ok := s.readTail(t, r, head); ok {
			return page, nil
		}
	}
	page := chathub.Page{Head: chathub.Position{Epoch: s.state.Load().epoch, Seq: head}}
	last := head
	if r.Before > 0 {
		last = min(last, r.Before-1)
	}
	limit := 0
	if r.Limit > 0 && r.After < last {
		limit = int(min(uint64(r.Limit), last-r.After))
	}

	// The page begins with r.After itself. If that message still exists,
	// nothing after it was dropped.
	var some []entry
	var pending uint64
	if limit > 0 {
		if some, pending, err = s.page(ctx, subject, r.After, min(limit, pageSize-1)+1); err != nil {
			return chathub.Page{}, err
		}
	}
	anchored := len(some) > 0 && some[0].seq == r.After
	if anchored {
		some = some[1:]
		page.Trimmed = r.After - 1
	}
	var found []entry
	if limit > 0 {
		w := window{first: r.After + 1, last: last, limit: limit, some: some, left: pending}
		if found, page.More, err = s.newest(ctx, subject, w); err != nil {
			return chathub.Page{}, err
		}
	}
	if !anchored {
		if page.Trimmed, err = s.trimmed(ctx, subject, r.After); err != nil {
			return chathub.Page{}, err
		}
	}
	for _, f := range found {
		m, err := message(t, f.seq, f.data)
		if err != nil {
			s.log.Error("natsbroker: a stored message cannot be read", "topic", t, "seq", f.seq, "err", err)
			continue
		}
		page.Messages = append(page.Messages, m)
	}
	return page, nil
}

// window is the range of positions in which newest looks for messages.
type window struct {
	first, last uint64
	limit       int     // of messages to return
	some        []entry // the oldest messages of the window, already fetched
	left        uint64  // how many messages come after some
}

// newest returns the newest messages in the window, and whether the window has
// older ones. JetStream only reads forwards, and the positions of a subject are
// not dense. So newest guesses a position to start from, and tries an earlier
// one if it finds too few messages.
func (s *session) newest(ctx context.Context, subject string, w window) (found []entry, more bool, err error) {
	keep := func(first, last uint64, limit int) (part []entry, err error) {
		err = s.scan(ctx, subject, first, last, limit+limit/4+1, func(m entry) bool {
			if part = append(part, m); len(part) > limit {
				part = part[1:]
				more = true
			}
			return true
		})
		return part, err
	}
	known := len(w.some)
	if known > 0 && w.some[known-1].seq >= w.last { // all of them
		for known > 0 && w.some[known-1].seq > w.last {
			known--
		}
		from := max(known-w.limit, 0)
		return w.some[from:known], from > 0, nil
	}
	span := w.last - w.first + 1
	if total := uint64(known) + w.left; known > 0 && total > 2*uint64(w.limit)+pageSize {
		span = span/total*uint64(w.limit+w.limit/4) + 1
	}
	for end := w.last; ; span *= 4 {
		begin := w.first
		if end-w.first >= span {
			begin = end - span + 1
		}
		part, err := keep(begin, end, w.limit-len(found))
		if err != nil {
			return nil, false, err
		}
		found = append(part, found...)
		switch {
		case begin == w.first || more:
			return found, more, nil
		case len(found) == w.limit:
			return found, known > 0 && w.some[0].seq < found[0].seq, nil
		}
		end = begin - 1
	}
}

// trimmed returns a position that is not below that of any message that the
// subject has lost. It is as low as what is known allows.
func (s *session) trimmed(ctx context.Context, subject string, after uint64) (uint64, error) {
	first, pending, err := s.page(ctx, subject, 1, 1)
	if err != nil {
		return 0, err
	}
	if len(first) == 0 { // the server lags behind, or all were just dropped
		m, err := s.next(ctx, subject, 1)
		if err != nil {
			return 0, err
		}
		if m.seq == 0 { // the last message was dropped in the meantime
			st, err := s.refresh(ctx)
			if err != nil {
				return 0, err
			}
			return st.firstSeq - 1, nil
		}
		first, pending = []entry{m}, 0
	}
	oldest := first[0].seq
	if after >= oldest-1 {
		return oldest - 1, nil
	}
	// If the log is not full, it has only lost messages to MaxAge or MaxBytes.
	// These drop the oldest messages of the whole stream.
	st, err := s.refresh(ctx)
	if err != nil {
		return 0, err
	}
	full := st.maxMessages > 0 && pending+1 >= uint64(st.maxMessages)
	if full || after < st.raised {
		return max(oldest, st.firstSeq) - 1, nil
	}
	return st.firstSeq - 1, nil
}

// refresh asks the leader about the stream.
func (s *session) refresh(ctx context.Context) (*streamState, error) {
	info, err := s.info(ctx)
	if err != nil {
		return nil, err
	}
	return newState(info), nil
}

// logSubject is the subject of a topic's durable messages.
func (s *session) logSubject(t chathub.Topic) string { return s.broker.cfg.name + logTree + branch(t) }

// hearSubject is the subject that sessions subscribe to receive a topic.
func (s *session) hearSubject(t chathub.Topic) string {
	if t == (chathub.Topic{}) {
		return s.broker.cfg.name + hearAll
	}
	return s.broker.cfg.name + hearTree + branch(t)
}

func formatSeq(seq uint64) string { return strconv.FormatUint(seq, 10) }
