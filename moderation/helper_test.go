package moderation_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
	"github.com/go-json-experiment/json"
)

// node is a hub with its moderation.
type node struct {
	*moderation.Moderation
	t   *testing.T
	hub *chathub.Hub
}

// isModerator is for users whose id begins with "mod".
func isModerator(_ context.Context, c *chathub.Client, _ string) bool {
	return strings.HasPrefix(c.User().ID, "mod")
}

// newNode starts a hub. Users whose id begins with "mod" are moderators, unless
// the configuration says something else.
func newNode(t *testing.T, cfg moderation.Config, hubCfg chathub.Config) *node {
	t.Helper()
	n := stoppedNode(t, cfg, hubCfg)
	if err := n.Start(t.Context(), n.hub); err != nil {
		t.Fatal(err)
	}
	return n
}

// stoppedNode is newNode without Start.
func stoppedNode(t *testing.T, cfg moderation.Config, hubCfg chathub.Config) *node {
	t.Helper()
	if cfg.Moderator == nil {
		cfg.Moderator = isModerator
	}
	if hubCfg.Rate == 0 {
		hubCfg.Rate = -1
	}
	hubCfg.PresenceInterval = -1
	hubCfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	n := &node{Moderation: moderation.New(cfg), t: t}
	n.Install(&hubCfg)
	n.hub = hubtest.New(t, hubCfg)
	return n
}

// cluster returns nodes on one broker, which know each other.
func cluster(t *testing.T, cfg moderation.Config, hubCfg chathub.Config) (a, b *node) {
	t.Helper()
	if hubCfg.Broker == nil {
		hubCfg.Broker = &chathub.MemoryBroker{}
	}
	a, b = newNode(t, cfg, hubCfg), newNode(t, cfg, hubCfg)
	time.Sleep(2 * time.Second) // of the bubble
	synctest.Wait()
	return a, b
}

// dial connects a user, and lets it join rooms.
func (n *node) dial(user string, rooms ...string) *hubtest.Client {
	n.t.Helper()
	c := hubtest.Dial(n.t, n.hub, user)
	for _, room := range rooms {
		c.Must(hubtest.Frame{Type: "join-room", Room: room})
	}
	return c
}

// decide makes a decision, and fails the test if that fails.
func (n *node) decide(d moderation.Decision) chathub.Position {
	n.t.Helper()
	pos, err := n.Decide(n.t.Context(), d)
	if err != nil {
		n.t.Fatalf("%+v: %v", d, err)
	}
	return pos
}

func (n *node) lift(kind moderation.Kind, room, user string) chathub.Position {
	n.t.Helper()
	pos, err := n.Lift(n.t.Context(), kind, room, user)
	if err != nil {
		n.t.Fatalf("%s %s %s: %v", kind, room, user, err)
	}
	return pos
}

// post stores a message of a user.
func (n *node) post(room, user string) chathub.Receipt {
	n.t.Helper()
	r, err := n.hub.To(room).Post(n.t.Context(), chathub.Post{From: chathub.User{ID: user}, Data: "x"})
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// in returns a date in the future.
func in(d time.Duration) time.Time { return time.Now().Add(d) }

// frame is an event of a client about a room.
func frame(typ, room string, data any) hubtest.Frame {
	f := hubtest.Frame{Type: typ, Room: room}
	if data != nil {
		f.Data = hubtest.Data(data)
	}
	return f
}

// text is a room-message.
func text(room, s string) hubtest.Frame { return frame("room-message", room, s) }

// refusal is the data of an error.
type refusal struct {
	Code    chathub.Code `json:"code"`
	Message string       `json:"message"`
	RetryMS int64        `json:"retryAfterMs"`
}

func (r refusal) String() string {
	s := string(r.Code) + ": " + r.Message
	if r.RetryMS > 0 {
		s += fmt.Sprintf(" (%v)", time.Duration(r.RetryMS)*time.Millisecond)
	}
	return s
}

// answer sends an event, and returns "ack" or why it was refused.
func answer(t *testing.T, c *hubtest.Client, f hubtest.Frame) string {
	t.Helper()
	if f.ID == "" { // the connections of a user must not use the same ones
		f.ID = rand.Text()
	}
	r := c.Request(f)
	if r.Type == "ack" {
		return "ack"
	}
	return dataOf[refusal](t, r).String()
}

// expect fails the test if an event is not answered as it should be.
func expect(t *testing.T, when string, c *hubtest.Client, f hubtest.Frame, want string) {
	t.Helper()
	if got := answer(t, c, f); got != want {
		t.Errorf("%s: %s was answered with %q, want %q", when, f.Type, got, want)
	}
}

func dataOf[T any](t *testing.T, f hubtest.Frame) (v T) {
	t.Helper()
	if err := json.Unmarshal(f.Data, &v); err != nil {
		t.Fatalf("data of %s %s: %v", f.Type, f.Data, err)
	}
	return v
}

func hasCode(err error, code chathub.Code) bool {
	e, ok := errors.AsType[*chathub.Error](err)
	return ok && e.Code == code
}

// log is the room-messages of a room, oldest first, as "user text".
func (n *node) log(room string) (all []string) {
	n.t.Helper()
	entries, _, err := n.hub.History(n.t.Context(), room, chathub.Range{Limit: 1000})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type == "room-message" {
			all = append(all, fmt.Sprintf("%s %s", e.From.ID, e.Data))
		}
	}
	return all
}

