package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// conform plays the server for a client, and tells its driver what to do.
type conform struct {
	*env
	conformOptions
	base      string // host and port
	scenarios []scenario
	commands  chan order // for the driver
	orders    int        // so far; a late report of one scenario is none of the next

	mu    sync.Mutex
	trial *trial // nil between scenarios
}

// scenario is a part of the test, for which the client is made anew.
type scenario struct {
	name  string
	title string
	run   func(*trial)
}

// order is what the driver is to do with the client. README.md lists them.
type order struct {
	N      int            `json:"n"`
	Do     string         `json:"do"`
	URL    string         `json:"url,omitzero"`
	Tokens []string       `json:"tokens,omitzero"`
	Inbox  bool           `json:"inbox,omitzero"`
	Room   string         `json:"room,omitzero"`
	Data   jsontext.Value `json:"data,omitzero"`
}

// driverReport is what the driver says. README.md lists the reports.
type driverReport struct {
	N      int            `json:"n"` // of the order that is carried out
	Error  string         `json:"error"`
	Report string         `json:"report"` // done, event, gap
	Room   string         `json:"room"`   // empty for the inbox
	Type   string         `json:"type"`
	Data   jsontext.Value `json:"data"`
}

func newConform(e *env, o conformOptions) *conform {
	c := &conform{env: e, conformOptions: o, commands: make(chan order)}
	for _, s := range scenarios {
		if o.only == nil || o.only.MatchString(s.name) {
			c.scenarios = append(c.scenarios, s)
		}
	}
	return c
}

// run runs all scenarios. If ctx ends, it reports on those that are done.
func (c *conform) run(ctx context.Context) (*conformReport, error) {
	r := &conformReport{Manual: c.manual, Scenarios: []conformResult{}}
	for i, s := range c.scenarios {
		c.say("%d/%d %s: %s", i+1, len(c.scenarios), s.name, s.title)
		result := c.play(ctx, s)
		if ctx.Err() != nil {
			r.NotRun, r.Interrupted = len(c.scenarios)-i, true
			break
		}
		if result.Pass {
			r.Passed++
		} else {
			r.Failed++
		}
		for _, p := range result.Problems {
			c.say("      %v: %s", section(p.Section), p.Text)
		}
		r.Scenarios = append(r.Scenarios, result)
	}
	if !c.manual {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), driverPatience/2)
		defer cancel()
		select {
		case c.commands <- order{Do: "end"}:
		case <-ending.Done():
		}
	}
	if len(r.Scenarios) == 0 {
		return nil, errors.New("interrupted before the end of the first scenario")
	}
	return r, nil
}

// trial is a scenario while it runs. Its methods are for the goroutine of the
// scenario.
type trial struct {
	*conform
	scenario
	ctx      context.Context
	peers    chan *peer         // connections that the client makes
	refusing chan<- struct{}    // if not nil, counts connections, which are refused with 503
	tokens   []string           // that the client was given
	contents map[string]string  // what each id was used for
	finished map[int]finish     // by the number of the order
	shown    map[string][]event // what the client has shown, by room
	wake     chan struct{}      // closed and replaced at each report
	current  *peer              // the newest connection

	mu       sync.Mutex
	problems []problem
	open     []*peer
}

// finish is how an order ended.
type finish struct{ err string }

// event is an event that the client has shown, or a gap.
type event struct{ what string }

// abandoned ends a scenario that cannot go on.
type abandoned struct{}

// play runs one scenario.
func (c *conform) play(ctx context.Context, s scenario) conformResult {
	t := &trial{
		conform: c, scenario: s, ctx: ctx, peers: make(chan *peer, 100), contents: make(map[string]string),
		finished: make(map[int]finish), shown: make(map[string][]event), wake: make(chan struct{}),
	}
	c.mu.Lock()
	c.trial = t
	c.mu.Unlock()
	began := time.Now()
	func() {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(abandoned); !ok {
					panic(r)
				}
			}
		}()
		s.run(t)
	}()
	t.close()
	c.mu.Lock()
	c.trial = nil
	c.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.open {
		p.ws.CloseNow()
	}
	return conformResult{
		Name: s.name, Title: s.title, Pass: len(t.problems) == 0,
		Seconds: time.Since(began).Round(time.Millisecond).Seconds(), Problems: slices.Concat([]problem{}, t.problems),
	}
}

