package chathub_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestTail shows what is sent to a room and to a user, on any node, and nothing
// else.
func TestTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hubs := newUnsteady(1).hubs(t, 2, chathub.Config{})
		ana, bob := hubtest.Dial(t, hubs[0], "ana"), hubtest.Dial(t, hubs[1], "bob")
		for _, c := range []*hubtest.Client{ana, bob} {
			enter(c, "red")
			enter(c, "blue")
		}
		room, user := hubtest.NewCalls[chathub.Entry](t), hubtest.NewCalls[chathub.Entry](t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- hubs[1].To("red").Tail(ctx, room.Call) }()
		go func() { ended <- hubs[0].ToUser("bob").Tail(ctx, user.Call) }()
		synctest.Wait()

		seq := ana.Must(roomMessage("m1", "red", `"one"`)).Seq
		ana.Must(hubtest.Frame{Type: "typing", Room: "red"})
		ana.Must(editOf("e1", "red", seq, `"One"`))
		ana.Must(roomMessage("m2", "blue", `"elsewhere"`))
		ana.Must(privateMessage("p1", "bob", `"psst"`))
		time.Sleep(time.Second)
		want := map[*hubtest.Calls[chathub.Entry]][]string{
			room: {"room-message", "typing", "message-changed"},
			user: {"private-message"},
		}
		for calls, types := range want {
			var got []string
			for _, e := range calls.Pending() {
				got = append(got, e.Type)
				if e.From.ID != "ana" || e.Gap || time.Since(e.Time) > time.Minute {
					t.Errorf("got %+v", e)
				}
			}
			if !slices.Equal(got, types) {
				t.Errorf("got %q, want %q", got, types)
			}
		}
		stop()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if err := hubs[0].Broadcast().Tail(t.Context(), room.Call); err == nil {
			t.Error("a Tail of everyone begins")
		}
	})
}

// TestTailIsSlow: a function that hangs delays nobody, and is told that it has
// missed something.
func TestTailIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Rate: -1, UserRate: -1, ByteRate: -1, UserByteRate: -1})
		ana := hubtest.Dial(t, hub, "ana")
		enter(ana, "red")
		free := make(chan struct{})
		entries, gaps := 0, 0
		enough := errors.New("enough")
		ended := make(chan error)
		go func() {
			ended <- hub.To("red").Tail(t.Context(), func(_ context.Context, e chathub.Entry) error {
				<-free
				entries++
				if e.Gap {
					gaps++
				}
				if string(e.Data) == `"last"` {
					return enough
				}
				return nil
			})
		}()
		synctest.Wait()
		for range 1000 {
			ana.Must(hubtest.Frame{Type: "room-message", Room: "red", Data: raw("1")})
		}
		close(free)
		synctest.Wait()
		ana.Must(hubtest.Frame{Type: "room-message", Room: "red", Data: raw(`"last"`)})
		if err := <-ended; !errors.Is(err, enough) || gaps != 1 || entries < 256 || entries > 300 {
			t.Errorf("%d entries, %d gaps, %v", entries, gaps, err)
		}
	})
}
