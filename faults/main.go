//go:build linux

// Command faults provokes the faults that a hub of one node must survive, one
// by one. The server is a process of its own, and clients connect over TCP. For
// each fault, the command reports lost and doubled messages, how clients were
// closed, the server's memory, and the latency of calm clients during the
// fault.
//
//	go run ./faults                # the table of docs/faults.md, some minutes
//	go run ./faults -quick         # smaller numbers
//	go run ./faults -run SIGSTOP   # the rows that match
//	go run ./faults -long -run 'Shared bound'
//	                               # floods that last ten minutes
//
// The exit status is 1 if a fault had consequences that it must not have.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"time"
)

// scenarios are the rows of the table.
func scenarios() []scenario {
	all := []scenario{
		{name: "A client stops reading", set: short, provoke: neverReads},
		{name: "A client's process is stopped (SIGSTOP)", set: short, provoke: stopped},
		{name: "A client vanishes without FIN", set: short, provoke: vanish},
		{name: "Panic in a callback", set: settings{Rate: -1}, provoke: panics},
		{name: "A callback that never returns", provoke: hangs, set: settings{Rate: -1}},
	}
	for _, f := range floods {
		all = append(all, scenario{name: "Flood: " + f.name, provoke: f.run})
	}
	all = append(all,
		scenario{name: "Flood: connections", set: limits, provoke: connections},
		scenario{name: "Flood: fragments", provoke: fragments},
	)
	for _, s := range slices.Concat(storeFloods, limitFloods) {
		s.name = "Shared bound: " + s.name
		all = append(all, s)
	}
	return append(all,
		scenario{name: "Frames byte by byte", set: slowFrames, provoke: bytewise},
		scenario{name: "Lying lengths", set: slowFrames, provoke: lies},
		scenario{name: "Invalid UTF-8 over fragments", provoke: utf8},
		scenario{name: "A crowd joins, and reconnects, at once", set: settings{MaxConns: 20_000}, provoke: crowd},
		scenario{name: "Shutdown within broadcasts, with stuck peers", noCalm: true, provoke: shutdown, set: settings{
			Rate: -1, Drain: 500 * time.Millisecond, Write: 3 * time.Second, Log: 1 << 20, LogBytes: 64 << 20,
			Outbox: 4 << 20, Replay: 1000,
		}},
		scenario{name: "Everyone reacts to one message", set: settings{Rate: -1}, provoke: reactions},
		scenario{name: "Away while a message changes", set: settings{Rate: -1}, provoke: awayForChanges},
		scenario{name: "Tokens expire", provoke: expiry},
		scenario{name: "A user is logged out", provoke: logout},
		scenario{name: "A room is revoked", set: settings{Rate: -1}, provoke: revoked},
		scenario{name: "Forged and foreign", set: settings{Rate: -1}, provoke: forged},
	)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if run := inRole(); run != nil {
		// The parent process ends this one. An interrupt from the terminal
		// reaches both.
		if err := run(context.WithoutCancel(ctx), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, os.Getenv(role)+":", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.BoolVar(&o.quick, "quick", false, "use smaller numbers and shorter times")
	flag.BoolVar(&o.long, "long", false, "let the floods of shared bounds last ten minutes")
	pattern := flag.String("run", "", "run the rows that match `regexp`")
	flag.Parse()
	which, err := regexp.Compile(*pattern)
	if err != nil || flag.NArg() > 0 {
		if err != nil {
			fmt.Fprintln(os.Stderr, "faults: -run:", err)
		}
		flag.Usage()
		os.Exit(2)
	}
	var rows []row
	failed := false
	for _, s := range scenarios() {
		if !which.MatchString(s.name) || ctx.Err() != nil {
			continue
		}
		fmt.Fprint(os.Stderr, s.name, " ")
		began := time.Now()
		r := s.run(ctx, o)
		fmt.Fprintln(os.Stderr, round(time.Since(began)), r.Problems)
		rows = append(rows, r)
		failed = failed || len(r.Problems) > 0
	}
	printTable(os.Stdout, rows)
	if failed {
		os.Exit(1)
	}
}

// inRole returns what this process does in a trial, or nil if it is not part of
// one.
func inRole() func(context.Context, io.Reader, io.Writer) error {
	switch os.Getenv(role) {
	case "server":
		return runServer
	case "client":
		return runClient
	}
	return nil
}

// printTable prints rows as Markdown.
func printTable(w io.Writer, rows []row) {
	// A broken pipe ends the program.
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	p("| fault | what was provoked, and what came of it | server memory before / peak / after, MB | calm clients: sent, lost, doubled | their latency before, p50 / p99 | during |\n|---|---|---|---|---|---|\n")
	mb := func(b uint64) float64 { return float64(b) / 1e6 }
	for _, r := range rows {
		text := ""
		for _, f := range r.Figures {
			text += f + ". "
		}
		for _, problem := range r.Problems {
			text += "**Problem: " + problem + ".** "
		}
		calm := "| | "
		if c := r.Calm; c != nil {
			calm = fmt.Sprintf("%d, %d, %d | %v | %v", c.Sent, c.Lost, c.Doubled, c.Before, c.During)
		}
		p("| %s | %s| %.0f / %.0f / %.0f | %s |\n", r.Fault, text, mb(r.Before), mb(r.Peak), mb(r.After), calm)
	}
	p("\n%d rows, %s/%s, %d processors, %s.\n", len(rows), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}
