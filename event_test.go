package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json/jsontext"
)

// number is the data of a custom event.
type number struct {
	N int `json:"n"`
}

// The data of an event arrives typed, or is refused.
func TestOnData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana")
		chathub.OnAck(p.hub, "struct", echo[number])
		chathub.OnAck(p.hub, "pointer", echo[*number])
		chathub.OnAck(p.hub, "list", echo[[]number])
		chathub.OnAck(p.hub, "map", echo[map[string]number])
		chathub.OnAck(p.hub, "string", echo[string])
		chathub.OnAck(p.hub, "bool", echo[bool])
		chathub.OnAck(p.hub, "raw", echo[jsontext.Value])
		chathub.OnAck(p.hub, "any", echo[any])
		chathub.OnAck(p.hub, "nothing", echo[struct{}])
		const refused = "bad_request"
		for _, tc := range []struct{ event, data, want string }{
			{"struct", `{"n":7}`, `{"n":7}`},
			{"struct", `{"n":7,"more":[1]}`, `{"n":7}`},
			{"struct", `{"N":7}`, `{"n":0}`}, // names are matched exactly
			{"struct", `{}`, `{"n":0}`},
			{"struct", `null`, `{"n":0}`},
			{"struct", ``, `{"n":0}`},
			{"struct", `{"n":"7"}`, refused},
			{"struct", `{"n":7.5}`, refused},
			{"struct", `{"n":1e99}`, refused},
			{"struct", `[7]`, refused},
			{"struct", `7`, refused},
			{"pointer", `{"n":7}`, `{"n":7}`},
			{"pointer", `null`, `null`},
			{"pointer", ``, `null`},
			{"list", `[{"n":1},{"n":2}]`, `[{"n":1},{"n":2}]`},
			{"list", `[{"n":1},{"n":"2"}]`, refused},
			{"map", `{"a":{"n":1}}`, `{"a":{"n":1}}`},
			{"string", `"ünï\u0000<"`, `"ünï\u0000<"`},
			{"string", `7`, refused},
			{"bool", `true`, `true`},
			{"raw", `{"b":1,"a":[1e5,1.0]}`, `{"b":1,"a":[1e5,1.0]}`}, // as it was sent
			{"any", `{"a":[1,null,"x"]}`, `{"a":[1,null,"x"]}`},
			{"nothing", `{"a":1}`, `{}`},
			{"nothing", `"text"`, refused},
		} {
			got := ana.Request(hubtest.Frame{Type: tc.event, Data: raw(tc.data)})
			if s := string(got.Data); got.Type == "ack" && s != tc.want || got.Type == "error" && tc.want != refused {
				t.Errorf("%s %s: %s %s, want %s", tc.event, tc.data, got.Type, s, tc.want)
			}
			if got.Type == "error" && got.Code() != chathub.CodeBadRequest {
				t.Errorf("%s %s: %s", tc.event, tc.data, got.Data)
			}
		}
	})
}

func echo[T any](_ context.Context, _ *chathub.Client, data T) (T, error) { return data, nil }

// The result of a handler arrives as the data of the ack.
func TestAckData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		p := newParty(t, chathub.Config{Logger: log.logger()})
		ana := p.dial("ana")
		var result any
		chathub.OnAck(p.hub, "do", func(context.Context, *chathub.Client, struct{}) (any, error) { return result, nil })
		chathub.On(p.hub, "quiet", func(context.Context, *chathub.Client, struct{}) error { return nil })
		for _, tc := range []struct {
			result any
			want   string // empty: no data
		}{
			{nil, ``},
			{number{3}, `{"n":3}`},
			{&number{3}, `{"n":3}`},
			{(*number)(nil), `null`},
			{[]number(nil), `[]`},
			{"text", `"text"`},
			{jsontext.Value(`{"a": 1}`), `{"a": 1}`},
			{map[string]int{}, `{}`},
		} {
			result = tc.result
			if got := ana.Must(hubtest.Frame{Type: "do"}); string(got.Data) != tc.want {
				t.Errorf("%#v became %s, want %s", tc.result, got.Data, tc.want)
			}
		}
		if got := ana.Must(hubtest.Frame{Type: "quiet"}); got.Data != nil {
			t.Errorf("an ack of On has data %s", got.Data)
		}
		log.take()
		for _, result = range []any{func() {}, "\xff", jsontext.Value(`{"a":`)} {
			if got := ana.Request(hubtest.Frame{Type: "do"}); got.Code() != chathub.CodeInternal {
				t.Errorf("%#v became %s %s, want %s", result, got.Type, got.Data, chathub.CodeInternal)
			}
			if s := log.take(); !strings.Contains(s, "level=ERROR") || !strings.Contains(s, "event=do") {
				t.Errorf("%#v: log %q", result, s)
			}
		}
	})
}