// wrong notes what the client does wrong.
func (t *trial) wrong(s section, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := problem{int(s), sectionTitles[s], fmt.Sprintf(format, args...)}
	if !slices.Contains(t.problems, p) && len(t.problems) < 10 {
		t.problems = append(t.problems, p)
	}
}

// stop notes what the client does wrong, and ends the scenario.
func (t *trial) stop(s section, format string, args ...any) {
	t.wrong(s, format, args...)
	panic(abandoned{})
}

// order tells the driver what to do, and returns the number of the order.
func (t *trial) order(o order) int {
	t.orders++
	o.N = t.orders
	if t.manual {
		t.say("   -> %s", o)
		return o.N
	}
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	select {
	case t.commands <- o:
	case <-timer.C:
		t.say("no driver has asked for an order within %v", t.patience)
		t.stop(secConnecting, "there is no driver")
	case <-t.ctx.Done():
		panic(abandoned{})
	}
	return o.N
}

// String returns the order as it is told to a person.
func (o order) String() string {
	switch o.Do {
	case "connect":
		s := "make a new client, and connect it to " + o.URL
		if len(o.Tokens) > 0 {
			s += fmt.Sprintf(" with the token %s", strings.Join(o.Tokens, ", and if it asks for another one "))
		}
		return s
	case "join", "leave":
		return fmt.Sprintf("%s the room %q", o.Do, o.Room)
	case "send":
		return fmt.Sprintf("send %s in the room %q", o.Data, o.Room)
	case "close":
		return "close the client"
	}
	return o.Do
}

// connect lets the client connect, and returns the number of the order.
func (t *trial) connect(o order) int {
	o.Do, o.URL = "connect", "ws://"+t.base+"/"+t.name
	if o.Tokens == nil {
		o.Tokens = []string{"token-1"}
	}
	t.tokens = o.Tokens
	return t.order(o)
}

// close lets the driver close the client. Then nothing of it disturbs the next
// scenario.
func (t *trial) close() {
	if t.ctx.Err() != nil {
		return
	}
	defer func() { _ = recover() }() // without a driver, order gives up
	n := t.order(order{Do: "close"})
	if !t.manual {
		t.until(func() bool { _, ok := t.finished[n]; return ok }, func() {})
	}
}

// done waits until an order is carried out, and returns the code of the error.
// A person's orders are carried out at once.
func (t *trial) done(n int, what string) string {
	if t.manual {
		return ""
	}
	var f finish
	t.until(func() (ok bool) { f, ok = t.finished[n]; return ok }, func() {
		t.stop(secAnswers, "%s has not ended within %v", what, t.patience)
	})
	return f.err
}

// must is done, and nothing may be wrong.
func (t *trial) must(n int, what string) {
	if code := t.done(n, what); code != "" {
		t.stop(secAnswers, "%s fails: %s", what, printable(code))
	}
}

// shows checks everything that the client has shown of a room so far, once the
// last of it is there. "gap" stands for being told that messages are missing.
func (t *trial) shows(s section, room string, want ...string) {
	if t.manual {
		return
	}
	last := want[len(want)-1]
	list := func() (all []string) {
		for _, e := range t.shown[room] {
			all = append(all, e.what)
		}
		return all
	}
	var got []string
	t.until(func() bool { got = list(); return slices.Contains(got, last) }, func() {
		t.stop(s, "the client does not show %.60s of %s: %s", last, named(room), difference(got, want))
	})
	if !slices.Equal(got, want) {
		t.wrong(s, "the client does not show %s as it should: %s", named(room), difference(got, want))
	}
}

