package chathub

import (
	"context"
	"errors"
	"strconv"

	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// EmitWithAck asks the client a question and waits for the answer, which it
// unmarshals into reply unless reply is nil. The wait ends with ctx, so give it
// a deadline.
//
// It returns ctx's error if ctx ends first, [ErrClientGone] as soon as the
// connection ends, an [Error] if the client refuses, and another error if the
// answer does not fit reply. A handler that returns the [Error] of a refusal
// answers [CodeInternal]: what one client says is not for another to see. See
// [Target.Emit] for the form of data, and for the error if event or data is not
// valid.
//
// A handler may ask its own client. OnConnect may not: the client can answer
// only after its welcome.
func (c *Client) EmitWithAck(ctx context.Context, event string, data, reply any) error {
	e, err := c.hub.newEnvelope(event, data)
	if err != nil {
		return err
	}
	a := c.question(ctx, e)
	if a.err != nil || reply == nil {
		return a.err
	}
	return withRemedy("the answer", json.Unmarshal(a.data, reply))
}

// answer is a client's answer to a question of the server.
type answer struct {
	data jsontext.Value
	err  error
}

// question sends e as a question and waits for the answer.
func (c *Client) question(ctx context.Context, e *envelope) answer {
	ch := make(chan answer, 1) // buffered, so that giving an answer never blocks
	c.mu.Lock()
	if c.mu.end != nil {
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

// takeAnswer gives an ack or error from the client to the goroutine that waits
// for it. It reports false if none does: the answer comes too late, or answers
// no question.
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
	_ = json.Unmarshal(e.Data, &refusal) // whatever it holds, it is a refusal
	ch <- answer{err: &Error{Code: Code(refusal.Code), Message: refusal.Message, answered: true}}
	return true
}
