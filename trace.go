package chathub

import (
	"time"
)

// Trace observes a hub, for metrics of the application's own. [Hub.Metrics] has
// the common ones. Any field may be nil. The functions are
// called concurrently, on the goroutines of clients, and must return soon.
type Trace struct {
	// Connected is called when a client has been welcomed.
	Connected func(c *Client)
	// Refused is called when a handshake is refused. The user may be unknown.
	Refused func(err *Error)
	// Disconnected is called when a client that was welcomed has gone.
	Disconnected func(c *Client, d Disconnect)
	// Rejected is called when a message of a client is refused before it is
	// handled: bad input, or an event over a rate limit.
	Rejected func(c *Client, err *Error)
	// Handled is called when an event of a client has been handled. Err is what
	// the client was told, or nil. The client chooses e.Type freely. If err has
	// CodeUnknownType, do not make a metric of it; see [Metrics].
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

func (h *Hub) traceRejected(c *Client, e *Error) {
	if f := h.cfg.Trace.Rejected; f != nil {
		_ = h.guard("Trace.Rejected", func() error { f(c, e); return nil })
	}
}

func (h *Hub) traceHandled(c *Client, e *Event, took time.Duration, err *Error) {
	if f := h.cfg.Trace.Handled; f != nil {
		_ = h.guard("Trace.Handled", func() error { f(c, e, took, err); return nil })
	}
}
