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

// questions are those to one client that are not answered yet.
type questions struct {
	last    uint64
	waiting map[string]chan answer // by id
}

func (qs *questions) add(ch chan answer) (id string) {
	qs.last++
	id = "s" + strconv.FormatUint(qs.last, 36)
	qs.waiting[id] = ch
	return id
}

// end answers all questions, since the client has gone.
func (qs *questions) end() {
	if qs == nil {
		return
	}
	for id, ch := range qs.waiting {
		delete(qs.waiting, id)
		ch <- answer{err: ErrClientGone}
	}
}

// takeQuestion returns who waits for the answer to a question, or nil if nobody
// does any more.
func (c *Client) takeQuestion(id string) chan answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.questions == nil {
		return nil
	}
	ch := c.mu.questions.waiting[id]
	delete(c.mu.questions.waiting, id)
	return ch
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
	if c.mu.questions == nil {
		c.mu.questions = &questions{waiting: make(map[string]chan answer)}
	}
	id := c.mu.questions.add(ch)
	c.readBeside()
	c.mu.Unlock()
	defer c.takeQuestion(id)

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
	ch := c.takeQuestion(e.ID)
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
