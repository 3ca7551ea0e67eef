package chathub

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/internal/text"
	"github.com/go-json-experiment/json/jsontext"
)

// Event is an event that a client sent. Handlers and middleware may change its
// fields until the handler returns: middleware may replace Data, for example.
type Event struct {
	Type string
	ID   string // empty: the client wants no answer
	Room string
	To   string
	// Data is the payload as the client sent it, or nil if it sent none. Its
	// bytes may be kept, but must not be modified.
	Data jsontext.Value
	// Re is the message that a room-message or private-message answers.
	Re MessageRef

	// Trace is where the event belongs in a distributed trace, as a traceparent
	// (W3C Trace Context, section 3.2), or empty. Clients may set it. Whatever
	// the event becomes carries it on, so middleware that continues the trace
	// puts that of its own span here, as adapters/otel does.
	Trace string

	// re is Re as the client sent it, for any event.
	re jsontext.Value
	// message is the one that an edit-message, delete-message or react is
	// about.
	message *changing

	// right is the check that ends in a join of a room, if the event may do so.
	right *check
	// sum is the checksum of Data as the client sent it, for durable events
	// with an ID. Middleware may put something new into Data each time, such as
	// the time of day, and a repetition is the same message all the same. 0:
	// not known.
	sum uint64
}

// Handler handles an event of a client. If the client sent an id, the result is
// sent as the data of the ack. An error is sent as an error; [Error] says which
// text of it the client sees.
//
// The events of one client are handled one after the other. A handler may
// block, and only its client waits. ctx ends when the connection does.
type Handler func(ctx context.Context, c *Client, e *Event) (any, error)

// Middleware wraps the handling of every client event, built-in ones included.
// The exception is ping, which is answered at once.
//
// A Middleware may be called several times while handlers are registered. State
// belongs in the [Handler] that it returns, not in the Middleware itself.
type Middleware func(next Handler) Handler

// MessageRef names a message that was sent before: by its position in the log
// of a room, or by its id and author if it is a private one. The zero value
// names none.
type MessageRef struct {
	Seq    uint64
	ID     string
	Author string
}

// Action is what a client wants to do, for Config.Authorize to decide. Type is
// the type of the event: "join-room", "room-message", "history", "typing",
// "message", "private-message", "send-notification", "edit-message",
// "delete-message", "react", "mark-read", "set-state", or an event of the
// application. A resume is a "join-room" for each of its rooms. An overview is
// an "overview" for each of its rooms, unless there is a Config.Visible.
type Action struct {
	Type string
	Room string
	To   string
	// Seq, Author and Time are of the message that an edit-message,
	// delete-message or react is about: its position in the room or, if it is a
	// private one, in the inbox of the user; the id of the user who sent it,
	// empty for the application; and when it was stored. They are zero for
	// other events, except for the Seq of a mark-read.
	Seq    uint64
	Author string
	Time   time.Time
}

// On registers a handler for an event of the application. The event's data is
// unmarshaled into a T as encoding/json/v2 does it, which differs from
// encoding/json. Names are matched exactly: a field without a tag is "Name",
// and "name" is ignored. An int takes neither 1.0 nor 1e3. A [time.Duration]
// cannot be decoded, which is [CodeInternal] for the client and an error in the
// log: use a number with its unit in the name, such as TimeoutMS. The table in
// docs/rooms-and-messages.md, under JSON, has all differences.
//
// Data that does not fit is refused with [CodeBadRequest]. The client is told
// which field is wrong and what it must be, in the terms of JSON. Missing
// fields and unknown ones are no error. If the data itself is missing or null,
// the handler gets the zero value, which is nil if T is a pointer.
//
// If T, *T, or what T points to has a method Validate() error, it is called
// before the handler. Its error refuses the data with [CodeBadRequest], or with
// the [Error] that it returns. Pointers in the data are nil if the client left
// them out. T itself is not: if it is a pointer, missing data is refused.
//
// If the client sent an id, it gets an ack when the handler returns nil.
//
// On panics if the name is not valid, is built in, or is registered already.
// Call it before the hub serves.
func On[T any](h *Hub, event string, fn func(ctx context.Context, c *Client, data T) error) {
	if fn == nil {
		panic(fmt.Sprintf("chathub: On: the handler of %q is nil", event))
	}
	OnAck(h, event, func(ctx context.Context, c *Client, data T) (any, error) {
		return nil, fn(ctx, c, data)
	})
}

// OnAck is [On] for a handler whose result is sent as the data of the ack. The
// result becomes JSON like the data of [Target.Emit]. If it cannot, the client
// is told [CodeInternal], and the error is logged.
func OnAck[T, R any](h *Hub, event string, fn func(ctx context.Context, c *Client, data T) (R, error)) {
	if fn == nil {
		panic(fmt.Sprintf("chathub: On: the handler of %q is nil", event))
	}
	h.handlers.add(event, func(ctx context.Context, c *Client, e *Event) (any, error) {
		var data T
		if err := decodeData(e, &data); err != nil {
			return nil, err
		}
		if err := validate(&data); err != nil {
			return nil, err
		}
		return fn(context.WithValue(ctx, eventKey{}, e), c, data)
	})
}

type eventKey struct{}

// EventFrom returns the event being handled, so that a handler registered with
// [On] or [OnAck] can read its Room, To and ID. It returns nil outside of such
// a handler.
func EventFrom(ctx context.Context) *Event {
	e, _ := ctx.Value(eventKey{}).(*Event)
	return e
}

// traceIn returns the trace of the event that is being handled, if any.
func traceIn(ctx context.Context) string {
	if e := EventFrom(ctx); e != nil {
		return e.Trace
	}
	return ""
}

type validator interface{ Validate() error }

// validate calls the Validate method of *T, of T, or of what T points to. A nil
// T that has the method is refused, since most methods do not expect that.
func validate[T any](data *T) error {
	v, ok := any(data).(validator)
	if !ok { // as always if T is a pointer or an interface
		t := reflect.TypeFor[T]()
		for t.Kind() == reflect.Pointer && !t.Implements(reflect.TypeFor[validator]()) {
			t = t.Elem()
		}
		if !t.Implements(reflect.TypeFor[validator]()) {
			return nil
		}
		value := reflect.ValueOf(data).Elem()
		for value.Type() != t && !value.IsNil() {
			value = value.Elem()
		}
		if value.IsNil() {
			return errorf(CodeBadRequest, "data is missing")
		}
		v = value.Interface().(validator)
	}
	err := v.Validate()
	if err == nil || ownError(err) != nil {
		return err
	}
	return &Error{Code: CodeBadRequest, Message: "Invalid data", Err: err}
}

// registry holds the handlers and the middleware. A change makes a new
// immutable state, so that reading it takes no lock.
type registry struct {
	mu         sync.Mutex // held to change the registry
	middleware []Middleware
	own        map[string]Handler
	current    atomic.Pointer[handlers]
}

// handlers is one immutable state of a registry.
type handlers struct {
	own   map[string]Handler
	chain Handler // the middleware around the handlers
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
		panic(fmt.Sprintf("chathub: On: %q is reserved by the protocol", event))
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
