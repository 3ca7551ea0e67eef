package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// measures has a field of each kind that JSON has a form for.
type measures struct {
	Small   int8            `json:"small"`
	Big     int64           `json:"big"`
	Count   uint16          `json:"count"`
	Ratio   float32         `json:"ratio"`
	Quoted  int             `json:"quoted,string"`
	On      bool            `json:"on"`
	Text    string          `json:"text"`
	Bytes   []byte          `json:"bytes"`
	Hash    [4]byte         `json:"hash"`
	Pair    [2]int          `json:"pair"`
	Lines   []line          `json:"lines"`
	Scores  map[string]int  `json:"scores"`
	Days    map[int]bool    `json:"days"`
	At      time.Time       `json:"at"`
	IP      netip.Addr      `json:"ip"`
	Rest    jsontext.Value  `json:"rest"`
	Any     any             `json:"any"`
	Deep    *measures       `json:"deep"`
	Own     colour          `json:"own"`
	Owner   ownDecoder      `json:"owner"`
	Wrapped wrapper         `json:"wrapped"`
	Folded  int             `json:"folded,case:ignore"`
	Options map[string]line `json:"options"`
	Base
	Untagged int
}

// Base is embedded in measures.
type Base struct {
	Inherited string `json:"inherited"`
}

type line struct {
	N *int `json:"n"`
}

// colour has a form of its own.
type colour struct{ name string }

func (c *colour) UnmarshalJSON(b []byte) error {
	if c.name = string(b); c.name != `"red"` {
		return errors.New("not a colour, a secret")
	}
	return nil
}

// wrapper has the form of something else.
type wrapper struct{ list []int }

func (w *wrapper) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &w.list) }

// ownDecoder decodes itself in the other way.
type ownDecoder struct{}

func (*ownDecoder) UnmarshalJSONFrom(*jsontext.Decoder) error { return errors.New("a secret") }

