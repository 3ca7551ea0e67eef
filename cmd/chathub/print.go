package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/chathub-go/chathub/client"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// printable returns text from others as it may be shown in a terminal: without
// control characters, and without those that turn the direction of text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\u2028' || r == '\u2029' || !unicode.IsPrint(r) && r != '\u200d' {
			return '\ufffd'
		}
		return r
	}, s)
}

// textOf returns what to show of the data of a message: its "text" or, if it
// has none, all of it.
func textOf(data jsontext.Value) string {
	var text string
	var object struct {
		Text *string `json:"text"`
	}
	switch {
	case data == nil:
		return ""
	case json.Unmarshal(data, &text) == nil:
		return printable(text)
	case json.Unmarshal(data, &object) == nil && object.Text != nil:
		return printable(*object.Text)
	}
	return printable(string(data))
}

// dataOf returns the data of a message with a text, as the example has it, or
// the text itself if it is JSON.
func dataOf(text string, isJSON bool) (any, error) {
	if !isJSON {
		return map[string]string{"text": text}, nil
	}
	v := jsontext.Value(text)
	if !v.IsValid() {
		return nil, usagef("the message is not valid JSON")
	}
	return v, nil
}

// positionText is the form of a position in flags and output.
func positionText(p client.Position) string {
	return p.Epoch + "/" + strconv.FormatUint(p.Seq, 10)
}

// parsePosition reads what positionText has written.
func parsePosition(s string) (client.Position, error) {
	i := strings.LastIndexByte(s, '/')
	if i < 1 {
		return client.Position{}, usagef("a position is an epoch and a number, as in k3/8")
	}
	seq, err := strconv.ParseUint(s[i+1:], 10, 64)
	if err != nil {
		return client.Position{}, usagef("a position is an epoch and a number, as in k3/8")
	}
	return client.Position{Epoch: s[:i], Seq: seq}, nil
}

// eventJSON is an event in the form of the protocol, with the epoch of its
// position.
type eventJSON struct {
	Type      string                     `json:"type"`
	ID        string                     `json:"id,omitzero"`
	Room      string                     `json:"room,omitzero"`
	To        string                     `json:"to,omitzero"`
	From      *client.User               `json:"from,omitzero"`
	Epoch     string                     `json:"epoch,omitzero"`
	Seq       uint64                     `json:"seq,omitzero"`
	TS        int64                      `json:"ts,omitzero"`
	Version   uint64                     `json:"version,omitzero"`
	Edited    int64                      `json:"edited,omitzero"`
	Deleted   int64                      `json:"deleted,omitzero"`
	Reactions map[string]client.Reaction `json:"reactions,omitzero"`
	Data      jsontext.Value             `json:"data,omitzero"`
}

func jsonOf(e client.Event) eventJSON {
	j := eventJSON{
		Type: e.Type, ID: e.ID, Room: e.Room, To: e.To, Epoch: e.Position.Epoch, Seq: e.Position.Seq,
		TS: millisOf(e.Time), Version: e.Version, Edited: millisOf(e.Edited), Deleted: millisOf(e.Deleted),
		Reactions: e.Reactions, Data: e.Data,
	}
	if e.From != (client.User{}) {
		j.From = &e.From
	}
	if e.Type == client.TypeGap {
		j.Type = "gap"
	}
	return j
}

func millisOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// presenceText returns who comes or goes, and how many users are there then.
func presenceText(e client.Event) string {
	var d struct {
		Users []client.User `json:"users"`
		Count int           `json:"count"`
	}
	_ = e.Decode(&d) // the zero value has no names
	names := make([]string, 0, len(d.Users))
	for _, u := range d.Users {
		names = append(names, printable(u.Name))
	}
	return fmt.Sprintf("%s (%d in the room)", strings.Join(names, ", "), d.Count)
}

// lineOf returns an event as a line for people.
func lineOf(e client.Event) string {
	var b strings.Builder
	if !e.Time.IsZero() {
		b.WriteString(e.Time.Local().Format(time.TimeOnly) + "  ")
	}
	name := printable(e.From.Name)
	if name == "" {
		name = "the application"
	}
	switch {
	case e.Type == client.TypeGap:
		return "--- messages are missing: the server no longer has all of them; the newest follow ---"
	case !e.Deleted.IsZero():
		fmt.Fprintf(&b, "%s: (deleted)", name)
	case e.Type == client.TypeRoomMessage || e.Type == client.TypePrivateMessage:
		fmt.Fprintf(&b, "%s: %s", name, textOf(e.Data))
		if !e.Edited.IsZero() {
			b.WriteString(" (edited)")
		}
	case e.Type == client.TypeUserJoined || e.Type == client.TypeUserLeft:
		fmt.Fprintf(&b, "* %s %s", printable(e.Type), presenceText(e))
	case e.From == client.User{}:
		fmt.Fprintf(&b, "* %s %s", printable(e.Type), textOf(e.Data))
	default:
		fmt.Fprintf(&b, "* %s by %s %s", printable(e.Type), name, textOf(e.Data))
	}
	s := strings.TrimRight(b.String(), " ")
	if e.Position.Seq > 0 {
		s += "  [" + strconv.FormatUint(e.Position.Seq, 10) + "]"
	}
	return s
}
