package chathub

import (
	"context"
	"sync"
	"time"
)

// subscriptions counts who needs a topic on this hub, and subscribes it while
// someone does. Members of rooms and connections of users each hold one.
type subscriptions struct {
	hub    *Hub
	mu     sync.Mutex
	topics map[Topic]*subscription
}

type subscription struct {
	refs int // guarded by subscriptions.mu

	mu   sync.Mutex // held during the broker's call, so that calls do not overtake
	live bool
	head Position // when it became live
}

func (s *subscriptions) init(h *Hub) {
	s.hub = h
	s.topics = make(map[Topic]*subscription)
}

// acquire subscribes t, if nobody has, and returns the position of its log at
// that time: the loop has been handed all that came after, in order. Each acquire needs
// a release.
func (s *subscriptions) acquire(ctx context.Context, t Topic) (Position, error) {
	s.mu.Lock()
	sub := s.topics[t]
	if sub == nil {
		sub = &subscription{}
		s.topics[t] = sub
	}
	sub.refs++
	s.mu.Unlock()

	sub.mu.Lock()
	defer sub.mu.Unlock()
	if !sub.live {
		head, err := s.hub.session.Subscribe(ctx, t)
		if err != nil {
			s.drop(sub)
			s.forget(t, sub)
			return Position{}, err
		}
		sub.live, sub.head = true, head
	}
	return sub.head, nil
}

// release takes back one acquire, and unsubscribes after the last.
func (s *subscriptions) release(t Topic) {
	s.mu.Lock()
	sub := s.topics[t]
	s.mu.Unlock()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if s.drop(sub) > 0 {
		return
	}
	if sub.live && s.hub.life.Err() == nil { // a session that closes forgets all topics
		ctx, cancel := s.hub.patience()
		defer cancel()
		if err := s.hub.session.Unsubscribe(ctx, t); err != nil {
			// The broker goes on delivering. Who acquires it next finds it live.
			s.hub.log.Warn("chathub: unsubscribe", "topic", t, "err", err)
			return
		}
		sub.live = false
		_ = s.hub.post(call(func(l *loop) { l.released(t) })) // a closed hub forgets it anyway
	}
	s.forget(t, sub)
}

// drop takes back one reference and returns how many are left.
func (s *subscriptions) drop(sub *subscription) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.refs--
	return sub.refs
}

// forget takes a subscription that nobody refers to out of the map. The caller
// holds its mutex: whoever found it in the map meanwhile waits for that, and counts.
func (s *subscriptions) forget(t Topic, sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.refs == 0 {
		delete(s.topics, t)
	}
}

// release is for the loop: it does not wait.
func (h *Hub) release(t Topic) {
	h.later(func(h *Hub) { h.subs.release(t) })
}

// brokerPatience bounds a broker call that nobody's context bounds.
const brokerPatience = 5 * time.Second

// patience returns a context for such a call.
func (h *Hub) patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(h.life, brokerPatience)
}
