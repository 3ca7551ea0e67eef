//go:build linux

// Package scenario says what is measured, and how.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/chathub-go/chathub/bench/internal/load"
	"github.com/chathub-go/chathub/bench/internal/proc"
	"github.com/chathub-go/chathub/bench/internal/report"
	"github.com/chathub-go/chathub/bench/internal/servers"
)

// Scenario is a situation in which servers are measured, each in a new process.
type Scenario struct {
	Name    string // in flags
	Title   string
	About   func(Scale) string
	Metrics []report.Metric
	// Applies returns why a server cannot take part, or "" if it can. Nil means
	// that all servers can.
	Applies func(servers.Server) (why string)
	Run     func(context.Context, *Run) error
	// Quick says that the quick mode includes the scenario.
	Quick bool
	// Once says that it is measured in the first round only, since it takes
	// long.
	Once bool
	// TLS makes the server use TLS.
	TLS bool
}

// All returns the scenarios in the order of the report.
func All() []Scenario {
	return []Scenario{room(), rooms(), idle(), scale(), growth(), slow(), joinStorm(), resumeStorm(), presenceStorm(), overTLS()}
}

// Scale is the sizes and times of all scenarios.
type Scale struct {
	Payload       int           // bytes of a message
	Room          int           // clients in the one room
	Rate          int           // messages a second in it when paced
	Rooms, InRoom int           // number of rooms, and clients in each
	Idle          int           // idle connections
	Steps         []int         // numbers of connections before the most
	Most          int           // the most connections
	Beat          time.Duration // how long they idle: two heartbeats of most servers
	Growth        []int         // sizes of the growing room
	Calm, Slow    int           // clients that read, and clients that do not
	SlowTime      time.Duration // how long they do not
	Join          int           // clients of the join storm
	Resume        int           // clients of the reconnect storm
	Presence      []int         // users of the presence storm
	TLS           int           // clients over TLS
	Measure       time.Duration // length of a measurement
	Warm          time.Duration // time before it
	Settle        time.Duration // time before idle memory is measured
}

// mostPorts is how many connections there can be from one address to one port.
// The default of net.ipv4.ip_local_port_range allows 28,232.
const mostPorts = 28_000

// Full is the scale of the published figures.
func Full() Scale {
	return Scale{
		Payload: 128, Room: 1000, Rate: 50, Rooms: 200, InRoom: 10, Idle: 15_000,
		Steps: []int{1000, 5000, 10_000}, Most: mostPorts, Beat: 55 * time.Second, Growth: []int{10, 100, 1000, 5000, 15_000},
		Calm: 180, Slow: 20, SlowTime: 20 * time.Second, Join: 5000, Resume: 2000,
		Presence: []int{100, 1000, 10_000}, TLS: 200,
		Measure: 4 * time.Second, Warm: time.Second, Settle: 8 * time.Second,
	}
}

// Quick is the scale of the quick mode.
func Quick() Scale {
	s := Full()
	s.Idle, s.Growth, s.Join, s.Resume = 5000, []int{10, 1000, 5000}, 2000, 1000
	s.Presence, s.SlowTime = []int{100, 1000}, 8*time.Second
	s.Measure, s.Warm, s.Settle = 1200*time.Millisecond, 300*time.Millisecond, 2*time.Second
	return s
}

// The traffic in the scenarios.
const (
	// roomsRate is how many messages a second all of the many rooms get
	// together when paced.
	roomsRate = 1000
	// roomWindow and roomsWindow are how many messages are under way in each
	// room when saturated. The smallest queue of a server overflows at 256.
	roomWindow  = 128
	roomsWindow = 2
)

// Run is one measurement of a server in a scenario.
type Run struct {
	Server servers.Server
	Scale  Scale
	// ProfileDir, if not empty, is the directory for CPU profiles of the
	// server.
	ProfileDir string

	program  string
	args     []string
	process  *proc.Process
	scenario string
	values   map[string]float64
}

// Do runs a scenario on a server of its own, and returns the values of its
// metrics. Program is the benchmark's own file, which can also serve.
func (s *Scenario) Do(ctx context.Context, program string, r *Run) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	r.program, r.args = program, []string{"serve", r.Server.Name}
	if s.TLS {
		r.args = append(r.args, "tls")
	}
	if r.Server.Command != nil {
		var err error
		if r.program, r.args, err = r.Server.Command(); err != nil {
			return nil, err
		}
	}
	r.scenario, r.values = s.Name, make(map[string]float64)
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	err := s.Run(ctx, r)
	return r.values, errors.Join(err, r.stop())
}