// A client is told which of its fields is wrong and what was expected. It sees
// neither what it sent nor anything of Go, and the log has the rest.
func TestOnDataSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		p := newParty(t, chathub.Config{Logger: log.logger()})
		ana := p.dial("ana")
		chathub.OnAck(p.hub, "struct", echo[measures])
		chathub.OnAck(p.hub, "pointer", echo[**measures])
		chathub.OnAck(p.hub, "list", echo[[]line])
		chathub.OnAck(p.hub, "map", echo[map[string][]bool])
		chathub.OnAck(p.hub, "int", echo[int])
		log.take()
		for _, tc := range []struct{ event, data, want string }{
			{"struct", `"zap"`, "data must be an object"},
			{"pointer", `"zap"`, "data must be an object"},
			{"list", `{"zap":1}`, "data must be an array"},
			{"map", `["zap"]`, "data must be an object"},
			{"map", `{"zap":[true,"zap"]}`, "data.*[1] must be true or false"},
			{"int", `"zap"`, "data must be a whole number"},
			{"list", `[{},{"n":"zap"}]`, "data[1].n must be a whole number"},

			{"struct", `{"small":"zap"}`, "data.small must be a whole number"},
			{"struct", `{"small":true}`, "data.small must be a whole number"},
			{"struct", `{"small":1.5}`, "data.small must be a whole number without point and exponent"},
			{"struct", `{"small":1e3}`, "data.small must be a whole number without point and exponent"},
			{"struct", `{"small":128}`, "data.small must be a whole number from -128 to 127"},
			{"struct", `{"big":9223372036854775808}`, "data.big must be a whole number from -9223372036854775808 to 9223372036854775807"},
			{"struct", `{"count":-1}`, "data.count must be a whole number from 0 to 65535"},
			{"struct", `{"count":65536}`, "data.count must be a whole number from 0 to 65535"},
			{"struct", `{"ratio":"zap"}`, "data.ratio must be a number"},
			{"struct", `{"ratio":1e99}`, "data.ratio must be a smaller number"},
			{"struct", `{"quoted":5}`, "data.quoted must be a number in a string"},
			{"struct", `{"quoted":"zap"}`, "data.quoted must be a number in a string"},
			{"struct", `{"quoted":[]}`, "data.quoted must be a whole number"},
			{"struct", `{"on":"zap"}`, "data.on must be true or false"},
			{"struct", `{"on":0}`, "data.on must be true or false"},
			{"struct", `{"text":5}`, "data.text must be a string"},
			{"struct", `{"bytes":"z"}`, "data.bytes must be a string in base64"},
			{"struct", `{"bytes":[1]}`, "data.bytes must be a string in base64"},
			{"struct", `{"hash":"enp6"}`, "data.hash must be a string in base64, of 4 bytes"},
			{"struct", `{"pair":[1]}`, "data.pair must be an array of 2"},
			{"struct", `{"pair":[1,2,3]}`, "data.pair must be an array of 2"},
			{"struct", `{"pair":{}}`, "data.pair must be an array of 2"},
			{"struct", `{"lines":[{"n":1},{"n":"zap"}]}`, "data.lines[1].n must be a whole number"},
			{"struct", `{"lines":[5]}`, "data.lines[0] must be an object"},
			{"struct", `{"scores":{"zap":"zap"}}`, "data.scores.* must be a whole number"},
			{"struct", `{"days":{"1":5}}`, "data.days.* must be true or false"},
			{"struct", `{"at":"zap"}`, "data.at must be a time, such as 2006-01-02T15:04:05Z"},
			{"struct", `{"at":5}`, "data.at must be a time, such as 2006-01-02T15:04:05Z"},
			{"struct", `{"ip":"zap"}`, "data.ip is not valid"},
			{"struct", `{"ip":5}`, "data.ip must be a string"},
			{"struct", `{"own":"zap"}`, "data.own is not valid"},
			{"struct", `{"owner":"zap"}`, "data.owner is not valid"},
			{"struct", `{"wrapped":"zap"}`, "data.wrapped must be an array"},
			{"struct", `{"wrapped":[1,"zap"]}`, "data.wrapped.* must be a whole number"},
			// This name is the client's own.
			{"struct", `{"FOLDED":"zap"}`, "data.* must be a whole number"},
			{"struct", `{"options":{"zap":{"n":[]}}}`, "data.options.*.n must be a whole number"},
			{"struct", `{"inherited":5}`, "data.inherited must be a string"},
			{"struct", `{"Untagged":"zap"}`, "data.Untagged must be a whole number"},
			{"struct", `{"deep":{"deep":{"on":5}}}`, "data.deep.deep.on must be true or false"},
			{"struct", strings.Repeat(`{"deep":`, 50) + `5` + strings.Repeat(`}`, 50), "data" + strings.Repeat(".deep", 19) + "… must be an object"},
		} {
			got := ana.Request(hubtest.Frame{Type: tc.event, Data: raw(tc.data)})
			if want := `{"code":"bad_request","message":"` + tc.want + `"}`; string(got.Data) != want {
				t.Errorf("%s %s: %s %s, want %s", tc.event, tc.data, got.Type, got.Data, want)
			}
			if s := log.take(); !strings.Contains(s, "level=DEBUG") || strings.Contains(s, "level=ERROR") {
				t.Errorf("%s %s: log %q", tc.event, tc.data, s)
			}
		}
	})
}

// If no data of a client would fit, it is the fault of the application.
func TestOnDataHasNoForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		p := newParty(t, chathub.Config{Logger: log.logger()})
		ana := p.dial("ana")
		chathub.OnAck(p.hub, "duration", echo[struct {
			Slots []struct {
				Timeout *time.Duration `json:"timeout"`
			} `json:"slots"`
		}])
		chathub.OnAck(p.hub, "func", func(context.Context, *chathub.Client, func()) (any, error) { return nil, nil })
		chathub.OnAck(p.hub, "an-error", func(context.Context, *chathub.Client, error) (any, error) { return nil, nil })
		log.take()
		for _, tc := range []struct{ event, data, log string }{
			{"duration", `{"slots":[{"timeout":5}]}`, "data.slots.0.timeout is a time.Duration"},
			{"duration", `{"slots":[{"timeout":"5s"}]}`, "such as TimeoutMS int64 for d.Milliseconds()"},
			{"func", `1`, "func()"},
			{"an-error", `"x"`, "nil interface"},
		} {
			if got := ana.Request(hubtest.Frame{Type: tc.event, Data: raw(tc.data)}); got.Code() != chathub.CodeInternal {
				t.Errorf("%s %s: %s %s, want %s", tc.event, tc.data, got.Type, got.Data, chathub.CodeInternal)
			}
			if s := log.take(); !strings.Contains(s, "level=ERROR") || !strings.Contains(s, tc.log) {
				t.Errorf("%s %s: log %q, want %q", tc.event, tc.data, s, tc.log)
			}
		}
	})
}

