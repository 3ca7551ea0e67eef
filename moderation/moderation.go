package moderation

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json/jsontext"
)

// Config says who may do what. All fields are optional.
type Config struct {
	// Moderator reports whether a client may moderate a room, or, if room is
	// empty, the whole service: with the event "moderate", and by deleting
	// messages, unless chathub's Config has a Moderator of its own. Default:
	// clients may not, only Go code may.
	Moderator func(ctx context.Context, c *chathub.Client, room string) bool
	// Exempt reports whether a client may write in a room that is frozen or in
	// slow mode. It is asked in such rooms only. Default: Moderator.
	Exempt func(ctx context.Context, c *chathub.Client, room string) bool
	// Immune reports whether moderators may neither mute nor ban a user, by the
	// event "moderate". Default: nobody is.
	Immune func(ctx context.Context, user, room string) bool

	// Words looks at what a client is about to say, and may refuse or change
	// it. It runs on the goroutine of the client. An error refuses the event: a
	// [chathub.Error] is what the client is told, and other errors are logged.
	// A Words may call [Moderation.Decide], which then holds for this event,
	// too. Default: everything passes.
	Words func(ctx context.Context, c *chathub.Client, s Said) (Verdict, error)
	// Events are events of the application in which users say something. They
	// are refused like a room-message if there is a mute, ban or freeze. Their
	// handlers should not take long, since a new decision waits for them.
	Events []string

	// OnReport runs when a report has been stored. If it returns an error, the
	// client is told, and may report the same again. So it may be called twice
	// for one position. Default: reports are only stored.
	OnReport func(ctx context.Context, r Report) error
}

// Said is something that a client is about to say.
type Said struct {
	// Type is "room-message", "private-message", "message",
	// "send-notification", "edit-message", "react", "set-state", or one of
	// Config.Events.
	Type string
	Room string
	To   string
	// Data is what is said: the data of a message, the new data of an edited
	// one, the key of a reaction, the value of a state. Its bytes must not be
	// modified.
	Data jsontext.Value
}

// Verdict is what becomes of something that is said. The zero Verdict lets it
// pass.
type Verdict struct {
	// Data takes the place of Said.Data if it is not nil.
	Data jsontext.Value
	// Report, if it is not empty, is the reason of a report that is stored with
	// the event. It is for room-messages and private-messages.
	Report string
}

// Moderation applies decisions to the clients of one hub. On a cluster, each
// node has one. All methods may be called concurrently.
type Moderation struct {
	cfg      Config
	log      *slog.Logger
	patience time.Duration // for what was checked before a decision
	writes   map[string]writing

	hub   *chathub.Hub
	start sync.Mutex // held by Start
	ready atomic.Bool
	begun bool // guarded by start: handlers are registered
	// installed is set before there is a hub.
	installed bool
	book      book
	flights   flights
	slow      slowRooms
	reports   reporters
}

// New returns a Moderation. It does nothing before Install and Start.
func New(cfg Config) *Moderation {
	m := &Moderation{cfg: cfg, log: slog.Default(), patience: 10 * time.Second}
	if m.cfg.Moderator == nil {
		m.cfg.Moderator = func(context.Context, *chathub.Client, string) bool { return false }
	}
	if m.cfg.Exempt == nil {
		m.cfg.Exempt = m.cfg.Moderator
	}
	m.writes = writingsOf(cfg.Events)
	m.book.init()
	m.flights.init()
	m.slow = slowRooms{mod: m, rooms: make(map[place]*slowRoom)}
	m.reports.init()
	return m
}

// Install puts the checks of connections, joins and rooms around the callbacks
// of cfg. Call it once, when cfg has all its own callbacks, before
// [chathub.New].
func (m *Moderation) Install(cfg *chathub.Config) {
	if cfg.Logger != nil {
		m.log = cfg.Logger
	}
	// A Settle has given up by then, so it does not confirm what is not true.
	m.patience = 2 * cmp.Or(cfg.NodeLease, 5*time.Second)
	m.wrap(cfg)
	m.installed = true
}

// errStarting refuses everything until the decisions are known.
func errStarting() error {
	return &chathub.Error{Code: chathub.CodeUnavailable, Message: "Try again", RetryAfter: time.Second, Err: errNotStarted}
}

var errNotInstalled = errors.New("moderation: Install must be called before chathub.New")

var errNotStarted = errors.New("moderation: decisions are not known yet; see Moderation.Start")

// Start reads all decisions, and applies them to the clients of hub, for as
// long as the hub runs. Call it when all other middleware and handlers are
// registered, before the hub serves. Until it has returned nil, clients are
// refused with [chathub.CodeUnavailable]. If it fails, because the broker is
// not there yet, call it again.
func (m *Moderation) Start(ctx context.Context, hub *chathub.Hub) error {
	m.start.Lock()
	defer m.start.Unlock()
	switch {
	case !m.installed:
		return errNotInstalled
	case m.ready.Load():
		return nil
	}
	if !m.begun {
		m.hub = hub
		m.register()
		m.begun = true
	}
	// What is announced from now on is heard, and what was before is in the
	// store.
	hello, err := hub.To(newsRoom).Post(ctx, chathub.Post{Type: newsEvent, Data: news{}})
	if err != nil {
		return err
	}
	heard := make(chan struct{})
	listening, stop := context.WithCancel(context.Background())
	go func() {
		defer stop()
		m.listen(listening, chathub.Position{Epoch: hello.Epoch, Seq: hello.Seq}, heard)
	}()
	select {
	case <-heard:
		err = m.loadAll(ctx)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		stop()
		return err
	}
	m.ready.Store(true)
	return nil
}

