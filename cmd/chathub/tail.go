package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/chathub-go/chathub/client"
)

const tailHelp = `Usage: chathub tail URL -room ROOM|-inbox [flags]

Prints the events of a room or of the user's inbox as they come. After a lost
connection it goes on where it was. At the end it says on the standard error
with which -since the next run misses nothing.

FLAGS` + connectHelp + `
Exit status:
  0  it was interrupted, or has printed -count events
  1  the server does not let the user into the room, or has taken it out
` + exits + `
Examples:
  chathub tail wss://chat.example.com/ws -room lobby -history 20
  chathub tail URL -room lobby -since k3/8 -json | jq .data.text
  chathub tail URL -inbox -user Ana -login https://chat.example.com/login
`

func runTail(ctx context.Context, e *env, args []string) error {
	var f connectFlags
	fs := newFlags("tail")
	f.register(fs)
	user := fs.String("user", "chathub", "the `name` to log in with, or to sign a token for")
	room := fs.String("room", "", "print the events of this `room`")
	inbox := fs.Bool("inbox", false, "print private messages and notifications")
	since := fs.String("since", "", "begin after this `position`, as in k3/8")
	history := fs.Int("history", 0, "begin with so many of the room's newest `messages`")
	count := fs.Int("count", 0, "end after so many `events` (0: never)")
	asJSON := fs.Bool("json", false, "print events as JSON, one a line")
	arguments, rest, err := parse(e, fs, tailHelp, args)
	if err != nil {
		return err
	}
	switch {
	case len(arguments) != 1 || len(rest) > 0:
		return usagef("it takes a URL")
	case (*room == "") != *inbox:
		return usagef("either -room or -inbox is needed")
	case *history < 0 || *count < 0:
		return usagef("-history and -count cannot be negative")
	case *history > 0 && (*inbox || *since != ""):
		return usagef("-history is for rooms, and excludes -since")
	}
	var from *client.Position
	if *since != "" {
		p, err := parsePosition(*since)
		if err != nil {
			return err
		}
		from = &p
	}
	con, err := f.connector(e, arguments[0])
	if err != nil {
		return err
	}
	c, err := con.dial(ctx, *user, client.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	var events iter.Seq[client.Event]
	ended := c.Err
	if *inbox {
		in, err := c.Inbox(ctx, client.InboxOptions{Since: from, New: from == nil})
		if err != nil {
			return e.tailRefused(ctx, err)
		}
		events = in.Events(ctx)
	} else {
		r, err := c.Join(ctx, *room, client.JoinOptions{Since: from, History: *history})
		if err != nil {
			return e.tailRefused(ctx, err)
		}
		events, ended = r.Events(ctx), r.Err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go e.watch(watching, c)
	return e.print(ctx, events, ended, *count, *asJSON)
}

// print prints events until ctx ends, or the room has ended.
func (e *env) print(ctx context.Context, events iter.Seq[client.Event], ended func() error, count int, asJSON bool) error {
	n := 0
	var last client.Position
	defer func() {
		if last.Seq > 0 {
			e.say("events: %d; go on with -since %s", n, positionText(last))
		} else {
			e.say("events: %d", n)
		}
	}()
	for event := range events {
		var err error
		if asJSON {
			err = e.printJSON(jsonOf(event), false)
		} else {
			_, err = fmt.Fprintln(e.out, lineOf(event))
		}
		if err != nil {
			return err
		}
		if event.Position.Seq > 0 && event.Type != client.TypeGap {
			last = event.Position
		}
		if n++; n == count {
			return nil
		}
	}
	return e.tailRefused(ctx, ended())
}

// tailRefused returns how a tail ends.
func (e *env) tailRefused(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if answer, ok := errors.AsType[*client.Error](err); ok {
		if _, whole := errors.AsType[*client.RefusedError](err); !whole {
			e.say("chathub tail: the server refuses: %s: %s", printable(string(answer.Code)), printable(answer.Message))
			return errWrong
		}
	}
	return err
}

// watch says when the connection is lost and restored.
func (e *env) watch(ctx context.Context, c *client.Client) {
	lost := false
	for s := range c.Statuses(ctx) {
		switch {
		case s.State == client.Waiting && !lost:
			lost = true
			e.say("the connection is lost: %v", s.Err)
		case s.State == client.Connected && lost:
			lost = false
			e.say("connected again")
		}
	}
}
