//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub/bench/internal/load"
	"github.com/chathub-go/chathub/bench/internal/proc"
	"github.com/chathub-go/chathub/bench/internal/scenario"
	"github.com/chathub-go/chathub/bench/internal/servers"
)

// TestMain lets the test program serve, as the benchmark's program does.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		if err := serve(context.Background(), os.Args[2], false); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func server(t *testing.T, name string) servers.Server {
	t.Helper()
	p, err := choose(servers.All(), name, func(p servers.Server) string { return p.Name })
	if err != nil {
		t.Fatal(err)
	}
	return p[0]
}

// TestServersDeliver: every server delivers each message once to everyone in
// its room, and to nobody else.
func TestServersDeliver(t *testing.T) {
	for _, p := range servers.All() {
		if p.Serve == nil {
			continue // needs node
		}
		t.Run(p.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if p.Name == "nbio" {
				// It accepts on one goroutine and reads on another, which
				// learns of the connection by epoll. The race detector does not
				// see this order.
				t.Setenv("GORACE", "exitcode=0")
			}
			server, err := proc.Start(ctx, os.Args[0], "serve", p.Name)
			if err != nil {
				t.Fatal(err)
			}
			const clients, messages = 12, 30
			a, b := load.NewRoom("a", clients), load.NewRoom("b", clients)
			f, err := load.NewFleet(load.Config{
				Addr: server.Addr, Dialect: p.Dialect, Capacity: clients, Size: 128,
				Sample: func(id int) bool { return id%3 == 0 },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			r := scenario.Run{Server: p}
			err = f.Dial(ctx, clients, func(id int) *load.Room {
				if id < 5 {
					return a
				}
				return b
			}, r.Enter)
			if err != nil {
				t.Fatal(err)
			}
			rooms := []*load.Room{a, b}
			if err := f.Greet(ctx, rooms); err != nil {
				t.Fatal(err)
			}
			before := make(map[*load.Conn]int)
			for _, c := range f.Conns() {
				before[c] = c.Total()
			}
			f.Measure(true)
			for range messages {
				a.Publish()
			}
			if err := f.Drain(ctx, rooms); err != nil {
				t.Fatal(err)
			}
			for _, c := range f.Conns() {
				want := 0
				if c.Room == a {
					want = messages
				}
				if n := c.Total() - before[c]; n != want {
					t.Errorf("client %d of room %s saw %d messages, want %d", c.ID, c.Room.Name, n, want)
				}
			}
			if n := f.Latency.Count(); n != 2*messages { // clients 0 and 3
				t.Errorf("%d latencies were taken, want %d", n, 2*messages)
			}
			if err := f.Err(); err != nil {
				t.Error(err)
			}
			if cpu, err := server.CPU(); err != nil || cpu <= 0 {
				t.Errorf("the server's CPU time is %v, error: %v", cpu, err)
			}
			if now, peak, err := server.Memory(); err != nil || now == 0 || peak < now {
				t.Errorf("the server's memory is %d, at most %d, error: %v", now, peak, err)
			}
			f.Close()
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReport(t *testing.T) {
	scenarios, err := choose(scenario.All(), "room,rooms,idle,scale,resume", func(s scenario.Scenario) string { return s.Name })
	if err != nil {
		t.Fatal(err)
	}
	p := plan{
		scale: scenario.Scale{
			Payload: 128, Room: 20, Rate: 50, Rooms: 3, InRoom: 4, Idle: 10, Resume: 8,
			Steps: []int{4, 6, 8}, Most: 12, Beat: time.Millisecond,
			Measure: 100 * time.Millisecond, Warm: 20 * time.Millisecond, Settle: time.Millisecond,
		},
		rounds: 1, scenarios: scenarios, dir: t.TempDir(),
		servers: []servers.Server{server(t, "joined"), server(t, "chathub")},
	}
	var out strings.Builder
	if err := p.run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for file, wants := range map[string][]string{
		"results.md":   {"## One room", "## Many rooms", "## What this does not show", "does not keep messages here", "a floor has no heartbeat", "| 100 |"},
		"results.json": {`"saturated"`, `"machine`},
		"chart.svg":    {"<svg ", "floor: joined", ">chathub<"},
	} {
		b, err := os.ReadFile(filepath.Join(p.dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(strings.ToLower(string(b)), strings.ToLower(want)) {
				t.Errorf("%s lacks %q:\n%s", file, want, b)
			}
		}
	}
	if strings.Contains(out.String(), "failed") || strings.Count(out.String(), "round 1/1") != 8 {
		t.Errorf("progress is\n%s", out.String())
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-servers", "nobody"}, {"-scenarios", "room,none"}, {"extra"}, {"-unknown"}} {
		if err := command(t.Context(), args, &strings.Builder{}); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
