package chathub

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// tailQueue is how many events wait for the function of one Tail.
const tailQueue = 256

// Tail calls fn for everything that is sent to one room, or to the connections
// of one user, from now on, from any node: volatile events such as typing
// included. It is for an operator who looks at what happens. It ends with ctx
// or the hub, or once fn returns an error, and returns that.
//
// Nobody waits for fn. If it is slow, events are dropped, and the next entry
// has Gap set. Use [Hub.Follow] for what must see everything.
func (t Target) Tail(ctx context.Context, fn func(ctx context.Context, e Entry) error) error {
	if err := t.check(); err != nil {
		return err
	}
	if len(t.topics) != 1 || t.all {
		return badEmit("a Tail needs one room or one user", nil)
	}
	h, topic := t.hub, t.topics[0]
	tap := &tap{events: make(chan Message, tailQueue)}
	defer h.tails.add(topic, tap)()
	if _, err := h.subs.acquire(ctx, topic); err != nil {
		return err
	}
	defer h.release(topic)
	for {
		select {
		case m := <-tap.events:
			e := tailed(&m)
			e.Gap = tap.missed.Swap(false)
			if err := fn(ctx, e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-h.life.done:
			return ErrClosed
		}
	}
}

// tailed returns an event as Tail shows it.
func tailed(m *Message) Entry {
	e, ok := entryOf(m, "")
	if !ok {
		return Entry{}
	}
	var env struct {
		TS   int64          `json:"ts"`
		Data jsontext.Value `json:"data"`
	}
	if m.Seq == 0 && json.Unmarshal(eventIn(m), &env) == nil {
		e.Time = timeOf(env.TS)
		if env.TS == 0 {
			e.Time = time.Now()
		}
	}
	return e
}

// tap is a running call of Tail.
type tap struct {
	events chan Message // bounded: who does not read it misses some
	missed atomic.Bool
}

// tails are the running calls of Tail. Any goroutine may use it.
type tails struct {
	count atomic.Int64

	mu     sync.Mutex
	topics map[Topic]map[*tap]struct{}
}

func (ts *tails) add(t Topic, tp *tap) (remove func()) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.topics == nil {
		ts.topics = make(map[Topic]map[*tap]struct{})
	}
	if ts.topics[t] == nil {
		ts.topics[t] = make(map[*tap]struct{})
	}
	ts.topics[t][tp] = struct{}{}
	ts.count.Add(1)
	return func() {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		ts.count.Add(-1)
		if delete(ts.topics[t], tp); len(ts.topics[t]) == 0 {
			delete(ts.topics, t)
		}
	}
}

// show hands a message of a topic to those who look at it.
func (ts *tails) show(m *Message) {
	if ts.count.Load() == 0 {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for tp := range ts.topics[m.Topic] {
		select {
		case tp.events <- *m:
		default:
			tp.missed.Store(true)
		}
	}
}
