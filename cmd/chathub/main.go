// Command chathub is for people who run a chat. It checks a deployment, loads
// it, listens to it and sends to it, and it tests other people's clients:
//
//	chathub verify wss://chat.example.com/ws -token-file token
//
// Its README describes the subcommands, and `chathub help` lists them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// The exit statuses.
const (
	statusDone   = 0
	statusWrong  = 1 // it was carried out, and the answer is no
	statusUsage  = 2
	statusFailed = 3 // it could not be carried out
)

// exits is the part of each help about exit statuses that is the same for all.
const exits = `  2  wrong flags or arguments
  3  it could not be carried out: the server cannot be reached, or refuses
`

// command is a subcommand.
type command struct {
	name    string
	summary string
	help    string // usage and examples; see parse
	run     func(context.Context, *env, []string) error
}

func commands() []command {
	return []command{
		{"verify", "check that a deployment loses nothing, while it is restarted", verifyHelp, runVerify},
		{"load", "let many people join, talk and read, and measure", loadHelp, runLoad},
		{"tail", "print the events of a room or inbox as they come", tailHelp, runTail},
		{"send", "send messages, and print their receipts", sendHelp, runSend},
		{"token", "sign a token for tests", tokenHelp, runToken},
		{"conform", "test somebody else's client", conformHelp, runConform},
	}
}

// env is what a command has to do with the rest of the world.
type env struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	// client makes all requests. Nil: one is made from the flags.
	client *http.Client
}

// usageError is about flags and arguments.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// errWrong ends a command whose report says what is wrong.
var errWrong = errors.New("not as it should be")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends the program
	os.Exit(run(ctx, os.Args[1:], &env{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}))
}

// run runs a subcommand, and returns the exit status. If ctx ends, the command
// ends with a report.
func run(ctx context.Context, args []string, e *env) int {
	name := ""
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	if name == "help" && len(args) > 0 {
		name, args = args[0], []string{"-help"}
	}
	switch name {
	case "":
		list(e.err)
		return statusUsage
	case "help", "-h", "-help", "--help":
		list(e.out)
		return statusDone
	case "version":
		_, _ = fmt.Fprintln(e.out, version())
		return statusDone
	}
	for _, c := range commands() {
		if c.name == name {
			return e.status(c, c.run(ctx, e, args))
		}
	}
	_, _ = fmt.Fprintf(e.err, "chathub: there is no command %q (see chathub help)\n", name)
	return statusUsage
}

// status prints the error of a command, and returns the exit status.
func (e *env) status(c command, err error) int {
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, errHelp):
		return statusDone
	case errors.Is(err, errWrong):
		return statusWrong
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(e.err, "chathub %s: %v (see chathub %s -help)\n", c.name, err, c.name)
		return statusUsage
	}
	_, _ = fmt.Fprintf(e.err, "chathub %s: %v\n", c.name, err)
	return statusFailed
}

func list(w io.Writer) {
	_, _ = io.WriteString(w, "Usage: chathub COMMAND [arguments]\n\nCommands:\n")
	for _, c := range commands() {
		_, _ = fmt.Fprintf(w, "  %-8s %s\n", c.name, c.summary)
	}
	_, _ = io.WriteString(w, "  version  print the version\n\n`chathub COMMAND -help` says more, with examples.\n")
}

// version returns the version of the module, and the commit if it is known.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "chathub (unknown version)"
	}
	s := "chathub " + info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			s += " " + setting.Value
		}
	}
	return s + " " + info.GoVersion
}
