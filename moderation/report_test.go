package moderation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
	"github.com/go-json-experiment/json"
)

// reportsIn returns the reports in the log, without position and time.
func (n *node) reportsIn(t *testing.T) (all []moderation.Report) {
	t.Helper()
	entries, _, err := n.hub.History(t.Context(), moderation.ReportsRoom, chathub.Range{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var r moderation.Report
		if err := json.Unmarshal(e.Data, &r); err != nil || e.Type != "report" {
			t.Fatalf("%s %s: %v", e.Type, e.Data, err)
		}
		r.By = e.From
		all = append(all, r)
	}
	return all
}

// TestReport: a report is stored once, reaches moderators in their room and the
// application, and says who wrote the message.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []moderation.Report
		var fail error
		a := newNode(t, moderation.Config{OnReport: func(_ context.Context, r moderation.Report) error {
			told = append(told, r)
			return fail
		}}, chathub.Config{})
		ana, bob := a.dial("ana", "lobby"), a.dial("bob/Bob", "lobby")
		mod := a.dial("mod1", moderation.ReportsRoom)
		m := text("lobby", "spam")
		m.ID = "m1"
		seq := ana.Must(m).Seq
		report := frame("report", "lobby", map[string]any{"seq": seq, "author": "cid", "reason": "spam", "quote": "spam"})
		report.ID = "r1"
		fail = errors.New("down")
		expect(t, "OnReport fails", bob, report, "internal: Internal error")
		fail = nil
		expect(t, "again", bob, report, "ack")
		expect(t, "of a private message", bob, hubtest.Frame{Type: "report", ID: "r2", To: "ana", Data: hubtest.Data(map[string]any{"id": "p1", "author": "ana", "reason": "spam"})}, "ack")
		by := chathub.User{ID: "bob", Name: "Bob"}
		want := []moderation.Report{
			{By: by, Room: "lobby", Seq: seq, ID: "m1", Author: "ana", Reason: "spam", Quote: "spam"},
			{By: by, To: "ana", ID: "p1", Author: "ana", Reason: "spam"},
		}
		if got := a.reportsIn(t); !slices.Equal(got, want) {
			t.Errorf("the reports are %+v, want %+v", got, want)
		}
		for i, r := range told {
			if r.Position.Seq == 0 || !r.Time.Equal(time.Now().Truncate(time.Millisecond)) {
				t.Errorf("report %d is at %+v, %v", i, r.Position, r.Time)
			}
			told[i].Position, told[i].Time = chathub.Position{}, time.Time{}
		}
		if !slices.Equal(told, []moderation.Report{want[0], want[0], want[1]}) {
			t.Errorf("the application was told %+v", told)
		}
		if f := mod.Wait("report"); f.From == nil || *f.From != by || f.Room != moderation.ReportsRoom {
			t.Errorf("moderators get %+v", f)
		}
		over := dataOf[struct {
			Rooms map[string]any `json:"rooms"`
		}](t, mod.Must(frame("overview", "", map[string]any{"rooms": []string{moderation.ReportsRoom}})))
		if len(over.Rooms) != 1 {
			t.Errorf("the overview of a moderator has %v", over.Rooms)
		}
		if _, err := a.hub.DeleteMessage(t.Context(), "lobby", seq); err != nil {
			t.Fatal(err)
		}
		expect(t, "of a deleted message", ana, frame("report", "lobby", map[string]any{"seq": seq, "reason": "spam"}), "ack")
	})
}

// TestReportRefused: a report of what is not there, of a room that the user is
// not in, or that is too large is refused.
func TestReportRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newNode(t, moderation.Config{}, chathub.Config{})
		seq := a.post("hall", "ana").Seq
		a.post("lobby", "ana")
		bob := a.dial("bob", "lobby")
		data := func(pairs ...any) map[string]any {
			d := map[string]any{"seq": 1, "id": "m1", "reason": "spam"}
			for i := 0; i < len(pairs); i += 2 {
				d[pairs[i].(string)] = pairs[i+1]
			}
			return d
		}
		for _, tc := range []struct {
			what     string
			room, to string
			data     any
			want     string
		}{
			{"no room", "", "", data(), "bad_request: either room or to"},
			{"both", "lobby", "ana", data(), "bad_request: either room or to"},
			{"another room", "hall", "", data("seq", seq), "not_in_room: Join the room first"},
			{"no seq", "lobby", "", data("seq", 0), "bad_request: data.seq must be the position of a message"},
			{"seq too high", "lobby", "", data("seq", uint64(1)<<53), "bad_request: data.seq must be the position of a message"},
			{"seq of nothing", "lobby", "", data("seq", 99), "bad_request: No such message"},
			{"no id", "", "ana", data("id", ""), "bad_request: data.id is missing"},
			{"long id", "", "ana", data("id", strings.Repeat("x", 65)), "bad_request: data.id must be at most 64 bytes"},
			{"no reason", "lobby", "", data("reason", ""), "bad_request: data.reason is missing"},
			{"long reason", "lobby", "", data("reason", strings.Repeat("x", 1001)), "bad_request: data.reason must be at most 1000 bytes"},
			{"long quote", "lobby", "", data("quote", strings.Repeat("x", 2001)), "bad_request: data.quote must be at most 2000 bytes"},
			{"bad author", "", "ana", data("author", "a\nb"), "bad_request: data.author is not a user id"},
			{"wrong shape", "lobby", "", data("seq", "1"), "bad_request: data.seq must be a whole number"},
			{"no data", "lobby", "", nil, "bad_request: data.reason is missing"},
		} {
			f := frame("report", tc.room, tc.data)
			f.To = tc.to
			expect(t, tc.what, bob, f, tc.want)
			time.Sleep(time.Minute) // so that no limit is reached
		}
		if got := a.reportsIn(t); len(got) > 0 {
			t.Errorf("the reports are %+v", got)
		}
	})
}

// TestReportRate: a user who reports too much is told how long to wait, on all
// connections, and others are not bothered.
func TestReportRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newNode(t, moderation.Config{}, chathub.Config{})
		a.post("lobby", "ana")
		bob, tab, cid := a.dial("bob", "lobby"), a.dial("bob", "lobby"), a.dial("cid", "lobby")
		report := frame("report", "lobby", map[string]any{"seq": 1, "reason": "spam"})
		for range 5 {
			expect(t, "the first ones", bob, report, "ack")
		}
		expect(t, "too many", bob, report, "rate_limited: Too many reports (10s)")
		expect(t, "on another connection", tab, report, "rate_limited: Too many reports (10s)")
		expect(t, "another user", cid, report, "ack")
		time.Sleep(10 * time.Second)
		expect(t, "later", tab, report, "ack")
		expect(t, "and again", bob, report, "rate_limited: Too many reports (10s)")
		for i := range 3000 { // what is known of users who do not report any more goes
			if i%1000 == 0 {
				time.Sleep(time.Minute)
			}
			if err := moderation.TakeReport(a.Moderation, fmt.Sprint("user", i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := moderation.Reporters(a.Moderation); n > 2100 {
			t.Errorf("%d users are remembered", n)
		}
	})
}
