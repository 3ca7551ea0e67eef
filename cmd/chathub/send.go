package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/chathub-go/chathub/client"
)

const sendHelp = `Usage: chathub send URL -room ROOM|-to USER TEXT|- [flags]

Sends a message to a room or to a user, and prints where the server stored it.
With - it sends each line of the standard input, one after another. A message is
sent again after a lost connection, and stored once.

TEXT becomes the data {"text":TEXT}, or is the data itself with -data.

FLAGS` + connectHelp + `
Exit status:
  0  all messages are stored
  1  the server refuses a message
` + exits + `
Examples:
  chathub send wss://chat.example.com/ws -room lobby 'Back in five minutes'
  chathub send URL -to u2 -id deploy-17 'Deployed' # repeat it safely
  git log --format=%s -5 | chathub send URL -room news -id week-48 -
  chathub send URL -room lobby -data '{"text":"Hi","urgent":true}'
`

// receiptJSON is a receipt as JSON.
type receiptJSON struct {
	ID    string `json:"id"`
	Epoch string `json:"epoch,omitzero"`
	Seq   uint64 `json:"seq,omitzero"`
	TS    int64  `json:"ts,omitzero"`
	Dup   bool   `json:"dup,omitzero"`
}

// sending is a run of the command.
type sending struct {
	*env
	post   func(ctx context.Context, p client.Post) (client.Receipt, error)
	isData bool // the texts are JSON
	asJSON bool
	stored int
}

func runSend(ctx context.Context, e *env, args []string) error {
	var f connectFlags
	fs := newFlags("send")
	f.register(fs)
	user := fs.String("user", "chathub", "the `name` to log in with, or to sign a token for")
	room := fs.String("room", "", "send to this `room`")
	to := fs.String("to", "", "send to the user with this `id`")
	id := fs.String("id", "", "the `id` of the message: what is repeated with it is stored once. Of lines from the standard input, the first is ID-1")
	isData := fs.Bool("data", false, "the message is JSON")
	asJSON := fs.Bool("json", false, "print receipts as JSON, one a line")
	wait := fs.Duration("wait", time.Minute, "how long to wait for the receipt of a message")
	arguments, rest, err := parse(e, fs, sendHelp, args)
	if err != nil {
		return err
	}
	arguments = append(arguments, rest...)
	switch {
	case len(arguments) != 2:
		return usagef("it takes a URL and a message, or - for the standard input")
	case (*room == "") == (*to == ""):
		return usagef("either -room or -to is needed")
	}
	text := arguments[1]
	if text != "-" {
		if _, err := dataOf(text, *isData); err != nil {
			return err
		}
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
	s := &sending{env: e, isData: *isData, asJSON: *asJSON}
	if s.post, err = poster(ctx, c, *room, *to, *wait); err != nil {
		return s.refused(err)
	}
	if text != "-" {
		return s.send(ctx, text, *id)
	}
	return s.lines(ctx, *id)
}

// poster returns a function that sends a message.
func poster(ctx context.Context, c *client.Client, room, to string, wait time.Duration) (func(context.Context, client.Post) (client.Receipt, error), error) {
	post := c.Private(to).Post
	if room != "" {
		r, err := c.Join(ctx, room, client.JoinOptions{SendOnly: true})
		if err != nil {
			return nil, err
		}
		post = r.Post
	}
	return func(ctx context.Context, p client.Post) (client.Receipt, error) {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		return post(ctx, p)
	}, nil
}

// send sends one message, and prints the receipt.
func (s *sending) send(ctx context.Context, text, id string) error {
	data, err := dataOf(text, s.isData)
	if err != nil {
		return err
	}
	r, err := s.post(ctx, client.Post{ID: id, Data: data})
	if err != nil {
		return s.refused(err)
	}
	s.stored++
	if s.asJSON {
		return s.printJSON(receiptJSON{r.ID, r.Position.Epoch, r.Position.Seq, millisOf(r.Time), r.Duplicate}, false)
	}
	before := ""
	if r.Duplicate {
		before = " (it was there before)"
	}
	_, err = fmt.Fprintf(s.out, "stored at %s, id %s%s\n", positionText(r.Position), printable(r.ID), before)
	return err
}

// refused prints the answer of the server, if err is one.
func (s *sending) refused(err error) error {
	if answer, ok := errors.AsType[*client.Error](err); ok {
		s.say("chathub send: the server refuses: %s: %s", printable(string(answer.Code)), printable(answer.Message))
		return errWrong
	}
	return err
}

// lines sends each line of the standard input until that or ctx ends.
func (s *sending) lines(ctx context.Context, id string) error {
	type line struct {
		text string
		err  error
	}
	lines := make(chan line)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(s.in)
		in.Buffer(nil, 1<<20)
		put := func(l line) bool {
			select {
			case lines <- l:
				return true
			case <-ctx.Done():
				return false
			}
		}
		for in.Scan() && put(line{text: in.Text()}) {
		}
		if in.Err() != nil {
			put(line{err: in.Err()})
		}
	}()
	defer func() { s.say("stored: %d", s.stored) }()
	for n := 1; ; n++ {
		var l line
		var ok bool
		select {
		case l, ok = <-lines:
		case <-ctx.Done():
			return nil
		}
		switch {
		case !ok:
			return nil
		case l.err != nil:
			return l.err
		}
		own := ""
		if id != "" {
			own = id + "-" + strconv.Itoa(n)
		}
		switch err := s.send(ctx, l.text, own); {
		case err != nil && ctx.Err() != nil:
			s.say("interrupted: it is not known whether line %d was stored", n)
			return errWrong
		case err != nil:
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}
