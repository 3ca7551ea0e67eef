package chathub

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
)

// On registers a handler for an event of the application's own, whose data is
// unmarshaled into a T as encoding/json/v2 does it: names are matched exactly, and data
// that does not fit is refused with [CodeBadRequest]. So is a T with a Validate() error
// method that returns one. A client that sent an id gets an ack when the handler returns nil.
//
// On panics where the name is not valid, built in, or registered already. Register
// before the hub serves.
func On[T any](h *Hub, event string, fn func(ctx context.Context, c *Client, data T) error) {
	if fn == nil {
		panic(fmt.Sprintf("chathub: On: the handler of %q is nil", event))
	}
	OnAck(h, event, func(ctx context.Context, c *Client, data T) (any, error) {
		return nil, fn(ctx, c, data)
	})
}

// OnAck is [On] for a handler whose result is sent as the data of the ack.
func OnAck[T, R any](h *Hub, event string, fn func(ctx context.Context, c *Client, data T) (R, error)) {
	if fn == nil {
		panic(fmt.Sprintf("chathub: On: the handler of %q is nil", event))
	}
	h.handlers.add(event, func(ctx context.Context, c *Client, e *Event) (any, error) {
		var data T
		if e.Data != nil {
			if err := json.Unmarshal(e.Data, &data); err != nil {
				return nil, &Error{Code: CodeBadRequest, Message: "Invalid data", Err: err}
			}
		}
		if err := validate(&data); err != nil {
			return nil, err
		}
		return fn(context.WithValue(ctx, eventKey{}, e), c, data)
	})
}

type eventKey struct{}

// EventFrom returns the event that a handler registered with [On] or [OnAck] was
// called for, from its ctx: for its Room or To, which Config.Authorize was asked about, and its ID. Nil elsewhere.
func EventFrom(ctx context.Context) *Event {
	e, _ := ctx.Value(eventKey{}).(*Event)
	return e
}

// validate calls the Validate method that *T or, where that is a pointer itself, T has.
func validate[T any](data *T) error {
	type validator interface{ Validate() error }
	v, ok := any(data).(validator)
	if !ok {
		v, ok = any(*data).(validator)
	}
	if !ok {
		return nil
	}
	err := v.Validate()
	if err == nil || ownError(err) != nil {
		return err
	}
	return &Error{Code: CodeBadRequest, Message: "Invalid data", Err: err}
}

// registry holds what handles events.
type registry struct {
	mu         sync.Mutex // of writers
	middleware []Middleware
	own        map[string]Handler
	current    atomic.Pointer[handlers]
}

// handlers is one immutable state of a registry.
type handlers struct {
	own   map[string]Handler
	chain Handler // middleware around whatever handles the event
}

func (r *registry) init() {
	r.own = make(map[string]Handler)
	r.publish()
}

func (r *registry) use(m []Middleware) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, mw := range m {
		if mw == nil {
			panic("chathub: Use: the middleware is nil")
		}
	}
	r.middleware = append(r.middleware, m...)
	r.publish()
}

func (r *registry) add(event string, h Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch _, taken := r.own[event]; {
	case !validType(event):
		panic(fmt.Sprintf("chathub: On: %q is not an event name", event))
	case reserved[event]:
		panic(fmt.Sprintf("chathub: On: %q is the protocol's own", event))
	case builtin[event].run != nil:
		panic(fmt.Sprintf("chathub: On: %q is built in; wrap it with Use", event))
	case taken:
		panic(fmt.Sprintf("chathub: On: %q is registered already", event))
	}
	r.own[event] = h
	r.publish()
}

// publish makes a new immutable state of what is registered.
func (r *registry) publish() {
	next := &handlers{own: make(map[string]Handler, len(r.own))}
	for k, v := range r.own {
		next.own[k] = v
	}
	chain := func(ctx context.Context, c *Client, e *Event) (any, error) {
		if b := builtin[e.Type]; b.run != nil {
			return b.run(ctx, c, e)
		}
		return next.own[e.Type](ctx, c, e)
	}
	next.chain = chain
	for _, m := range slices.Backward(r.middleware) {
		next.chain = m(next.chain)
	}
	r.current.Store(next)
}

