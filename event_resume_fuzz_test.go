package chathub_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	fuzzRooms  = 3 // Config.MaxRooms
	fuzzReplay = 3 // Config.ReplayLimit
	fuzzKept   = 5 // messages in each log: more than are replayed
	fuzzInbox  = 2 // messages in an inbox, which are large: fewer than are replayed
)

// resumeLogs are the logs that a client can resume. Their epochs are known, and
// each message is its own seq.
type resumeLogs struct {
	hub    *chathub.Hub
	epochs map[string]string // by room; "" is the inbox
	heads  map[string]uint64
}

func newResumeLogs(f *testing.F) *resumeLogs {
	l := &resumeLogs{epochs: make(map[string]string), heads: map[string]uint64{"red": 9, "green": 2, "": 7, "secret": 2}}
	l.hub = hubtest.New(f, chathub.Config{
		Broker:           &chathub.MemoryBroker{MaxMessages: fuzzKept, MaxBytes: 1200 * fuzzInbox, MaxIdleTopics: 50},
		Logger:           slog.New(slog.NewTextHandler(io.Discard, nil)),
		MaxRooms:         fuzzRooms,
		ReplayLimit:      fuzzReplay,
		PresenceInterval: -1,
		Rate:             -1,
		Authorize: func(_ context.Context, c *chathub.Client, a chathub.Action) error {
			if a.Room == "secret" && c.User().ID != "keeper" {
				return &chathub.Error{Code: chathub.CodeForbidden}
			}
			return nil
		},
	})
	// They keep the logs.
	keeper, ana := hubtest.Dial(f, l.hub, "keeper"), hubtest.Dial(f, l.hub, "ana")
	l.epochs[""] = dataOf[welcomeData](f, ana.Welcome).Inbox.Epoch
	for name, head := range l.heads {
		message := hubtest.Frame{Type: "private-message", To: "ana"}
		if name != "" {
			l.epochs[name] = position(f, enter(keeper, name)).Epoch
			message = hubtest.Frame{Type: "room-message", Room: name}
		}
		for i := range head {
			message.Data = hubtest.Data(resumeText(name, i+1))
			keeper.Must(message)
		}
	}
	return l
}

// resumeText returns the text of a message in a log.
func resumeText(name string, seq uint64) string {
	if name == "" {
		return fmt.Sprintf("%800d", seq)
	}
	return fmt.Sprint(seq)
}

// data puts the epochs, which nobody can guess, into a request.
func (l *resumeLogs) data(request string) string {
	return strings.NewReplacer("RED", l.epochs["red"], "GREEN", l.epochs["green"], "SECRET", l.epochs["secret"],
		"INBOX", l.epochs[""]).Replace(request)
}

// part returns what should be answered and sent for one log, in the simplest
// form.
func (l *resumeLogs) part(name string, since chathub.Position) (recovered bool, seqs []uint64) {
	head, kept := l.heads[name], uint64(fuzzKept)
	if name == "" {
		kept = fuzzInbox
	}
	first := uint64(1)
	if head > kept {
		first = head - kept + 1
	}
	known := since.Epoch == l.epochs[name] && since.Seq <= head && l.epochs[name] != ""
	recovered = known && since.Seq+1 >= first && head-since.Seq <= fuzzReplay
	for seq := first; seq <= head; seq++ {
		if !known || seq > since.Seq {
			seqs = append(seqs, seq)
		}
	}
	return recovered, seqs[max(0, len(seqs)-fuzzReplay):]
}

// refusal returns why a room cannot be resumed after i others, or "" if it can.
func (l *resumeLogs) refusal(i int, room string) chathub.Code {
	switch {
	case i >= fuzzRooms:
		return chathub.CodeLimitExceeded
	case room == "" || len(room) > 128 || strings.ContainsFunc(room, func(r rune) bool { return r < ' ' || 0x7f <= r && r <= 0x9f }):
		return chathub.CodeBadRequest
	case room == "secret":
		return chathub.CodeForbidden
	}
	return ""
}

