package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// A direct get is answered by any server that has the stream, even if its copy
// lags behind. Only the leader of a cluster knows that a message does not
// exist. So everything in this file asks the leader before it concludes that
// there are no more messages.

const (
	// pageSize and pageBytes bound the answer to one direct get. One message
	// may be larger than pageBytes.
	pageSize  = 256
	pageBytes = 1 << 20
)

// bounds are those of the answer to one request.
type bounds struct{ messages, bytes int }

var fullPage = bounds{pageSize, pageBytes}

// entry is one message of the stream.
type entry struct {
	seq     uint64
	subject string
	header  nats.Header
	data    []byte
}

// isNamed reports whether a message has a name, or removes one.
func (m *entry) isNamed() bool { return strings.Contains(m.subject, nameMark) }

// entryAnswer is the API's answer to a request for one message.
type entryAnswer struct {
	answer
	Message struct {
		Seq     uint64 `json:"seq"`
		Subject string `json:"subject"`
		Header  []byte `json:"hdrs"`
		Data    []byte `json:"data"`
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
		e := entry{seq: m.Message.Seq, subject: m.Message.Subject, data: m.Message.Data}
		if len(m.Message.Header) > 0 {
			e.header, err = nats.DecodeHeadersMsg(m.Message.Header)
		}
		return e, err
	case errors.As(err, &api) && api.ErrCode == codeNoMessage:
		return entry{}, nil
	default:
		return entry{}, err
	}
}

// newestOf returns the newest message of a topic, or one with seq 0.
func (s *session) newestOf(ctx context.Context, p place) (entry, error) {
	m, err := s.get(ctx, `{"last_by_subj":`+quote(p.filter)+`}`)
	if err != nil || m.seq >= s.old.Load() {
		return m, err
	}
	old, err := s.get(ctx, `{"last_by_subj":`+quote(p.old)+`}`)
	if old.seq > m.seq {
		m = old
	}
	return m, err
}

// head returns the position of the newest message of a topic, or 0 if there is
// no message.
func (s *session) head(ctx context.Context, p place) (uint64, error) {
	m, err := s.newestOf(ctx, p)
	return m.seq, err
}

// last returns the position of the newest message of a subject, like get.
func (s *session) last(ctx context.Context, subject string) (uint64, error) {
	m, err := s.get(ctx, `{"last_by_subj":`+quote(subject)+`}`)
	return m.seq, err
}

// next returns the first message of a subject at or after seq, like get.
func (s *session) next(ctx context.Context, subject string, seq uint64) (entry, error) {
	return s.get(ctx, fmt.Sprintf(`{"seq":%d,"next_by_subj":%s}`, max(seq, 1), quote(subject)))
}

// page returns messages of a subject, starting at seq, and how many come after
// them. Only the last one may exceed the bound of bytes. The newest messages
// may be missing.
func (s *session) page(ctx context.Context, subject string, seq uint64, b bounds) (messages []entry, pending uint64, err error) {
	reply, answers, forget := s.replies.expect(b.messages + 1)
	defer forget()
	request := fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%s,"batch":%d,"max_bytes":%d}`, max(seq, 1), quote(subject), b.messages, b.bytes)
	if err := s.nc.PublishRequest(s.api.direct, reply, request); err != nil {
		return nil, 0, err
	}
	messages, end, err := s.collect(ctx, answers)
	if err != nil || end == nil {
		return nil, 0, err
	}
	pending, err = number(end, "Nats-Num-Pending")
	return messages, pending, err
}

var errTooMany = errors.New("too many subjects for one answer")

// collect receives the answers to a direct get. The end has headers about them.
// It is nil if there are no messages.
func (s *session) collect(ctx context.Context, answers <-chan *nats.Msg) (messages []entry, end *nats.Msg, err error) {
	last := uint64(0)
	for {
		var m *nats.Msg
		select {
		case m = <-answers:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		switch status := statusOf(m); status {
		case "404":
			return nil, nil, nil
		case "204":
			if before, bad := number(m, "Nats-Last-Sequence"); bad != nil || before != last {
				err = errors.New("an answer was lost")
			}
			return messages, m, err
		case "413":
			return nil, nil, errTooMany
		case "503":
			return nil, nil, nats.ErrNoResponders
		case "":
		default:
			return nil, nil, fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
		}
		at, err := number(m, "Nats-Sequence")
		before, bad := number(m, "Nats-Last-Sequence")
		if err = errors.Join(err, bad); err != nil {
			return nil, nil, err
		}
		if before != last {
			return nil, nil, errors.New("an answer was lost")
		}
		last = at
		messages = append(messages, entry{at, m.Header.Get("Nats-Subject"), m.Header, m.Data})
	}
}

// scan calls yield for the messages of a topic from first to last, in order,
// until yield returns false.
func (s *session) scan(ctx context.Context, p place, first, last uint64, yield func(entry) bool) error {
	old := s.old.Load()
	if first > old {
		return s.scanSubject(ctx, p.filter, first, last, fullPage, yield)
	}
	for m, err := range merge(s.all(ctx, p.old, first, min(last, old)), s.all(ctx, p.filter, first, last)) {
		if err != nil {
			return err
		}
		if !yield(m) {
			return nil
		}
	}
	return nil
}

// all returns the messages of a subject from first to last. The last one may be
// an error.
func (s *session) all(ctx context.Context, subject string, first, last uint64) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		if err := s.scanSubject(ctx, subject, first, last, fullPage, func(m entry) bool { return yield(m, nil) }); err != nil {
			yield(entry{}, err)
		}
	}
}

// merge returns the messages of two sequences in the order of their positions.
// An error has position 0, so it comes at once.
func merge(a, b iter.Seq2[entry, error]) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		next, stop := iter.Pull2(b)
		defer stop()
		m, err, ok := next()
		for before, failed := range a {
			for ; ok && m.seq < before.seq; m, err, ok = next() {
				if !yield(m, err) {
					return
				}
			}
			if !yield(before, failed) {
				return
			}
		}
		for ; ok; m, err, ok = next() {
			if !yield(m, err) {
				return
			}
		}
	}
}

// scanSubject is scan of one subject.
func (s *session) scanSubject(ctx context.Context, subject string, first, last uint64, b bounds, yield func(entry) bool) error {
	for first <= last {
		b.messages = int(min(uint64(b.messages), last-first+1))
		messages, _, err := s.page(ctx, subject, first, b)
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

// scanAll is scan of all messages of one subject, each page of which is
// requested until there is an answer. There may be more of them than can be
// read in the time of one attempt.
func (s *session) scanAll(ctx context.Context, subject string, yield func(entry) bool) error {
	for first := uint64(1); ; {
		var messages []entry
		if err := s.persist(ctx, func(ctx context.Context) (err error) {
			if messages, _, err = s.page(ctx, subject, first, fullPage); err != nil || len(messages) > 0 {
				return err
			}
			m, err := s.next(ctx, subject, first)
			if m.seq != 0 {
				messages = append(messages, m)
			}
			return err
		}); err != nil || len(messages) == 0 {
			return err
		}
		for _, m := range messages {
			if !yield(m) {
				return nil
			}
			first = m.seq + 1
		}
	}
}

// refresh asks the leader about the stream.
func (s *session) refresh(ctx context.Context) (*streamState, error) {
	info, err := s.info(ctx, "")
	if err != nil {
		return nil, err
	}
	return newState(info), nil
}

func formatSeq(seq uint64) string { return strconv.FormatUint(seq, 10) }
