//go:build linux

// Command bench measures what chathub and other servers cost: see README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/chathub-go/chathub/bench/internal/load"
	"github.com/chathub-go/chathub/bench/internal/scenario"
	"github.com/chathub-go/chathub/bench/internal/servers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		err = serve(ctx, os.Args[2], slices.Contains(os.Args[3:], "tls"))
	} else {
		err = command(ctx, os.Args[1:], os.Stdout)
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

// serve runs this program as one of the servers.
func serve(ctx context.Context, name string, tls bool) error {
	for _, p := range servers.All() {
		if p.Name == name && p.Serve != nil {
			return servers.Run(ctx, p, tls, os.Stdin, os.Stdout)
		}
	}
	return fmt.Errorf("there is no server %q", name)
}

// command runs this program as the benchmark.
func command(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "measure for less than three minutes: short measurements, one round, fewer scenarios")
	rounds := flags.Int("rounds", 0, "`number` of rounds over all servers (default 3, or 1 with -quick)")
	scenarios := flags.String("scenarios", "", "comma-separated: "+names(scenario.All(), func(s scenario.Scenario) string { return s.Name })+" (default all, or the first three with -quick)")
	chosen := flags.String("servers", "", "comma-separated: "+names(servers.All(), func(s servers.Server) string { return s.Name })+" (default all but chathub-linger)")
	size := flags.Int("payload", scenario.Full().Payload, "`bytes` of a message")
	rate := flags.Int("rate", scenario.Full().Rate, "`messages` a second in the one room when it is paced")
	dir := flags.String("out", "results", "`directory` for results.md, results.json and chart.svg")
	profiles := flags.String("cpuprofile", "", "`directory` for CPU profiles of the servers, which cost a little CPU themselves")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	p := plan{scale: scenario.Full(), rounds: 3, dir: *dir, profiles: *profiles}
	if *quick {
		p.scale, p.rounds = scenario.Quick(), 1
	}
	if *size < load.MinPayload {
		return fmt.Errorf("-payload must be at least %d", load.MinPayload)
	}
	if *rate < 1 {
		return errors.New("-rate must be at least 1")
	}
	p.scale.Payload, p.scale.Rate = *size, *rate
	if *rounds > 0 {
		p.rounds = *rounds
	}
	var err error
	if p.servers, err = choose(servers.All(), *chosen, func(s servers.Server) string { return s.Name }); err != nil {
		return err
	}
	if *chosen == "" {
		p.servers = slices.DeleteFunc(p.servers, func(s servers.Server) bool { return s.Extra })
	}
	all := scenario.All()
	if p.scenarios, err = choose(all, *scenarios, func(s scenario.Scenario) string { return s.Name }); err != nil {
		return err
	}
	if *quick && *scenarios == "" {
		p.scenarios = slices.DeleteFunc(p.scenarios, func(s scenario.Scenario) bool { return !s.Quick })
	}
	return p.run(ctx, out)
}

func names[T any](all []T, name func(T) string) string {
	var s []string
	for _, v := range all {
		s = append(s, name(v))
	}
	return strings.Join(s, ",")
}

// choose returns the elements of all that the comma-separated list names, or
// all if it is empty.
func choose[T any](all []T, list string, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var chosen []T
	for want := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(v T) bool { return name(v) == want })
		if i < 0 {
			return nil, fmt.Errorf("there is no %q; choose from %s", want, names(all, name))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