// FuzzResume checks that a client gets what it missed of its own logs, once and
// in order, or is told that it does not. Its positions may be anything.
func FuzzResume(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `1`, `{}`, `[]`, `{"rooms":null,"inbox":null}`,
		`{"rooms":{"red":{"epoch":"RED","seq":8}},"inbox":{"epoch":"INBOX","seq":6}}`,
		`{"rooms":{"red":{"epoch":"RED","seq":9},"green":{"epoch":"GREEN","seq":0},"new":{"epoch":"RED","seq":1}}}`,
		`{"rooms":{"red":{"epoch":"RED","seq":3},"secret":{"epoch":"SECRET","seq":1}},"inbox":{"epoch":"INBOX","seq":4}}`,
		`{"rooms":{"red":{"epoch":"RED","seq":4}},"inbox":{"epoch":"INBOX","seq":1}}`,
		`{"rooms":{"red":{"epoch":"GREEN","seq":4}},"inbox":{"epoch":"RED","seq":1}}`,
		`{"rooms":{"red":{"epoch":"RED","seq":18446744073709551615}},"inbox":{"epoch":"INBOX","seq":18446744073709551615}}`,
		`{"rooms":{"red":{"epoch":"RED","seq":10}},"inbox":{"epoch":"","seq":0}}`,
		`{"rooms":{"a":{},"b":{},"c":{},"red":{"epoch":"RED"}}}`,
		`{"rooms":{"":{"epoch":"INBOX","seq":1},"a\nb":{},"\u0000ana":{}}}`,
		`{"rooms":{"red":{"epoch":"RED","seq":-1}}}`,
		`{"rooms":{"red":{"epoch":"RED","seq":1.5}}}`,
		`{"rooms":{"red":{"epoch":7,"seq":1}}}`,
		`{"rooms":{"red":{"epoch":"RED","seq":1},"red":{"epoch":"RED","seq":2}}}`,
		`{"Rooms":{"red":{"epoch":"RED","seq":1}},"inbox":{"Epoch":"INBOX"}}`,
	} {
		f.Add(seed)
	}
	l := newResumeLogs(f)
	f.Fuzz(func(t *testing.T, request string) {
		data := l.data(request)
		if data != "" && (!jsontext.Value(data).IsValid() || len(data) > 32<<10) {
			return // not an envelope: see FuzzDecodeEvent
		}
		c := hubtest.Dial(t, l.hub, "ana")
		defer c.Drop()
		frame := `{"type":"resume","id":"r"`
		if data != "" {
			frame += `,"data":` + data
		}
		c.SendText(frame + `}`)
		c.SendText(`{"type":"ping"}`) // comes after everything that follows the answer
		answer := c.Next()
		var got []string
		for m := c.Next(); m.Type != "pong"; m = c.Next() {
			got = append(got, fmt.Sprintf("%s %s%s %d %s", m.Type, m.Room, m.To, m.Seq, m.Data))
		}

		var want resumeRequest
		if data != "" {
			if err := json.Unmarshal([]byte(data), &want); err != nil {
				if answer.Code() != chathub.CodeBadRequest || len(got) > 0 {
					t.Fatalf("%s was answered with %s %s and %q", data, answer.Type, answer.Data, got)
				}
				return
			}
		}
		if answer.Type == "error" && answer.Code() == chathub.CodeBadRequest && strings.Count(data, "{")+strings.Count(data, "[") >= 60 {
			return // nested too deep
		}
		if answer.Type != "ack" {
			t.Fatalf("%s was answered with %s %s", data, answer.Type, answer.Data)
		}
		said := dataOf[resumeAnswer](t, answer)
		if len(said.Rooms) != len(want.Rooms) || (said.Inbox == nil) != (want.Inbox == nil) {
			t.Fatalf("%s was answered with %s", data, answer.Data)
		}
		check := func(name, typ, topic string, part resumePart, since chathub.Position) (due []string) {
			recovered, seqs := l.part(name, since)
			if part.Recovered != recovered || part.Seq != l.heads[name] || part.Error != nil || l.epochs[name] != "" && part.Epoch != l.epochs[name] {
				t.Errorf("%s: %q is %+v, want recovered %t up to %d", data, name, part, recovered, l.heads[name])
			}
			for _, seq := range seqs {
				due = append(due, fmt.Sprintf("%s %s %d %q", typ, topic, seq, resumeText(name, seq)))
			}
			return due
		}
		var due []string
		for i, room := range slices.Sorted(maps.Keys(want.Rooms)) {
			part := said.Rooms[room]
			if code := l.refusal(i, room); code != "" {
				if part.Error == nil || part.Error.Code != code || part.Epoch != "" {
					t.Errorf("%s: %q is %+v, want %s", data, room, part, code)
				}
				continue
			}
			due = append(due, check(room, "room-message", room, part, want.Rooms[room])...)
		}
		if want.Inbox != nil {
			due = append(due, check("", "private-message", "ana", *said.Inbox, *want.Inbox)...)
		}
		if !slices.Equal(got, due) {
			t.Errorf("%s returned %q, want %q", data, got, due)
		}
	})
}
