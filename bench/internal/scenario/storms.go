//go:build linux

package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chathub-go/chathub/bench/internal/load"
	"github.com/chathub-go/chathub/bench/internal/report"
	"github.com/chathub-go/chathub/bench/internal/servers"
)

func slow() Scenario {
	const (
		size = 4 << 10
		rate = 200
	)
	metrics := latencyMetrics("", "calm clients' latency")
	return Scenario{
		Name:  "slow",
		Title: "Slow clients",
		About: func(s Scale) string {
			return fmt.Sprintf("One room of %d clients, %d of which do not read, with %d messages of %d bytes a second for %s. "+
				"First the sockets fill up, with a number of messages that varies. Then it is the server's turn.", s.Calm+s.Slow, s.Slow, rate, size, s.SlowTime)
		},
		Metrics: append(metrics,
			report.Metric{Name: "peak", Title: "growth of memory, at most", Unit: "MB"},
			report.Metric{Name: "closed", Title: "slow clients disconnected", Unit: "%"},
			report.Metric{Name: "lost", Title: "messages lost by calm clients", Unit: "count"}),
		Applies: func(p servers.Server) string {
			if p.Floor {
				return "a floor does nothing about slow clients"
			}
			return ""
		},
		Run: func(ctx context.Context, r *Run) error {
			n := r.Scale.Calm + r.Scale.Slow
			lobby := load.NewRoom("lobby", n)
			every := n / r.Scale.Slow
			// None of these publishes or is sampled.
			slow := func(id int) bool { return id%every == every-1 }
			f, err := r.fleet(load.Config{Capacity: n, Sample: oneIn(every), Size: size, Small: slow})
			if err != nil {
				return err
			}
			defer f.Close()
			if err := f.Dial(ctx, n, func(int) *load.Room { return lobby }, r.Enter); err != nil {
				return err
			}
			at := []*load.Room{lobby}
			if err := f.Greet(ctx, at); err != nil {
				return err
			}
			var stuck []*load.Conn
			for _, c := range lobby.Members() {
				if slow(c.ID) {
					stuck = append(stuck, c)
					lobby.Ignore(c)
				}
			}
			if err := f.Pause(stuck); err != nil {
				return err
			}
			before, _, err := r.process.Memory()
			if err != nil {
				return err
			}
			open, err := r.process.Files()
			if err != nil {
				return err
			}
			f.Measure(true)
			if err := f.Pace(ctx, at, rate, r.Scale.SlowTime); err != nil {
				return err
			}
			late, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			if err := f.Drain(late, at); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			f.Measure(false)
			_, peak, err := r.process.Memory()
			if err != nil {
				return err
			}
			left, err := r.process.Files()
			if err != nil {
				return err
			}
			r.latencies("", f)
			r.set("peak", (float64(peak)-float64(before))/(1<<20))
			r.set("closed", 100*float64(open-left)/float64(len(stuck)))
			r.set("lost", float64(lobby.Missing()))
			return nil
		},
	}
}

func needsRooms(p servers.Server) string {
	if p.Dialect.Join == nil {
		return "clients cannot join a room after connecting"
	}
	return ""
}

func joinStorm() Scenario {
	const calm = 20
	metrics := []report.Metric{
		{Name: "cpu", Title: "server CPU", Unit: "µs/join"},
		{Name: "time", Title: "until all are in", Unit: "ms"},
		{Name: "bytes", Title: "received", Unit: "bytes/client"},
	}
	return Scenario{
		Name:  "join",
		Title: "Everyone joins",
		About: func(s Scale) string {
			return fmt.Sprintf("%d connected clients join one room at once, while another room of %d clients has %d messages a second.", s.Join, calm, s.Rate)
		},
		Metrics: append(metrics, latencyMetrics("", "the others' latency")...),
		Applies: needsRooms,
		Run: func(ctx context.Context, r *Run) error {
			beside := load.NewRoom("beside", calm)
			f, err := r.fleet(load.Config{Capacity: calm + r.Scale.Join, Sample: func(id int) bool { return id < calm }})
			if err != nil {
				return err
			}
			defer f.Close()
			err = f.Dial(ctx, calm+r.Scale.Join, func(id int) *load.Room {
				if id < calm {
					return beside
				}
				return nil
			}, r.Enter)
			if err != nil {
				return err
			}
			// Everyone gets the presence of the others.
			if err := pause(ctx, r.Scale.Settle); err != nil {
				return err
			}
			at := []*load.Room{beside}
			f.Measure(true)
			paced := make(chan error, 1) // so that the goroutine ends
			go func() { paced <- f.Pace(ctx, at, float64(r.Scale.Rate), r.Scale.Measure+time.Second) }()
			var joined time.Duration
			u, err := r.measure(f, func() error {
				begin := time.Now()
				err := f.Do(ctx, f.Conns()[calm:], func(*load.Conn) []load.Step { return r.Server.Dialect.Join("storm") })
				joined = time.Since(begin)
				if err != nil {
					return err
				}
				return <-paced // including what follows the joins
			})
			if err != nil {
				return err
			}
			r.set("cpu", micros(u.cpu)/float64(r.Scale.Join))
			r.set("time", millis(joined))
			r.set("bytes", float64(u.bytes)/float64(r.Scale.Join))
			r.latencies("", f)
			return f.Drain(ctx, at)
		},
	}
}

