package chathub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// The application may edit and delete any message of a room. Its changes have
// no sender.
func TestChangeFromGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{MaxMessageBytes: 1000, MaxOutboxBytes: 4000})
		ana := p.dial("ana", "red")
		say(ana.Client, "red", "one")
		if err := p.hub.To("red").Emit(t.Context(), "room-message", "two"); err != nil {
			t.Fatal(err)
		}
		if err := p.hub.To("red").Emit(t.Context(), "poll", 3); err != nil {
			t.Fatal(err)
		}
		ana.heard()
		edit := func(room string, seq uint64, data any) error {
			return second(p.hub.EditMessage(t.Context(), room, seq, data))
		}
		remove := func(room string, seq uint64) error { return second(p.hub.DeleteMessage(t.Context(), room, seq)) }

		r, err := p.hub.EditMessage(t.Context(), "red", 2, map[string]string{"text": "TWO"})
		if err != nil || r.Seq != 4 || r.Time != time.Now().UnixMilli() || r.Epoch == "" || r.Duplicate {
			t.Errorf("%+v, %v", r, err)
		}
		got := arrived(ana.Client)
		if len(got) != 1 || got[0].From != nil || got[0].Seq != 4 || got[0].Room != "red" || !strings.Contains(string(got[0].Data), `"message":{"data":{"text":"TWO"},"edited":`) {
			t.Errorf("heard %+v", got)
		}
		for _, tc := range []struct {
			err  error
			code chathub.Code
		}{
			{edit("", 1, 1), chathub.CodeBadRequest},
			{edit("a\nb", 1, 1), chathub.CodeBadRequest},
			{edit("red", 0, 1), chathub.CodeBadRequest},
			{edit("red", 1<<53, 1), chathub.CodeBadRequest},
			{edit("red", 3, 1), chathub.CodeBadRequest},
			{edit("red", 9, 1), chathub.CodeBadRequest},
			{edit("blue", 1, 1), chathub.CodeBadRequest},
			{edit("red", 1, time.Second), chathub.CodeBadRequest},
			{edit("red", 1, strings.Repeat("x", 2000)), chathub.CodeTooLarge},
			// With what is around it.
			{edit("red", 1, strings.Repeat("x", 1990)), chathub.CodeTooLarge},
			{edit("red", 1, nil), ""},
			{edit("red", 1, nil), ""}, // without an id nothing is a repetition
			{remove("red", 3), chathub.CodeBadRequest},
			{remove("red", 9), chathub.CodeBadRequest},
			{remove("red", 0), chathub.CodeBadRequest},
			{remove("", 1), chathub.CodeBadRequest},
			{remove("red", 1), ""},
			{remove("red", 1), ""},
			{edit("red", 1, 1), chathub.CodeConflict},
		} {
			if codeOf(tc.err) != tc.code || tc.code == "" && tc.err != nil {
				t.Errorf("got %v, want %q", tc.err, tc.code)
			}
		}
		if r, err := p.hub.DeleteMessage(t.Context(), "red", 1); err != nil || r.Seq != 7 || !r.Duplicate {
			t.Errorf("deleting again returned %+v, %v", r, err)
		}
		wantPage(t, ana.Client, hubtest.Frame{Room: "red"}, "1  v7 deleted", `2 {"text":"TWO"} v4 edited`, "3 3")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.hub.EditMessage(ctx, "red", 2, 1); codeOf(err) != chathub.CodeUnavailable {
			t.Errorf("with a ctx that has ended: %v", err)
		}
	})
}

// The reactions to a message cannot make an event that is too large for its
// audience.
func TestChangeTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{MaxMessageBytes: 1000, MaxOutboxBytes: 4000, UserRate: -1})
		ana := p.dial("ana", "red")
		say(ana.Client, "red", "one")
		refused := false
		for i := range 50 {
			f := reactTo(fmt.Sprint(i), "red", 1, fmt.Sprintf("%032d", i), true)
			if r := ana.Request(f); r.Type == "error" {
				refused = r.Code() == chathub.CodeTooLarge
				break
			}
		}
		if !refused {
			t.Error("no reaction was refused")
		}
		ana.Must(reactTo("off", "red", 1, fmt.Sprintf("%032d", 0), false))
		ana.Must(deleteOf("d", "red", 1))
	})
}

func TestEraseUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{MaxMessages: 5000, MaxBytes: 1 << 24}
		p := newParty(t, chathub.Config{Broker: broker, UserRate: -1, MaxMessageBytes: 10_000, MaxOutboxBytes: 40_000})
		s := sessionOf(t, broker)
		ana, bob := p.dial("ana", "red", "blue", "green"), p.dial("bob", "red")
		n := 0
		for i := range 700 {
			data := any(i)
			if i == 350 {
				data = strings.Repeat("x", 20_000-2) // more than one read returns
			}
			if err := p.hub.To("red").Emit(t.Context(), "poll", data); err != nil {
				t.Fatal(err)
			}
			if i%7 == 0 {
				n++
				ana.Must(roomMessage("", "red", `"secret"`))
			}
			arrived(ana.Client)
			arrived(bob.Client)
		}
		ana.Must(roomMessage("", "blue", `"secret"`))
		ana.Must(roomMessage("", "green", `"stays"`))
		ack := bob.Must(roomMessage("", "red", `"of bob"`))
		for i := range 5 {
			ana.Must(reactTo("", "red", ack.Seq, fmt.Sprint(i), true))
		}
		bob.Must(reactTo("", "red", ack.Seq, "1", true))
		time.Sleep(time.Second)
		start := time.Now()
		deleted, err := p.hub.EraseUser(t.Context(), "ana", "red", "blue")
		if deleted != n+1 || err != nil || time.Since(start) > 0 {
			t.Errorf("%d of %d, %v, in %v", deleted, n+1, err, time.Since(start))
		}
		for _, room := range []string{"red", "blue"} {
			if where := findText(t, s, chathub.Topic{Room: room}, "secret"); len(where) > 0 {
				t.Errorf("%s has %q", room, where)
			}
		}
		wantPage(t, bob.Client, hubtest.Frame{Room: "red", Data: raw(`{"limit":1}`)}, fmt.Sprintf(`%d "of bob" v%d map[1:{1 [bob]}] mine [1]`, ack.Seq, ack.Seq+uint64(6+n+1)))
		wantPage(t, ana.Client, hubtest.Frame{Room: "green"}, `1 "stays"`)
		if deleted, err := p.hub.EraseUser(t.Context(), "ana", "red", "blue"); deleted != 0 || err != nil {
			t.Errorf("again: %d, %v", deleted, err)
		}
		for _, tc := range []struct{ user, room string }{{"", "red"}, {"a\nb", "red"}, {"ana", ""}, {"ana", "a\nb"}} {
			if _, err := p.hub.EraseUser(t.Context(), tc.user, tc.room); codeOf(err) != chathub.CodeBadRequest {
				t.Errorf("%q in %q: %v", tc.user, tc.room, err)
			}
		}
		if n, err := p.hub.EraseUser(t.Context(), "ana", "nowhere"); n != 0 || err != nil {
			t.Errorf("in an unknown room: %d, %v", n, err)
		}
	})
}
