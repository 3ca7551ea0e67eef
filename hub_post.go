package chathub

import (
	"cmp"
	"context"
	"strconv"
	"unicode/utf8"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/text"
)

// Post is a durable event that an application stores in the name of somebody.
type Post struct {
	// Type is the name of the event. Default "room-message" in a room, and
	// "private-message" in an inbox.
	Type string
	// From is the user that others see as the sender. The hub believes it, so
	// it must come from a verified session, not from a request's body. Zero:
	// the application itself.
	From User
	// ID identifies a repetition: the same ID of the same sender in the same
	// room stores the message once, whether it is posted or sent by a client.
	// At most 64 bytes. Empty: the hub chooses one, and each Post is stored.
	ID string
	// Re is the message that this one answers, if it is not zero.
	Re MessageRef
	// Trace is a traceparent; see [Event].Trace. Default: that of the event
	// that is being handled, if any.
	Trace string
	// Data has the form that [Target.Emit] describes.
	Data any
}

// Post stores an event in the log of one room, or in the inbox of one user, and
// returns where. It is what a bot, a webhook, an importer or an HTTP endpoint
// uses that must be able to repeat a send, or to know its position. Everyone in
// the room gets it, as if a client of the sender had sent it. It asks neither
// Config.Authorize nor middleware, needs no connection, and changes nothing in
// presence.
//
// A private-message with a sender is stored in both inboxes, and the receipt is
// that of the sender's. If a call fails, it may be repeated with the same ID. A
// repetition returns the first receipt, with Duplicate set. If the ID was used
// for something else, the error is an [Error] with [CodeConflict].
//
// If the target is not exactly one room or user, or a field is not valid, the
// error is an [Error] with [CodeBadRequest].
func (t Target) Post(ctx context.Context, p Post) (Receipt, error) {
	if err := t.check(); err != nil {
		return Receipt{}, err
	}
	if len(t.topics) != 1 || t.all {
		return Receipt{}, badEmit("a Post needs one room or one user", nil)
	}
	topic := t.topics[0]
	if p.Type == "" {
		if p.Type = eventRoomMessage; topic.User != "" {
			p.Type = eventPrivateMessage
		}
	}
	env, err := t.hub.newEnvelope(p.Type, p.Data)
	if err != nil {
		return Receipt{}, err
	}
	if err := p.check(topic); err != nil {
		return Receipt{}, err
	}
	e := &Event{Type: p.Type, ID: p.ID, Room: plain(topic.Room), To: plain(topic.User), Data: env.data, Re: p.Re}
	if topic.Room != "" {
		if err := t.hub.checkAnswered(ctx, topic, e); err != nil {
			return Receipt{}, err
		}
	}
	env.id, env.room, env.to, env.re = durableID(e), e.Room, e.To, e.answered()
	if p.From != (User{}) {
		env.from = &p.From
	}
	env.trace = cmp.Or(p.Trace, traceIn(ctx))
	s := sender{user: p.From.ID, tenant: Tenant{t.hub, t.world}}
	if p.Type == eventPrivateMessage && p.From.ID != "" && topic.User != "" {
		except := note.Routed{Except: t.except}
		return s.private(ctx, e, env, except, except)
	}
	return s.store(ctx, e, env, topic, note.Routed{Except: t.except})
}

func (p *Post) check(topic Topic) error {
	switch {
	case topic.Room != "" && p.Type == eventPrivateMessage, topic.User != "" && p.Type == eventRoomMessage:
		return badEmit("a "+p.Type+" is for the other kind of target", nil)
	case len(p.ID) > text.MaxID || !utf8.ValidString(p.ID):
		return badEmit("ID is not UTF-8, or is over 64 bytes", nil)
	case p.From != (User{}) && !text.Valid(p.From.ID, text.MaxUser):
		return badEmit("From.ID is not a user id", nil)
	case topic.Room != "" && (p.Re.ID != "" || p.Re.Author != "" || p.Re.Seq > maxSeq):
		return badEmit("Re of a message in a room is a Seq", nil)
	case topic.User != "" && p.Re != (MessageRef{}) && (p.Re.Seq > 0 || p.Re.ID == "" || len(p.Re.ID) > text.MaxID || !text.Valid(p.Re.Author, text.MaxUser)):
		return badEmit("Re of a private message is an ID and an Author", nil)
	}
	if p.Trace != "" && !text.IsTrace(p.Trace) {
		return badEmit("Trace is not a traceparent of version 00", nil)
	}
	p.From.Name = text.Name(p.From.Name)
	return nil
}

// sender stores durable events in the name of a user, or of the application.
type sender struct {
	user   string // empty: the application
	tenant Tenant
	client *Client // whose rights are checked; nil: nobody's
}

func (s *sender) publish(ctx context.Context, m Message) (Receipt, error) {
	if s.client != nil {
		return s.client.publish(ctx, m)
	}
	return s.tenant.hub.session.Publish(ctx, m)
}

// store stores an event in one log.
func (s *sender) store(ctx context.Context, e *Event, env *envelope, t Topic, r note.Routed) (Receipt, error) {
	receipt, err := s.publish(ctx, s.message(t, e, env, r))
	if err == nil {
		s.tenant.hub.away.stored(t, env.typ, s.user, receipt)
	}
	return receipt, err
}

// message returns the message that stores the envelope of an event. The sender
// is charged for it. Its key makes a repetition of the same id by the same user
// recognisable; its sum tells whether it is one.
func (s *sender) message(t Topic, e *Event, env *envelope, r note.Routed) Message {
	m := Message{Topic: t, Owner: s.user, Notice: noticeIn(t, env.typ) || s.user == "" && t.User != "", Body: env.body(&r)}
	if e.ID != "" {
		m.Key = s.user + "\x00" + e.ID // a user id has no control characters
		m.Sum = e.contentSum(env)
	}
	return m
}

// noticeIn reports whether an event is one that may be dropped before messages
// and does not count as unread.
func noticeIn(t Topic, typ string) bool {
	if t.Room != "" {
		return typ != eventRoomMessage
	}
	return typ != eventPrivateMessage
}

// private stores a private message in both inboxes, the recipient's first: a
// sender who repeats one of which only the first half worked completes it, and
// the sender's inbox never shows what the recipient did not get.
//
// The recipient's inbox alone decides whether an id conflicts with an earlier
// one. The key of the sender's copy includes the sum, so the copy is either new
// or a repetition, and no message is refused that its recipient has. The
// character behind the user id keeps the two kinds of keys apart.
func (s *sender) private(ctx context.Context, e *Event, env *envelope, theirs, own note.Routed) (Receipt, error) {
	m := s.message(s.tenant.world.user(s.user), e, env, own)
	if env.to == s.user {
		return s.publish(ctx, m)
	}
	first := s.message(s.tenant.world.user(env.to), e, env, theirs)
	r, err := s.publish(ctx, first)
	if err != nil {
		return Receipt{}, err
	}
	s.tenant.hub.away.stored(first.Topic, env.typ, s.user, r)
	if m.Key != "" {
		m.Key = s.user + "\x01" + strconv.FormatUint(m.Sum, 36) + "\x00" + e.ID
	}
	ours, err := s.publish(ctx, m)
	if err == nil && r.Duplicate {
		err = s.together(ctx, env, messageCopy{topic: first.Topic, seq: r.Seq, time: r.Time}, messageCopy{topic: m.Topic, seq: ours.Seq, time: ours.Time})
	}
	if err != nil {
		return Receipt{}, err
	}
	return ours, nil
}