// Without an id there is no ack, but there are errors.
func TestAnswerNeedsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana")
		chathub.On(p.hub, "do", func(_ context.Context, _ *chathub.Client, fail bool) error {
			if fail {
				return &chathub.Error{Code: chathub.CodeConflict}
			}
			return nil
		})
		ana.Send(hubtest.Frame{Type: "do"})
		wantHeard(t, "ana", ana.Client)
		ana.Send(hubtest.Frame{Type: "do", Data: hubtest.Data(true)})
		wantHeard(t, "ana", ana.Client, `error {"code":"conflict","message":""}`)
		ana.Send(hubtest.Frame{Type: "do-not"})
		wantHeard(t, "ana", ana.Client, `error {"code":"unknown_type","message":"Unknown event type"}`)
	})
}

// This is what a client is told about an error, and what the log has.
func TestHandlerErrors(t *testing.T) {
	full := &chathub.Error{Code: chathub.CodeConflict, Message: "Taken", RetryAfter: 1500 * time.Millisecond, Err: errors.New("secret cause")}
	var none *chathub.Error
	const (
		unavailable = `{"code":"unavailable","message":"Try again"}`
		internal    = `{"code":"internal","message":"Internal error"}`
	)
	for _, tc := range []struct {
		name  string
		err   error
		want  string
		level string
	}{
		{"own", full, `{"code":"conflict","message":"Taken","retryAfterMs":1500}`, "DEBUG"},
		{"own, wrapped", fmt.Errorf("secret: %w", full), `{"code":"conflict","message":"Taken","retryAfterMs":1500}`, "DEBUG"},
		{"own, joined", errors.Join(errors.New("secret"), full), `{"code":"conflict","message":"Taken","retryAfterMs":1500}`, "DEBUG"},
		{"own, not UTF-8", &chathub.Error{Code: chathub.CodeForbidden, Message: "\xff"}, `{"code":"forbidden","message":""}`, ""},
		{"plain", errors.New("secret"), internal, "ERROR"},
		{"nil pointer", none, internal, "ERROR"},
		{"deadline", fmt.Errorf("secret: %w", context.DeadlineExceeded), unavailable, "DEBUG"},
		{"cancelled", context.Canceled, unavailable, "DEBUG"},
		{"closed", chathub.ErrClosed, unavailable, "DEBUG"},
		{"gone", fmt.Errorf("ask: %w", chathub.ErrClientGone), unavailable, "DEBUG"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBuffer
				p := newParty(t, chathub.Config{Logger: log.logger()})
				ana, bob := p.dial("ana"), p.dial("bob")
				chathub.OnAck(p.hub, "do", func(context.Context, *chathub.Client, struct{}) (string, error) { return "ignored", tc.err })
				log.take()
				got := ana.Request(hubtest.Frame{Type: "do"})
				if got.Type != "error" || string(got.Data) != tc.want {
					t.Errorf("got %s %s, want %s", got.Type, got.Data, tc.want)
				}
				s := log.take()
				if tc.level == "" && s != "" || !strings.Contains(s, "level="+tc.level) && tc.level != "" {
					t.Errorf("log %q, want level %q", s, tc.level)
				}
				if strings.Contains(tc.err.Error(), "secret") && !strings.Contains(s, "secret") {
					t.Errorf("the log does not say why: %q", s)
				}
				ana.Must(hubtest.Frame{Type: "message"})
				wantHeard(t, "bob", bob.Client, "message")
			})
		})
	}
}

func TestRegisteringMistakes(t *testing.T) {
	p := newParty(t, chathub.Config{})
	handler := func(context.Context, *chathub.Client, struct{}) error { return nil }
	chathub.On(p.hub, "taken", handler)
	for event, want := range map[string]string{
		"":                      "is not an event name",
		"New":                   "is not an event name",
		"a b":                   "is not an event name",
		strings.Repeat("a", 65): "is not an event name",
		"room-message":          "is built in; wrap it with Use",
		"ping":                  "is reserved by the protocol",
		"welcome":               "is reserved by the protocol",
		"ack":                   "is reserved by the protocol",
		"taken":                 "is registered already",
	} {
		for how, register := range map[string]func(){
			"On": func() { chathub.On(p.hub, event, handler) },
			"OnAck": func() {
				chathub.OnAck(p.hub, event, func(context.Context, *chathub.Client, struct{}) (int, error) { return 0, nil })
			},
		} {
			got := panicOf(register)
			if !strings.HasPrefix(got, "chathub: ") || !strings.Contains(got, fmt.Sprintf("%q", event)) || !strings.HasSuffix(got, want) {
				t.Errorf("%s %q: panic %q, want %q", how, event, got, want)
			}
		}
	}
	if got := panicOf(func() { chathub.On[struct{}](p.hub, "nil", nil) }); !strings.Contains(got, `"nil"`) {
		t.Errorf("On without a handler: panic %q", got)
	}
	if got := panicOf(func() { p.hub.Use(nil) }); !strings.HasPrefix(got, "chathub: Use: ") {
		t.Errorf("Use without middleware: panic %q", got)
	}
}

// panicOf returns the text that f panics with, or "" if it does not panic.
func panicOf(f func()) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprint(v)
		}
	}()
	f()
	return ""
}
