package otel_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/otel"
	"github.com/chathub-go/chathub/hubtest"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// clientTrace is what a client sends, and clientSpan its span in it.
const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan  = "00f067aa0ba902b7"
	clientTrace = "00-" + traceID + "-" + clientSpan + "-01"
)

var _ chathub.Broker = otel.Broker(nil)

type recorder struct {
	*tracetest.InMemoryExporter
	option otel.Option
}

func newRecorder() *recorder {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	return &recorder{exporter, otel.TracerProvider(provider)}
}

// tree returns the spans of the trace as "parent > child", sorted.
func (r *recorder) tree() (all []string) {
	names := map[string]string{clientSpan: "client"}
	spans := r.GetSpans()
	for _, s := range spans {
		names[s.SpanContext.SpanID().String()] = s.Name
	}
	for _, s := range spans {
		if s.SpanContext.TraceID().String() == traceID {
			all = append(all, names[s.Parent.SpanID().String()]+" > "+s.Name)
		}
	}
	slices.Sort(all)
	return all
}

// TestSpans follows one trace from a client through a handler, the broker and
// the log to another client and a follower.
func TestSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		hub := hubtest.New(t, chathub.Config{Broker: otel.Broker(&chathub.MemoryBroker{}, r.option)})
		hub.Use(otel.Middleware(r.option))
		chathub.OnAck(hub, "order", func(ctx context.Context, _ *chathub.Client, n int) (int, error) {
			_, err := hub.To("orders").Post(ctx, chathub.Post{Data: n})
			return n, err
		})
		followed := hubtest.NewCalls[chathub.Entry](t)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = hub.Follow(ctx, "orders", chathub.Position{}, otel.Follow(followed.Call, r.option)) }()

		ana, bob := hubtest.Dial(t, hub, "ana"), hubtest.Dial(t, hub, "bob")
		bob.Must(hubtest.Frame{Type: "join-room", Room: "orders"})
		ana.Must(hubtest.Frame{Type: "order", Trace: clientTrace, Data: hubtest.Data(7)})
		got := bob.Wait("room-message").Trace
		followed.Next()
		synctest.Wait()

		want := []string{
			"chathub order > chathub broker publish",
			"chathub order > chathub follow room-message",
			"client > chathub order",
		}
		if tree := r.tree(); !slices.Equal(tree, want) {
			t.Errorf("the spans are %q, want %q", tree, want)
		}
		for _, s := range r.GetSpans() {
			if s.Name == "chathub order" && !strings.Contains(got, s.SpanContext.SpanID().String()) {
				t.Errorf("the other client got the trace %q", got)
			}
		}
	})
}

// TestSpansOfErrors: the server's failures are errors, and those of a client
// are not. No span has what the client sent.
func TestSpansOfErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		hub := hubtest.New(t, chathub.Config{})
		hub.Use(otel.Middleware(r.option, otel.WithoutNames()))
		chathub.On(hub, "fail", func(context.Context, *chathub.Client, string) error { return errors.New("database is down") })
		chathub.On(hub, "refuse", func(context.Context, *chathub.Client, string) error {
			return &chathub.Error{Code: chathub.CodeForbidden, Message: "no"}
		})
		ana := hubtest.Dial(t, hub, "ana")
		for _, typ := range []string{"fail", "refuse", "unknown-event"} {
			ana.Request(hubtest.Frame{Type: typ, Room: "secret room", Data: hubtest.Data("secret text")})
		}
		synctest.Wait()
		status := make(map[string]string)
		for _, s := range r.GetSpans() {
			status[s.Name] = s.Status.Code.String()
			for _, a := range s.Attributes {
				if v := a.Value.String(); strings.Contains(v, "secret") || v == "ana" {
					t.Errorf("%s has %s = %s", s.Name, a.Key, v)
				}
			}
		}
		if len(status) != 2 || status["chathub fail"] != "Error" || status["chathub refuse"] != "Unset" {
			t.Errorf("the spans are %v", status)
		}
	})
}

// TestBrokerConformance: a broker stays one.
func TestBrokerConformance(t *testing.T) {
	r := newRecorder()
	hubtest.TestBroker(t, func(*testing.T) chathub.Broker { return otel.Broker(&chathub.MemoryBroker{}, r.option) })
	if n := len(r.GetSpans()); n > 0 {
		t.Errorf("%d spans were made outside of any", n)
	}
}

// BenchmarkMiddleware measures a room message with and without spans.
func BenchmarkMiddleware(b *testing.B) {
	for _, name := range []string{"without", "not sampled", "sampled"} {
		b.Run(name, func(b *testing.B) {
			hub := hubtest.New(b, chathub.Config{Rate: -1, UserRate: -1, ByteRate: -1, UserByteRate: -1, PresenceInterval: -1})
			switch name {
			case "not sampled":
				hub.Use(otel.Middleware(otel.TracerProvider(sdk.NewTracerProvider(sdk.WithSampler(sdk.NeverSample())))))
			case "sampled":
				hub.Use(otel.Middleware(otel.TracerProvider(sdk.NewTracerProvider())))
			}
			ana := hubtest.Dial(b, hub, "ana")
			ana.Must(hubtest.Frame{Type: "join-room", Room: "lobby"})
			b.ReportAllocs()
			for b.Loop() {
				ana.Must(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("hello")})
			}
		})
	}
}
