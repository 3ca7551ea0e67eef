package moderation_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
)

// TestNotStarted: before the decisions are known, nobody passes, and Start may
// be repeated until the broker answers.
func TestNotStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &flaky{}
		newNode(t, moderation.Config{}, chathub.Config{Broker: broker}).decide(moderation.Decision{Kind: moderation.Mute, User: "ana"})
		b := stoppedNode(t, moderation.Config{}, chathub.Config{Broker: broker})
		refused := func(when string) {
			t.Helper()
			c, err := hubtest.DialHeader(t, b.hub, http.Header{"Authorization": {"Bearer ana"}})
			if err != nil {
				t.Fatal(err)
			}
			if got := dataOf[refusal](t, c.Wait("connect-error")).String(); got != "unavailable: Try again (1s)" {
				t.Errorf("%s: refused with %s", when, got)
			}
			for _, err := range []error{b.MayEnter("ana", ""), b.MayWrite("ben", "lobby")} {
				if !hasCode(err, chathub.CodeUnavailable) {
					t.Errorf("%s: %v", when, err)
				}
			}
			if _, err := b.Decide(t.Context(), moderation.Decision{Kind: moderation.Mute, User: "ben"}); !hasCode(err, chathub.CodeUnavailable) {
				t.Errorf("%s: Decide: %v", when, err)
			}
		}
		refused("before Start")
		down := chathub.Unavailable(errors.New("down"))
		for _, method := range []string{"Publish", "Subscribe", "ReadNamed"} {
			broker.set(method, down)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			if err := b.Start(ctx, b.hub); err == nil {
				t.Errorf("without %s it has started", method)
			}
			cancel()
			refused("without " + method)
			broker.set(method, nil)
		}
		for range 2 {
			if err := b.Start(t.Context(), b.hub); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, "started", b.dial("ana", "lobby"), text("lobby", "1"), "forbidden: You are muted")
	})
}

// TestNotInstalled: a Moderation without its checks does not start.
func TestNotInstalled(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{})
	if err := moderation.New(moderation.Config{}).Start(t.Context(), hub); err == nil || !strings.Contains(err.Error(), "Install") {
		t.Errorf("it returned %v", err)
	}
}

// TestRestart: decisions outlive all nodes, as long as the broker has them.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		a := newNode(t, moderation.Config{}, chathub.Config{Broker: broker})
		a.decide(moderation.Decision{Kind: moderation.Ban, User: "ana"})
		a.decide(moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: "ben", Until: in(time.Hour), Reason: "spam", By: "mod1"})
		a.decide(moderation.Decision{Kind: moderation.Freeze, Room: "hall"})
		a.decide(moderation.Decision{Kind: moderation.Mute, User: "cid"})
		a.lift(moderation.Mute, "", "cid")
		before := append(a.Decisions("lobby"), a.Decisions("")...)
		if err := a.hub.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Decide(t.Context(), moderation.Decision{Kind: moderation.Mute, User: "cid"}); !errors.Is(err, chathub.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		time.Sleep(20 * time.Minute)
		b := newNode(t, moderation.Config{}, chathub.Config{Broker: broker})
		after := append(b.Decisions("lobby"), b.Decisions("")...)
		if fmt.Sprint(before) != fmt.Sprint(after) || len(after) != 2 {
			t.Errorf("decisions %+v, want %+v", after, before)
		}
		ben := b.dial("ben", "lobby", "hall")
		expect(t, "muted", ben, text("lobby", "1"), "forbidden: You are muted: spam (40m0s)")
		expect(t, "frozen", ben, text("hall", "1"), "forbidden: The room is frozen")
		expect(t, "lifted", b.dial("cid", "lobby"), text("lobby", "1"), "ack")
	})
}

