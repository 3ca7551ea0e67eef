package chathub

import (
	"time"
)

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
