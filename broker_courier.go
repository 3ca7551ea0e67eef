package chathub

import (
	"sync"
)

// courier does slow work for the loop, in order. Its queue has no bound of its
// own: each piece of work follows from a command that was bounded.
type courier struct {
	mu     sync.Mutex
	work   []func(*Hub)
	signal chan struct{} // holds one: there is work
	quit   chan struct{}
	ended  chan struct{}
}

func (q *courier) init() {
	q.signal = make(chan struct{}, 1)
	q.quit = make(chan struct{})
	q.ended = make(chan struct{})
}

func (q *courier) run(h *Hub) {
	defer close(q.ended)
	for {
		q.mu.Lock()
		work := q.work
		q.work = nil
		q.mu.Unlock()
		for _, f := range work {
			f(h)
		}
		if len(work) > 0 {
			continue
		}
		select {
		case <-q.signal:
		case <-q.quit:
			return
		}
	}
}

func (q *courier) stop() {
	close(q.quit)
	<-q.ended
}

func (q *courier) add(f func(*Hub)) {
	q.mu.Lock()
	q.work = append(q.work, f)
	q.mu.Unlock()
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// length is how much work is not begun yet.
func (q *courier) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.work)
}

// later has f run soon, on another goroutine, after everything that was handed
// over before. It does not wait.
func (h *Hub) later(f func(*Hub)) {
	h.courier.add(f)
}
