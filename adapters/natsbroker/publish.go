package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats.go"
)

const (
	headerID     = "Nats-Msg-Id"
	headerRollup = "Nats-Rollup"
	headerTTL    = "Nats-TTL"

	// tiedMargin is how much longer a tied name lives than its message.
	tiedMargin = time.Minute
)

var (
	errNotExpected = &chathub.Error{Code: chathub.CodeConflict, Message: "Somebody else has changed this in the meantime"}
	errTiedGone    = &chathub.Error{Code: chathub.CodeConflict, Message: "The message is gone"}
)

// naming is the publish of a named message.
type naming struct {
	s       *session
	m       *chathub.Message
	f       *frame
	msg     nats.Msg
	subject string
	// expected is what is demanded of the server: the position of the newest
	// message of the subject. Nil: nothing. It differs from m.Expect if that is
	// 0 and the newest message is a removal.
	expected *uint64
	isNew    bool // there was no such name, as far as is known
}

// storeNamed stores a named message. Finish has to follow.
func (s *session) storeNamed(ctx context.Context, m *chathub.Message, f *frame, id string, data []byte) (n *naming, ack pubAck, err error) {
	header := metaOf(m)
	n = &naming{s: s, m: m, f: f, subject: s.broker.cfg.logSubject(m), expected: m.Expect}
	if m.Tied != 0 {
		if header.tiedTime, err = n.tiedTime(ctx); err != nil {
			return n, ack, err
		}
	}
	if m.Expect != nil && *m.Expect != 0 && !s.versions.is(m, *m.Expect) {
		if err := n.checkExpected(ctx); err != nil {
			return n, ack, err
		}
	}
	if err := s.admitName(ctx, n); err != nil {
		return n, ack, err
	}
	n.msg = nats.Msg{Subject: n.subject, Data: data, Header: nats.Header{headerID: {id}, headerMeta: {header.encode()}}}
	if ttl := s.timeToLive(m, header.tiedTime); ttl != "" {
		n.msg.Header[headerTTL] = []string{ttl}
	}
	if !m.EraseReplaced {
		n.msg.Header[headerRollup] = []string{"sub"} // the older ones are dropped
	}
	err = s.persist(ctx, func(ctx context.Context) (err error) {
		ack, err = n.store(ctx)
		return err
	})
	return n, ack, err
}

// finish erases what the message replaces, and what it is to erase. Each step
// is repeated until it succeeds. A repetition of the call repeats all of them,
// because the first one may have been interrupted.
func (n *naming) finish(ctx context.Context, ack pubAck) error {
	s, m := n.s, n.m
	if m.EraseReplaced && (n.expected == nil || *n.expected != 0 || ack.Duplicate) {
		before := uint64(0)
		if n.expected != nil && !ack.Duplicate { // a cluster does not look at it if it knows the id
			before = *n.expected
		}
		if err := s.persist(ctx, func(ctx context.Context) error { return s.deleteBefore(ctx, n.subject, ack.Seq, before) }); err != nil {
			return err
		}
	}
	if m.Erase {
		s.broker.cfg.between()
		if err := s.persist(ctx, func(ctx context.Context) error { return s.eraseOrdinary(ctx, m.Topic, m.Tied) }); err != nil {
			return err
		}
		s.erased(m.Topic, m.Tied)
	}
	if !ack.Duplicate {
		if n.isNew {
			s.census.add(m)
		}
		stored := *m
		stored.Seq, stored.Time, stored.Expect, stored.Sum = ack.Seq, n.f.time, nil, 0
		s.saw(&stored)
	}
	return nil
}

// saw takes note of the newest message of a name.
func (s *session) saw(m *chathub.Message) {
	s.versions.set(m)
	if t := s.subscribed(m.Topic); t != nil {
		s.cached(t.names.put(*m))
	}
}

// erased forgets an ordinary message.
func (s *session) erased(t chathub.Topic, seq uint64) {
	s.erasures.add(t, seq)
	if t := s.subscribed(t); t != nil {
		s.cached(-t.tail.erase(seq))
	}
}

// versions has positions of messages of names that are not removals, as far as
// the session has seen lately. Its methods may be called concurrently.
type versions struct {
	mu   sync.Mutex
	seen map[versionKey]uint64
}

type versionKey struct {
	topic chathub.Topic
	name  string
}

// versionsKept bounds versions. What is not known costs a request.
const versionsKept = 8192

func (v *versions) set(m *chathub.Message) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := versionKey{m.Topic, m.Name}
	if m.Remove {
		delete(v.seen, key)
		return
	}
	if v.seen == nil {
		v.seen = make(map[versionKey]uint64)
	}
	if _, known := v.seen[key]; !known && len(v.seen) >= versionsKept {
		for other := range v.seen { // any
			delete(v.seen, other)
			break
		}
	}
	v.seen[key] = m.Seq
}

