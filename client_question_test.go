package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// answer answers the next question that a client gets.
func answer(c *hubtest.Client, typ, data string) {
	f := c.Wait("ask")
	c.Send(hubtest.Frame{Type: typ, ID: f.ID, Data: raw(data)})
}

// outcome is the result of an EmitWithAck.
type outcome struct {
	reply string
	err   error
	took  time.Duration
}

// ask asks a question in the background.
func ask(ctx context.Context, c *chathub.Client) <-chan outcome {
	done := make(chan outcome, 1) // buffered, so that the goroutine ends even if nobody receives
	go func() {
		start := time.Now()
		var o outcome
		o.err = c.EmitWithAck(ctx, "ask", "?", &o.reply)
		o.took = time.Since(start)
		done <- o
	}()
	return done
}

func TestEmitWithAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana")
		done := ask(t.Context(), ana.server)
		f := ana.Next()
		if f.Type != "ask" || !f.Ack || f.ID == "" || string(f.Data) != `"?"` || f.From != nil {
			t.Errorf("the question is %+v", f)
		}
		ana.Send(hubtest.Frame{Type: "ack", ID: f.ID, Data: raw(`"yes"`)})
		if o := <-done; o.err != nil || o.reply != "yes" {
			t.Errorf("got %+v", o)
		}

		// A second answer and late ones are ignored, and do not affect the next
		// question.
		ana.Send(hubtest.Frame{Type: "ack", ID: f.ID, Data: raw(`"no"`)})
		ana.Send(hubtest.Frame{Type: "ack", Data: raw(`"no"`)})
		ana.Send(hubtest.Frame{Type: "error", ID: "never-asked"})
		wantHeard(t, "ana", ana.Client)
		go answer(ana.Client, "ack", `"again"`)
		if o := <-ask(t.Context(), ana.server); o.err != nil || o.reply != "again" {
			t.Errorf("got %+v", o)
		}

		for _, data := range []string{``, `null`} {
			go answer(ana.Client, "ack", data)
			reply := "before"
			if err := ana.server.EmitWithAck(t.Context(), "ask", nil, &reply); err != nil || reply != "" {
				t.Errorf("an answer of %q: %q, %v", data, reply, err)
			}
			go answer(ana.Client, "ack", data)
			if err := ana.server.EmitWithAck(t.Context(), "ask", nil, nil); err != nil {
				t.Errorf("an answer of %q that is not decoded: %v", data, err)
			}
		}
		go answer(ana.Client, "ack", `7`)
		if o := <-ask(t.Context(), ana.server); o.err == nil {
			t.Errorf("an answer of another type: %+v", o)
		}
	})
}

func TestEmitWithAckError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana")
		for _, tc := range []struct {
			data, message string
			code          chathub.Code
		}{
			{`{"code":"conflict","message":"Busy"}`, "Busy", chathub.CodeConflict},
			{`{"code":"conflict","more":1}`, "", chathub.CodeConflict},
			{`"text"`, "", ""},
			{``, "", ""},
		} {
			go answer(ana.Client, "error", tc.data)
			o := <-ask(t.Context(), ana.server)
			if e := (*chathub.Error)(nil); !errors.As(o.err, &e) || e.Code != tc.code || e.Message != tc.message {
				t.Errorf("an error %s became %v", tc.data, o.err)
			}
		}
	})
}

// The caller is told at once if there will be no answer.
func TestEmitWithAckEnds(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(g guest)
		want error
		took time.Duration
	}{
		{"context", func(guest) {}, context.DeadlineExceeded, time.Minute},
		{"drop", func(g guest) { g.Drop() }, chathub.ErrClientGone, 0},
		{"close", func(g guest) { g.Close() }, chathub.ErrClientGone, 0},
		{"disconnect", func(g guest) { g.server.Disconnect("bye") }, chathub.ErrClientGone, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParty(t, chathub.Config{})
				ana := p.dial("ana")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				done := ask(ctx, ana.server)
				question := ana.Wait("ask")
				tc.end(ana)
				if o := <-done; !errors.Is(o.err, tc.want) || o.took != tc.took {
					t.Errorf("got %v after %v, want %v after %v", o.err, o.took, tc.want, tc.took)
				}
				if tc.name == "context" { // too late
					ana.Send(hubtest.Frame{Type: "ack", ID: question.ID})
					wantHeard(t, "ana", ana.Client)
					return
				}
				if o := <-ask(t.Context(), ana.server); !errors.Is(o.err, chathub.ErrClientGone) || o.took != 0 {
					t.Errorf("after the client has gone: %+v", o)
				}
			})
		})
	}
	t.Run("context ended before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if o := <-ask(ctx, newParty(t, chathub.Config{}).dial("ana").server); !errors.Is(o.err, context.Canceled) {
				t.Errorf("got %+v", o)
			}
		})
	})
}

