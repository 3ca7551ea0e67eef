package main

import (
	"context"
	"errors"
	"maps"
	random "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/internal/histogram"
)

const loadHelp = `Usage: chathub load URL [flags]

Lets many people join rooms, talk and read. Connections are made one after
another during -ramp; then all of them talk for -duration. It prints a line each
second, and in the end, or when it is interrupted, a report with a chart.

A latency is the time from sending a message to its arrival at one reader. The
clients share the machine of this command, so measure with a machine to spare.

A hub allows a user 32 connections, and 2 messages a second are plenty for a
person: use -login or a secret, so that each client is a user of its own.

FLAGS` + connectHelp + `
Exit status:
  0  it was carried out, and everything sent was acknowledged
  1  something was not, or not all clients could connect
` + exits + `
Examples:
  chathub load wss://chat.example.com/ws -login https://chat.example.com/login
  JWT_SECRET=... chathub load ws://localhost:5000/ws -secret-env JWT_SECRET \
      -clients 2000 -rooms 100 -rate 500 -ramp 20s -duration 2m
  chathub load URL -secret-file key -json >report.json
`

// loadOptions are the flags.
type loadOptions struct {
	clients, rooms     int
	prefix, roomPrefix string
	rate               float64 // messages a second of all clients
	ramp, duration     time.Duration
	bytes              int // of a message's text
	asJSON             bool
}

// load is a run.
type load struct {
	loadOptions
	*env
	con   *connector
	run   string
	began time.Time
	tally loadTally
}

// loadTally counts what all clients see. It may be used concurrently.
type loadTally struct {
	connected                   atomic.Int64
	sent, acked, received, gaps atomic.Int64
	latency, ack                histogram.Histogram
	second                      histogram.Histogram // latencies since the last line

	mu     sync.Mutex
	errors map[string]int
	first  error // why a client could not connect
}

func (t *loadTally) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = err
	}
	count(&t.errors, codeOf(err))
}

// codeOf names an error: by the code of the server, if there is one.
func codeOf(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return printable(string(e.Code))
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, client.ErrFull):
		return "outbox full"
	}
	return "not connected"
}

// snapshot returns the errors by code, and the first one of a client that could
// not connect.
func (t *loadTally) snapshot() (map[string]int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.errors), t.first
}

func runLoad(ctx context.Context, e *env, args []string) error {
	var f connectFlags
	var o loadOptions
	fs := newFlags("load")
	f.register(fs)
	fs.IntVar(&o.clients, "clients", 100, "`number` of clients")
	fs.IntVar(&o.rooms, "rooms", 10, "`number` of rooms; each client is in one")
	fs.StringVar(&o.prefix, "user", "load", "`prefix` of the users' names")
	fs.StringVar(&o.roomPrefix, "room", "load", "`prefix` of the rooms' names")
	fs.Float64Var(&o.rate, "rate", 20, "`messages` a second that all clients send together")
	fs.DurationVar(&o.ramp, "ramp", 5*time.Second, "how long it takes until all clients are connected")
	fs.DurationVar(&o.duration, "duration", 30*time.Second, "how long they talk after that")
	fs.IntVar(&o.bytes, "bytes", 60, "`length` of a message's text")
	fs.BoolVar(&o.asJSON, "json", false, "print the report as JSON")
	arguments, rest, err := parse(e, fs, loadHelp, args)
	if err != nil {
		return err
	}
	switch {
	case len(arguments) != 1 || len(rest) > 0:
		return usagef("it takes a URL")
	case o.clients < 1 || o.rooms < 1 || !(o.rate > 0) || o.bytes < 0:
		return usagef("-clients, -rooms and -rate must be positive, and -bytes cannot be negative")
	case o.duration <= 0 || o.ramp < 0:
		return usagef("-duration must be positive, and -ramp cannot be negative")
	}
	con, err := f.connector(e, arguments[0])
	if err != nil {
		return err
	}
	l := &load{loadOptions: o, env: e, con: con, run: newRun(), began: time.Now()}
	r, err := l.do(ctx)
	if err != nil {
		return err
	}
	return e.printReport(r, o.asJSON, r.Clean)
}

// do runs it, and returns the report. The error says why there is none.
func (l *load) do(ctx context.Context) (*loadReport, error) {
	ctx, stop := context.WithTimeout(ctx, l.ramp+l.duration)
	defer stop()
	l.say("%d clients in %d rooms of %s, %g messages a second", l.clients, l.rooms, shown(l.con.url), l.rate)
	var all sync.WaitGroup
	for i := range l.clients {
		all.Go(func() { l.person(ctx, i) })
	}
	seconds := l.progress(ctx)
	l.say("%4.0fs  waiting for the last answers", time.Since(l.began).Seconds())
	all.Wait()
	r := l.report(seconds)
	if _, first := l.tally.snapshot(); r.Connected == 0 && first != nil {
		return nil, first
	}
	return r, nil
}

// lastAnswers is how long clients wait for acks and messages in the end.
const lastAnswers = 5 * time.Second

