package chathub

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// readyFor is how long a message that was stored shows that the next one
	// will be, and how long the result of a probe holds.
	readyFor = time.Second
	// probePatience bounds a probe.
	probePatience = 2 * time.Second
	// probeBytes is a page of common file systems. Less than that may fit into
	// a page that a file has already, and a full disk would not show.
	probeBytes = 4096
)

// probeTopic is where probes are stored. No client can name this room, because
// of the control character. There is only ever one message in it, since all
// have the same name.
var probeTopic = Topic{Room: "\x7fready"}

// Ready returns nil if the hub should get new clients, and otherwise the reason
// why not: it is shutting down, or its broker does not store messages. A broker
// that is away, or whose disk is full, shows at the first call after that, and
// so does its return. The connected clients need neither.
//
// If a message was stored within the last second, Ready returns at once.
// Otherwise it stores one of 4 KiB that replaces the one before, under a name
// that no client can reach. That takes two seconds at most, and happens at most
// once a second, however often Ready is called. If ctx ends first, Ready
// returns its error.
//
// Ready is for a load balancer. It must not decide whether the process is
// restarted: that does not bring the broker back.
func (h *Hub) Ready(ctx context.Context) error {
	if h.life.draining.Load() {
		return fmt.Errorf("chathub: shutting down: %w", ErrClosed)
	}
	if at := h.session.storedAt.Load(); at != 0 && time.Since(time.Unix(0, at)) < readyFor {
		return nil
	}
	p := h.readiness.probe(h)
	select {
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readiness has the newest probe of the broker, which all callers of Ready
// share.
type readiness struct {
	mu     sync.Mutex
	newest *probe // nil: there was none
}

type probe struct {
	ended chan struct{} // closed once it has, and has set:
	at    time.Time
	err   error
}

// probe returns a probe that is under way or holds, or begins one.
func (r *readiness) probe(h *Hub) *probe {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.newest; p != nil {
		select {
		case <-p.ended:
			if time.Since(p.at) < readyFor {
				return p
			}
		default:
			return p
		}
	}
	p := &probe{ended: make(chan struct{})}
	r.newest = p
	go p.run(h)
	return p
}

func (p *probe) run(h *Hub) {
	defer close(p.ended)
	ctx, cancel := context.WithTimeout(h.life.ctx, probePatience)
	defer cancel()
	_, err := h.session.Publish(ctx, Message{Topic: probeTopic, Name: "ready/probe", Body: make([]byte, probeBytes)})
	if err != nil {
		p.err = fmt.Errorf("chathub: the broker does not store messages: %w", err)
	}
	p.at = time.Now()
}
