package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestFollowConcurrentPosts: followers on two hubs get everything that is
// posted from both at once, in one order and once, while the broker fails now
// and then.
func TestFollowConcurrentPosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const posters, each = 6, 100
		broker := &hooked{}
		hubs := []*chathub.Hub{hubtest.New(t, chathub.Config{Broker: broker}), hubtest.New(t, chathub.Config{Broker: broker})}
		var reads atomic.Int64
		broker.before("Read", func() error {
			if reads.Add(1)%3 == 0 {
				return chathub.Unavailable(errors.New("down"))
			}
			return nil
		})
		var got [4]record
		var stops []func() error
		for i := range got {
			stops = append(stops, follow(t, hubs[i%2], chathub.Position{}, &got[i]))
		}
		var wg sync.WaitGroup
		for i := range posters {
			wg.Go(func() {
				for k := range each {
					if _, err := hubs[i%2].To("lobby").Post(t.Context(), chathub.Post{Data: i*each + k}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		time.Sleep(10 * time.Second) // of the bubble, for the pauses after failures
		synctest.Wait()
		first := got[0].take()
		seen := make(map[string]bool)
		for i, entry := range first {
			seq, text, _ := strings.Cut(entry, " ")
			if seq != fmt.Sprint(i+1) || seen[text] {
				t.Fatalf("entry %d is %q", i, entry)
			}
			seen[text] = true
		}
		if len(first) != posters*each {
			t.Errorf("%d entries, want %d", len(first), posters*each)
		}
		for i := range got[1:] {
			if !slices.Equal(got[i+1].take(), first) {
				t.Errorf("follower %d got something else", i+1)
			}
		}
		for _, stop := range stops {
			_ = stop()
		}
	})
}

// TestFollowBrokerDown: Follow begins as soon as the broker is back, and goes
// on where it was.
func TestFollowBrokerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &hooked{}
		hub := hubtest.New(t, chathub.Config{Broker: broker})
		post := func(text string) {
			t.Helper()
			if _, err := hub.To("lobby").Post(t.Context(), chathub.Post{Data: text}); err != nil {
				t.Fatal(err)
			}
		}
		down := func() error { return chathub.Unavailable(errors.New("down")) }
		post("1")
		broker.before("Read", down)
		broker.before("Subscribe", down)
		var got record
		stop := follow(t, hub, chathub.Position{}, &got)
		for range 3 {
			time.Sleep(time.Second)
			post("while it is down")
			synctest.Wait()
			got.want(t, "down")
		}
		broker.before("Subscribe", nil)
		broker.before("Read", nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if all := got.take(); len(all) != 4 {
			t.Errorf("after it came back: %q", all)
		}
		broker.before("Read", down)
		post("2")
		synctest.Wait()
		broker.before("Read", nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		got.want(t, "after another failure", `5 room-message "2"`)
		broken := errors.New("broken")
		broker.before("Read", func() error { return broken })
		post("3")
		synctest.Wait()
		if err := stop(); !errors.Is(err, broken) {
			t.Errorf("another error of the broker: %v", err)
		}
	})
}

// TestFollowGaps: a gap is told before the entry it precedes, if there may be
// one, and not otherwise.
func TestFollowGaps(t *testing.T) {
	for _, tc := range []struct {
		name   string
		broker *chathub.MemoryBroker
		// An upper-case letter is a post of mallory, a lower-case one is the
		// application's. The rest are waits of an hour.
		posts string
		from  func(first chathub.Receipt) chathub.Position
		want  []string
	}{
		{"an empty log's end", &chathub.MemoryBroker{MaxMessages: 2}, "abcd", func(r chathub.Receipt) chathub.Position {
			return chathub.Position{Epoch: r.Epoch}
		}, []string{`gap 3 room-message "c"`, `4 room-message "d"`}},
		{"a position without an epoch", &chathub.MemoryBroker{}, "ab", func(chathub.Receipt) chathub.Position {
			return chathub.Position{Seq: 1}
		}, []string{`gap 1 room-message "a"`, `2 room-message "b"`}},
		{"beyond the head", &chathub.MemoryBroker{}, "ab", func(r chathub.Receipt) chathub.Position {
			return chathub.Position{Epoch: r.Epoch, Seq: 10}
		}, []string{`gap 1 room-message "a"`, `2 room-message "b"`}},
		{"beyond what is dropped", &chathub.MemoryBroker{MaxMessages: 2}, "abcd", func(r chathub.Receipt) chathub.Position {
			return chathub.Position{Epoch: r.Epoch, Seq: 2}
		}, []string{`3 room-message "c"`, `4 room-message "d"`}},
		{"all is too old", &chathub.MemoryBroker{MaxAge: time.Hour}, "ab..c", func(r chathub.Receipt) chathub.Position {
			return chathub.Position{Epoch: r.Epoch, Seq: 1}
		}, []string{`gap 3 room-message "c"`}},
		{"all that is known is too old", &chathub.MemoryBroker{MaxAge: time.Hour}, "ab..c", func(r chathub.Receipt) chathub.Position {
			return chathub.Position{Epoch: r.Epoch, Seq: 2}
		}, []string{`3 room-message "c"`}},
		{"the zero position", &chathub.MemoryBroker{MaxAge: time.Hour}, "ab..c", func(chathub.Receipt) chathub.Position {
			return chathub.Position{}
		}, []string{`3 room-message "c"`}},
		{"a message in between", &chathub.MemoryBroker{MaxMessages: 4}, "aBCDe", func(r chathub.Receipt) chathub.Position {
			return chathub.Position{Epoch: r.Epoch, Seq: 0}
		}, []string{`1 room-message "a"`, `gap 3 room-message "C"`, `4 room-message "D"`, `5 room-message "e"`}},
		{"a message in between, from the oldest", &chathub.MemoryBroker{MaxMessages: 4}, "aBCDe", func(chathub.Receipt) chathub.Position {
			return chathub.Position{}
		}, []string{`1 room-message "a"`, `gap 3 room-message "C"`, `4 room-message "D"`, `5 room-message "e"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{Broker: tc.broker})
				var quiet record
				stopQuiet := follow(t, hub, chathub.Position{}, &quiet) // keeps the log
				synctest.Wait()
				var first chathub.Receipt
				for i, letter := range strings.Split(tc.posts, "") {
					p := chathub.Post{Data: letter}
					switch {
					case letter == ".":
						time.Sleep(time.Hour)
						continue
					case letter < "a":
						p.From.ID = "mallory"
					}
					r, err := hub.To("lobby").Post(t.Context(), p)
					if err != nil {
						t.Fatal(err)
					}
					if i == 0 {
						first = r
					}
					synctest.Wait()
				}
				for _, entry := range quiet.take() {
					if strings.HasPrefix(entry, "gap") {
						t.Errorf("a follower from the beginning got %q", entry)
					}
				}
				var got record
				stop := follow(t, hub, tc.from(first), &got)
				synctest.Wait()
				got.want(t, tc.name, tc.want...)
				_, _ = stop(), stopQuiet()
			})
		})
	}
}

// TestFollowLogAnew: a log that was dropped, and one that began anew, are told
// from one that is quiet.
func TestFollowLogAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{MaxAge: time.Hour, DuplicateWindow: time.Hour}
		hub := hubtest.New(t, chathub.Config{Broker: broker})
		post := func(room, text string) chathub.Position {
			t.Helper()
			r, err := hub.To(room).Post(t.Context(), chathub.Post{Data: text})
			if err != nil {
				t.Fatal(err)
			}
			return chathub.Position{Epoch: r.Epoch, Seq: r.Seq}
		}
		at := post("lobby", "old")
		time.Sleep(2 * time.Hour)
		post("other", "which sweeps")
		var got record
		stop := follow(t, hub, at, &got)
		synctest.Wait()
		got.want(t, "an empty log")
		now := post("lobby", "new")
		synctest.Wait()
		if now.Epoch == at.Epoch {
			t.Fatal("the log did not begin anew")
		}
		got.want(t, "a new log", `gap 1 room-message "new"`)
		post("lobby", "newer")
		synctest.Wait()
		got.want(t, "a new log", `2 room-message "newer"`)
		_ = stop()
	})
}

// TestFollowNames: states and changes come at the place of their newest
// version, removals included, and without a gap.
func TestFollowNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		room := hub.To("lobby")
		do := func(_ chathub.Receipt, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		do(room.Post(t.Context(), chathub.Post{Data: 1}))
		do(room.SetState(t.Context(), "a", 1)) // 2
		do(room.SetState(t.Context(), "b", 1)) // 3
		do(room.SetState(t.Context(), "a", 2)) // 4
		do(room.SetState(t.Context(), "b", nil))
		do(room.Post(t.Context(), chathub.Post{Data: 2}))
		do(hub.DeleteMessage(t.Context(), "lobby", 6))
		var got record
		stop := follow(t, hub, chathub.Position{}, &got)
		synctest.Wait()
		all := got.take()
		if len(all) != 4 || !slices.Equal(all[:3], []string{"1 room-message 1", `4 state-changed {"key":"a","value":2}`, `5 state-changed {"key":"b","value":null}`}) ||
			!strings.HasPrefix(all[3], `7 message-changed {"seq":6,"change":"deleted"`) {
			t.Errorf("got %q", all)
		}
		_ = stop()
	})
}

// TestFollowLargest: an entry that is larger than an answer comes all the same.
func TestFollowLargest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{MaxOutboxBytes: 64 << 10, MaxMessageBytes: 16 << 10})
		large := strings.Repeat("x", 32<<10-2)
		for range 3 {
			if _, err := hub.To("lobby").Post(t.Context(), chathub.Post{Data: large}); err != nil {
				t.Fatal(err)
			}
		}
		var got record
		stop := follow(t, hub, chathub.Position{}, &got)
		synctest.Wait()
		if all := got.take(); len(all) != 3 {
			t.Errorf("%d entries came", len(all))
		}
		_ = stop()
	})
}

// TestFollowError: an error of fn is returned whatever it is, also one that
// would be tried again if it were the broker's.
func TestFollowError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		for range 3 {
			if _, err := hub.To("lobby").Post(t.Context(), chathub.Post{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []error{chathub.Unavailable(errors.New("down")), context.Canceled, chathub.ErrClosed} {
			ctx, cancel := context.WithCancel(t.Context())
			calls := 0
			err := hub.Follow(ctx, "lobby", chathub.Position{}, func(context.Context, chathub.Entry) error {
				calls++
				cancel()
				return want
			})
			if !errors.Is(err, want) || calls != 1 {
				t.Errorf("Follow returned %v after %d calls, want %v", err, calls, want)
			}
		}
		calls := 0
		ctx, cancel := context.WithCancel(t.Context())
		err := hub.Follow(ctx, "lobby", chathub.Position{}, func(context.Context, chathub.Entry) error { calls++; cancel(); return nil })
		if !errors.Is(err, context.Canceled) || calls != 1 {
			t.Errorf("Follow returned %v after %d calls, and its ctx ended during the first", err, calls)
		}
		calls = 0
		err = hub.Follow(t.Context(), "lobby", chathub.Position{}, func(context.Context, chathub.Entry) error { calls++; return hub.Close() })
		if !errors.Is(err, chathub.ErrClosed) || calls != 1 {
			t.Errorf("Follow returned %v after %d calls, and the hub was closed during the first", err, calls)
		}
	})
}

// TestFollowEndsClean: after the last Follow of a room, its topic is not
// subscribed, and one that has ended while the broker hangs leaves nothing.
func TestFollowEndsClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		hub := hubtest.New(t, chathub.Config{Broker: broker})
		lobby := chathub.Topic{Room: "lobby"}
		var a, b record
		stopA, stopB := follow(t, hub, chathub.Position{}, &a), follow(t, hub, chathub.Position{}, &b)
		synctest.Wait()
		if err := stopA(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		if !gate(broker, broker.topics, lobby) {
			t.Error("the second Follow has lost its subscription")
		}
		_ = stopB()
		synctest.Wait()
		if gate(broker, broker.topics, lobby) {
			t.Error("the room is still subscribed")
		}
		hangs := make(chan struct{})
		set(broker, broker.subscribe, lobby, hangs)
		stop := follow(t, hub, chathub.Position{}, &a)
		synctest.Wait()
		go close(hangs)
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		if gate(broker, broker.topics, lobby) {
			t.Error("the room is still subscribed, after a Follow that ended early")
		}
		stop = follow(t, hub, chathub.Position{}, &a)
		synctest.Wait()
		if err := hub.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if err := stop(); !errors.Is(err, chathub.ErrClosed) {
			t.Errorf("after Shutdown: %v", err)
		}
	})
}
