package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats.go"
)

// The messages of an inbox have many subjects, and named messages have subjects
// of their own. A republished message only names its predecessor of the same
// subject. So a session cannot see from that whether it has missed a message of
// another one. It knows in three ways:
//
//   - If the stream's only server is the one that the session is connected to,
//     messages arrive in their order, and none is lost without a trace: the
//     connection is lost, or nats.go counts what it drops. See risks.
//   - Otherwise, a message may be lost between two servers. So the publisher of
//     a message to an inbox names the predecessor, and the server refuses the
//     message if that is wrong. See storeNext.
//   - A named message cannot do so, because the server compares one position
//     only, which is that of the name. So the session reads the log up to it.
//
// If nothing tells, the topic is read from the log. A named message that is
// lost between two servers, and is followed by an ordinary one, is found by
// topic.verify.

const (
	headerExpected        = "Nats-Expected-Last-Subject-Sequence"
	headerExpectedSubject = headerExpected + "-Subject"
)

// predecessor returns the position of the message before a republished one. Of
// an inbox, known reports whether that is certain. Of a named message, nothing
// is known.
func predecessor(m *nats.Msg, shared bool) (seq uint64, known bool, err error) {
	if subject := m.Header["Nats-Subject"]; len(subject) > 0 && strings.Contains(subject[0], nameMark) {
		return 0, false, nil
	}
	header := "Nats-Last-Sequence"
	if shared && m.Header.Get(headerExpected) != "" {
		header = headerExpected
	}
	seq, err = number(m, header)
	return seq, !shared || header == headerExpected, err
}

// risks counts what may have lost messages of a topic on their way from the
// server that the session is connected to.
type risks struct {
	hazards    uint64 // of the session
	reconnects uint64 // nats.go counts one before it reads from the new connection
	dropped    int    // by nats.go, of this topic
}

func (t *topic) present() risks {
	t.s.mu.RLock()
	sub := t.sub
	t.s.mu.RUnlock()
	hazards := t.s.hazards.Load()
	dropped, _ := sub.Dropped() // negative: there is no subscription yet
	return risks{hazards, t.s.nc.Stats().Reconnects, max(dropped, 0)}
}

// isComplete reports whether the topic has received everything that came before
// the message that has just arrived. Known says that its predecessor has been
// received. A named message may be missing nevertheless if there was a hazard.
// The caller holds turn.
func (t *topic) isComplete(known bool) bool {
	if known && t.s.hazards.Load() == t.risks.hazards {
		return true // without the locks of nats.go
	}
	now := t.present()
	return now == t.risks && (known || t.s.direct.Load() == now.reconnects+1)
}

// isDirect reports whether the session is connected to the stream's only
// server, as far as it knows since it last connected.
func (s *session) isDirect() bool { return s.direct.Load() == s.nc.Stats().Reconnects+1 }

// extend returns the position up to which catchUp has to fetch messages. If
// more may have been lost than those up to target, that is the head of the log.
func (t *topic) extend(ctx context.Context, target uint64, before, now risks) (uint64, error) {
	if now == before {
		return target, nil
	}
	head, err := t.s.head(ctx, t.place)
	return max(target, head), err
}

// inboxes has the heads of inboxes, as far as the session knows them from what
// it has published. Its methods may be called concurrently.
type inboxes struct {
	seed  maphash.Seed
	parts [256]inboxPart
}

// inboxPart is a part of the inboxes. Only one message is published to them at
// a time, because a second one would be refused.
type inboxPart struct {
	turn  chan struct{} // held (full) during a publish; guards heads
	heads map[chathub.Topic]uint64
}

// headsOfPart bounds the heads of a part. An unknown head costs a request.
const headsOfPart = 64

func (b *inboxes) init() {
	b.seed = maphash.MakeSeed()
	for i := range b.parts {
		b.parts[i] = inboxPart{make(chan struct{}, 1), make(map[chathub.Topic]uint64)}
	}
}

func (b *inboxes) part(t chathub.Topic) *inboxPart {
	return &b.parts[maphash.String(b.seed, t.User)%uint64(len(b.parts))]
}

func (p *inboxPart) set(t chathub.Topic, head uint64) {
	if _, known := p.heads[t]; !known && len(p.heads) >= headsOfPart {
		for other := range p.heads { // any
			delete(p.heads, other)
			break
		}
	}
	p.heads[t] = head
}

// guesses is how often storeNext names a predecessor. Somebody else may send to
// the same inbox all the time, from a node that is nearer to the stream.
const guesses = 2

// storeNext stores a message to an inbox together with the position of its
// predecessor. If the session does not know that, it guesses, and is told by
// the server. If it is wrong again and again, it names none, and all who
// receive the message read the log.
//
// In a cluster, a message that names none may be on its way to the replicas
// when another one is accepted with an older predecessor. Only if the first is
// then lost between two servers, too, a session gets the second one without it.
func (s *session) storeNext(ctx context.Context, t chathub.Topic, msg *nats.Msg) (pubAck, error) {
	part := s.inboxes.part(t)
	if err := hold(ctx, part.turn); err != nil {
		return pubAck{}, err
	}
	defer func() { <-part.turn }()
	filter, head := s.broker.cfg.filter(t), max(part.heads[t], s.heard(t))
	msg.Header[headerExpectedSubject] = []string{filter}
	for tries := 1; ; tries++ {
		msg.Header[headerExpected] = []string{formatSeq(head)}
		if tries > guesses {
			delete(msg.Header, headerExpected)
			delete(msg.Header, headerExpectedSubject)
		}
		ack, err := s.store(ctx, msg)
		var api *apiError
		switch {
		case err == nil && !ack.Duplicate:
			part.set(t, ack.Seq)
			return ack, nil
		case !errors.As(err, &api):
			return ack, err
		case tries > guesses:
			return ack, api
		case api.ErrCode == codeWrongLast:
			if _, err := fmt.Sscanf(api.Description, "wrong last sequence: %d", &head); err != nil {
				return ack, api
			}
		case api.ErrCode == codeWrongLastBusy: // another message is on its way to the replicas
			if tries < guesses {
				if head, err = s.last(ctx, filter); err != nil {
					return ack, err
				}
			}
		default:
			return ack, api
		}
	}
}

// heard returns the position up to which the session has received a topic, or 0
// if it does not have it.
func (s *session) heard(t chathub.Topic) uint64 {
	s.mu.RLock()
	has := s.topics[t]
	s.mu.RUnlock()
	if has == nil {
		return 0
	}
	if seq := has.tail.newest(); seq > s.old.Load() {
		return seq
	}
	return 0
}
