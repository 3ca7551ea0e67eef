// Command soak lets many clients use a hub over TCP, with faults of every kind, and
// checks that nothing is lost, doubled, reordered or leaked:
//
//	go run ./soak -duration 10m -clients 500
//
// The server is a process of its own, in which one hub after the other shuts down
// and another on the same broker takes its place. The clients are users with a program each;
// more than half are calm, the others break connections off, stop reading, read slowly, flood,
// come back all at once, or have tokens of a few seconds. All of them resume where they were, send again what was
// not acknowledged, and check what they get. It ends in a report, and with status 1 where
// something is wrong.
//
// The package's tests have another soak, random operations against a model of the
// protocol:
//
//	go test ./soak                        # some seconds
//	go test ./soak -rapid.checks=10000    # as long as one wants
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if os.Getenv(serverVariable) != "" {
		// The soak ends the server; an interrupt of the terminal reaches both.
		if err := runServer(context.WithoutCancel(ctx), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
			os.Exit(1)
		}
		return
	}
	clean, err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	case !clean:
		os.Exit(1)
	}
}

// command runs a soak as the arguments say.
func command(ctx context.Context, args []string, out, progress io.Writer) (clean bool, err error) {
	o := options{logLength: 5000, patience: 30 * time.Second}
	flags := flag.NewFlagSet("soak", flag.ExitOnError)
	flags.DurationVar(&o.duration, "duration", 20*time.Second, "how long clients send and fail; catching up comes on top")
	flags.IntVar(&o.clients, "clients", 300, "number of clients")
	flags.IntVar(&o.rooms, "rooms", 0, "number of rooms besides the large one (0: a tenth of the clients)")
	flags.DurationVar(&o.restart, "restart", 0, "time between two restarts of the hub (0: a quarter of the duration, at most 20s; negative: none)")
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of what clients do; the network and the scheduler add their own chance")
	file := flags.String("json", "", "file for the report as JSON; - is the standard output, instead of the text")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	if flags.NArg() > 0 || o.clients < 2 || o.duration <= 0 {
		return false, fmt.Errorf("usage: soak [flags]; at least two clients, and some time: see -help")
	}
	r, err := runSoak(ctx, o, progress)
	if err != nil {
		return false, err
	}
	if *file != "-" {
		if err := r.print(out); err != nil {
			return false, err
		}
	}
	if *file != "" {
		b, err := json.Marshal(r, jsontext.WithIndent("\t"), json.Deterministic(true))
		if err == nil && *file == "-" {
			_, err = out.Write(append(b, '\n'))
		} else if err == nil {
			err = os.WriteFile(*file, append(b, '\n'), 0o644) //nolint:gosec // nothing secret in it
		}
		if err != nil {
			return false, err
		}
	}
	return r.clean(), nil
}
