package client

import (
	"context"
	"iter"
	"sync"
	"time"
)

// State is what a client is doing.
type State int

// The states of a client. It goes from Connecting to Connected or Waiting, from
// these back to Connecting, and from any to Ended.
const (
	Connecting State = iota
	Connected        // events and answers flow
	Waiting          // before another attempt; see Status.RetryAt
	Ended            // closed or refused, see Status.Err; there are no attempts
)

func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Connected:
		return "connected"
	case Waiting:
		return "waiting"
	case Ended:
		return "ended"
	}
	return "unknown"
}

// Status is the state of a client's connection.
type Status struct {
	State State
	// Attempt counts the attempts since the last connection that lasted longer
	// than Options.BackoffMax.
	Attempt int
	// RetryAt is when the next attempt starts, in state Waiting.
	RetryAt time.Time
	// ClientID is the server's id of the connection, in state Connected.
	ClientID string
	// CloseCode is that of the last connection, if it had one.
	CloseCode int
	// Err is why there is no connection. In state Ended it is [ErrClosed] or a
	// [*RefusedError].
	Err error
}

// statusBox holds the status. The loop sets it, and anyone reads it.
type statusBox struct {
	mu      sync.Mutex
	now     Status
	version int
	changed chan struct{} // closed at the next change
}

func (b *statusBox) set(s Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = s
	b.version++
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *statusBox) load() (Status, int, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now, b.version, b.changed
}

// Status returns the present status.
func (c *Client) Status() Status {
	s, _, _ := c.status.load()
	return s
}

// Statuses returns an iterator over the present status and those that follow.
// It ends with ctx, and after the state [Ended]. A slow reader misses statuses
// in between, but never the newest.
func (c *Client) Statuses(ctx context.Context) iter.Seq[Status] {
	return func(yield func(Status) bool) {
		seen := -1
		for ctx.Err() == nil {
			s, version, changed := c.status.load()
			if version != seen {
				seen = version
				if !yield(s) || s.State == Ended {
					return
				}
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}