// handle handles one event of a client and answers it.
func (c *Client) handle(e *Event) {
	h := c.hub
	h.figures.received.Add(1)
	start := time.Now()
	var ack []byte
	published := false
	err := h.guard(e.Type, func() error {
		result, err := c.dispatch(e)
		if err == nil && e.ID != "" {
			_, published = result.(Receipt)
			ack, err = ackFrame(e, result) // here: a MarshalJSON may panic
		}
		return err
	})
	var public *Error
	if err != nil {
		var known bool
		if public, known = publicError(err); !known {
			h.log.Error("chathub: handler failed", "event", e.Type, "user", c.user.ID, "client", c.id, "err", err)
		} else if public.Err != nil {
			h.log.Debug("chathub: event refused", "event", e.Type, "user", c.user.ID, "client", c.id, "err", err)
		}
	}
	if published && err == nil {
		_ = h.post(&acked{c, ack})
	} else {
		c.answer(e, ack, public)
	}
	h.traceHandled(c, e, time.Since(start), public)
}

// acked is the command that sends the ack of what was published: by way of the
// loop, which is about to write to most senders anyway.
type acked struct {
	c     *Client
	frame []byte
}

func (a *acked) run(l *loop) { l.enqueue(a.c, a.frame, false) }

// dispatch checks an event, asks Authorize, and has it handled.
func (c *Client) dispatch(e *Event) (any, error) {
	now := c.hub.handlers.current.Load()
	b, known := builtin[e.Type]
	switch {
	case known:
		if err := b.check(c, e); err != nil {
			return nil, err
		}
	case now.own[e.Type] == nil:
		return nil, errorf(CodeUnknownType, "Unknown event type")
	}
	if !b.free {
		if err := c.authorize(Action{Type: e.Type, Room: e.Room, To: e.To}); err != nil {
			return nil, err
		}
	}
	return now.chain(c.Context(), c, e)
}

func (c *Client) authorize(a Action) error {
	if c.hub.cfg.Authorize == nil {
		return nil
	}
	err := c.hub.cfg.Authorize(c.Context(), c, a)
	if err == nil {
		return nil
	}
	if ownError(err) != nil {
		return err
	}
	return &Error{Code: CodeForbidden, Message: "Not allowed", Err: err}
}

// answer answers an event that was handled, and sends what the handler fetched.
func (c *Client) answer(e *Event, frame []byte, err *Error) {
	if err != nil {
		frame = errorFrame(e.ID, err)
	}
	switch f := c.fetched; {
	case f != nil:
		c.fetched = nil
		f.end(frame, err == nil)
	case frame != nil:
		_ = c.send(frame, false) // a client that is gone needs no answer
	}
}

// errorFrame tells a client of an error, also where it gave no id.
func errorFrame(id string, err *Error) []byte {
	e := envelope{typ: "error", id: id, data: errorData(err)}
	return e.frame()
}

// ackFrame returns the ack of an event.
func ackFrame(e *Event, result any) ([]byte, error) {
	data, err := marshal(result)
	if err != nil {
		return nil, fmt.Errorf("chathub: result: %w", err)
	}
	env := envelope{typ: "ack", id: e.ID, data: data}
	if r, ok := result.(Receipt); ok {
		env.room, env.seq, env.ts = e.Room, r.Seq, r.Time
	}
	return env.frame(), nil
}

// errPanic is what a callback that panicked has returned.
var errPanic = errors.New("chathub: panic")

// guard calls f, and turns a panic into an error and a line in the log.
func (h *Hub) guard(what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			h.log.Error("chathub: panic", "in", what, "panic", v, "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	if err = f(); err != nil {
		_, _ = publicError(err) // here: the methods of an error may panic
	}
	return err
}