func resumeStorm() Scenario {
	const missed = 20
	return Scenario{
		Name:  "resume",
		Title: "Everyone reconnects",
		About: func(s Scale) string {
			return fmt.Sprintf("%d clients of one room are cut off, miss %d messages, and all come back at once to get them.", s.Resume, missed)
		},
		Metrics: []report.Metric{
			{Name: "cpu", Title: "server CPU, connect included", Unit: "µs/client"},
			{Name: "time", Title: "until all have everything", Unit: "ms"},
			{Name: "exact", Title: "clients that got each message once", Unit: "%"},
		},
		Applies: func(p servers.Server) string {
			if p.Resume == nil {
				return "does not keep messages here"
			}
			return ""
		},
		Run: func(ctx context.Context, r *Run) error {
			n := r.Scale.Resume
			lobby := load.NewRoom(servers.KeepHistory, 1)
			f, err := r.fleet(load.Config{Capacity: 2*n + 1, Handshakes: 2048})
			if err != nil {
				return err
			}
			defer f.Close()
			var position []byte
			join := r.Server.Dialect.Join(lobby.Name)
			join[len(join)-1].Seen = func(frame []byte) { position = bytes.Clone(frame) }
			if err := f.Dial(ctx, 1, func(int) *load.Room { return lobby }, func(c *load.Conn) []load.Step {
				return append(r.connect(c), join...)
			}); err != nil {
				return err
			}
			if err := f.Dial(ctx, n, nil, func(c *load.Conn) []load.Step {
				return append(r.connect(c), r.Server.Dialect.Join(lobby.Name)...)
			}); err != nil {
				return err
			}
			resume, err := r.Server.Resume(lobby.Name, position)
			if err != nil {
				return err
			}
			f.Cut(f.Conns()[1:])
			if err := f.Pace(ctx, []*load.Room{lobby}, 100, missed*time.Second/100); err != nil {
				return err
			}
			if err := pause(ctx, r.Scale.Warm); err != nil {
				return err
			}
			var back []*load.Conn
			u, err := r.measure(f, func() error {
				return r.profiled("storm", func() error {
					var err error
					back, err = f.Redial(ctx, f.Conns()[1:], func(c *load.Conn) []load.Step { return append(r.connect(c), resume...) })
					if err != nil {
						return err
					}
					return f.Until(ctx, func() bool {
						return !slices.ContainsFunc(back, func(c *load.Conn) bool { return c.Total() < missed })
					})
				})
			})
			if err != nil {
				return err
			}
			if err := pause(ctx, r.Scale.Warm); err != nil { // until duplicates would have come
				return err
			}
			exact := 0
			for _, c := range back {
				if c.Total() == missed {
					exact++
				}
			}
			r.set("cpu", micros(u.cpu)/float64(n))
			r.set("time", millis(u.wall))
			r.set("exact", 100*float64(exact)/float64(n))
			return f.Err()
		},
	}
}

func presenceStorm() Scenario {
	var metrics []report.Metric
	for _, n := range Full().Presence {
		metrics = append(metrics,
			report.Metric{Name: fmt.Sprintf("bytes %d", n), Title: fmt.Sprintf("%d users", n), Unit: "bytes/client"},
			report.Metric{Name: fmt.Sprintf("cpu %d", n), Title: "server CPU", Unit: "µs/client"})
	}
	return Scenario{
		Name:  "presence",
		Title: "Who is there",
		About: func(Scale) string {
			return "Users connect and join one room. Measured is what each client receives about the others, from its handshake until all is calm. " +
				"The other servers do not tell clients about each other here."
		},
		Metrics: metrics,
		Applies: func(p servers.Server) string {
			if p.Name != "chathub" {
				return "has no presence here"
			}
			return ""
		},
		Run: func(ctx context.Context, r *Run) error {
			for i, n := range r.Scale.Presence {
				if i > 0 { // or users of the last size would get events, too
					if err := r.restart(ctx); err != nil {
						return err
					}
				}
				if err := r.presence(ctx, load.NewRoom("lobby", n), n); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (r *Run) presence(ctx context.Context, lobby *load.Room, n int) error {
	f, err := r.fleet(load.Config{Capacity: n})
	if err != nil {
		return err
	}
	defer f.Close()
	u, err := r.measure(f, func() error {
		if err := f.Dial(ctx, n, func(int) *load.Room { return lobby }, r.Enter); err != nil {
			return err
		}
		return pause(ctx, r.Scale.Warm+2*time.Second) // counts of large rooms come once a second
	})
	if err != nil {
		return err
	}
	r.set(fmt.Sprintf("bytes %d", n), float64(u.bytes)/float64(n))
	r.set(fmt.Sprintf("cpu %d", n), micros(u.cpu)/float64(n))
	return f.Err()
}
