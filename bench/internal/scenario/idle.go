//go:build linux

package scenario

import (
	"context"
	"fmt"

	"github.com/chathub-go/chathub/bench/internal/load"
	"github.com/chathub-go/chathub/bench/internal/report"
)

func idle() Scenario {
	return Scenario{
		Name:  "idle",
		Title: "Connecting and idling",
		About: func(s Scale) string {
			return fmt.Sprintf("%d clients connect, up to 256 at a time, and then do nothing for %s. Each is a user of its own if the server has users.",
				s.Idle, s.Settle)
		},
		Metrics: []report.Metric{
			{Name: "memory", Title: "resident memory", Unit: "kB/connection"},
			{Name: "connect", Title: "server CPU", Unit: "µs/connect"},
			{Name: "connect rate", Title: "connects", Unit: "1/s"},
		},
		Quick: true,
		Run: func(ctx context.Context, r *Run) error {
			n := r.Scale.Idle
			f, err := r.fleet(load.Config{Capacity: n + 1})
			if err != nil {
				return err
			}
			defer f.Close()
			// The first connection pays for what all connections share.
			if err := f.Dial(ctx, 1, nil, r.connect); err != nil {
				return err
			}
			before, _, err := r.process.Memory()
			if err != nil {
				return err
			}
			u, err := r.measure(f, func() error {
				return r.profiled("connect", func() error { return f.Dial(ctx, n, nil, r.connect) })
			})
			if err != nil {
				return err
			}
			if err := pause(ctx, r.Scale.Settle); err != nil {
				return err
			}
			after, _, err := r.process.Memory()
			if err != nil {
				return err
			}
			r.set("connect", micros(u.cpu)/float64(n))
			r.set("connect rate", float64(n)/u.wall.Seconds())
			r.set("memory", (float64(after)-float64(before))/1024/float64(n))
			return f.Err()
		},
	}
}

func growth() Scenario {
	var metrics []report.Metric
	for _, n := range Full().Growth {
		metrics = append(metrics, report.Metric{Name: growthName(n), Title: fmt.Sprintf("%d clients: server CPU", n), Unit: "µs/delivery"})
	}
	return Scenario{
		Name:  "growth",
		Title: "One room grows",
		About: func(s Scale) string {
			return fmt.Sprintf("One room grows. It gets at most %d messages a second, which make at most 50,000 deliveries a second.", s.Rate)
		},
		Metrics: metrics,
		Run: func(ctx context.Context, r *Run) error {
			sizes := r.Scale.Growth
			most := sizes[len(sizes)-1]
			lobby := load.NewRoom("lobby", most)
			f, err := r.fleet(load.Config{Capacity: most})
			if err != nil {
				return err
			}
			defer f.Close()
			at := []*load.Room{lobby}
			for _, n := range sizes {
				err := f.Dial(ctx, n-len(f.Conns()), func(int) *load.Room { return lobby }, r.Enter)
				if err != nil {
					return err
				}
				// The effects of new clients end.
				if err := pause(ctx, r.Scale.Warm); err != nil {
					return err
				}
				if err := f.Greet(ctx, at); err != nil {
					return err
				}
				u, err := r.measure(f, func() error {
					if err := f.Pace(ctx, at, min(float64(r.Scale.Rate), 50_000/float64(n)), r.Scale.Measure/2); err != nil {
						return err
					}
					return f.Drain(ctx, at)
				})
				if err != nil {
					return err
				}
				r.set(growthName(n), u.perDelivery(u.cpu))
			}
			return nil
		},
	}
}

func growthName(n int) string { return fmt.Sprintf("%d", n) }
