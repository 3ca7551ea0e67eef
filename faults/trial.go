//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// scenario is a fault, and how to provoke it.
type scenario struct {
	name    string
	set     settings
	noCalm  bool // because the fault ends all connections
	onDisk  bool // with a broker that keeps its logs in a directory
	provoke func(*trial)
}

// options are how the scenarios run.
type options struct {
	quick bool // with smaller numbers and shorter times
	long  bool // with floods of ten minutes, if they are of a shared bound
}

// calmFigures is what the calm clients saw.
type calmFigures struct {
	Sent, Lost, Doubled int
	Before, During      latency
}

// latency is from sending to receiving.
type latency struct{ P50, P99 time.Duration }

func (l latency) String() string {
	if l == (latency{}) {
		return "it was too short"
	}
	return fmt.Sprintf("%s / %s", round(l.P50), round(l.P99))
}

func quantiles(d []time.Duration) (l latency) {
	if d = slices.Sorted(slices.Values(d)); len(d) > 0 {
		l.P50, l.P99 = d[len(d)/2], d[len(d)*99/100]
	}
	return l
}

// row is the result of a trial.
type row struct {
	Fault               string
	Figures             []string
	Calm                *calmFigures
	Before, Peak, After uint64 // resident memory of the server in bytes
	Problems            []string
}

// trial is a scenario in progress: a server, and calm clients that talk during
// the fault.
type trial struct {
	context.Context
	dialer
	options
	server *process
	data   string // the directory of a broker on disk, or empty
	calm   *calm
	since  int // the calm clients' measurement at which the fault began
	before reading
	errors int // the most in the server's log, besides panics

	mu   sync.Mutex
	row  row
	stop chan struct{} // closed to end sample
}

// gaveUp is the value that must panics with.
type gaveUp struct{ error }

// must gives up the trial if err is not nil.
func (t *trial) must(err error) {
	if err != nil {
		panic(gaveUp{err})
	}
}

// failf notes a problem.
func (t *trial) failf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.row.Problems) < 10 {
		t.row.Problems = append(t.row.Problems, fmt.Sprintf(format, args...))
	}
}

// figure notes a result for the table.
func (t *trial) figure(format string, args ...any) {
	t.row.Figures = append(t.row.Figures, fmt.Sprintf(format, args...))
}

// scale returns the full or the quick number.
func (t *trial) scale(full, quick int) int {
	if t.quick {
		return quick
	}
	return full
}

// order sends the server an order and returns its answer.
func (t *trial) order(o order) reading {
	var r reading
	t.must(t.server.ask(o, &r))
	t.mu.Lock()
	t.row.Peak = max(t.row.Peak, r.RSS)
	t.mu.Unlock()
	return r
}

// peak returns the most memory that the server has had so far.
func (t *trial) peak() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.row.Peak
}

// until waits until done returns true.
func (t *trial) until(what string, done func() bool) {
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.must(fmt.Errorf("after %v, still waiting for %s", patience, what))
		}
	}
}

// connect connects a user.
func (t *trial) connect(token string) *peer {
	p, err := t.dialer.connect(t, token)
	t.must(err)
	return p
}

// member connects a user and joins a room.
func (t *trial) member(token, room string) *peer {
	p := t.connect(token)
	t.must(p.join(room))
	return p
}

// codes waits until the server has ended the connections of so many users whose
// names begin with prefix. It returns the close codes.
func (t *trial) codes(prefix string, users int) string {
	tally := make(map[int]int)
	t.until("the end of "+prefix, func() bool {
		clear(tally)
		n := 0
		for user, codes := range t.order(order{Do: "ends"}).Ends {
			if strings.HasPrefix(user, prefix) {
				n++
				for _, code := range codes {
					tally[code]++
				}
			}
		}
		return n >= users
	})
	return tallied(tally)
}