// timeouts has what encoding/json takes and json/v2 does not.
type timeouts struct {
	Slots []map[string]any `json:"slots"`
}

// An event that cannot be sent is refused with an Error, whether its name or
// its data is wrong, and nobody hears anything.
func TestEmitBadData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana", "red")
		for _, tc := range []struct {
			name, want string // the message; empty: the text of json
			data       any
		}{
			{"duration", "data" + durationRemedy, time.Second},
			{"nested duration", "data.slots.1.after" + durationRemedy,
				timeouts{[]map[string]any{{}, {"after": time.Second}}}},
			{"long path", "data." + strings.Repeat("é", 47) + "…" + durationRemedy, map[string]any{strings.Repeat("é", 200): time.Second}},
			{"function", "data cannot be marshaled", func() {}},
			{"error", "data cannot be marshaled", errors.New("x")},
			{"not UTF-8", "data cannot be marshaled", "\xff"},
			{"not a number", "data cannot be marshaled", math.NaN()},
			{"cycle", "data cannot be marshaled", cycle()},
			{"failing method", "data cannot be marshaled", failing{}},
			{"raw, cut off", "data is not a JSON value", jsontext.Value(`{"a":`)},
			{"raw, empty", "data is not a JSON value", jsontext.Value(``)},
			{"raw, duplicate name", "data is not a JSON value", jsontext.Value(`{"a":1,"a":2}`)},
			{"raw, two values", "data is not a JSON value", jsontext.Value(`1 2`)},
			{"raw within", "data cannot be marshaled", map[string]jsontext.Value{"a": jsontext.Value(`}`)}},
		} {
			_, askErr := p.hub.To("red").EmitWithAck(t.Context(), "news", tc.data)
			for call, err := range map[string]error{
				"Hub.Emit":           p.hub.Emit(t.Context(), "news", tc.data),
				"Client.Emit":        ana.server.Emit(t.Context(), "news", tc.data),
				"Target.Emit":        p.hub.To("red").Emit(t.Context(), "news", tc.data),
				"to nobody":          p.hub.To().Emit(t.Context(), "news", tc.data),
				"Client.EmitWithAck": ana.server.EmitWithAck(t.Context(), "news", tc.data, nil),
				"Target.EmitWithAck": askErr,
			} {
				e, ok := errors.AsType[*chathub.Error](err)
				if !ok || e.Code != chathub.CodeBadRequest || e.Message != tc.want || e.Err == nil {
					t.Errorf("%s, %s: %#v, want %q", tc.name, call, err, tc.want)
				}
			}
		}
		wantHeard(t, "ana", ana.Client)
	})
}

const durationRemedy = " is a time.Duration, which has no form in JSON; use a number with its unit in the name," +
	" such as TimeoutMS int64 for d.Milliseconds(), or the text of d.String()"

// failing cannot be marshaled.
type failing struct{}

var errFailing = errors.New("no")

func (failing) MarshalJSON() ([]byte, error) { return nil, errFailing }

func cycle() any {
	type node struct{ Next *node }
	n := new(node)
	n.Next = n
	return n
}

// The cause of a failed Emit can be found.
func TestEmitBadDataCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		if err := p.hub.Emit(t.Context(), "news", failing{}); !errors.Is(err, errFailing) {
			t.Errorf("got %v, want it to wrap %v", err, errFailing)
		}
	})
}

