package chathub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/chathub-go/chathub/internal/text"
)

// Event is an event that a client sent. Handlers and middleware get it; its
// fields are theirs until the handler returns, and middleware may replace Data.
type Event struct {
	Type string
	ID   string // empty where the client wants no answer
	Room string
	To   string
	// Data is the payload as the client sent it; nil where it sent none. Its bytes
	// may be kept, and must not be modified.
	Data jsontext.Value
}

// Handler handles an event of a client. What it returns is sent as the data of
// the ack; an error, as an error: see [Error].
type Handler func(ctx context.Context, c *Client, e *Event) (any, error)

// Middleware wraps the handling of every client event, built-in ones included,
// except for ping, which is answered at once. The context given to the handler ends
// when the client goes. A Middleware may be called several times while handlers are
// registered: what it returns may keep state, the Middleware itself may not.
type Middleware func(next Handler) Handler

// Action is what a client wants to do; see Config.Authorize. Type is the event's
// type: "join-room", "room-message", "history", "typing", "message",
// "private-message", "send-notification", or one of the application's own. A resume is
// a "join-room" for each of its rooms.
type Action struct {
	Type string
	Room string
	To   string
}

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

func (reg *registry) init() {
	reg.own = make(map[string]Handler)
	reg.publish()
}

func (reg *registry) use(m []Middleware) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for _, mw := range m {
		if mw == nil {
			panic("chathub: Use: the middleware is nil")
		}
	}
	reg.middleware = append(reg.middleware, m...)
	reg.publish()
}

func (reg *registry) add(event string, h Handler) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	switch _, taken := reg.own[event]; {
	case !text.ValidType(event):
		panic(fmt.Sprintf("chathub: On: %q is not an event name", event))
	case reserved[event]:
		panic(fmt.Sprintf("chathub: On: %q is the protocol's own", event))
	case builtin[event].run != nil:
		panic(fmt.Sprintf("chathub: On: %q is built in; wrap it with Use", event))
	case taken:
		panic(fmt.Sprintf("chathub: On: %q is registered already", event))
	}
	reg.own[event] = h
	reg.publish()
}

// publish makes a new immutable state of what is registered.
func (reg *registry) publish() {
	next := &handlers{own: make(map[string]Handler, len(reg.own))}
	for k, v := range reg.own {
		next.own[k] = v
	}
	chain := func(ctx context.Context, c *Client, e *Event) (any, error) {
		if b := builtin[e.Type]; b.run != nil {
			return b.run(ctx, c, e)
		}
		return next.own[e.Type](ctx, c, e)
	}
	next.chain = chain
	for _, m := range slices.Backward(reg.middleware) {
		next.chain = m(next.chain)
	}
	reg.current.Store(next)
}
