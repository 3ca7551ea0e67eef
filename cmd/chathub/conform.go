package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

const conformHelp = `Usage: chathub conform [flags] [-- COMMAND [arguments]]

Tests a client of somebody else's: whether it does what protocol/README.md says.
It plays the server, in one scenario after another: it sends the golden frames,
breaks connections, and refuses, and says which section the client breaks.

A small program, the driver, uses the client as it is told: the README describes
how. COMMAND starts it, with its URL in the environment variable
CHATHUB_CONFORM. Without a COMMAND, start it yourself. With -manual a person is
the driver: what to do is printed, and only what the client sends is checked,
not what it shows.

FLAGS
Exit status:
  0  the client passes all scenarios
  1  it does not, or not all were played
` + exits + `
Examples:
  chathub conform -- node driver.mjs
  chathub conform -run 'resume|gap' -json -- ./driver
  chathub conform -listen :8080 -manual
  chathub conform -list
`

// conformOptions are the flags.
type conformOptions struct {
	manual   bool
	patience time.Duration // for what the client must do
	quiet    time.Duration // in which it must not come back
	only     *regexp.Regexp
}

func runConform(ctx context.Context, e *env, args []string) error {
	var o conformOptions
	fs := newFlags("conform")
	listen := fs.String("listen", "127.0.0.1:0", "`address` to listen on")
	fs.BoolVar(&o.manual, "manual", false, "a person drives the client")
	fs.DurationVar(&o.patience, "patience", 0, "how long to wait for what the client must do (default 30s, or 5m with -manual)")
	fs.DurationVar(&o.quiet, "quiet", 3*time.Second, "how long a client must stay away to have stayed away")
	only := fs.String("run", "", "run only the scenarios whose names match this regular `expression`")
	listOnly := fs.Bool("list", false, "list the scenarios")
	asJSON := fs.Bool("json", false, "print the report as JSON")
	arguments, command, err := parse(e, fs, conformHelp, args)
	if err != nil {
		return err
	}
	if o.only, err = regexp.Compile(*only); err != nil {
		return usagef("-run: %v", err)
	}
	switch {
	case len(arguments) > 0:
		return usagef("it takes no arguments, but a command after --")
	case o.manual && len(command) > 0:
		return usagef("-manual excludes a command")
	case o.patience < 0 || o.quiet <= 0:
		return usagef("-patience and -quiet must be positive")
	}
	if o.patience == 0 {
		if o.patience = 30 * time.Second; o.manual {
			o.patience = 5 * time.Minute
		}
	}
	c := newConform(e, o)
	switch {
	case len(c.scenarios) == 0:
		return usagef("-run matches no scenario")
	case *listOnly:
		for _, s := range c.scenarios {
			_, _ = fmt.Fprintf(e.out, "%-10s %s\n", s.name, s.title)
		}
		return nil
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	defer func() {
		// The driver may be in the middle of its last report.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = srv.Shutdown(ending)
		_ = srv.Close()
	}()
	c.base = ln.Addr().String()
	report, err := c.driven(ctx, command)
	if err != nil {
		return err
	}
	return e.printReport(report, *asJSON, report.Failed+report.NotRun == 0)
}

// driven runs the scenarios, with a driver if there is a command.
func (c *conform) driven(ctx context.Context, command []string) (*conformReport, error) {
	c.say("listening on http://%s", c.base)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	exited := make(chan struct{})
	if len(command) > 0 {
		// It ends by itself when it is told to, and is killed otherwise.
		driver := exec.CommandContext(context.WithoutCancel(ctx), command[0], command[1:]...)
		driver.Env = append(os.Environ(), "CHATHUB_CONFORM=http://"+c.base)
		driver.Stdout, driver.Stderr = c.err, c.err
		if err := driver.Start(); err != nil {
			return nil, err
		}
		go func() {
			defer close(exited)
			if err := driver.Wait(); err != nil {
				cancel(fmt.Errorf("the driver ended: %w", err))
			} else {
				cancel(errors.New("the driver ended before the last scenario"))
			}
		}()
		defer func() {
			timer := time.NewTimer(driverPatience)
			defer timer.Stop()
			select {
			case <-exited:
			case <-timer.C:
				_ = driver.Process.Kill()
				<-exited
			}
		}()
	}
	report, err := c.run(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && (err != nil || report.NotRun > 0) {
		return nil, cause // the driver has ended too early
	}
	return report, err
}

// driverPatience is how long a driver may take to end.
const driverPatience = 5 * time.Second

// section is a section of protocol/README.md.
type section int

const (
	secEnvelope   section = 1
	secConnecting section = 2
	secAnswers    section = 3
	secSends      section = 4
	secReceives   section = 5
	secLogs       section = 6
	secEnd        section = 8
)

var sectionTitles = map[section]string{
	secEnvelope:   "The envelope",
	secConnecting: "Connecting",
	secAnswers:    "Answers: `ack` and `error`",
	secSends:      "What a client sends",
	secReceives:   "What a client receives",
	secLogs:       "Logs, order and recovery",
	secEnd:        "The end of a connection",
}

func (s section) String() string { return fmt.Sprintf("section %d (%s)", int(s), sectionTitles[s]) }

// problem is what a client does wrong.
type problem struct {
	Section int    `json:"section"`
	Title   string `json:"title"`
	Text    string `json:"text"`
}

// conformResult is how a client did in a scenario.
type conformResult struct {
	Name     string    `json:"name"`
	Title    string    `json:"title"`
	Pass     bool      `json:"pass"`
	Seconds  float64   `json:"seconds"`
	Problems []problem `json:"problems"`
}

// conformReport is the result of a run.
type conformReport struct {
	Passed      int             `json:"passed"`
	Failed      int             `json:"failed"`
	NotRun      int             `json:"notRun"` // it was interrupted
	Manual      bool            `json:"manual"`
	Scenarios   []conformResult `json:"scenarios"`
	Interrupted bool            `json:"interrupted"`
}

// print writes the report as text.
func (r *conformReport) print(w io.Writer) error {
	var b strings.Builder
	for _, s := range r.Scenarios {
		verdict := "pass"
		if !s.Pass {
			verdict = "FAIL"
		}
		fmt.Fprintf(&b, "%s  %-10s %s\n", verdict, s.Name, s.Title)
		for _, p := range s.Problems {
			fmt.Fprintf(&b, "      %v: %s\n", section(p.Section), p.Text)
		}
	}
	fmt.Fprintf(&b, "%d passed, %d failed", r.Passed, r.Failed)
	if r.NotRun > 0 {
		fmt.Fprintf(&b, ", %d not run, since it was interrupted", r.NotRun)
	}
	if r.Manual {
		b.WriteString("; what the client shows was not checked (-manual)")
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}