// What an application emits is not the fault of the client whose event it
// handles: it is told of an internal error, and the log says why. This is
// different for names of rooms and users, which often come from clients.
func TestEmitMistakeInHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		p := newParty(t, chathub.Config{Logger: log.logger()})
		ana := p.dial("ana")
		var emit func(ctx context.Context, c *chathub.Client) error
		chathub.On(p.hub, "do", func(ctx context.Context, c *chathub.Client, _ struct{}) error {
			if err := emit(ctx, c); err != nil {
				return fmt.Errorf("do: %w", err)
			}
			return nil
		})
		chathub.OnAck(p.hub, "result", func(context.Context, *chathub.Client, struct{}) (any, error) {
			return timeouts{[]map[string]any{{"after": time.Second}}}, nil
		})
		log.take()
		for _, tc := range []struct {
			name, event string
			emit        func(ctx context.Context, c *chathub.Client) error
			code        chathub.Code
			log         string
		}{
			{"data", "do", func(ctx context.Context, c *chathub.Client) error { return c.To("red").Emit(ctx, "news", time.Second) },
				chathub.CodeInternal, "data" + durationRemedy},
			{"event", "do", func(ctx context.Context, c *chathub.Client) error { return c.Emit(ctx, "News", nil) },
				chathub.CodeInternal, "is not an event name"},
			{"question", "do", func(ctx context.Context, c *chathub.Client) error { return c.EmitWithAck(ctx, "news", func() {}, nil) },
				chathub.CodeInternal, "data cannot be marshaled"},
			{"result", "result", nil, chathub.CodeInternal, "data.slots.0.after" + durationRemedy},
			{"room", "do", func(ctx context.Context, _ *chathub.Client) error { return p.hub.To("a\nb").Emit(ctx, "news", nil) },
				chathub.CodeBadRequest, ""},
			{"user", "do", func(ctx context.Context, _ *chathub.Client) error { return p.hub.ToUser("a\nb").Emit(ctx, "news", nil) },
				chathub.CodeBadRequest, ""},
		} {
			emit = tc.emit
			if got := ana.Request(hubtest.Frame{Type: tc.event}); got.Code() != tc.code || strings.Contains(string(got.Data), "Duration") {
				t.Errorf("%s: %s %s, want %s", tc.name, got.Type, got.Data, tc.code)
			}
			if s := log.take(); tc.log != "" && !strings.Contains(s, "level=ERROR") || !strings.Contains(s, tc.log) || tc.log == "" && s != "" {
				t.Errorf("%s: log %q, want %q", tc.name, s, tc.log)
			}
		}
	})
}

// A place for an answer or for claims may have a type without a form, too.
func TestDurationElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana")
		var reply struct{ After time.Duration }
		go answer(ana.Client, "ack", `{"After":5}`)
		if err := ana.server.EmitWithAck(t.Context(), "ask", nil, &reply); err == nil || !strings.Contains(err.Error(), "answer.After"+durationRemedy) {
			t.Errorf("EmitWithAck: %v", err)
		}
		if err := ana.server.Claims(new(time.Duration)); err == nil || !strings.Contains(err.Error(), "claims"+durationRemedy) {
			t.Errorf("Claims: %v", err)
		}
	})
}

// positive has a Validate method on values.
type positive int

func (p positive) Validate() error {
	if p == 0 {
		return &chathub.Error{Code: chathub.CodeTooLarge, Message: "Zero is too large"}
	}
	if p < 0 {
		return errors.New("negative, a secret")
	}
	return nil
}

// trimmed has a Validate method on pointers, which may correct the data.
type trimmed struct {
	S string `json:"s"`
}

func (d *trimmed) Validate() error {
	if d.S = strings.TrimSpace(d.S); d.S == "" {
		return errors.New("empty, a secret")
	}
	return nil
}

// valued has a Validate method on values. Called on a nil pointer, it panics.
type valued struct {
	S string `json:"s"`
}

func (d valued) Validate() error {
	if d.S == "" {
		return errors.New("empty, a secret")
	}
	return nil
}

// tags and scores are valid without data, and hold what is not nil.
type tags []string

func (d tags) Validate() error {
	if len(d) > 1 {
		return errors.New("too many, a secret")
	}
	return nil
}

type scores map[string]int

func (d *scores) Validate() error {
	if *d == nil {
		*d = scores{}
	}
	(*d)["seen"]++
	return nil
}

// checked is an interface with the method.
type checked interface{ Validate() error }

func TestValidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		p := newParty(t, chathub.Config{Logger: log.logger()})
		ana := p.dial("ana")
		chathub.OnAck(p.hub, "positive", echo[positive])
		chathub.OnAck(p.hub, "trimmed", echo[trimmed])
		chathub.OnAck(p.hub, "pointer", echo[*trimmed])
		chathub.OnAck(p.hub, "pointer-pointer", echo[**trimmed])
		chathub.OnAck(p.hub, "valued-pointer", echo[*valued])
		chathub.OnAck(p.hub, "valued-pointers", echo[***valued])
		chathub.OnAck(p.hub, "tags", echo[tags])
		chathub.OnAck(p.hub, "tags-pointer", echo[*tags])
		chathub.OnAck(p.hub, "scores", echo[scores])
		chathub.OnAck(p.hub, "scores-pointer", echo[*scores])
		chathub.OnAck(p.hub, "interface", echo[checked])
		chathub.OnAck(p.hub, "interface-pointer", echo[*checked])
		chathub.OnAck(p.hub, "free-pointer", echo[**int])
		chathub.On(p.hub, "on", func(context.Context, *chathub.Client, *trimmed) error { return nil })
		log.take()
		const (
			invalid = `{"code":"bad_request","message":"Invalid data"}`
			missing = `{"code":"bad_request","message":"data is missing"}`
		)
		for _, tc := range []struct{ event, data, want string }{
			{"positive", `1`, `1`},
			{"positive", `0`, `{"code":"too_large","message":"Zero is too large"}`},
			{"positive", ``, `{"code":"too_large","message":"Zero is too large"}`},
			{"positive", `-1`, invalid},
			{"trimmed", `{"s":" x "}`, `{"s":"x"}`},
			{"trimmed", `{"s":" "}`, invalid},
			{"trimmed", ``, invalid},
			{"pointer", `{"s":" x "}`, `{"s":"x"}`},
			{"pointer", `{"s":" "}`, invalid},
			{"pointer", ``, missing},
			{"pointer", `null`, missing},
			{"on", ``, missing},
			{"on", `null`, missing},
			{"on", `{"s":"x"}`, ``},
			{"pointer-pointer", `{"s":" x "}`, `{"s":"x"}`},
			{"pointer-pointer", `{"s":" "}`, invalid},
			{"pointer-pointer", ``, missing},
			{"pointer-pointer", `null`, missing},
			{"valued-pointer", `{"s":"x"}`, `{"s":"x"}`},
			{"valued-pointer", `{}`, invalid},
			{"valued-pointer", ``, missing},
			{"valued-pointer", `null`, missing},
			{"valued-pointers", `{"s":"x"}`, `{"s":"x"}`},
			{"valued-pointers", `{}`, invalid},
			{"valued-pointers", ``, missing},
			{"valued-pointers", `null`, missing},
			{"tags", `["a"]`, `["a"]`},
			{"tags", `["a","b"]`, invalid},
			{"tags", ``, `[]`},
			{"tags", `null`, `[]`},
			{"tags-pointer", `["a","b"]`, invalid},
			{"tags-pointer", ``, missing},
			{"tags-pointer", `null`, missing},
			{"scores", `{"a":1}`, `{"a":1,"seen":1}`},
			{"scores", ``, `{"seen":1}`},
			{"scores", `null`, `{"seen":1}`},
			{"scores-pointer", `{}`, `{"seen":1}`},
			{"scores-pointer", ``, missing},
			{"scores-pointer", `null`, missing},
			{"interface", ``, missing},
			{"interface", `null`, missing},
			{"interface-pointer", ``, missing},
			{"interface-pointer", `null`, missing},
			{"free-pointer", `5`, `5`},
			{"free-pointer", ``, `null`},
			{"free-pointer", `null`, `null`},
		} {
			got := ana.Request(hubtest.Frame{Type: tc.event, Data: raw(tc.data)})
			if !sameJSON(t, got.Data, tc.want) {
				t.Errorf("%s %s: %s %s, want %s", tc.event, tc.data, got.Type, got.Data, tc.want)
			}
			if s := log.take(); strings.Contains(s, "ERROR") || strings.Contains(tc.want, "Invalid") && !strings.Contains(s, "a secret") {
				t.Errorf("%s %s: log %q", tc.event, tc.data, s)
			}
		}
	})
}

// sameJSON compares JSON whose members may come in any order. Text that is no
// JSON is compared as it is.
func sameJSON(t *testing.T, got jsontext.Value, want string) bool {
	t.Helper()
	a, b := got.Clone(), jsontext.Value(want).Clone()
	if a.Canonicalize() != nil || b.Canonicalize() != nil {
		return string(got) == want
	}
	return string(a) == string(b)
}