// gate is a middleware that holds events of a type back until it is opened.
type gate struct {
	typ     string
	arrived chan struct{}
	open    chan struct{}
	once    sync.Once
}

func newGate(typ string) *gate {
	return &gate{typ: typ, arrived: make(chan struct{}, 16), open: make(chan struct{})}
}

func (g *gate) middleware(next chathub.Handler) chathub.Handler {
	return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
		if e.Type == g.typ {
			g.arrived <- struct{}{}
			<-g.open
		}
		return next(ctx, c, e)
	}
}

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

func everyKey(context.Context, *chathub.Client, string, string) bool { return true }

func everyRoom(_ context.Context, _ *chathub.Client, rooms []string) ([]string, error) {
	return rooms, nil
}

func onWave(context.Context, *chathub.Client, struct{}) error { return nil }

// failing is a middleware that refuses room-messages while it is told to.
func failing(now *atomic.Bool) chathub.Middleware {
	return func(next chathub.Handler) chathub.Handler {
		return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
			if now.Load() && e.Type == "room-message" {
				return nil, chathub.Unavailable(errors.New("down"))
			}
			return next(ctx, c, e)
		}
	}
}

// flaky is a broker in memory whose calls can be made to fail, and which counts
// the subscriptions of rooms.
type flaky struct {
	chathub.MemoryBroker
	mu     sync.Mutex
	errs   map[string]error
	counts map[string]int
	// Called before a call of Publish, if they are not nil.
	before    func(method, room string)
	failAfter func(method, room string) error // whose error it returns
}

// set has calls of a method fail, or work again.
func (f *flaky) set(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.errs == nil {
		f.errs = make(map[string]error)
	}
	f.errs[method] = err
}

// count returns how many sessions have subscribed a room.
func (f *flaky) count(room string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[room]
}

func (f *flaky) call(method, room string, n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil {
		f.counts = make(map[string]int)
	}
	if f.errs[method] == nil {
		f.counts[room] += n
	}
	return f.errs[method]
}

func (f *flaky) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	s, err := f.MemoryBroker.Attach(ctx, deliver)
	return &flakySession{s, f}, err
}

type flakySession struct {
	chathub.BrokerSession
	broker *flaky
}

func (s *flakySession) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	if err := s.broker.call("Publish", m.Topic.Room, 0); err != nil {
		return chathub.Receipt{}, err
	}
	if before := s.broker.before; before != nil {
		before("Publish", m.Topic.Room)
	}
	if fail := s.broker.failAfter; fail != nil {
		if err := fail("Publish", m.Topic.Room); err != nil {
			return chathub.Receipt{}, err
		}
	}
	return s.BrokerSession.Publish(ctx, m)
}

func (s *flakySession) Read(ctx context.Context, t chathub.Topic, r chathub.Range) (chathub.Page, error) {
	if err := s.broker.call("Read", t.Room, 0); err != nil {
		return chathub.Page{}, err
	}
	return s.BrokerSession.Read(ctx, t, r)
}

func (s *flakySession) ReadNamed(ctx context.Context, q []chathub.NameQuery) ([][]chathub.Message, error) {
	if err := s.broker.call("ReadNamed", q[0].Topic.Room, 0); err != nil {
		return nil, err
	}
	return s.BrokerSession.ReadNamed(ctx, q)
}

func (s *flakySession) Subscribe(ctx context.Context, t chathub.Topic) (chathub.Position, error) {
	if err := s.broker.call("Subscribe", t.Room, 1); err != nil {
		return chathub.Position{}, err
	}
	return s.BrokerSession.Subscribe(ctx, t)
}

func (s *flakySession) Unsubscribe(ctx context.Context, t chathub.Topic) error {
	if err := s.broker.call("Unsubscribe", t.Room, -1); err != nil {
		return err
	}
	return s.BrokerSession.Unsubscribe(ctx, t)
}
