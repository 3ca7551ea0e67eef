package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
)

// An erasure has two steps: the named message is stored, then the message that
// it is tied to is overwritten. The node that publishes does both, and repeats
// the second until it has succeeded. If it is killed in between, every node
// that sees the named message hides the erased one, and completes the second
// step.

const (
	// erasuresKept bounds what a session remembers of erased messages.
	erasuresKept = 4096
	// eraseAfter is when a session looks whether an erased message is gone. The
	// node that publishes the erasure needs a moment.
	eraseAfter = 500 * time.Millisecond
)

// erasures has the positions of messages that were erased, as far as the
// session has seen. Its methods may be called concurrently.
type erasures struct {
	mu    sync.Mutex
	seen  map[uint64]chathub.Topic
	order []uint64 // of seen, oldest first
	queue chan erasure
}

// erasure is an erased message that has to be looked for, or an older message
// of a name, with its subject.
type erasure struct {
	topic   chathub.Topic
	seq     uint64
	subject string
	due     time.Time
}

func (x *erasures) init() {
	x.seen = make(map[uint64]chathub.Topic)
	x.queue = make(chan erasure, erasuresKept)
}

// add takes note of an erased message.
func (x *erasures) add(t chathub.Topic, seq uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, known := x.seen[seq]; known || seq == 0 {
		return
	}
	select {
	case x.queue <- erasure{topic: t, seq: seq, due: time.Now().Add(eraseAfter)}:
	default:
		return // it is looked for when it is seen again
	}
	x.seen[seq] = t
	if x.order = append(x.order, seq); len(x.order) > erasuresKept {
		delete(x.seen, x.order[0])
		x.order = x.order[1:]
	}
}

// addOlder takes note of a message of a name that is tied to another message,
// and that is not the newest of its name.
func (x *erasures) addOlder(e *entry) {
	select {
	case x.queue <- erasure{seq: e.seq, subject: e.subject, due: time.Now().Add(eraseAfter)}:
	default: // there will be another reader
	}
}

func (x *erasures) has(seq uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, there := x.seen[seq]
	return there
}

// completeErasures erases messages that should have been erased or replaced,
// until the session ends.
func (s *session) completeErasures() {
	for {
		var e erasure
		select {
		case e = <-s.erasures.queue:
		case <-s.life.Done():
			return
		}
		for wait := time.Until(e.due); ; wait = mostPause {
			select {
			case <-time.After(wait):
			case <-s.life.Done():
				return
			}
			ctx, cancel := context.WithTimeout(s.life, attemptTimeout)
			err := s.complete(ctx, &e)
			cancel()
			if err == nil {
				break
			}
		}
	}
}

func (s *session) complete(ctx context.Context, e *erasure) error {
	if e.subject == "" {
		return s.eraseOrdinary(ctx, e.topic, e.seq)
	}
	last, err := s.last(ctx, e.subject)
	if err != nil || last <= e.seq {
		return err
	}
	return s.deleteBefore(ctx, e.subject, last, 0)
}

// eraseOrdinary overwrites an ordinary message of a topic, if it is there.
func (s *session) eraseOrdinary(ctx context.Context, t chathub.Topic, seq uint64) error {
	m, err := s.get(ctx, `{"seq":`+formatSeq(seq)+`}`)
	if err != nil || m.seq == 0 || !s.broker.cfg.isOrdinary(t, m.subject) {
		return err
	}
	return s.delete(ctx, seq)
}

// isOrdinary reports whether a subject is that of ordinary messages of a topic.
func (c *config) isOrdinary(t chathub.Topic, subject string) bool {
	return subject == c.oldSubject(t) ||
		strings.HasPrefix(subject, c.name+logTree+branch(t)+".") && !strings.Contains(subject, nameMark)
}

// delete overwrites a message. It is not an error if there is none.
func (s *session) delete(ctx context.Context, seq uint64) error {
	var done struct {
		answer
		Success bool `json:"success"`
	}
	err := s.request(ctx, s.api.delete, fmt.Sprintf(`{"seq":%d}`, seq), &done)
	var api *apiError
	if errors.As(err, &api) {
		// It may have been removed in the meantime.
		if m, failed := s.get(ctx, `{"seq":`+formatSeq(seq)+`}`); failed == nil && m.seq == 0 {
			return nil
		}
	}
	return err
}

// deleteBefore overwrites what a message has replaced: all earlier ones of its
// subject. The position of the one before is a guess that saves a request, or
// 0.
func (s *session) deleteBefore(ctx context.Context, subject string, seq, before uint64) error {
	for {
		if before != 0 {
			if err := s.delete(ctx, before); err != nil {
				return err
			}
		}
		m, err := s.next(ctx, subject, 1)
		if err != nil || m.seq == 0 || m.seq >= seq {
			return err
		}
		before = m.seq
	}
}
