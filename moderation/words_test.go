package moderation_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
	"github.com/go-json-experiment/json/jsontext"
)

// words is a Words that refuses "bad", replaces "rude", reports "odd", returns
// nonsense for "wrong", fails for "fault", and mutes whoever says "mute me".
type words struct {
	node *node
	mu   sync.Mutex
	said []string
}

func (w *words) look(ctx context.Context, c *chathub.Client, s moderation.Said) (moderation.Verdict, error) {
	w.mu.Lock()
	w.said = append(w.said, strings.Join([]string{s.Type, s.Room, s.To, string(s.Data)}, " "))
	w.mu.Unlock()
	switch string(s.Data) {
	case `"bad"`:
		return moderation.Verdict{}, &chathub.Error{Code: chathub.CodeForbidden, Message: "Mind your language"}
	case `"rude"`:
		return moderation.Verdict{Data: jsontext.Value(`"nice"`)}, nil
	case `"odd"`:
		return moderation.Verdict{Report: "is odd"}, nil
	case `"wrong"`:
		return moderation.Verdict{Data: jsontext.Value(`{`)}, nil
	case `"fault"`:
		return moderation.Verdict{}, errors.New("secret")
	case `"mute me"`:
		_, err := w.node.Decide(ctx, moderation.Decision{Kind: moderation.Mute, Room: s.Room, User: c.User().ID})
		return moderation.Verdict{}, err
	}
	return moderation.Verdict{}, nil
}

func (w *words) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

// TestWords: Words sees whatever is said, and may refuse or replace it.
func TestWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &words{}
		a := newNode(t, moderation.Config{Words: w.look, Events: []string{"wave"}}, chathub.Config{ClientState: everyKey})
		w.node = a
		chathub.OnAck(a.hub, "wave", func(_ context.Context, _ *chathub.Client, text string) (string, error) { return text, nil })
		ana, bob := a.dial("ana", "lobby"), a.dial("bob", "lobby")
		seq := ana.Must(text("lobby", "1")).Seq
		bob.Wait("room-message")
		w.take()
		edit := func(s string) hubtest.Frame {
			return frame("edit-message", "lobby", map[string]any{"seq": seq, "data": s})
		}
		react := func(s string) hubtest.Frame {
			return frame("react", "lobby", map[string]any{"seq": seq, "key": s})
		}
		topic := func(s string) hubtest.Frame {
			return frame("set-state", "lobby", map[string]any{"key": "topic", "value": s})
		}
		private := func(s string) hubtest.Frame {
			return hubtest.Frame{Type: "private-message", To: "bob", Data: hubtest.Data(s)}
		}
		notify := func(s string) hubtest.Frame {
			return hubtest.Frame{Type: "send-notification", To: "bob", Data: hubtest.Data(s)}
		}
		plain := func(typ, room string) func(string) hubtest.Frame {
			return func(s string) hubtest.Frame { return frame(typ, room, s) }
		}
		for _, tc := range []struct {
			what  string
			event func(string) hubtest.Frame
			said  string
			heard string // the event in which others get it; "": nobody does
		}{
			{"a message", plain("room-message", "lobby"), "room-message lobby ", "room-message"},
			{"an edit", edit, "edit-message lobby ", "message-changed"},
			{"a reaction", react, "react lobby ", "message-changed"},
			{"a state", topic, "set-state lobby ", "state-changed"},
			{"a private message", private, "private-message  bob", "private-message"},
			{"a notification", notify, "send-notification  bob", "notification"},
			{"a message to all", plain("message", ""), "message  ", "message"},
			{"an event of the application", plain("wave", "lobby"), "wave lobby ", ""},
		} {
			expect(t, tc.what, ana, tc.event("bad"), "forbidden: Mind your language")
			expect(t, tc.what, ana, tc.event("fault"), "internal: Internal error")
			expect(t, tc.what, ana, tc.event("wrong"), "internal: Internal error")
			if got, want := w.take(), []string{tc.said + ` "bad"`, tc.said + ` "fault"`, tc.said + ` "wrong"`}; !slices.Equal(got, want) {
				t.Errorf("%s: Words saw %q, want %q", tc.what, got, want)
			}
			synctest.Wait()
			if heard := bob.Pending(); len(heard) > 0 {
				t.Errorf("%s: %+v was heard", tc.what, heard)
			}
			f := tc.event("rude")
			f.ID = "rude-" + f.Type
			ack := ana.Request(f)
			if ack.Type != "ack" {
				t.Errorf("%s: %s", tc.what, ack.Data)
			}
			if tc.heard == "" {
				if string(ack.Data) != `"nice"` {
					t.Errorf("%s: the handler has %s", tc.what, ack.Data)
				}
			} else if heard := bob.Wait(tc.heard); !strings.Contains(string(heard.Data), `"nice"`) || strings.Contains(string(heard.Data), "rude") {
				t.Errorf("%s: others have %s", tc.what, heard.Data)
			}
			if again := ana.Request(f); ack.Seq > 0 && (again.Type != "ack" || again.Seq != ack.Seq) {
				t.Errorf("%s: repeated: %s %s", tc.what, again.Type, again.Data)
			}
			synctest.Wait()
			bob.Pending()
			w.take()
		}
		expect(t, "taking it back", ana, frame("react", "lobby", map[string]any{"seq": seq, "key": "bad", "on": false}), "ack")
		expect(t, "without data", ana, frame("room-message", "lobby", nil), "ack")
		expect(t, "not an object", ana, frame("edit-message", "lobby", 1), "bad_request: data must be an object")
		expect(t, "typing", ana, frame("typing", "lobby", nil), "ack")
		if said := w.take(); len(said) > 0 {
			t.Errorf("Words saw %q", said)
		}
	})
}

// TestWordsDecide: a Words may mute whoever says something, which then is for
// what it looks at, too.
func TestWordsDecide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &words{}
		a := newNode(t, moderation.Config{Words: w.look}, chathub.Config{})
		w.node = a
		ana := a.dial("ana", "lobby")
		expect(t, "muted for it", ana, text("lobby", "mute me"), "forbidden: You are muted")
		if got := a.log("lobby"); len(got) > 0 {
			t.Errorf("the log has %q", got)
		}
	})
}

// TestWordsReport: what Words reports is stored once with its report, however
// often it is repeated.
func TestWordsReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &words{}
		a := newNode(t, moderation.Config{Words: w.look}, chathub.Config{})
		ana := a.dial("ana", "lobby")
		m := text("lobby", "odd")
		m.ID = "m1"
		seq := ana.Must(m).Seq
		ana.Must(m)
		ana.Must(hubtest.Frame{Type: "private-message", ID: "p1", To: "bob", Data: hubtest.Data("odd")})
		ana.Must(frame("message", "", "odd"))
		got := a.reportsIn(t)
		want := []moderation.Report{
			{Room: "lobby", Seq: seq, ID: "m1", Author: "ana", Reason: "is odd"},
			{To: "bob", ID: "p1", Author: "ana", Reason: "is odd"},
		}
		if !slices.Equal(got, want) {
			t.Errorf("the reports are %+v, want %+v", got, want)
		}
	})
}
