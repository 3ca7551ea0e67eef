package chathub_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

const (
	clientTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	serverTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-53995c3f42cd8ad8-01"
)

// traceOf returns the trace of the next frame of a type.
func traceOf(t *testing.T, c *hubtest.Client, typ string) string {
	t.Helper()
	return c.Wait(typ).Trace
}

// TestTrace: a trace goes from the client through handlers and the log to
// everyone, and middleware can continue it.
func TestTrace(t *testing.T) {
	for name, want := range map[string]string{"passed on": clientTrace, "continued": serverTrace} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{ClientState: func(context.Context, *chathub.Client, string, string) bool { return true }})
				hub.Use(func(next chathub.Handler) chathub.Handler {
					return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
						if e.Trace != "" && e.Trace != clientTrace {
							t.Errorf("%s came with the trace %q", e.Type, e.Trace)
						}
						if e.Trace != "" {
							e.Trace = want
						}
						return next(ctx, c, e)
					}
				})
				chathub.On(hub, "order", func(ctx context.Context, c *chathub.Client, _ int) error {
					if got := chathub.EventFrom(ctx).Trace; got != want {
						t.Errorf("the handler has the trace %q", got)
					}
					if _, err := hub.To("red").Post(ctx, chathub.Post{Data: "posted"}); err != nil {
						t.Error(err)
					}
					return hub.To("red").Emit(ctx, "ordered", nil)
				})
				ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
				for _, c := range []*hubtest.Client{ana, bob} {
					c.Must(hubtest.Frame{Type: "join-room", Room: "red"})
				}
				send := func(f hubtest.Frame) hubtest.Frame {
					f.Trace = clientTrace
					return ana.Must(f)
				}
				for _, tc := range []struct {
					frame hubtest.Frame
					heard string
				}{
					{hubtest.Frame{Type: "message", Data: raw("1")}, "message"},
					{hubtest.Frame{Type: "room-message", Room: "red", Data: raw(`"one"`)}, "room-message"},
					{hubtest.Frame{Type: "private-message", To: "bob", Data: raw("1")}, "private-message"},
					{hubtest.Frame{Type: "send-notification", To: "bob", Data: raw("1")}, "notification"},
					{hubtest.Frame{Type: "set-state", Room: "red", Data: raw(`{"key":"k","value":1}`)}, "state-changed"},
					{hubtest.Frame{Type: "edit-message", Room: "red", Data: raw(`{"seq":1,"data":"One"}`)}, "message-changed"},
					{hubtest.Frame{Type: "order", Data: raw("1")}, "ordered"},
				} {
					send(tc.frame)
					if got := traceOf(t, bob, tc.heard); got != want {
						t.Errorf("%s has the trace %q, want %q", tc.heard, got, want)
					}
				}
				entries, _, err := hub.History(t.Context(), "red", chathub.Range{Limit: 10})
				if err != nil || len(entries) != 3 {
					t.Fatalf("%+v, %v", entries, err)
				}
				for _, e := range entries {
					if e.Trace != want {
						t.Errorf("%s in the log has the trace %q, want %q", e.Type, e.Trace, want)
					}
				}
			})
		})
	}
}

// TestTraceInvalid: what is not a trace is ignored, and refused from Go.
func TestTraceInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana := hubtest.Dial(t, hub, "ana")
		ana.Must(hubtest.Frame{Type: "join-room", Room: "red"})
		for _, bad := range []string{
			`""`, `7`, `null`, `{"a":1}`, `"` + strings.Repeat("0", 55) + `"`, `"` + clientTrace + `0"`,
			`"` + strings.ToUpper(clientTrace) + `"`, `"01` + clientTrace[2:] + `"`, `"00-` + strings.Repeat("0", 32) + clientTrace[35:] + `"`,
			`"` + clientTrace[:36] + strings.Repeat("0", 16) + `-01"`, `"` + clientTrace[:54] + `\u0000"`,
		} {
			ana.SendText(`{"type":"room-message","room":"red","trace":` + bad + `}`)
			if f := ana.Wait("room-message"); f.Trace != "" {
				t.Errorf("%s was passed on as %q", bad, f.Trace)
			}
		}
		if _, err := hub.To("red").Post(t.Context(), chathub.Post{Trace: "no", Data: 1}); err == nil {
			t.Error("a post with a bad trace is stored")
		}
	})
}