// TestDecideUnconfirmed: if a node does not answer, Decide says so, and does
// all the rest.
func TestDecideUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &flaky{}
		open := make(chan struct{})
		defer close(open)
		a, b := cluster(t, moderation.Config{}, chathub.Config{Broker: broker})
		held := b.dial("ana", "lobby")
		hold := make(chan struct{}, 1)
		broker.before = func(method, room string) {
			if method == "Publish" && room == "lobby" {
				hold <- struct{}{}
				<-open
			}
		}
		held.Send(text("lobby", "1"))
		<-hold
		start := time.Now()
		if _, err := a.Decide(t.Context(), moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: "ana"}); !hasCode(err, chathub.CodeUnavailable) || time.Since(start) > 6*time.Second {
			t.Errorf("it returned %v after %v", err, time.Since(start))
		}
		ben := a.dial("ben", "hall")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Decide(ctx, moderation.Decision{Kind: moderation.Ban, User: "ben"}); !hasCode(err, chathub.CodeUnavailable) {
			t.Errorf("it returned %v", err)
		}
		if code, _ := ben.Closed(); code != 4503 {
			t.Errorf("closed with %d", code)
		}
		if err := a.MayWrite("ana", "lobby"); !hasCode(err, chathub.CodeForbidden) {
			t.Errorf("the mute does not hold here: %v", err)
		}
		time.Sleep(15 * time.Second) // longer than the node waits for the message
		b.decide(moderation.Decision{Kind: moderation.Mute, User: "cid"})
	})
}

// TestUnannounced: what a node has stored and could not announce is found by
// the others after some minutes, and holds at once if it is decided again.
func TestUnannounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &flaky{}
		a, b := cluster(t, moderation.Config{}, chathub.Config{Broker: broker})
		d := moderation.Decision{Kind: moderation.Mute, User: "ana"}
		var calls sync.Map
		broker.failAfter = func(method, room string) error {
			if method == "Publish" && room == "moderation/news" {
				calls.Store(room, true)
				return chathub.Unavailable(errors.New("down"))
			}
			return nil
		}
		if _, err := a.Decide(t.Context(), d); !hasCode(err, chathub.CodeUnavailable) {
			t.Errorf("it returned %v", err)
		}
		if _, called := calls.Load("moderation/news"); !called {
			t.Fatal("nothing was to be announced")
		}
		broker.failAfter = nil
		if b.MayWrite("ana", "") != nil {
			t.Error("the other node knows of it already")
		}
		time.Sleep(11 * time.Minute)
		for _, n := range []*node{a, b} {
			if err := n.MayWrite("ana", ""); !hasCode(err, chathub.CodeForbidden) {
				t.Errorf("later: %v", err)
			}
		}
	})
}

// TestNewsDropped: a node that was too slow for the announcements reads the
// store instead.
func TestNewsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &flaky{MemoryBroker: chathub.MemoryBroker{MaxMessages: 2}}
		a, b := cluster(t, moderation.Config{}, chathub.Config{Broker: broker})
		broker.set("Read", chathub.Unavailable(errors.New("down")))
		for i := range 10 {
			_, err := a.Decide(t.Context(), moderation.Decision{Kind: moderation.Mute, User: fmt.Sprint("user", i)})
			if !hasCode(err, chathub.CodeUnavailable) {
				t.Errorf("decision %d: %v", i, err)
			}
		}
		broker.set("Read", nil)
		b.decide(moderation.Decision{Kind: moderation.Freeze, Room: "lobby"})
		for _, n := range []*node{a, b} {
			for i := range 10 {
				if err := n.MayWrite(fmt.Sprint("user", i), ""); !hasCode(err, chathub.CodeForbidden) {
					t.Errorf("decision %d: %v", i, err)
				}
			}
		}
	})
}

