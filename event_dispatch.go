package chathub

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// handle handles one event of a client and answers it.
func (c *Client) handle(e *Event) {
	h := c.hub
	start, kind := time.Now(), e.Type // which middleware may change
	var ack []byte
	published := false
	err := h.guard(e.Type, func() error {
		result, err := c.dispatch(e)
		if err == nil && e.ID != "" {
			_, published = result.(Receipt)
			ack, err = ackFrame(e, result) // here: a MarshalJSON may panic
			if most := h.cfg.MaxOutboxBytes; err == nil && len(ack) > most {
				// It would close the client, which would ask for it again.
				err = fmt.Errorf("chathub: the result has %d bytes, more than MaxOutboxBytes (%d)", len(ack), most)
			}
		}
		return err
	})
	var public *Error
	if err != nil {
		var known bool
		if public, known = publicError(err); !known {
			// Handlers have registered types: clients cannot make kinds.
			h.logLimited("handler failed "+e.Type, slog.LevelError, "chathub: handler failed", func() []any {
				return []any{"event", e.Type, "user", c.User().ID, "client", c.id, "err", err}
			})
		} else if public.Err != nil {
			h.log.Debug("chathub: event refused", "event", e.Type, "user", c.User().ID, "client", c.id, "err", err)
		}
	}
	if published && err == nil {
		_ = h.post(&ackCommand{c, ack})
	} else {
		c.answer(e, ack, public)
	}
	took := time.Since(start)
	h.countEvent(kind, took, public)
	h.traceHandled(c, e, took, public)
}

// ackCommand sends the ack of a published message. It goes through the loop,
// which is about to write to most senders anyway, so that the ack shares that
// write.
type ackCommand struct {
	c     *Client
	frame []byte
}

func (cmd *ackCommand) run(l *loop) { l.put(cmd.c, cmd.frame, wire.Durable) }

// dispatch checks an event, asks Authorize, and runs its handler.
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
	if e.Type == eventJoinRoom || !known { // a handler of the application may use Client.Join
		e.right = c.hub.rights.begin()
		defer e.right.end()
	}
	if !b.free {
		a := Action{Type: e.Type, Room: e.Room, To: e.To}
		if b.action != nil {
			var err error
			if a, err = b.action(c.Context(), c, e); err != nil {
				return nil, err
			}
		}
		if err := c.authorize(a); err != nil {
			return nil, err
		}
	}
	if b.durable && e.ID != "" {
		e.sum = checksum(e.Data)
	}
	return now.chain(c.Context(), c, e)
}

func (c *Client) authorize(a Action) error {
	if c.hub.cfg.Authorize == nil {
		return nil
	}
	err := c.hub.cfg.Authorize(c.Context(), c, a)
	switch {
	case err == nil && c.lostRights(): // meanwhile
		return Unavailable(ErrClientGone)
	case err == nil:
		return nil
	}
	return forbidden(err)
}

// forbidden returns what a client is told if the application refuses something.
func forbidden(err error) error {
	if ownError(err) != nil {
		return err
	}
	return &Error{Code: CodeForbidden, Message: "Not allowed", Err: err}
}

// answer answers an event that was handled. Messages that its handler read from
// logs follow the answer.
func (c *Client) answer(e *Event, frame []byte, err *Error) {
	if err != nil {
		frame = errorFrame(e.ID, err)
	}
	switch f := c.onHandler.catchUp; {
	case f != nil:
		c.onHandler.catchUp = nil
		f.end(frame, err == nil)
	case frame != nil:
		_ = c.send(frame, wire.Durable) // a client that is gone needs no answer
	}
}

// errorFrame returns an error for a client. An empty id is left out.
func errorFrame(id string, err *Error) []byte {
	e := envelope{typ: eventError, id: id, data: errorData(err)}
	return e.frame()
}

// ackFrame returns the ack of an event.
func ackFrame(e *Event, result any) ([]byte, error) {
	env := envelope{typ: eventAck, id: e.ID}
	if r, ok := result.(Receipt); ok {
		env.room, env.seq, env.ts, env.data = e.Room, r.Seq, r.Time, r.data()
		return env.frame(), nil
	}
	data, err := marshal(result)
	if err != nil {
		return nil, fmt.Errorf("chathub: marshal the result: %w", err)
	}
	env.data = data
	return env.frame(), nil
}

// data returns the receipt as a client gets it.
func (r *Receipt) data() []byte {
	b := make([]byte, 0, 64)
	b = strconv.AppendUint(append(b, `{"seq":`...), r.Seq, 10)
	b = strconv.AppendInt(append(b, `,"ts":`...), r.Time, 10)
	if r.Duplicate {
		b = append(b, `,"dup":true`...)
	}
	return append(b, '}')
}
