package chathub_test

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
)

func short(e chathub.Entry) string {
	s := fmt.Sprint(e.Seq, " ", e.Type, " ", string(e.Data))
	if e.Gap {
		s = "gap " + s
	}
	if !e.Deleted.IsZero() {
		s += " deleted"
	}
	return s
}

// follow runs Follow until the test ends, and keeps what it was told.
func follow(t *testing.T, hub *chathub.Hub, from chathub.Position, into *record) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- hub.Follow(ctx, "lobby", from, func(_ context.Context, e chathub.Entry) error {
			into.add("%s", short(e))
			return nil
		})
	}()
	return func() error { cancel(); return <-done }
}

// TestFollow: every entry after a position comes once and in order, from any
// hub, with changes at their place.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		here := hubtest.New(t, chathub.Config{Broker: broker})
		there := hubtest.New(t, chathub.Config{Broker: broker})
		post := func(text string) chathub.Receipt {
			t.Helper()
			r, err := there.To("lobby").Post(t.Context(), chathub.Post{Data: text})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		var all, late record
		stop := follow(t, here, chathub.Position{}, &all)
		synctest.Wait()
		all.want(t, "before there is a log")
		first, second := post("1"), post("2")
		synctest.Wait()
		all.want(t, "live", `1 room-message "1"`, `2 room-message "2"`)
		if _, err := here.DeleteMessage(t.Context(), "lobby", first.Seq); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := here.EditMessage(t.Context(), "lobby", second.Seq, "3"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := all.take(); len(got) == 0 || !strings.Contains(got[0], `"change":"deleted"`) || !strings.HasPrefix(got[len(got)-1], "6 message-changed") {
			t.Errorf("changes came as %q", got)
		}
		stopLate := follow(t, here, chathub.Position{Epoch: first.Epoch, Seq: 1}, &late)
		synctest.Wait()
		if got := late.take(); len(got) != 3 || got[0] != `2 room-message "2"` {
			t.Errorf("after the first message: %q", got)
		}
		for _, stop := range []func() error{stop, stopLate} {
			if err := stop(); !errors.Is(err, context.Canceled) {
				t.Errorf("Follow returned %v", err)
			}
		}
	})
}

// TestFollowGap: whoever follows is told if the log no longer reaches back.
func TestFollowGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Broker: &chathub.MemoryBroker{MaxMessages: 2}})
		var from chathub.Position
		for i := range 6 {
			r, err := hub.To("lobby").Post(t.Context(), chathub.Post{Data: i})
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 {
				from = chathub.Position{Epoch: r.Epoch, Seq: r.Seq}
			}
		}
		for _, tc := range []struct {
			from chathub.Position
			want []string
		}{
			{from, []string{"gap 5 room-message 4", "6 room-message 5"}},
			{chathub.Position{Epoch: from.Epoch, Seq: 4}, []string{"5 room-message 4", "6 room-message 5"}},
			{chathub.Position{Epoch: "another", Seq: 5}, []string{"gap 5 room-message 4", "6 room-message 5"}},
			{chathub.Position{}, []string{"5 room-message 4", "6 room-message 5"}},
			{chathub.Position{Epoch: from.Epoch, Seq: 6}, nil},
		} {
			var got record
			stop := follow(t, hub, tc.from, &got)
			synctest.Wait()
			got.want(t, fmt.Sprintf("from %+v", tc.from), tc.want...)
			_ = stop()
		}
	})
}

// TestFollowEnds: Follow returns the error of its function, and ends with the
// hub.
func TestFollowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		if _, err := hub.To("lobby").Post(t.Context(), chathub.Post{}); err != nil {
			t.Fatal(err)
		}
		broken := errors.New("broken")
		calls := 0
		err := hub.Follow(t.Context(), "lobby", chathub.Position{}, func(context.Context, chathub.Entry) error { calls++; return broken })
		if !errors.Is(err, broken) || calls != 1 {
			t.Errorf("Follow returned %v after %d calls", err, calls)
		}
		if err := hub.Follow(t.Context(), "", chathub.Position{}, nil); !hasCode(err, chathub.CodeBadRequest) {
			t.Errorf("no room: %v", err)
		}
		time.AfterFunc(time.Second, func() { _ = hub.Close() })
		err = hub.Follow(t.Context(), "lobby", chathub.Position{}, func(context.Context, chathub.Entry) error { return nil })
		if !errors.Is(err, chathub.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestHubHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		if head, err := hub.Head(t.Context(), "lobby"); err != nil || head != (chathub.Position{}) {
			t.Errorf("head of no log: %+v, %v", head, err)
		}
		var last chathub.Receipt
		for i := range 5 {
			var err error
			if last, err = hub.To("lobby").Post(t.Context(), chathub.Post{From: chathub.User{ID: "ana"}, Data: i}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := hub.EditMessage(t.Context(), "lobby", 2, "new"); err != nil {
			t.Fatal(err)
		}
		if _, err := hub.DeleteMessage(t.Context(), "lobby", 4); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			r    chathub.Range
			want []string
			more bool
		}{
			{chathub.Range{Limit: 10}, []string{"1 room-message 0", `2 room-message "new"`, "3 room-message 2", "4 room-message  deleted", "5 room-message 4"}, false},
			{chathub.Range{Limit: 2}, []string{"3 room-message 2", "4 room-message  deleted", "5 room-message 4"}, true},
			{chathub.Range{Limit: 2, Oldest: true}, []string{"1 room-message 0", `2 room-message "new"`}, true},
			{chathub.Range{Limit: 2, After: 2, Oldest: true}, []string{"3 room-message 2", "4 room-message  deleted", "5 room-message 4"}, false},
			{chathub.Range{Limit: 2, Before: 2}, []string{"1 room-message 0"}, false},
			{chathub.Range{Limit: 2, After: 3, Before: 5}, []string{"4 room-message  deleted"}, false},
			{chathub.Range{Limit: 2, After: 4}, []string{"5 room-message 4"}, false},
			{chathub.Range{}, nil, false},
		} {
			entries, more, err := hub.History(t.Context(), "lobby", tc.r)
			var got []string
			for _, e := range entries {
				got = append(got, short(e))
				if e.Epoch != last.Epoch || e.Room != "lobby" || e.From.ID != "ana" || e.Time.IsZero() || (e.Version > 0) != (e.Seq%2 == 0) {
					t.Errorf("entry %+v", e)
				}
			}
			if err != nil || more != tc.more || !slices.Equal(got, tc.want) {
				t.Errorf("%+v: %q, more %t, %v; want %q, more %t", tc.r, got, more, err, tc.want, tc.more)
			}
		}
		head, err := hub.Head(t.Context(), "lobby")
		if err != nil || head.Epoch != last.Epoch || head.Seq != 7 {
			t.Errorf("head %+v, %v", head, err)
		}
	})
}
