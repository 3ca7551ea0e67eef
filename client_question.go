package chathub

import (
	"context"
	"errors"
	"strconv"

	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// EmitWithAck asks the client and waits for its answer, which it unmarshals into
// reply unless that is nil. It fails with ctx's error, at once with [ErrClientGone] when the
// connection ends, and with an [Error] where the client answered with one: a handler that returns
// it answers [CodeInternal], since it is another client's word. It may be called within a handler of
// the same client, but not within OnConnect.
func (c *Client) EmitWithAck(ctx context.Context, event string, data, reply any) error {
	e, err := newEnvelope(event, data)
	if err != nil {
		return err
	}
	a := c.question(ctx, e)
	if a.err != nil || reply == nil {
		return a.err
	}
	return json.Unmarshal(a.data, reply)
}

// answer is what a client says to a question of the server.
type answer struct {
	data jsontext.Value
	err  error
}

// question sends e as a question and waits for the answer.
func (c *Client) question(ctx context.Context, e *envelope) answer {
	ch := make(chan answer, 1) // so that who answers never waits
	c.mu.Lock()
	if c.mu.ended {
		c.mu.Unlock()
		return answer{err: ErrClientGone}
	}
	if c.mu.preWelcome != nil {
		c.mu.Unlock()
		return answer{err: errors.New("chathub: a client cannot be asked before its welcome")}
	}
	c.mu.lastQuestion++
	id := "s" + strconv.FormatUint(c.mu.lastQuestion, 36)
	if c.mu.questions == nil {
		c.mu.questions = make(map[string]chan answer)
	}
	c.mu.questions[id] = ch
	c.readBeside()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.mu.questions, id)
		c.mu.Unlock()
	}()

	q := *e
	q.id, q.ack = id, true
	if err := c.send(q.frame(), wire.Durable); err != nil {
		return answer{err: err}
	}
	select {
	case a := <-ch:
		return a
	case <-ctx.Done():
		return answer{err: ctx.Err()}
	}
}

// answered hands an ack or error of the client to who waits for it. It reports
// false where nobody does: it comes too late, or nobody asked.
func (c *Client) takeAnswer(e *Event) bool {
	c.mu.Lock()
	ch := c.mu.questions[e.ID]
	delete(c.mu.questions, e.ID)
	c.mu.Unlock()
	if ch == nil {
		return false
	}
	if e.Type == eventAck {
		data := e.Data
		if data == nil {
			data = []byte("null")
		}
		ch <- answer{data: data}
		return true
	}
	var refusal struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(e.Data, &refusal) // whatever it says, it is an error
	ch <- answer{err: &Error{Code: Code(refusal.Code), Message: refusal.Message, answered: true}}
	return true
}