// difference says how two lists differ.
func difference(got, want []string) string {
	if len(want) <= 10 && len(got) <= 20 {
		return fmt.Sprintf("it shows %s, and not %s", strings.Join(got, " "), strings.Join(want, " "))
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("it shows %d of %d, the first %d as they should be", len(got), len(want), i)
}

func named(room string) string {
	if room == "" {
		return "the inbox"
	}
	return fmt.Sprintf("the room %q", room)
}

// until waits for a condition, which depends on reports of the driver. It calls
// late if that takes too long.
func (t *trial) until(condition func() bool, late func()) {
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	var frames <-chan frame
	if t.current != nil {
		frames = t.current.frames
	}
	for {
		t.mu.Lock()
		ok, wake := condition(), t.wake
		t.mu.Unlock()
		if ok {
			return
		}
		select {
		case f, ok := <-frames:
			if ok {
				t.current.meanwhile(f)
			} else {
				frames = nil
			}
		case <-wake:
		case <-timer.C:
			late()
			return
		case <-t.ctx.Done():
			panic(abandoned{})
		}
	}
}

// reported takes a report of the driver.
func (t *trial) reported(r driverReport) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch r.Report {
	case "done":
		if r.N > 0 {
			t.finished[r.N] = finish{r.Error}
		}
	case "gap":
		t.shown[r.Room] = append(t.shown[r.Room], event{"gap"})
	case "event":
		if r.Type != "room-message" && r.Type != "private-message" {
			return
		}
		if r.Data != nil {
			_ = r.Data.Compact() // it came as JSON
		}
		t.shown[r.Room] = append(t.shown[r.Room], event{string(r.Data)})
	}
	close(t.wake)
	t.wake = make(chan struct{})
}

// accept waits for a connection of the client.
func (t *trial) accept(s section, why string) *peer {
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	select {
	case p := <-t.peers:
		t.current = p
		return p
	case <-timer.C:
		t.stop(s, "the client does not connect within %v: %s", t.patience, why)
	case <-t.ctx.Done():
	}
	panic(abandoned{})
}

// welcomed is accept and a welcome.
func (t *trial) welcomed(s section, why string) *peer {
	p := t.accept(s, why)
	p.welcome(25 * time.Second)
	return p
}

// stays checks that the client stays away.
func (t *trial) stays(s section, why string) {
	timer := time.NewTimer(t.quiet)
	defer timer.Stop()
	select {
	case <-t.peers:
		t.wrong(s, "the client comes back %s", why)
	case <-timer.C:
	case <-t.ctx.Done():
		panic(abandoned{})
	}
}

// ServeHTTP implements http.Handler: for the client, and for the driver.
func (c *conform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	t := c.trial
	c.mu.Unlock()
	// A driver may run in a page of any origin.
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
	switch {
	case r.Header.Get("Upgrade") != "":
		if t == nil || !c.manual && r.URL.Path != "/"+t.name {
			http.Error(w, "This scenario is over", http.StatusGone)
			return
		}
		t.serve(w, r)
	case r.Method == http.MethodGet && r.URL.Path == "/next":
		c.next(w, r)
	case r.Method == http.MethodPost && r.URL.Path == "/report":
		var report driverReport
		if err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, 4<<20), &report); err != nil {
			http.Error(w, "The report is not valid: "+err.Error(), http.StatusBadRequest)
			return
		}
		if t != nil {
			t.reported(report)
		}
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

// pollFor is how long the driver waits for an order before it asks again.
const pollFor = 20 * time.Second

// next answers the driver with the next order.
func (c *conform) next(w http.ResponseWriter, r *http.Request) {
	timer := time.NewTimer(pollFor)
	defer timer.Stop()
	var o order
	select {
	case o = <-c.commands:
	case <-timer.C:
		o = order{Do: "wait"}
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encode(o))
}

// serve serves a connection of the client.
func (t *trial) serve(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	refusing := t.refusing
	t.mu.Unlock()
	if refusing != nil {
		select {
		case refusing <- struct{}{}:
		default:
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(encode(faultData{Code: "unavailable", Message: "Shutting down"}))
		return
	}
	token := t.checkHandshake(r)
	gate := &gateWriter{ResponseWriter: w}
	ws, err := websocket.Accept(gate, r, &websocket.AcceptOptions{
		Subprotocols: []string{subprotocol}, OriginPatterns: []string{"*"},
	})
	if err != nil {
		t.wrong(secConnecting, "the handshake is not valid: %v", err)
		return
	}
	ws.SetReadLimit(-1)
	p := &peer{trial: t, ws: ws, gate: gate.conn, token: token, frames: make(chan frame, 10_000)}
	t.mu.Lock()
	t.open = append(t.open, p)
	t.mu.Unlock()
	t.peers <- p
	p.read()
}
