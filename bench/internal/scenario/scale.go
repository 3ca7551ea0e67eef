//go:build linux

package scenario

import (
	"context"
	"fmt"
	"slices"

	"github.com/chathub-go/chathub/bench/internal/load"
	"github.com/chathub-go/chathub/bench/internal/report"
	"github.com/chathub-go/chathub/bench/internal/servers"
)

func scale() Scenario {
	names := []string{"most"}
	for _, n := range Full().Steps {
		names = slices.Insert(names, len(names)-1, fmt.Sprint(n))
	}
	var metrics []report.Metric
	for _, n := range names {
		metrics = append(metrics,
			report.Metric{Name: n + " memory", Title: n + " connections: resident memory", Unit: "kB/connection"},
			report.Metric{Name: n + " connect", Title: "server CPU", Unit: "µs/connect"})
	}
	return Scenario{
		Name:  "scale",
		Once:  true,
		Title: "As many connections as possible",
		About: func(s Scale) string {
			return fmt.Sprintf("Clients connect, up to 256 at a time, and join rooms of ten, until there are %d, the most that the limit on open files and the ports of one address allow. Then they idle for %s and answer pings. Measured once.",
				s.Most, s.Beat)
		},
		Metrics: append(metrics, report.Metric{Name: "beat", Title: "idling: server CPU", Unit: "µs/connection and minute"}),
		Applies: func(p servers.Server) string {
			if p.Floor {
				return "a floor has no heartbeat"
			}
			return ""
		},
		Run: func(ctx context.Context, r *Run) error {
			most := r.Scale.Most
			f, err := r.fleet(load.Config{Capacity: most + 1})
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
			for i, n := range append(slices.Clone(r.Scale.Steps), most) {
				have := len(f.Conns()) - 1
				rooms := make([]*load.Room, (n-have+9)/10)
				for j := range rooms {
					rooms[j] = load.NewRoom(fmt.Sprintf("step-%d-room-%d", i, j), 10)
				}
				u, err := r.measure(f, func() error {
					return f.Dial(ctx, n-have, func(k int) *load.Room { return rooms[(k-have-1)/10] }, r.Enter)
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
				r.set(names[i]+" connect", micros(u.cpu)/float64(n-have))
				r.set(names[i]+" memory", (float64(after)-float64(before))/1024/float64(n))
			}
			u, err := r.measure(f, func() error { return pause(ctx, r.Scale.Beat) })
			if err != nil {
				return err
			}
			r.set("beat", micros(u.cpu)/float64(most)/u.wall.Minutes())
			return f.Err()
		},
	}
}
