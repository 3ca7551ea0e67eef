package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"pgregory.net/rapid"
)

// steps is how many operations a run has on average, unless -rapid.steps is
// given. Rapid's default of 30 does not get far.
const steps = "80"

func TestMain(m *testing.M) {
	if os.Getenv(serverVariable) != "" { // started by the tests' own soak
		main()
		return
	}
	flag.Parse()
	if f := flag.Lookup("rapid.steps"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(steps); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// TestModel lets a few users with a few devices each do at random what clients
// and applications do, on one to three hubs with one broker. At quiet times it
// checks that all of them saw what a simple model of the protocol says: see
// model_check_test.go. Most often there are two tenants, whose users and rooms
// have the same names. Each has a model of its own, in which the other one does
// not exist.
//
// Time is virtual, so that timeouts cost none. Goroutines run concurrently, so
// that a failure may not repeat itself. Its log says what was done.
func TestModel(t *testing.T) {
	var story string // of the last run that failed
	defer func() {
		if story != "" {
			t.Log(story)
		}
	}()
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			s := newStage(t, &story, drawSetting(t))
			s.run()
			s.finish()
		})
	})
}

var (
	rooms = []string{"attic", "cellar"}
	// hall is the room that the application puts everyone into.
	hall     = chathub.Topic{Room: "hall"}
	allRooms = append(slices.Clone(rooms), hall.Room)
	users    = []chathub.User{{ID: "ana", Name: "Ana"}, {ID: "bo", Name: "Bo"}, {ID: "cy", Name: "Cy"}}
)

const (
	devicesPerUser = 2
	// tightOutbox holds a few dozen messages. Half of it bounds what is
	// replayed at once, which is more than tightReplay messages.
	tightOutbox = 4 << 10
	tightReplay = 2
)

// stage is a run of the model: one or two tenants on the same hubs.
type stage struct {
	t   *rapid.T
	tb  testing.TB
	ctx context.Context

	cfg         chathub.Config
	shared      *shared
	worlds      []*world
	tight       bool // small outboxes: a client that does not read may be cut off
	slow        bool // the broker is slow, unless something waits for quiet
	replayLimit int

	nodes    []*node
	ends     ends
	count    int // of payloads
	dialed   int
	history  []string // what was done
	story    *string
	handlers atomic.Int64 // running now
}

// world is what the model knows of one tenant.
type world struct {
	*stage
	tenant    string
	truth     *truth
	faulty    bool // the broker was made to fail in this run
	devices   []*device
	conns     []*conn
	volatiles map[string]*volatile
	sent      []*request // durable ones, to be repeated
	ops       []*op
	receipts  []func() // of changes by the application, to be checked
	ids       map[string]int
	// moved says that the application has moved or disconnected clients since
	// the last quiet time. Clients that connect now may be among them.
	moved  bool
	rights rights
	strays []*stray
}

// of returns the world's tenant on a hub.
func (w *world) of(h *chathub.Hub) chathub.Tenant { return h.Tenant(w.tenant) }

// any reports whether a condition holds for one of the worlds.
func (s *stage) any(is func(w *world) bool) bool { return slices.ContainsFunc(s.worlds, is) }

// node is a hub and its successors.
type node struct {
	hub     *chathub.Hub
	stopped chan error // not nil while the hub shuts down
}

// bench is the testing.TB for hubtest. It ends the run if something fails.
type bench struct {
	testing.TB
	s *stage
}

func (b bench) Helper()                           {}
func (b bench) Context() context.Context          { return b.s.ctx }
func (b bench) Cleanup(f func())                  { b.s.t.Cleanup(f) }
func (b bench) Error(args ...any)                 { b.s.t.Error(args...) }
func (b bench) Fatal(args ...any)                 { b.s.fatalf("%s", fmt.Sprint(args...)) }
func (b bench) Fatalf(format string, args ...any) { b.s.fatalf(format, args...) }

// handler turns errors in a hub's log into findings.
type handler struct {
	slog.Handler
	truth *truth
}

func (handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	if r.Level < slog.LevelError {
		return nil
	}
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %v", a)
		return true
	})
	h.truth.complain("logged: %s", &b)
	return nil
}

func (s *stage) newHub() *chathub.Hub {
	h := hubtest.New(s.tb, s.cfg)
	h.Use(func(next chathub.Handler) chathub.Handler {
		return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
			s.handlers.Add(1)
			defer s.handlers.Add(-1)
			o := &origin{tenant: c.Tenant(), client: c.ID(), user: c.User(), event: *e}
			return next(context.WithValue(ctx, originKey{}, o), c, e)
		}
	})
	// nap is a handler that takes a while.
	chathub.OnAck(h, "nap", func(_ context.Context, _ *chathub.Client, ms int) (int, error) {
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return ms, nil
	})
	return h
}

// note notes an operation for the story of a run that fails.
func (s *stage) note(format string, args ...any) {
	s.history = append(s.history, fmt.Sprintf("%v ", time.Now().Format("04:05.000"))+fmt.Sprintf(format, args...))
}

// note notes an operation in the tenant.
func (w *world) note(format string, args ...any) {
	if len(w.worlds) > 1 {
		format = fmt.Sprintf("%-5s", w.tenant) + format
	}
	w.stage.note(format, args...)
}

// fatalf ends the run. Its story says more than rapid's list of draws. Rapid
// looks for a shorter run that fails at the same place in the code.
func (s *stage) fatalf(format string, args ...any) {
	s.note(format, args...)
	*s.story = strings.Join(s.history, "\n")
	if s.shared.lie != nil {
		panic(caught{})
	}
	s.t.Fatal("the model disagrees")
}

