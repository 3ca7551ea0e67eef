package chathub

import (
	"sync"
)

// courier does for the loop, in order, what may take time.
type courier struct {
	mu     sync.Mutex
	work   []func(*Hub)
	signal chan struct{} // holds one: there is work
	quit   chan struct{}
	ended  chan struct{}
}

func (c *courier) init() {
	c.signal = make(chan struct{}, 1)
	c.quit = make(chan struct{})
	c.ended = make(chan struct{})
}

func (c *courier) run(h *Hub) {
	defer close(c.ended)
	for {
		c.mu.Lock()
		work := c.work
		c.work = nil
		c.mu.Unlock()
		for _, f := range work {
			f(h)
		}
		if len(work) > 0 {
			continue
		}
		select {
		case <-c.signal:
		case <-c.quit:
			return
		}
	}
}

func (c *courier) stop() {
	close(c.quit)
	<-c.ended
}

func (c *courier) add(f func(*Hub)) {
	c.mu.Lock()
	c.work = append(c.work, f)
	c.mu.Unlock()
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// length is how much waits to be begun.
func (c *courier) length() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.work)
}

// later has f run soon, on another goroutine, after everything that was handed
// over before. It does not wait.
func (h *Hub) later(f func(*Hub)) {
	h.courier.add(f)
}