func (r *Run) start(ctx context.Context) (err error) {
	r.process, err = proc.Start(ctx, r.program, r.args...)
	return err
}

func (r *Run) stop() error {
	if err := r.process.Stop(); err != nil {
		return fmt.Errorf("the server ended badly: %w", err)
	}
	return nil
}

// restart replaces the server by a new process.
func (r *Run) restart(ctx context.Context) error {
	if err := r.stop(); err != nil {
		return err
	}
	return r.start(ctx)
}

// oneIn samples one of n clients.
func oneIn(n int) func(id int) bool { return func(id int) bool { return id%n == 0 } }

func (r *Run) set(metric string, v float64) { r.values[metric] = v }

// fleet returns a fleet for the server.
func (r *Run) fleet(cfg load.Config) (*load.Fleet, error) {
	cfg.Addr, cfg.Dialect = r.process.Addr, r.Server.Dialect
	if cfg.Size == 0 {
		cfg.Size = r.Scale.Payload
	}
	return load.NewFleet(cfg)
}

// Enter returns what a client does to be in its room, or connected if it has no
// room.
func (r *Run) Enter(c *load.Conn) []load.Step {
	steps := r.connect(c)
	if d := r.Server.Dialect; d.Join != nil && c.Room != nil {
		steps = append(steps, d.Join(c.Room.Name)...)
	}
	return steps
}

func (r *Run) connect(c *load.Conn) []load.Step {
	if d := r.Server.Dialect; d.Connect != nil {
		return d.Connect(c.ID)
	}
	return nil
}

// usage is what was used in some time.
type usage struct {
	wall      time.Duration
	cpu       time.Duration // of the server
	generator time.Duration // CPU of this process
	delivered uint64
	bytes     uint64
}

// perDelivery returns d for each delivered message, in µs.
func (u usage) perDelivery(d time.Duration) float64 {
	return micros(d) / float64(max(u.delivered, 1))
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// measure returns the usage while during runs.
func (r *Run) measure(f *load.Fleet, during func() error) (usage, error) {
	before, err := r.now(f)
	if err != nil {
		return usage{}, err
	}
	begin := time.Now()
	if err := during(); err != nil {
		return usage{}, err
	}
	wall := time.Since(begin)
	after, err := r.now(f)
	return usage{
		wall:      wall,
		cpu:       after.cpu - before.cpu,
		generator: after.generator - before.generator,
		delivered: after.delivered - before.delivered,
		bytes:     after.bytes - before.bytes,
	}, err
}

func (r *Run) now(f *load.Fleet) (u usage, err error) {
	if u.cpu, err = r.process.CPU(); err != nil {
		return u, err
	}
	u.generator, err = proc.SelfCPU()
	u.delivered, u.bytes = f.Delivered(), f.Bytes()
	return u, err
}

// profiled runs during. It takes a CPU profile of the server if profiles are
// requested and the server is part of this program.
func (r *Run) profiled(name string, during func() error) error {
	if r.ProfileDir == "" || r.Server.Command != nil {
		return during()
	}
	file := filepath.Join(r.ProfileDir, strings.Join([]string{r.Server.Name, r.scenario, name}, "-")+".pprof")
	stop, err := r.process.Profile(file)
	if err != nil {
		return err
	}
	if err := during(); err != nil {
		return err
	}
	return stop()
}

// latencies sets the quantiles of the latencies that the fleet has recorded.
func (r *Run) latencies(prefix string, f *load.Fleet) {
	r.set(prefix+"p50", millis(f.Latency.Quantile(0.5)))
	r.set(prefix+"p99", millis(f.Latency.Quantile(0.99)))
	r.set(prefix+"p99.9", millis(f.Latency.Quantile(0.999)))
}

func latencyMetrics(prefix, title string) []report.Metric {
	return []report.Metric{
		{Name: prefix + "p50", Title: title + " p50", Unit: "ms"},
		{Name: prefix + "p99", Title: title + " p99", Unit: "ms"},
		{Name: prefix + "p99.9", Title: title + " p99.9", Unit: "ms"},
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
