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
	"github.com/chathub-go/chathub/bench/internal/peers"
	"github.com/chathub-go/chathub/bench/internal/scenario"
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

// serve is this program as one of the servers.
func serve(ctx context.Context, name string, tls bool) error {
	for _, p := range peers.All() {
		if p.Name == name && p.Serve != nil {
			return peers.Run(ctx, p, tls, os.Stdin, os.Stdout)
		}
	}
	return fmt.Errorf("no server %q", name)
}

// command is this program as the benchmark.
func command(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "a look, in under three minutes: short measurements, one round, fewer scenarios")
	rounds := flags.Int("rounds", 0, "rounds over all servers (default 3, quick: 1)")
	scenarios := flags.String("scenarios", "", "comma-separated: "+names(scenario.All(), func(s scenario.Scenario) string { return s.Name })+" (default all, quick: the first three)")
	servers := flags.String("servers", "", "comma-separated: "+names(peers.All(), func(p peers.Peer) string { return p.Name })+" (default all but chathub-linger)")
	size := flags.Int("payload", scenario.Full().Payload, "`bytes` of a message")
	rate := flags.Int("rate", scenario.Full().Rate, "`messages` a second in one room, where it is paced")
	dir := flags.String("out", "results", "`directory` for results.md, results.json and chart.svg")
	profiles := flags.String("cpuprofile", "", "`directory` for CPU profiles of the servers; they cost a little themselves")
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
		return fmt.Errorf("a payload has at least %d bytes", load.MinPayload)
	}
	if *rate < 1 {
		return errors.New("a paced room has a message a second at least")
	}
	p.scale.Payload, p.scale.Rate = *size, *rate
	if *rounds > 0 {
		p.rounds = *rounds
	}
	var err error
	if p.peers, err = choose(peers.All(), *servers, func(p peers.Peer) string { return p.Name }); err != nil {
		return err
	}
	if *servers == "" {
		p.peers = slices.DeleteFunc(p.peers, func(p peers.Peer) bool { return p.Extra })
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

// choose returns those of all that list names, all where it is empty.
func choose[T any](all []T, list string, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var chosen []T
	for want := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(v T) bool { return name(v) == want })
		if i < 0 {
			return nil, fmt.Errorf("no %q: there are %s", want, names(all, name))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
