package chathub

import "time"

// Trace observes a hub, for metrics. Fields may be nil. The functions are
// called on the goroutines of clients, concurrently, and must return soon.
type Trace struct {
	// Connected: a client was welcomed.
	Connected func(c *Client)
	// Refused: a handshake was turned away. It may have no user.
	Refused func(err *Error)
	// Disconnected: a client that was welcomed has gone.
	Disconnected func(c *Client, d Disconnect)
	// Handled: an event of a client was handled. Err is nil or what the client was told.
	Handled func(c *Client, e *Event, took time.Duration, err *Error)
}

// Disconnect says why a connection ended.
type Disconnect struct {
	// Code is the WebSocket close code that was sent, or else received, or 1006
	// where there was neither.
	Code   int
	Reason string
	// Remote reports whether the client ended it.
	Remote bool
}

// Stats are a hub's own figures at one moment, without those of other hubs on its
// Broker.
type Stats struct {
	Connections int `json:"connections"`
	Users       int `json:"users"`
	Rooms       int `json:"rooms"`
	// QueueLength is how many commands wait for the hub's loop.
	QueueLength int `json:"queueLength"`
	// QueueAge is for how long some have waited without a break: above a few
	// milliseconds, the loop is at its limit, and senders are being slowed down.
	QueueAge time.Duration `json:"-"`
	// Since the hub began:
	Accepted      uint64 `json:"accepted"`      // connections that were welcomed
	Refused       uint64 `json:"refused"`       // handshakes that were turned away
	Received      uint64 `json:"received"`      // events from clients
	Delivered     uint64 `json:"delivered"`     // frames handed to outboxes
	Dropped       uint64 `json:"dropped"`       // volatile frames that found an outbox half full
	SlowConsumers uint64 `json:"slowConsumers"` // clients closed with 4001
}

func (h *Hub) traceConnected(c *Client) {
	if f := h.cfg.Trace.Connected; f != nil {
		_ = h.guard("Trace.Connected", func() error { f(c); return nil })
	}
}

func (h *Hub) traceRefused(e *Error) {
	if f := h.cfg.Trace.Refused; f != nil {
		_ = h.guard("Trace.Refused", func() error { f(e); return nil })
	}
}

func (h *Hub) traceDisconnected(c *Client, d Disconnect) {
	if f := h.cfg.Trace.Disconnected; f != nil {
		_ = h.guard("Trace.Disconnected", func() error { f(c, d); return nil })
	}
}

func (h *Hub) traceHandled(c *Client, e *Event, took time.Duration, err *Error) {
	if f := h.cfg.Trace.Handled; f != nil {
		_ = h.guard("Trace.Handled", func() error { f(c, e, took, err); return nil })
	}
}
