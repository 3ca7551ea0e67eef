//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/chathub-go/chathub/bench/internal/report"
	"github.com/chathub-go/chathub/bench/internal/scenario"
	"github.com/chathub-go/chathub/bench/internal/servers"
	"golang.org/x/sys/unix"
)

// plan is what to measure.
type plan struct {
	scale     scenario.Scale
	rounds    int
	scenarios []scenario.Scenario
	servers   []servers.Server
	dir       string
	profiles  string
}

// progress prints a line.
type progress func(format string, args ...any)

// run measures each scenario on each server, round by round, and writes the
// report. It reports a server that fails, and continues without it.
func (p *plan) run(ctx context.Context, out io.Writer) error {
	say := func(format string, args ...any) {
		_, _ = fmt.Fprintf(out, format+"\n", args...) // progress only
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	for _, dir := range []string{p.dir, p.profiles} {
		if dir != "" {
			if err := os.MkdirAll(dir, 0o750); err != nil {
				return err
			}
		}
	}
	p.fit(say)
	rep := p.report()
	begin := time.Now()
	for round := range p.rounds {
		for i := range p.scenarios {
			if round > 0 && p.scenarios[i].Once {
				continue
			}
			for j := range p.servers {
				// The order of servers changes with each round, so that a
				// disturbance, or the warmth of the machine, does not always
				// meet the same server.
				server := p.servers[(j+round)%len(p.servers)]
				if err := ctx.Err(); err != nil {
					return err
				}
				p.one(ctx, say, program, round, i, server, &rep.Scenarios[i])
			}
		}
	}
	rep.Facts = append(rep.Facts, report.Fact{Name: "Taken", Value: fmt.Sprintf("%s, in %s", begin.Format(time.DateOnly), time.Since(begin).Round(time.Second))})
	return p.write(rep, out)
}

// one measures one server in one scenario.
func (p *plan) one(ctx context.Context, say progress, program string, round, i int, server servers.Server, s *report.Scenario) {
	sc := &p.scenarios[i]
	if sc.Applies != nil {
		if why := sc.Applies(server); why != "" {
			s.Miss(server.Name, why)
			return
		}
	}
	begin := time.Now()
	values, err := sc.Do(ctx, program, &scenario.Run{Server: server, Scale: p.scale, ProfileDir: p.profiles})
	which := fmt.Sprintf("round %d/%d  %-8s  %-11s", round+1, p.rounds, sc.Name, server.Name)
	if err != nil {
		s.Miss(server.Name, "failed: "+strings.TrimSuffix(strings.ReplaceAll(err.Error(), "\n", "; "), "."))
		say("%s  failed: %v", which, err)
		return
	}
	s.Add(server.Name, values)
	var b strings.Builder
	for _, m := range sc.Metrics {
		if v, ok := values[m.Name]; ok {
			fmt.Fprintf(&b, "  %s %s", m.Name, report.Number(v))
		}
	}
	say("%s%s  [%.1fs]", which, b.String(), time.Since(begin).Seconds())
}

// fit reduces the scale to what the limit on open files allows, and says so.
func (p *plan) fit(say progress) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return // then connecting reports it
	}
	if raised := (unix.Rlimit{Cur: limit.Max, Max: limit.Max}); unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
		limit = raised
	}
	const other = 200 // files that are not clients
	most := int(min(limit.Cur, 1<<20)) - other
	cut := func(n *int) {
		if *n > most {
			say("%d clients exceed the limit on open files (%d): using %d", *n, limit.Cur, most)
			*n = most
		}
	}
	cut(&p.scale.Idle)
	cut(&p.scale.Join)
	cut(&p.scale.Room)
	cut(&p.scale.Most)
	for _, sizes := range []*[]int{&p.scale.Growth, &p.scale.Presence} {
		if n := len(*sizes); slices.ContainsFunc(*sizes, func(size int) bool { return size > most }) {
			*sizes = slices.DeleteFunc(*sizes, func(size int) bool { return size > most })
			say("left out %d sizes: the limit on open files is %d", n-len(*sizes), limit.Cur)
		}
	}
}

func (p *plan) report() *report.Report {
	rep := &report.Report{Facts: facts()}
	rep.Facts = append(rep.Facts, report.Fact{Name: "Rounds", Value: fmt.Sprintf("%d, each measurement %s long", p.rounds, p.scale.Measure)})
	for _, server := range p.servers {
		rep.Servers = append(rep.Servers, report.Server{
			Name: server.Name, Title: server.Title, About: server.About, Floor: server.Floor,
			Ours: strings.HasPrefix(server.Name, "chathub"),
		})
	}
	for i := range p.scenarios {
		s := &p.scenarios[i]
		rep.Scenarios = append(rep.Scenarios, report.Scenario{Name: s.Name, Title: s.Title, About: s.About(p.scale), Metrics: s.Metrics})
	}
	return rep
}

// facts describes this machine.
func facts() []report.Fact {
	var uts unix.Utsname
	kernel := "unknown"
	if unix.Uname(&uts) == nil {
		kernel = unix.ByteSliceToString(uts.Sysname[:]) + " " + unix.ByteSliceToString(uts.Release[:])
	}
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := bytes.Cut(b, []byte("model name")); ok {
			line, _, _ := bytes.Cut(rest, []byte("\n"))
			model = string(bytes.Trim(line, " \t:"))
		}
	}
	return []report.Fact{
		{Name: "Machine", Value: fmt.Sprintf("%s, %d cores", model, runtime.NumCPU())},
		{Name: "Kernel", Value: kernel + " " + runtime.GOARCH},
		{Name: "Go", Value: runtime.Version()},
	}
}

// write writes the report to the directory, and the tables to out.
func (p *plan) write(rep *report.Report, out io.Writer) error {
	var tables, data, chart bytes.Buffer
	if err := errors.Join(rep.Markdown(&tables), rep.JSON(&data)); err != nil {
		return err
	}
	shown, err := rep.Chart(&chart)
	if err != nil {
		return err
	}
	files := map[string][]byte{"results.md": tables.Bytes(), "results.json": data.Bytes()}
	if shown {
		files["chart.svg"] = chart.Bytes()
	}
	for name, b := range files {
		//nolint:gosec // results are for everyone
		if err := os.WriteFile(filepath.Join(p.dir, name), b, 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "\n%s\nWritten to %s\n", tables.String(), p.dir)
	return err
}