func (v *versions) has(m *chathub.Message) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seen[versionKey{m.Topic, m.Name}] != 0
}

func (v *versions) is(m *chathub.Message, seq uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seen[versionKey{m.Topic, m.Name}] == seq
}

// tiedTime returns the time of the message that the name is tied to.
func (n *naming) tiedTime(ctx context.Context) (at int64, err error) {
	s, m := n.s, n.m
	if t := s.subscribed(m.Topic); t != nil && !m.Erase {
		if tied, ok := t.tail.find(m.Tied); ok && tied.Name == "" {
			return tied.Time, nil
		}
	}
	var tied, newest entry
	if err := s.persist(ctx, func(ctx context.Context) (err error) {
		if tied, err = s.get(ctx, `{"seq":`+formatSeq(m.Tied)+`}`); err == nil && tied.seq == 0 {
			newest, err = s.get(ctx, `{"last_by_subj":`+quote(n.subject)+`}`)
		}
		return err
	}); err != nil {
		return 0, err
	}
	if tied.seq != 0 && s.broker.cfg.isOrdinary(m.Topic, tied.subject) {
		var f frame
		err := f.decode(tied.data)
		return f.time, err
	}
	// If it was erased, its name is still there.
	var h meta
	h.decode(newest.header)
	if newest.seq == 0 || h.tied != m.Tied || h.remove {
		return 0, errTiedGone
	}
	return h.tiedTime, nil
}

// checkExpected refuses a message that expects a removal to be the newest. The
// server does not know that there is no such name then.
func (n *naming) checkExpected(ctx context.Context) error {
	var e entry
	if err := n.s.persist(ctx, func(ctx context.Context) (err error) {
		e, err = n.s.get(ctx, `{"seq":`+formatSeq(*n.m.Expect)+`}`)
		return err
	}); err != nil {
		return err
	}
	var h meta
	h.decode(e.header)
	if e.subject == n.subject && h.remove {
		never := uint64(1<<63 - 1) // the key may be a repeated one
		n.expected = &never
	}
	return nil
}

// timeToLive returns how long a message lives, as the server wants it.
func (s *session) timeToLive(m *chathub.Message, tiedTime int64) string {
	st := s.state.Load()
	switch {
	case m.Remove: // as long as an ordinary message
		return ""
	case m.Tied == 0:
		return "never"
	case st.maxAge <= 0:
		return ""
	}
	left := time.Duration(tiedTime-s.now())*time.Millisecond + st.maxAge + tiedMargin
	return strconv.FormatInt(max(1, int64(left/time.Second)), 10)
}

// store publishes the message. If the server expects another predecessor, it
// finds out what that means.
func (n *naming) store(ctx context.Context) (pubAck, error) {
	for {
		if n.expected != nil {
			n.msg.Header[headerExpected] = []string{formatSeq(*n.expected)}
		}
		ack, err := n.s.store(ctx, &n.msg)
		var api *apiError
		if !errors.As(err, &api) || api.ErrCode != codeWrongLast {
			return ack, err
		}
		// A server that is alone looks at the predecessor before the id.
		if ack, known, err := n.repeated(ctx); err != nil || known {
			return ack, err
		}
		var last uint64
		if _, err := fmt.Sscanf(api.Description, "wrong last sequence: %d", &last); err != nil {
			return ack, api
		}
		e, err := n.s.get(ctx, `{"last_by_subj":`+quote(n.subject)+`}`)
		if err != nil {
			return ack, err
		}
		var h meta
		h.decode(e.header)
		if *n.m.Expect == 0 && (e.seq == 0 || h.remove) && *n.expected != e.seq {
			n.expected = &e.seq
			continue
		}
		if e.seq != 0 {
			if m, ok := n.s.stored(n.m.Topic, e); ok {
				n.s.saw(&m) // so that whoever tries again knows it
			}
		}
		return ack, finalError{errNotExpected}
	}
}

// repeated reports whether the id of the message is known. It sends the message
// with a header that is refused, after ids have been looked at.
func (n *naming) repeated(ctx context.Context) (ack pubAck, known bool, err error) {
	probe := nats.Msg{Subject: n.subject, Header: nats.Header{headerID: n.msg.Header[headerID], headerRollup: {"none"}}}
	ack, err = n.s.store(ctx, &probe)
	var api *apiError
	switch {
	case err == nil && ack.Duplicate:
		return ack, true, nil
	case err == nil:
		return ack, false, errors.New("the server has stored a message that it should have refused")
	case errors.As(err, &api) && api.ErrCode == codeRollup:
		return ack, false, nil
	}
	return ack, false, err
}