// TestConcurrentDecisions: decisions of two nodes at once are all kept, and the
// nodes agree.
func TestConcurrentDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := cluster(t, moderation.Config{}, chathub.Config{})
		var wg sync.WaitGroup
		for i := range 8 {
			n := []*node{a, b}[i%2]
			wg.Go(func() {
				for k := range 50 {
					n.decide(moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: fmt.Sprint("user", i, "-", k)})
					n.decide(moderation.Decision{Kind: moderation.Ban, Room: "lobby", User: fmt.Sprint("shared", k), Reason: fmt.Sprint(i)})
					if k%10 == 9 {
						n.lift(moderation.Mute, "lobby", fmt.Sprint("user", i, "-", k))
					}
				}
				n.decide(slow("lobby", time.Duration(1+i)*time.Second))
				n.decide(moderation.Decision{Kind: moderation.Freeze, Room: "lobby"})
			})
		}
		wg.Wait()
		one, two := fmt.Sprint(a.Decisions("lobby")), fmt.Sprint(b.Decisions("lobby"))
		if one != two || len(a.Decisions("lobby")) != 8*45+50+2 {
			t.Errorf("the nodes know %d and %d decisions, want %d", len(a.Decisions("lobby")), len(b.Decisions("lobby")), 8*45+50+2)
		}
		state, err := a.hub.State(t.Context(), "lobby")
		if err != nil {
			t.Fatal(err)
		}
		var every time.Duration
		for _, d := range a.Decisions("lobby") {
			every = max(every, d.Every)
		}
		if got, want := string(state["moderation"].Value), fmt.Sprintf(`{"everyMs":%d,"frozen":true}`, every.Milliseconds()); got != want {
			t.Errorf("members see %s, want %s", got, want)
		}
		c := newNode(t, moderation.Config{}, chathub.Config{})
		if len(c.Decisions("lobby")) > 0 {
			t.Error("a hub of another cluster knows decisions")
		}
	})
}

// TestDecideRefused: a decision that makes no sense is refused, and nothing is
// stored.
func TestDecideRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newNode(t, moderation.Config{}, chathub.Config{})
		long := strings.Repeat("x", 129)
		for _, d := range []moderation.Decision{
			{}, {Kind: "kill", User: "ana"}, {Kind: moderation.Mute}, {Kind: moderation.Ban, User: "a\nb"}, {Kind: moderation.Ban, User: long},
			{Kind: moderation.Mute, User: "ana", Room: long}, {Kind: moderation.Mute, User: "ana", Room: "\xff"}, {Kind: moderation.Mute, User: "ana", Room: "moderation/news"},
			{Kind: moderation.Slow, Every: time.Second}, {Kind: moderation.Freeze}, {Kind: moderation.Freeze, Room: "lobby", User: "ana"},
			{Kind: moderation.Slow, Room: "lobby"}, {Kind: moderation.Slow, Room: "lobby", Every: time.Millisecond}, {Kind: moderation.Slow, Room: "lobby", Every: 25 * time.Hour},
			{Kind: moderation.Freeze, Room: "lobby", Every: time.Second}, {Kind: moderation.Freeze, Room: "lobby", Until: in(0)}, {Kind: moderation.Freeze, Room: "lobby", Until: in(-time.Hour)},
			{Kind: moderation.Mute, User: "ana", Reason: strings.Repeat("x", 257)}, {Kind: moderation.Mute, User: "ana", Reason: "\xff"}, {Kind: moderation.Mute, User: "ana", By: "a\nb"},
		} {
			if _, err := a.Decide(t.Context(), d); !hasCode(err, chathub.CodeBadRequest) {
				t.Errorf("%+v: %v", d, err)
			}
		}
		for _, room := range []string{"", "lobby"} {
			if got := a.Decisions(room); len(got) > 0 {
				t.Errorf("decisions: %+v", got)
			}
		}
		if _, err := a.Lift(t.Context(), "kill", "", "ana"); !hasCode(err, chathub.CodeBadRequest) {
			t.Errorf("Lift: %v", err)
		}
		a.lift(moderation.Mute, "lobby", "ana") // there is none
	})
}

// TestStateFull: a decision about a room holds even if the room has no place to
// show it.
func TestStateFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newNode(t, moderation.Config{}, chathub.Config{})
		for i := range 64 {
			if _, err := a.hub.To("lobby").SetState(t.Context(), fmt.Sprint("key", i), 1); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := a.Decide(t.Context(), moderation.Decision{Kind: moderation.Freeze, Room: "lobby"}); !hasCode(err, chathub.CodeLimitExceeded) {
			t.Errorf("it returned %v", err)
		}
		expect(t, "frozen", a.dial("ana", "lobby"), text("lobby", "1"), "forbidden: The room is frozen")
	})
}