// A handler may ask the client whose event it handles. Events that come
// meanwhile wait, in order.
func TestEmitWithAckInHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		var calls record
		chathub.OnAck(p.hub, "buy", func(ctx context.Context, c *chathub.Client, what string) (string, error) {
			calls.add("buy")
			defer calls.add("bought")
			var reply string
			err := c.EmitWithAck(ctx, "ask", "sure?", &reply)
			return what + " " + reply, err
		})
		chathub.On(p.hub, "step", func(_ context.Context, _ *chathub.Client, n int) error {
			calls.add("%d", n)
			return nil
		})
		ana := p.dial("ana")
		for round := range 2 { // in the second round, a second goroutine reads already
			ana.Send(hubtest.Frame{Type: "buy", ID: "b", Data: raw(`"tea"`)})
			want := []string{"buy", "bought"}
			for i := range 30 {
				ana.Send(hubtest.Frame{Type: "step", Data: hubtest.Data(i)})
				want = append(want, strconv.Itoa(i))
				if i == 10 {
					answer(ana.Client, "ack", `"yes"`)
				}
			}
			if f := ana.Wait("ack"); f.ID != "b" || string(f.Data) != `"tea yes"` {
				t.Errorf("round %d: %s %s", round, f.ID, f.Data)
			}
			synctest.Wait()
			calls.want(t, "order", want...)
		}

		// The answer is found even behind more events than are kept waiting.
		ana.Send(hubtest.Frame{Type: "buy", ID: "b", Data: raw(`"tea"`)})
		question := ana.Wait("ask")
		for i := range 30 {
			ana.Send(hubtest.Frame{Type: "step", Data: hubtest.Data(i)})
		}
		ana.Send(hubtest.Frame{Type: "ack", ID: question.ID, Data: raw(`"yes"`)})
		refused := 0
		for f := ana.Next(); f.Type != "ack"; f = ana.Next() {
			if f.Code() != chathub.CodeRateLimited {
				t.Errorf("heard %s %s", f.Type, f.Data)
			}
			refused++
		}
		synctest.Wait()
		if n := len(calls.take()); n != 2+30-refused || refused == 0 {
			t.Errorf("%d of 30 events were refused, and %d handled", refused, n-2)
		}

		ana.Send(hubtest.Frame{Type: "buy"})
		ana.Wait("ask")
		ana.Drop()
		synctest.Wait()
		calls.want(t, "once it is gone", "buy", "bought")
	})
}

func TestEmitWithAckConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana")
		const n = 100
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				var reply int
				if err := ana.server.EmitWithAck(t.Context(), "ask", i, &reply); err != nil || reply != -i {
					t.Errorf("question %d: %d, %v", i, reply, err)
				}
			})
		}
		var questions []hubtest.Frame
		for range n {
			questions = append(questions, ana.Wait("ask"))
		}
		for _, q := range slices.Backward(questions) {
			var i int
			unmarshal(t, q.Data, &i)
			ana.Send(hubtest.Frame{Type: "ack", ID: q.ID, Data: hubtest.Data(-i)})
		}
		wg.Wait()
	})
}

// An answer counts only if it comes from the client that was asked. A flood of
// answers to nothing is limited like any other flood.
func TestEmitWithAckForged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{Rate: 10})
		ana, eve := p.dial("ana"), p.dial("eve")
		done := ask(t.Context(), ana.server)
		question := ana.Wait("ask")
		eve.Send(hubtest.Frame{Type: "ack", ID: question.ID, Data: raw(`"forged"`)})
		synctest.Wait()
		ana.Send(hubtest.Frame{Type: "ack", ID: question.ID, Data: raw(`"mine"`)})
		if o := <-done; o.reply != "mine" {
			t.Errorf("got %+v", o)
		}
		for range 300 {
			eve.Send(hubtest.Frame{Type: "ack", ID: question.ID})
		}
		if code, _ := eve.Closed(); code != 4005 {
			t.Errorf("closed with %d, want 4005", code)
		}
	})
}

func TestTargetEmitWithAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		says := map[string]string{}
		guests := map[string]guest{}
		for _, user := range []string{"ana", "bob", "cid", "dan", "eve"} {
			guests[user] = p.dial(user, "red", "blue")
		}
		go answer(guests["ana"].Client, "ack", `"yes"`)
		go answer(guests["bob"].Client, "error", `{"code":"conflict","message":"No"}`)
		go func() { // cid does not answer
			guests["dan"].Wait("ask")
			guests["dan"].Drop()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		answers, err := p.hub.To("red", "blue").Except(guests["eve"].server.ID()).EmitWithAck(ctx, "ask", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answers {
			if a.ClientID != guests[a.User.ID].server.ID() {
				t.Errorf("the answer of %s is from connection %s", a.User.ID, a.ClientID)
			}
			says[a.User.ID] += fmt.Sprintf("%s %v", string(a.Data), a.Err)
		}
		want := map[string]string{
			"ana": `"yes" <nil>`,
			"bob": ` chathub: conflict: No`,
			"cid": ` context deadline exceeded`,
			"dan": ` chathub: client is gone`,
		}
		if fmt.Sprint(says) != fmt.Sprint(want) {
			t.Errorf("answers %v, want %v", says, want)
		}
		wantHeard(t, "eve", guests["eve"].Client)

		for name, to := range map[string]chathub.Target{
			"no room": p.hub.To(), "empty room": p.hub.To("green"), "unknown user": p.hub.ToUser("fay"), "gone": p.hub.ToUser("dan"),
		} {
			if answers, err := to.EmitWithAck(t.Context(), "ask", nil); err != nil || len(answers) > 0 {
				t.Errorf("%s: %v, %v", name, answers, err)
			}
		}
	})
}

// Before the welcome, a client cannot be asked, and EmitWithAck does not wait
// for it.
func TestEmitWithAckBeforeWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs record
		var hub *chathub.Hub
		hub = hubtest.New(t, chathub.Config{
			OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
				start := time.Now()
				errs.add("%v", c.EmitWithAck(ctx, "ask", nil, nil))
				answers, err := hub.ToUser("ana").EmitWithAck(ctx, "ask", nil)
				errs.add("%d %v, took %v", len(answers), err, time.Since(start))
				return nil
			},
		})
		hubtest.Dial(t, hub, "ana")
		errs.want(t, "errors", "chathub: a client cannot be asked before its welcome", "0 <nil>, took 0s")
	})
}
