package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// errHelp ends a command that has printed its help.
var errHelp = errors.New("help")

// newFlags returns the flags of a subcommand.
func newFlags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the caller prints the error, in one line
	fs.Usage = func() {}
	return fs
}

// parse reads the flags, which may stand before and after the arguments, and
// returns the arguments, and what follows a "--". If args ask for help, it
// prints help with the flags in place of its line FLAGS, and returns errHelp.
func parse(e *env, fs *flag.FlagSet, help string, args []string) (arguments, rest []string, err error) {
	if i := slices.Index(args, "--"); i >= 0 {
		args, rest = args[:i], args[i+1:]
	}
	for {
		switch err := fs.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			before, after, _ := strings.Cut(help, "FLAGS\n")
			_, _ = io.WriteString(e.out, before+"Flags:\n")
			fs.SetOutput(e.out)
			fs.PrintDefaults()
			_, _ = io.WriteString(e.out, "\n"+after)
			return nil, nil, errHelp
		case err != nil:
			return nil, nil, usagef("%v", err)
		case fs.NArg() == 0:
			return arguments, rest, nil
		}
		arguments = append(arguments, fs.Arg(0))
		args = fs.Args()[1:]
	}
}

// parseURL checks the URL of a hub. Its error does not quote it, since it may
// hold a secret.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains([]string{"ws", "wss", "http", "https"}, u.Scheme) {
		return nil, usagef("the URL must be like wss://chat.example.com/ws")
	}
	return u, nil
}

// shown returns a URL as it may be shown: without password and query.
func shown(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// printJSON writes v as JSON: on one line, or indented for a report.
func (e *env) printJSON(v any, indent bool) error {
	options := []json.Options{json.Deterministic(true)}
	if indent {
		options = append(options, jsontext.WithIndent("  "))
	}
	b, err := json.Marshal(v, options...)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.out, "%s\n", b)
	return err
}

// report is the result of a command, for people. As JSON, it is its fields.
type report interface{ print(w io.Writer) error }

// printReport writes a report, as JSON or for people. It returns errWrong if
// the report is not clean.
func (e *env) printReport(r report, asJSON, clean bool) error {
	var err error
	if asJSON {
		err = e.printJSON(r, true)
	} else {
		err = r.print(e.out)
	}
	if err == nil && !clean {
		return errWrong
	}
	return err
}

// say writes a line about progress.
func (e *env) say(format string, args ...any) {
	_, _ = fmt.Fprintf(e.err, format+"\n", args...)
}
