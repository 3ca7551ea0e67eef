package otel

import (
	"context"

	"github.com/chathub-go/chathub"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Broker returns b with a span for each message that is published and each read
// of a log, within a span that is recorded: those of [Middleware], or of the
// application around Post, Emit and History. What the hub does for itself has
// no spans.
func Broker(b chathub.Broker, options ...Option) chathub.Broker {
	return &broker{b, newConfig(options)}
}

type broker struct {
	chathub.Broker
	cfg *config
}

func (b *broker) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	s, err := b.Broker.Attach(ctx, deliver)
	if err != nil {
		return nil, err
	}
	return &session{s, b.cfg}, nil
}

type session struct {
	chathub.BrokerSession
	cfg *config
}

// start begins a span, unless the one around it is not recorded.
func (s *session) start(ctx context.Context, operation string, kind trace.SpanKind) (context.Context, trace.Span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, trace.SpanFromContext(context.Background()) // does nothing
	}
	return s.cfg.tracer.Start(ctx, "chathub broker "+operation, trace.WithSpanKind(kind), trace.WithAttributes(
		attribute.String("messaging.system", "chathub"),
		attribute.String("messaging.operation.name", operation),
	))
}

func (s *session) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	ctx, span := s.start(ctx, "publish", trace.SpanKindProducer)
	defer span.End()
	r, err := s.BrokerSession.Publish(ctx, m)
	span.SetAttributes(attribute.Int64("chathub.seq", int64(r.Seq)), attribute.Int("messaging.message.body.size", len(m.Body)))
	fail(span, err)
	return r, err
}

func (s *session) Send(ctx context.Context, m chathub.Message) error {
	ctx, span := s.start(ctx, "send", trace.SpanKindProducer)
	defer span.End()
	err := s.BrokerSession.Send(ctx, m)
	fail(span, err)
	return err
}

func (s *session) Read(ctx context.Context, t chathub.Topic, r chathub.Range) (chathub.Page, error) {
	ctx, span := s.start(ctx, "read", trace.SpanKindClient)
	defer span.End()
	page, err := s.BrokerSession.Read(ctx, t, r)
	span.SetAttributes(attribute.Int("chathub.messages", len(page.Messages)))
	fail(span, err)
	return page, err
}

func (s *session) ReadNamed(ctx context.Context, queries []chathub.NameQuery) ([][]chathub.Message, error) {
	ctx, span := s.start(ctx, "read names", trace.SpanKindClient)
	defer span.End()
	named, err := s.BrokerSession.ReadNamed(ctx, queries)
	fail(span, err)
	return named, err
}

func (s *session) Survey(ctx context.Context, queries []chathub.SurveyQuery) ([]chathub.Standing, error) {
	ctx, span := s.start(ctx, "survey", trace.SpanKindClient)
	defer span.End()
	standings, err := s.BrokerSession.Survey(ctx, queries)
	fail(span, err)
	return standings, err
}

func (s *session) Subscribe(ctx context.Context, t chathub.Topic) (chathub.Position, error) {
	ctx, span := s.start(ctx, "subscribe", trace.SpanKindClient)
	defer span.End()
	p, err := s.BrokerSession.Subscribe(ctx, t)
	fail(span, err)
	return p, err
}