// fatalf ends the run because of the tenant.
func (w *world) fatalf(format string, args ...any) {
	w.stage.fatalf(fmt.Sprintf("%-5s", w.tenant)+format, args...)
}

// settle waits until nothing is under way, and checks everything.
func (s *stage) settle() {
	const most = 2 * time.Minute // of virtual time, for the slowest requests
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		synctest.Wait()
		waiting := int(s.handlers.Load()) // including those whose answer is not read
		for _, w := range s.worlds {
			waiting += w.underWay()
		}
		if waiting == 0 {
			break
		}
		if time.Since(start) > most {
			s.fatalf("%d requests are not answered, or their handlers still run", waiting)
		}
	}
	for _, w := range s.worlds {
		for _, c := range w.conns {
			c.barrier = nil
		}
	}
	for _, n := range s.nodes {
		if n.stopped == nil {
			continue
		}
		if err := <-n.stopped; err != nil {
			s.fatalf("shutdown: %v", err)
		}
		n.hub, n.stopped = s.newHub(), nil
	}
	// For things that are not awaited, such as joins on other hubs, and changes
	// whose client has gone.
	rest := 500 * time.Millisecond
	if s.any(func(w *world) bool { return w.truth.lag > 0 || w.faulty }) {
		rest = 15 * time.Second
	}
	time.Sleep(rest)
	synctest.Wait()
	s.check()
}

// underWay returns how many requests and calls of the broker are under way.
func (w *world) underWay() (n int) {
	if w.truth.busy() {
		n++
	}
	for _, c := range w.conns {
		if c.left || c.ended {
			continue
		}
		c.read()
		if _, over := w.ends.get(c.id); !over && !c.paused {
			n += c.unanswered()
		}
	}
	return n
}

// unanswered returns how many requests of a client wait for an answer. A
// request without an id gets none. It has ended when a later ping is answered.
func (c *conn) unanswered() int {
	if b := c.barrier; b == nil || len(b.answers) > 0 && b.answers[0].Type == "error" {
		c.barrier = &request{frame: hubtest.Frame{Type: "ping", ID: c.nextID()}}
		c.ask(c.barrier)
	}
	return len(c.asked)
}

// check checks everything, while nothing is under way.
func (s *stage) check() {
	for _, w := range s.worlds {
		w.check()
	}
	s.note("quiet")
}

func (w *world) check() {
	if found := w.truth.recover(); len(found) > 0 {
		w.fatalf("%s", strings.Join(found, "\n"))
	}
	for _, c := range w.conns {
		if !c.left && !c.ended {
			c.read()
		}
	}
	for _, c := range w.conns {
		c.verify()
	}
	for _, c := range w.conns {
		c.checkEnd()
	}
	for _, check := range w.receipts {
		check()
	}
	w.receipts = nil
	w.checkChanges()
	w.checkCopies()
	for _, c := range w.conns {
		c.checkView()
	}
	w.checkVolatiles()
	w.checkStrays()
	w.forgive()
	w.moved = false
	live := w.conns[:0]
	for _, c := range w.conns {
		if c.greeted > 1 || c.calm && !c.left && c.greeted == 0 {
			w.fatalf("%s was greeted %d times", c, c.greeted)
		}
		if !c.left && !c.ended {
			live = append(live, c)
		}
	}
	clear(w.conns[len(live):])
	w.conns = live
}

// peace waits until the hub has found all clients that do not read and no user
// is in their grace time. Then it checks presence.
func (s *stage) peace() {
	s.settle()
	// A client that has stopped reading may still answer the first ping.
	time.Sleep(90 * time.Second)
	synctest.Wait()
	s.check()
	lag := s.shared.hurry() // RoomUsers does not wait long for an answer
	time.Sleep(5 * time.Second)
	for _, w := range s.worlds {
		w.checkPeace()
	}
	s.shared.slow(lag)
}

// finish lets everyone come back and catch up. It checks that every accepted
// message has arrived, and that nothing is left once all have gone.
func (s *stage) finish() {
	each := func(do func(w *world)) {
		for _, w := range s.worlds {
			do(w)
		}
		s.settle()
	}
	s.shared.hurry()
	s.note("all come back")
	s.settle()
	each(func(w *world) {
		for _, c := range w.conns {
			c.unpause()
		}
	})
	each((*world).allBack)
	each(func(w *world) {
		for i, r := range w.sent {
			if c := r.conn.d.conn; c != nil && !r.old() {
				w.sent[i] = r.again()
				c.ask(w.sent[i])
			}
		}
	})
	for _, w := range s.worlds {
		w.checkErased()
		for _, r := range w.sent {
			if c := r.conn; !r.acked && c == c.d.conn && r.op == nil && !r.old() && !r.beyond() {
				w.fatalf("%s: %s was never accepted", c, show(r.frame))
			}
		}
	}
	s.peace()
	for _, w := range s.worlds {
		for i, c := range w.conns {
			c.leave(i%2 == 0)
		}
		w.conns = nil
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	for _, n := range s.nodes {
		if st := n.hub.Stats(); st.Connections != 0 || st.Users != 0 || st.Rooms != 0 || st.QueueLength != 0 {
			s.fatalf("left without any client: %+v", st)
		}
	}
}

// allBack lets all devices connect and join all rooms.
func (w *world) allBack() {
	for _, d := range w.devices {
		if d.conn == nil {
			d.connect(w.nodes[0], "resume")
		}
		if d.conn == nil {
			continue // cut off at once
		}
		for _, room := range allRooms {
			d.conn.join(room, "since")
		}
	}
}