// Decide makes a decision, or replaces the one of the same kind about the same
// room and user. When it returns nil, the decision is stored and holds on every
// node. What was allowed before and was still under way has been stored or
// refused: messages, joins and handshakes. Decide returns the position in the
// log of the room after which the decision holds. It is zero if there is no
// room.
//
// A Ban also takes the user out of the room, or closes the user's connections
// with 4503. A Slow or Freeze is shown to the members of the room under the key
// "moderation" of its state. If the state is full, the error is one with
// [chathub.CodeLimitExceeded], and the decision holds nevertheless.
//
// If a node does not confirm the decision within NodeLease, or before ctx ends,
// the error is a [chathub.Error] with [chathub.CodeUnavailable]. What is stored
// is carried out nevertheless, which may take until after the end of ctx. Call
// Decide again to be sure. If the store is full, which it is with some 50,000
// decisions, the code is CodeLimitExceeded. A decision that is not valid is
// CodeBadRequest.
//
// Do not call Decide in a handler of what the decision is about, or in
// middleware after Start, since it would wait for that event to end.
func (m *Moderation) Decide(ctx context.Context, d Decision) (chathub.Position, error) {
	return m.Tenant("").Decide(ctx, d)
}

// Lift ends a decision. Room and user are those of the decision. It is no error
// if there is none. See [Moderation.Decide] for what it returns.
func (m *Moderation) Lift(ctx context.Context, kind Kind, room, user string) (chathub.Position, error) {
	return m.Tenant("").Lift(ctx, kind, room, user)
}

// Decisions returns the decisions that hold in a room, or, if room is empty,
// those of the whole service, newest first. They are those that this node
// knows.
func (m *Moderation) Decisions(room string) []Decision { return m.Tenant("").Decisions(room) }

// MayEnter returns the error with which a user is refused who is banned from a
// room or, if room is empty, from the whole service. It is for code of the
// application that joins clients itself, which asks no Authorize.
func (m *Moderation) MayEnter(user, room string) error { return m.Tenant("").MayEnter(user, room) }

// MayWrite returns the error with which a message of a user is refused who is
// muted or banned, or who wants to write in a frozen room. An empty room is for
// private messages. It is for code of the application that posts for users.
// Decide does not wait for what is posted, and no slow mode applies to it.
func (m *Moderation) MayWrite(user, room string) error { return m.Tenant("").MayWrite(user, room) }

// change stores a decision, or that there is none, and has all nodes carry that
// out.
func (m *Moderation) change(ctx context.Context, i id, d *Decision) (pos chathub.Position, err error) {
	if !m.ready.Load() {
		return pos, errStarting()
	}
	announced, err := m.put(ctx, i, d)
	if err != nil {
		return pos, err
	}
	err = m.hub.Settle(ctx, newsRoom, announced)
	if ctx.Err() != nil { // what is stored is carried out
		ctx = context.WithoutCancel(ctx)
	}
	switch {
	case i.kind == Ban && d != nil:
		// Every node refuses what begins now. This ends what began before.
		target := m.hub.Tenant(i.tenant).ToUser(i.user)
		if i.room == "" {
			err = errors.Join(err, target.Disconnect(ctx, cmp.Or(d.Reason, "Banned")))
		} else {
			err = errors.Join(err, target.Remove(ctx, cmp.Or(d.Reason, "Banned"), i.room))
		}
	case i.kind == Mute:
		m.tell(ctx, i, d)
	case !i.kind.isAboutUser():
		pos, showErr := m.show(ctx, place{i.tenant, i.room})
		return pos, errors.Join(err, showErr)
	}
	if i.room != "" && err == nil {
		pos, err = m.hub.Tenant(i.tenant).Head(ctx, i.room)
	}
	return pos, err
}

// mayEnter returns an error if a user is banned.
func (m *Moderation) mayEnter(user person, room string) error {
	if !m.ready.Load() {
		return errStarting()
	}
	switch d := m.book.about(Ban, user, room); {
	case d == nil:
		return nil
	case d.Room == "":
		return d.refusal("You are banned")
	default:
		return d.refusal("You are banned from this room")
	}
}

// maySpeak returns an error if a user is banned or muted.
func (m *Moderation) maySpeak(user person, room string) error {
	if err := m.mayEnter(user, room); err != nil {
		return err
	}
	if d := m.book.about(Mute, user, room); d != nil {
		return d.refusal("You are muted")
	}
	return nil
}

func (m *Moderation) frozen(at place) error {
	if d := m.book.ofRoom(Freeze, at); d != nil {
		return d.refusal("The room is frozen")
	}
	return nil
}

// refusal is what a client is told.
func (d *Decision) refusal(text string) *chathub.Error {
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	return &chathub.Error{Code: chathub.CodeForbidden, Message: text, RetryAfter: d.left(time.Now())}
}
