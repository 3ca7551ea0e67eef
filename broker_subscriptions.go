package chathub

import (
	"context"
	"sync"
	"time"
)

// subscriptions counts the users of each topic on this hub, and keeps the topic
// subscribed while there are any. Each member of a room and each connection of
// a user counts as one.
type subscriptions struct {
	hub    *Hub
	mu     sync.Mutex
	topics map[Topic]*subscription
}

type subscription struct {
	refs int // guarded by subscriptions.mu

	mu   sync.Mutex // held during the broker's calls, so that they do not overtake each other
	live bool
	head Position // of the log when it became live
}

func (subs *subscriptions) init(h *Hub) {
	subs.hub = h
	subs.topics = make(map[Topic]*subscription)
}

// acquire subscribes t if nothing has, and returns the head of its log at that
// time. The loop has been handed everything that came after that, in order.
// Each acquire needs a release.
func (subs *subscriptions) acquire(ctx context.Context, t Topic) (Position, error) {
	subs.mu.Lock()
	sub := subs.topics[t]
	if sub == nil {
		sub = &subscription{}
		subs.topics[t] = sub
	}
	sub.refs++
	subs.mu.Unlock()

	sub.mu.Lock()
	defer sub.mu.Unlock()
	if !sub.live {
		head, err := subs.hub.session.Subscribe(ctx, t)
		if err != nil {
			subs.unref(sub)
			subs.forget(t, sub)
			return Position{}, err
		}
		sub.live, sub.head = true, head
	}
	return sub.head, nil
}

// release undoes one acquire, and unsubscribes after the last.
func (subs *subscriptions) release(t Topic) {
	subs.mu.Lock()
	sub := subs.topics[t]
	subs.mu.Unlock()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if subs.unref(sub) > 0 {
		return
	}
	if sub.live && subs.hub.life.ctx.Err() == nil { // closing the session ends all subscriptions
		ctx, cancel := subs.hub.brokerContext()
		defer cancel()
		if err := subs.hub.session.Unsubscribe(ctx, t); err != nil {
			// The broker goes on delivering. The next acquire finds it live.
			subs.hub.log.Warn("chathub: unsubscribe", "topic", t, "err", err)
			return
		}
		sub.live = false
		_ = subs.hub.post(call(func(l *loop) { l.forgetTopic(t) })) // a closed hub has forgotten it
	}
	subs.forget(t, sub)
}

// unref takes back one reference and returns how many are left.
func (subs *subscriptions) unref(sub *subscription) int {
	subs.mu.Lock()
	defer subs.mu.Unlock()
	sub.refs--
	return sub.refs
}

// forget takes an unreferenced subscription out of the map. The caller holds
// its mutex. A goroutine that found it in the map meanwhile waits for that, and
// has counted itself.
func (subs *subscriptions) forget(t Topic, sub *subscription) {
	subs.mu.Lock()
	defer subs.mu.Unlock()
	if sub.refs == 0 {
		delete(subs.topics, t)
	}
}

// release is for the loop: it does not wait.
func (h *Hub) release(t Topic) {
	h.later(func(h *Hub) { h.subs.release(t) })
}

// brokerTimeout bounds a broker call that has no context of a caller.
const brokerTimeout = 5 * time.Second

// brokerContext returns the context of such a call.
func (h *Hub) brokerContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(h.life.ctx, brokerTimeout)
}
