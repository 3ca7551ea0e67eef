// Package otel makes OpenTelemetry traces of a hub: a span for each event of a
// client, for what the broker does because of it, and for each entry that a
// follower gets.
//
//	cfg.Broker = otel.Broker(broker)
//	hub, err := chathub.New(cfg)
//	hub.Use(otel.Middleware()) // first, so that the others are in the span
//	go hub.Follow(ctx, "lobby", from, otel.Follow(index))
//
// A trace begins in a client that sends a traceparent in the field trace of its
// events, or else here. The hub carries it on: in the ctx of handlers, in what
// they emit and post, in the log, and in what other clients and followers get.
package otel

import (
	"context"
	"errors"

	"github.com/chathub-go/chathub"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const name = "github.com/chathub-go/chathub/adapters/otel"

// Option is a setting of the functions of this package.
type Option func(*config)

type config struct {
	tracer trace.Tracer
	names  bool
}

// TracerProvider sets where spans go. Default: the global provider, as of the
// call.
func TracerProvider(p trace.TracerProvider) Option {
	return func(c *config) { c.tracer = p.Tracer(name) }
}

// WithoutNames leaves the ids of users and the names of rooms out of spans, for
// those who may not keep them.
func WithoutNames() Option { return func(c *config) { c.names = false } }

func newConfig(options []Option) *config {
	c := &config{names: true}
	for _, o := range options {
		o(c)
	}
	if c.tracer == nil {
		c.tracer = otel.GetTracerProvider().Tracer(name)
	}
	return c
}

// Middleware returns middleware that makes a span for each event of a client,
// named "chathub" and the type of the event. It is the child of the span that
// the client names, if it names one, and is in the ctx of the handlers inside.
// What becomes of the event names this span.
//
// Events that the hub refuses before any handler runs have no span: bad input,
// rate limits, what Authorize refuses.
func Middleware(options ...Option) chathub.Middleware {
	cfg := newConfig(options)
	return func(next chathub.Handler) chathub.Handler {
		return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
			// Unknown types get no handler, so clients cannot make names.
			ctx, span := cfg.tracer.Start(Context(ctx, e.Trace), "chathub "+e.Type, trace.WithSpanKind(trace.SpanKindServer))
			defer span.End()
			if span.IsRecording() {
				span.SetAttributes(cfg.ofEvent(c, e)...)
			}
			e.Trace = Trace(ctx)
			result, err := next(ctx, c, e)
			if r, ok := result.(chathub.Receipt); ok && err == nil {
				span.SetAttributes(attribute.Int64("chathub.seq", int64(r.Seq)), attribute.Bool("chathub.duplicate", r.Duplicate))
			}
			fail(span, err)
			return result, err
		}
	}
}

func (cfg *config) ofEvent(c *chathub.Client, e *chathub.Event) []attribute.KeyValue {
	all := []attribute.KeyValue{
		attribute.String("messaging.system", "chathub"),
		attribute.String("messaging.operation.name", e.Type),
		attribute.String("messaging.client.id", c.ID()),
		attribute.Int("messaging.message.body.size", len(e.Data)),
	}
	if e.ID != "" {
		all = append(all, attribute.String("messaging.message.id", e.ID))
	}
	if cfg.names {
		all = append(all, attribute.String("user.id", c.User().ID))
		if t := c.Tenant(); t != "" {
			all = append(all, attribute.String("chathub.tenant", t))
		}
		if e.Room != "" {
			all = append(all, attribute.String("messaging.destination.name", e.Room))
		}
	}
	return all
}

// Follow returns a function for [chathub.Hub.Follow] that makes a span for each
// entry and calls fn in it. The span is the child of the one that stored the
// entry.
func Follow(fn func(context.Context, chathub.Entry) error, options ...Option) func(context.Context, chathub.Entry) error {
	cfg := newConfig(options)
	return func(ctx context.Context, e chathub.Entry) error {
		ctx, span := cfg.tracer.Start(Context(ctx, e.Trace), "chathub follow "+e.Type, trace.WithSpanKind(trace.SpanKindConsumer))
		defer span.End()
		if span.IsRecording() {
			span.SetAttributes(
				attribute.String("messaging.system", "chathub"),
				attribute.String("messaging.operation.name", "follow"),
				attribute.String("messaging.message.id", e.ID),
				attribute.Int64("chathub.seq", int64(e.Seq)),
			)
			if cfg.names {
				span.SetAttributes(attribute.String("messaging.destination.name", e.Room))
			}
		}
		err := fn(ctx, e)
		fail(span, err)
		return err
	}
}

// fail marks a span as failed.
func fail(span trace.Span, err error) {
	if err == nil {
		return
	}
	// What the client did wrong is no failure of the server.
	kind := "error"
	if e, ok := errors.AsType[*chathub.Error](err); ok {
		kind = string(e.Code)
		if e.Code != chathub.CodeInternal && e.Code != chathub.CodeUnavailable {
			span.SetAttributes(attribute.String("error.type", kind))
			return
		}
	}
	span.SetAttributes(attribute.String("error.type", kind))
	span.RecordError(err)
	span.SetStatus(codes.Error, kind)
}

var w3c propagation.TraceContext

// Context returns ctx with the span that a traceparent names as the parent of
// spans to come. If that is empty or not valid, it returns ctx. It is for hooks
// that get an [chathub.Entry], such as OnAway.
func Context(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return w3c.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

// Trace returns the traceparent of the span in ctx, for [chathub.Post].Trace,
// or "" if there is none.
func Trace(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	return carrier["traceparent"]
}