// person joins, talks and reads until ctx ends.
func (l *load) person(ctx context.Context, i int) {
	if !rest(ctx, l.ramp*time.Duration(i)/time.Duration(l.clients)) {
		return
	}
	c, err := l.con.dial(ctx, numbered(l.prefix, i), client.Options{})
	if err != nil {
		if ctx.Err() == nil {
			l.tally.failed(err)
		}
		return
	}
	defer c.Close()
	room, err := c.Join(ctx, numbered(l.roomPrefix, i%l.rooms), client.JoinOptions{})
	if err != nil {
		if ctx.Err() == nil {
			l.tally.failed(err)
		}
		return
	}
	l.tally.connected.Add(1)
	// Reading goes on until the last answers are there.
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	var reader sync.WaitGroup
	reader.Go(func() { l.listen(reading, room) })
	l.talk(ctx, room, numbered(l.prefix, i))
	stop()
	reader.Wait()
}

// rest waits. It reports false if ctx ends first.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// talk sends messages until ctx ends, and waits for their acks.
func (l *load) talk(ctx context.Context, room *client.Room, name string) {
	every := time.Duration(float64(time.Second) * float64(l.clients) / l.rate)
	ending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	context.AfterFunc(ctx, func() { time.AfterFunc(lastAnswers, cancel) })
	var sends sync.WaitGroup
	defer sends.Wait()
	pad := strings.Repeat("x", l.bytes)
	// The first one comes at any time, so that clients do not talk in chorus.
	for wait := random.N(every + 1); rest(ctx, wait); wait = randomly(every) {
		l.tally.sent.Add(1)
		at := time.Now()
		sends.Go(func() {
			_, err := room.Send(ending, payload{Text: pad, Run: l.run, User: name, At: at.Sub(l.began).Nanoseconds()})
			if err != nil {
				l.tally.failed(err)
				return
			}
			l.tally.acked.Add(1)
			l.tally.ack.Record(time.Since(at))
		})
	}
}

// listen reads the room.
func (l *load) listen(ctx context.Context, room *client.Room) {
	for e := range room.Events(ctx) {
		if e.Type == client.TypeGap {
			l.tally.gaps.Add(1)
			continue
		}
		var p payload
		if e.Type != client.TypeRoomMessage || e.Decode(&p) != nil || p.Run != l.run {
			continue
		}
		age := time.Since(l.began) - time.Duration(p.At)
		l.tally.received.Add(1)
		l.tally.latency.Record(age)
		l.tally.second.Record(age)
	}
}

// loadSecond is what happened in one second.
type loadSecond struct {
	Connected int64   `json:"connected"`
	Sent      int64   `json:"sent"`
	Acked     int64   `json:"acked"`
	Received  int64   `json:"received"`
	P50       float64 `json:"p50Ms"`
	P99       float64 `json:"p99Ms"`
}

// progress prints a line each second until ctx ends, and returns what was in
// them.
func (l *load) progress(ctx context.Context) (seconds []loadSecond) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	t := &l.tally
	var before loadSecond
	for {
		select {
		case <-ctx.Done():
			return seconds
		case <-tick.C:
		}
		now := loadSecond{Sent: t.sent.Load(), Acked: t.acked.Load(), Received: t.received.Load()}
		s := loadSecond{
			Connected: t.connected.Load(),
			Sent:      now.Sent - before.Sent, Acked: now.Acked - before.Acked, Received: now.Received - before.Received,
			P50: milliseconds(t.second.Quantile(0.5)), P99: milliseconds(t.second.Quantile(0.99)),
		}
		t.second.Reset()
		before = now
		seconds = append(seconds, s)
		failures, _ := t.snapshot()
		l.say("%4.0fs  %d clients; %d sent, %d acked, %d received a second; p50 %s, p99 %s; errors: %s",
			time.Since(l.began).Seconds(), s.Connected, s.Sent, s.Acked, s.Received, showMs(s.P50), showMs(s.P99), counts(failures))
	}
}

// loadReport is the result of a run.
type loadReport struct {
	URL       string         `json:"url"`
	Seconds   float64        `json:"seconds"`
	Clients   int            `json:"clients"`
	Connected int64          `json:"connected"`
	Rooms     int            `json:"rooms"`
	Clean     bool           `json:"clean"`
	Sent      int64          `json:"sent"`
	Acked     int64          `json:"acked"`
	Received  int64          `json:"received"`
	Gaps      int64          `json:"gaps"`
	Errors    map[string]int `json:"errors"`
	Delivery  latencyReport  `json:"delivery"`
	Ack       latencyReport  `json:"ack"`
	PerSecond []loadSecond   `json:"perSecond"`
	// Chart has the number of deliveries by latency.
	Chart []bar `json:"chart"`
}

func (l *load) report(seconds []loadSecond) *loadReport {
	t := &l.tally
	failures, _ := t.snapshot()
	r := &loadReport{
		URL: shown(l.con.url), Seconds: time.Since(l.began).Round(time.Millisecond).Seconds(),
		Clients: l.clients, Connected: t.connected.Load(), Rooms: l.rooms,
		Sent: t.sent.Load(), Acked: t.acked.Load(), Received: t.received.Load(), Gaps: t.gaps.Load(),
		Errors: failures, Delivery: latencyOf(&t.latency), Ack: latencyOf(&t.ack),
		PerSecond: slices.Concat([]loadSecond{}, seconds), Chart: bars(&t.latency),
	}
	r.Clean = r.Acked == r.Sent && r.Connected == int64(l.clients) && r.Acked > 0
	return r
}
