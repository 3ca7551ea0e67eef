package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	random "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/internal/ledger"
)

// options are the flags.
type options struct {
	duration, restart time.Duration
	clients, rooms    int
	seed              uint64
	broker            string // memory or nats
	failing           int    // of so many reads of the broker, one fails; 0: none
	logLength         int    // messages that the broker keeps for each log
	// patience is how long clients may take to get any of the messages that
	// they lack, and then the server to be empty.
	patience time.Duration
}

// soak is a run.
type soak struct {
	options
	*tally
	ledger *ledger.Ledger
	server *process
	addr   string
	secret []byte
	began  time.Time
	peers  []*peer
	finish chan struct{} // closed when clients may leave

	mu     sync.Mutex
	storms chan struct{} // closed and replaced at each storm
}

const (
	// square is the one room with many members. Its messages are large, so that
	// slow clients fall behind.
	square      = "square"
	squareBytes = 1 << 10
	squareShare = 5 // every fifth peer is in it, and all slow ones

	sampleEvery  = time.Second
	reportEvery  = 3 * time.Second // or a fortieth of the duration
	stormEvery   = 4 * time.Second
	mostRestarts = 20 * time.Second // the default between two restarts, at most
	auditors     = 8                // how many peers audit at a time
)

// runSoak runs a soak and returns its report. The error says why there is none.
func runSoak(ctx context.Context, o options, progress io.Writer) (*report, error) {
	if o.rooms <= 0 {
		o.rooms = max(o.clients/10, 1)
	}
	if o.restart == 0 {
		o.restart = min(o.duration/4, mostRestarts)
	}
	s := &soak{
		options: o,
		tally:   newTally(),
		ledger:  ledger.New(),
		secret:  make([]byte, 32),
		began:   time.Now(),
		finish:  make(chan struct{}),
		storms:  make(chan struct{}),
	}
	_, _ = rand.Read(s.secret) // it never fails
	var err error
	if s.server, err = startServer(context.WithoutCancel(ctx), settings{Secret: s.secret, LogLength: o.logLength, Broker: o.broker, Failing: o.failing}); err != nil {
		return nil, err
	}
	s.addr = s.server.start.Addr
	r, err := s.run(ctx, progress)
	return r, errors.Join(err, s.server.stop())
}

func (s *soak) run(ctx context.Context, progress io.Writer) (*report, error) {
	r := &report{Broker: s.broker, Clients: s.clients, Seed: s.seed, Start: s.server.start, Peak: s.server.start}
	acting, stop := context.WithTimeout(ctx, s.duration)
	defer stop()
	for i := range s.clients {
		s.peers = append(s.peers, s.newPeer(i))
	}
	var peers sync.WaitGroup
	for _, p := range s.peers {
		peers.Go(func() { p.run(acting) })
	}
	err := s.watch(acting, r, progress)
	stop()
	if err == nil {
		_, _ = fmt.Fprintln(progress, "catching up") // progress only
		s.catchUp(r)
		s.audit(ctx, r)
	}
	close(s.finish)
	peers.Wait()
	if err != nil {
		return nil, err
	}
	r.Seconds = time.Since(s.began).Seconds()
	_, _ = fmt.Fprintln(progress, "all clients have gone")
	if r.End, err = s.untilEmpty(); err != nil {
		return nil, err
	}
	if r.Empty, err = s.server.do("forget"); err != nil {
		return nil, err
	}
	s.sum(r)
	return r, nil
}

func (s *soak) newPeer(i int) *peer {
	p := &peer{
		soak:    s,
		id:      fmt.Sprintf("u%d", i),
		kind:    kinds[i%len(kinds)],
		rand:    random.New(random.NewPCG(s.seed, uint64(i))), //nolint:gosec // not a secret
		tracks:  make(map[string]*ledger.Track),
		unacked: make(map[string]*message),
		repeats: make(map[string]*message),
		changed: make(map[string]bool),
	}
	for len(p.rooms) < min(2, s.rooms) {
		if name := fmt.Sprintf("r%d", p.rand.IntN(s.rooms)); !slices.Contains(p.rooms, name) {
			p.rooms = append(p.rooms, name)
		}
	}
	if p.kind == slow || p.rand.IntN(squareShare) == 0 {
		p.rooms = append(p.rooms, square)
	}
	return p
}