// tallied returns "12 × 4005, 3 × 4001".
func tallied(tally map[int]int) string {
	var parts []string
	for code, n := range tally {
		parts = append(parts, fmt.Sprintf("%d × %d", n, code))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// each runs f for 0 to n-1, all at once. If one of them gives up, each gives
// up.
func (t *trial) each(n int, f func(i int)) {
	var wg sync.WaitGroup
	failed := make(chan any, n)
	for i := range n {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					failed <- v
				}
			}()
			f(i)
		})
	}
	wg.Wait()
	select {
	case v := <-failed:
		panic(v)
	default:
	}
}

// run runs a scenario.
func (s *scenario) run(ctx context.Context, o options) (r row) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &trial{Context: ctx, options: o, stop: make(chan struct{})}
	t.row.Fault = s.name
	defer func() {
		if v := recover(); v != nil {
			g, ours := v.(gaveUp)
			if !ours {
				panic(v)
			}
			t.failf("gave up: %v", g.error)
		}
		if t.server != nil {
			if err := t.server.stop(); err != nil {
				t.failf("the server: %v", err)
			}
		}
		if t.data != "" {
			if err := os.RemoveAll(t.data); err != nil {
				t.failf("the server's directory: %v", err)
			}
		}
		r = t.row
	}()
	var err error
	set := s.set
	if s.onDisk {
		t.data, err = os.MkdirTemp("", "faults")
		t.must(err)
		set.Data = t.data
	}
	t.server, err = startProcess(ctx, "server")
	t.must(err)
	t.must(t.server.ask(set, &t.before))
	t.addr = t.before.Addr
	t.connect("first").drop() // starts what a hub starts only once
	t.until("the first to be gone", func() bool { return t.order(order{Do: "stats"}).Connections == 0 })
	t.before = t.order(order{Do: "idle"})
	t.row.Before, t.row.Peak = t.before.RSS, t.before.RSS
	if !s.noCalm {
		t.calm, err = startCalm(ctx, t.dialer)
		t.must(err)
		time.Sleep(time.Duration(t.scale(2000, 400)) * time.Millisecond)
		t.since = t.calm.mark()
	}
	sampled := make(chan struct{})
	go t.sample(sampled)
	func() {
		defer func() { close(t.stop); <-sampled }()
		s.provoke(t)
	}()
	if t.calm != nil {
		figures, problems := t.calm.finish(t.since)
		t.row.Calm = &figures
		t.row.Problems = append(t.row.Problems, problems...)
	}
	t.settle()
	if t.data != "" {
		used, err := diskUsage(t.data)
		t.must(err)
		t.figure("On disk: %.0f MB", float64(used)/1e6)
	}
	return t.row
}

// diskUsage returns the bytes of all files in a directory.
func diskUsage(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // the server has removed it meanwhile
			return nil
		}
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}

// sample reads the server's memory from time to time.
func (t *trial) sample(done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
		}
		var r reading
		if t.server.ask(order{Do: "stats"}, &r) != nil {
			return // the next order reports it
		}
		t.mu.Lock()
		t.row.Peak = max(t.row.Peak, r.RSS)
		t.mu.Unlock()
	}
}

// settle waits until nothing is left of any client in the server.
func (t *trial) settle() {
	var r reading
	for end := time.Now().Add(patience / 2); ; time.Sleep(100 * time.Millisecond) {
		r = t.order(order{Do: "idle"})
		if r.Connections == 0 && r.Users == 0 && r.Rooms == 0 && r.Goroutines <= t.before.Goroutines {
			break
		}
		if time.Now().After(end) {
			t.failf("left behind: %d connections, %d users, %d rooms, %d goroutines (%d before)",
				r.Connections, r.Users, r.Rooms, r.Goroutines, t.before.Goroutines)
			break
		}
	}
	t.row.After = r.RSS
	if r.Errors > t.errors {
		t.failf("%d errors in the server's log, want at most %d", r.Errors, t.errors)
	}
}

// usersOf returns the user ids in a presence event.
func usersOf(e hubtest.Frame) (ids []string) {
	var d struct {
		Users []struct {
			ID string `json:"id"`
		} `json:"users"`
	}
	_ = json.Unmarshal(e.Data, &d) // a count has no ids
	for _, u := range d.Users {
		ids = append(ids, u.ID)
	}
	return ids
}
