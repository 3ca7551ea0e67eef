package client

import (
	"context"
	"iter"
	"sync"
)

// eventSize is what an event counts in a queue, beside its data.
const eventSize = 256

// queue holds the events of one room, inbox or connection until the program
// takes them. The loop puts them in, and any goroutine takes them out.
type queue struct {
	most    int             // bytes
	drained chan<- struct{} // gets a signal when a crowded queue is half empty; has room for one
	wake    chan struct{}   // wakes one that waits; has room for one
	done    chan struct{}   // closed by end

	mu      sync.Mutex
	events  []Event
	bytes   int
	full    bool // a durable event did not fit, and the queue was not half empty since
	discard bool // nobody will read it
	ended   bool
	err     error // why it ended
}

func newQueue(most int, drained chan<- struct{}) *queue {
	return &queue{most: most, drained: drained, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// kind says what becomes of an event if a queue is crowded.
type kind int

const (
	volatile kind = iota // dropped if the queue is half full
	durable              // not taken if the queue is full; the server has it
	certain              // always taken; few are
)

// put adds an event. It reports false if a durable event did not fit.
func (q *queue) put(e Event, k kind) bool {
	size := eventSize + len(e.Data)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.discard {
		return true
	}
	switch {
	case k == volatile && (q.full || q.bytes+size > q.most/2):
		return true
	case k == durable && (q.full || q.bytes+size > q.most && q.bytes > 0):
		q.full = true
		return false
	}
	q.events = append(q.events, e)
	q.bytes += size
	signal(q.wake)
	return true
}

// crowded reports whether a durable event did not fit, and less than half of
// the queue has been read since.
func (q *queue) crowded() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.full
}

// take returns the oldest event, and waits for it. It reports false once the
// queue has ended, or ctx has.
func (q *queue) take(ctx context.Context) (Event, bool) {
	for ctx.Err() == nil {
		q.mu.Lock()
		if len(q.events) > 0 {
			e := q.events[0]
			q.events[0] = Event{} // for the garbage collector
			q.events = q.events[1:]
			if len(q.events) > 0 {
				signal(q.wake) // for another that waits
			}
			q.bytes -= eventSize + len(e.Data)
			if q.full && q.bytes <= q.most/2 {
				q.full = false
				signal(q.drained)
			}
			q.mu.Unlock()
			return e, true
		}
		ended := q.ended
		q.mu.Unlock()
		if ended {
			return Event{}, false
		}
		select {
		case <-q.wake:
		case <-q.done:
		case <-ctx.Done():
		}
	}
	return Event{}, false
}

// all returns an iterator over the events.
func (q *queue) all(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for {
			e, ok := q.take(ctx)
			if !ok || !yield(e) {
				return
			}
		}
	}
}

// end ends the queue. What is in it can still be taken, unless drop is set.
func (q *queue) end(err error, drop bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if drop {
		q.events, q.bytes = nil, 0
	}
	if q.ended {
		return
	}
	q.ended, q.err = true, err
	close(q.done)
}

// reason returns why the queue ended, or nil.
func (q *queue) reason() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// signal puts a token into a channel that has room for one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