// watch takes readings, restarts the hub and starts storms until ctx ends.
func (s *soak) watch(ctx context.Context, r *report, progress io.Writer) error {
	restart := make(<-chan time.Time)
	if s.restart > 0 {
		t := time.NewTicker(s.restart)
		defer t.Stop()
		restart = t.C
	}
	sample, storm, say := time.NewTicker(sampleEvery), time.NewTicker(stormEvery), time.NewTicker(max(reportEvery, s.duration/40))
	defer sample.Stop()
	defer storm.Stop()
	defer say.Stop()
	for {
		var last reading
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-storm.C:
			s.mu.Lock()
			close(s.storms)
			s.storms = make(chan struct{})
			s.mu.Unlock()
			continue
		case <-restart:
			if last, err = s.server.do("stats"); err == nil && !last.Draining {
				r.Restarts++
				last, err = s.server.do("restart")
			}
		case <-sample.C:
			last, err = s.server.do("stats")
		case <-say.C:
			if last, err = s.server.do("stats"); err == nil {
				_, _ = fmt.Fprintf(progress, "%4.0fs  %d sent, %d accepted, %d received, %d doubled; %d connected, %s, %d goroutines\n",
					time.Since(s.began).Seconds(), s.sent.Load(), s.acked.Load(), s.received.Load(), s.doubled.Load(),
					last.Connections, mib(last.RSS), last.Goroutines)
			}
		}
		if err != nil {
			return err
		}
		r.Readings = append(r.Readings, last)
		r.Peak = peak(r.Peak, last)
	}
}

// storm returns a channel that is closed when the next storm starts.
func (s *soak) storm() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.storms
}

// catchUp waits until every client has all messages. When nothing has got
// better for s.patience, it counts what is missing.
func (s *soak) catchUp(r *report) {
	least := math.MaxInt
	for end := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		behind := 0
		r.Lost, r.Unacked, r.Stranded = 0, 0, 0
		for _, p := range s.peers {
			st := p.standing()
			r.Unacked += st.unacked
			if !st.ready {
				r.Stranded++
			} else {
				r.Lost += st.missing
			}
			if !st.ready || st.missing+st.unacked > 0 {
				behind++
			}
		}
		broken := s.ledger.Broken()
		r.Lost += len(broken)
		if behind == 0 && len(broken) == 0 {
			return
		}
		if left := behind + r.Lost + r.Unacked + r.Stranded; left < least {
			least, end = left, time.Now().Add(s.patience)
		} else if time.Now().After(end) {
			s.note("%d clients did not catch up; private messages that no client saw: %v", behind, broken[:min(len(broken), 5)])
			for _, p := range s.peers {
				p.noteMissing()
			}
			return
		}
	}
}

// audit lets all peers compare what the server says in the end with what they
// know together. Only a few do so at a time, since it is no test of load. It
// counts the clients that get no answers.
func (s *soak) audit(ctx context.Context, r *report) {
	var all sync.WaitGroup
	turns := make(chan struct{}, auditors)
	var unchecked atomic.Int64
	for _, p := range s.peers {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(ctx, s.patience)
			defer cancel()
			if err := p.audit(ctx); err != nil {
				unchecked.Add(1)
				p.note("%s: history and overview in the end: %v", p.id, err)
			}
		})
	}
	all.Wait()
	r.Unchecked = int(unchecked.Load())
}

// untilEmpty waits until the hub has noticed that all clients have gone.
func (s *soak) untilEmpty() (last reading, err error) {
	for end := time.Now().Add(s.patience); ; time.Sleep(200 * time.Millisecond) {
		if last, err = s.server.do("idle"); err != nil {
			return last, err
		}
		empty := last.Connections == 0 && last.Users == 0 && last.Rooms == 0 && !last.Draining
		if empty && last.Goroutines <= s.server.start.Goroutines+leakGoroutines || time.Now().After(end) {
			return last, nil
		}
	}
}

// sum puts the counts into the report.
func (s *soak) sum(r *report) {
	r.Sent, r.Acked, r.Received = s.sent.Load(), s.acked.Load(), s.received.Load()
	r.Doubled, r.Reordered = s.doubled.Load(), s.reordered.Load()
	r.Foreign, r.Stray, r.BadAnswers = s.foreign.Load(), s.stray.Load(), s.badAnswer.Load()
	r.Unrecovered, r.Backfilled, r.CutOff = s.unrecovered.Load(), s.backfilled.Load(), s.cutOff.Load()
	r.Conflicts, r.Logged = len(s.ledger.Findings()), r.Empty.Errors
	r.Dials, r.Ends, r.Errors, r.Faults, r.Notes = s.snapshot()
	r.Unavailable = r.Errors[string(chathub.CodeUnavailable)]
	r.Notes = append(r.Notes, s.ledger.Findings()...)
	r.P50, r.P99, r.P999 = s.latency.Quantile(0.5), s.latency.Quantile(0.99), s.latency.Quantile(0.999)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	r.P50ms, r.P99ms, r.P999ms = ms(r.P50), ms(r.P99), ms(r.P999)
	r.Leaks = r.leaks()
}
