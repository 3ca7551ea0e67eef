// Command soak lets many clients use a hub over TCP, with faults of every kind,
// and checks that nothing is lost, doubled, reordered or leaked:
//
//	go run ./soak -duration 10m -clients 500
//
// The server is a process of its own. From time to time its hub shuts down and
// another hub on the same broker takes its place. Each client is a user. More
// than half of them are calm. The others break off connections, stop reading,
// read slowly, flood, come back all at once, or have tokens of a few seconds.
// All of them resume, send messages without an ack again, edit, delete and
// react to messages, mark what they have read, and check what they receive.
// When all is quiet, everyone shows the same, and it is what history and
// overview say. In the end there is a report. The exit status is 1 if something
// is wrong, or if the server was too slow to check every client in the end.
//
// With -broker nats, the hubs are on a NATS server in the process.
//
// The package's tests have another soak: random operations against a model of
// the protocol. CONTRIBUTING.md says what the model checks:
//
//	go test ./soak                        # some seconds
//	go test ./soak -rapid.checks=10000    # longer
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
		// The parent process ends the server. An interrupt from the terminal
		// reaches both.
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

// command runs a soak with the given arguments.
func command(ctx context.Context, args []string, out, progress io.Writer) (clean bool, err error) {
	o := options{logLength: 5000, patience: 30 * time.Second}
	flags := flag.NewFlagSet("soak", flag.ExitOnError)
	flags.DurationVar(&o.duration, "duration", 20*time.Second, "how long clients send and fail, before they catch up")
	flags.IntVar(&o.clients, "clients", 300, "number of clients")
	flags.IntVar(&o.rooms, "rooms", 0, "number of rooms besides the large one (0 for a tenth of the clients)")
	flags.DurationVar(&o.restart, "restart", 0, "time between restarts of the hub (0 for a quarter of the duration, at most 20s; negative for no restarts)")
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of what clients do; the network and the scheduler remain random")
	flags.StringVar(&o.broker, "broker", "memory", "what the hubs have in common: memory, or nats for a NATS server in the process, with its data on disk")
	flags.IntVar(&o.failing, "failing", 0, "of so many reads of the broker, one fails as if it were overloaded (0 for none)")
	file := flags.String("json", "", "write the report as JSON to `file`; - writes it to the standard output instead of the text")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	if flags.NArg() > 0 || o.clients < 2 || o.duration <= 0 || o.failing < 0 || o.broker != "memory" && o.broker != "nats" {
		return false, fmt.Errorf("usage: soak [flags], with at least two clients, a positive duration, and the broker memory or nats; see -help")
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
			err = os.WriteFile(*file, append(b, '\n'), 0o644) //nolint:gosec // it holds no secret
		}
		if err != nil {
			return false, err
		}
	}
	return r.clean(), nil
}
