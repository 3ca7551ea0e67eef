package main

import (
	"context"
	"crypto/rand"
	"fmt"
	random "math/rand/v2"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/ledger"
)

const verifyHelp = `Usage: chathub verify URL [flags]

Checks that a deployment loses, doubles and reorders nothing, while it is rolled
out, its proxies are reloaded, or its broker is restarted. Several users send
numbered messages in several rooms and to each other, break off their
connections, come back, resume, and check what they get. All of them tell one
ledger what they have seen.

After -duration, or when it is interrupted, they stop sending, and have
-patience to get what is missing. Then there is a report.

The users need the right to join the rooms. With a single token all of them are
one user, who sends no private messages. With -login or a secret, they are
called PREFIX-1 and so on.

FLAGS` + connectHelp + `
Exit status:
  0  nothing is lost, doubled or out of order, and everything is acknowledged
  1  something is
` + exits + `
Examples:
  chathub verify wss://chat.example.com/ws -login https://chat.example.com/login
  chathub verify URL -secret-env JWT_SECRET -users 20 -duration 0 # until Ctrl-C
  chathub verify URL -token-file token -duration 10m -json >report.json
`

// verifyOptions are the flags.
type verifyOptions struct {
	users, rooms       int
	prefix, roomPrefix string
	rate               float64 // messages a second of all users
	duration           time.Duration
	breakEvery         time.Duration // of one connection, on average
	patience           time.Duration
	asJSON             bool
}

// verify is a run.
type verify struct {
	verifyOptions
	*env
	con    *connector
	run    string // is in the ids of all messages
	began  time.Time
	rooms  []string
	ledger *ledger.Ledger
	users  []*verifyUser
	tally  verifyTally
	finish chan struct{} // closed when users may leave
	broken chan error    // has the first reason to give up; has room for one
}

func runVerify(ctx context.Context, e *env, args []string) error {
	var f connectFlags
	var o verifyOptions
	fs := newFlags("verify")
	f.register(fs)
	fs.IntVar(&o.users, "users", 8, "`number` of users")
	fs.IntVar(&o.rooms, "rooms", 3, "`number` of rooms")
	fs.StringVar(&o.prefix, "user", "verify", "`prefix` of the users' names")
	fs.StringVar(&o.roomPrefix, "room", "verify", "`prefix` of the rooms' names")
	fs.Float64Var(&o.rate, "rate", 20, "`messages` a second that all users send together")
	fs.DurationVar(&o.duration, "duration", time.Minute, "how long they send (0: until it is interrupted)")
	fs.DurationVar(&o.breakEvery, "break", 10*time.Second, "how long a user stays connected, on average (0: for good)")
	fs.DurationVar(&o.patience, "patience", 30*time.Second, "how long they may take to catch up in the end")
	fs.BoolVar(&o.asJSON, "json", false, "print the report as JSON")
	arguments, rest, err := parse(e, fs, verifyHelp, args)
	if err != nil {
		return err
	}
	switch {
	case len(arguments) != 1 || len(rest) > 0:
		return usagef("it takes a URL")
	case o.users < 2 || o.rooms < 1 || !(o.rate > 0):
		return usagef("it needs at least two users, a room and a positive rate")
	case o.duration < 0 || o.breakEvery < 0 || o.patience <= 0:
		return usagef("-duration and -break cannot be negative, and -patience must be positive")
	}
	con, err := f.connector(e, arguments[0])
	if err != nil {
		return err
	}
	r, err := newVerify(e, con, o).do(ctx)
	if err != nil {
		return err
	}
	return e.printReport(r, o.asJSON, r.Clean)
}

func newVerify(e *env, con *connector, o verifyOptions) *verify {
	v := &verify{
		verifyOptions: o, env: e, con: con, run: newRun(), began: time.Now(),
		ledger: ledger.New(), finish: make(chan struct{}), broken: make(chan error, 1),
	}
	for i := range o.rooms {
		v.rooms = append(v.rooms, numbered(o.roomPrefix, i))
	}
	for i := range o.users {
		u := &verifyUser{
			verify: v, name: numbered(o.prefix, i),
			tracks: make(map[string]*ledger.Track), lanes: make(map[string]*outgoing),
			heard: make(map[string]map[string]int),
		}
		// A user is in two rooms, and each room has a user.
		for j := range min(2, o.rooms) {
			u.rooms = append(u.rooms, v.rooms[(i+j)%o.rooms])
		}
		v.users = append(v.users, u)
	}
	return v
}

func numbered(prefix string, i int) string { return fmt.Sprintf("%s-%d", prefix, i+1) }

// do runs it, and returns the report. The error says why there is none.
func (v *verify) do(ctx context.Context) (*verifyReport, error) {
	acting, stop := context.WithCancel(ctx)
	if v.duration > 0 {
		acting, stop = context.WithTimeout(ctx, v.duration)
	}
	defer stop()
	v.say("%d users in %d rooms of %s; run %s", len(v.users), len(v.rooms), shown(v.con.url), v.run)
	var users sync.WaitGroup
	for _, u := range v.users {
		users.Go(func() { u.live(acting) })
	}
	err := v.progress(acting)
	stop()
	for _, u := range v.users {
		u.heardNothing()
	}
	var unfinished int
	if err == nil {
		v.say("%4.0fs  no more messages; catching up", time.Since(v.began).Seconds())
		unfinished, err = v.catchUp()
	}
	close(v.finish)
	users.Wait()
	if err != nil {
		return nil, err
	}
	r := v.report(unfinished)
	r.Interrupted = ctx.Err() != nil && v.duration > 0
	return r, nil
}

// progress prints a line each second until ctx ends. It returns an error if it
// makes no sense to go on.
func (v *verify) progress(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-v.broken:
			return err
		case <-tick.C:
		}
		away := 0
		for _, u := range v.users {
			if !u.isReady() {
				away++
			}
		}
		t := &v.tally
		v.say("%4.0fs  %d sent, %d acked, %d received; %d of %d users away, %d reconnects, %d gaps; %d doubled, %d reordered",
			time.Since(v.began).Seconds(), t.sent.Load(), t.acked.Load(), t.received.Load(), away, len(v.users),
			t.reconnects(), t.gaps.Load(), t.doubled.Load(), t.reordered.Load())
	}
}

// catchUp waits until all users have all messages, for v.patience at most. It
// returns how many users have not.
func (v *verify) catchUp() (unfinished int, err error) {
	deadline := time.NewTimer(v.patience)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		unfinished = 0
		for _, u := range v.users {
			if !u.caughtUp() {
				unfinished++
			}
		}
		if unfinished == 0 && len(v.ledger.Broken()) == 0 {
			return 0, nil
		}
		select {
		case err := <-v.broken:
			return 0, err
		case <-deadline.C:
			return unfinished, nil
		case <-tick.C:
		}
	}
}

// giveUp ends the run without a report.
func (v *verify) giveUp(err error) {
	select {
	case v.broken <- err:
	default:
	}
}

// randomly returns a duration around d: half of it to one and a half.
func randomly(d time.Duration) time.Duration {
	return d/2 + random.N(d+1)
}

// newRun returns a name for a run, which is in all of its messages.
func newRun() string { return rand.Text()[:8] }
