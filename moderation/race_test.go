package moderation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
)

// result is what a call in another goroutine returns.
type result struct {
	pos chathub.Position
	err error
}

func (n *node) deciding(d moderation.Decision) <-chan result {
	done := make(chan result, 1)
	go func() {
		pos, err := n.Decide(n.t.Context(), d)
		done <- result{pos, err}
	}()
	return done
}

// TestMessageUnderWay: a message that was checked before a decision is stored
// before it, and one that comes to its check later is refused.
func TestMessageUnderWay(t *testing.T) {
	for _, kind := range []moderation.Kind{moderation.Mute, moderation.Freeze, moderation.Ban} {
		for _, where := range []string{"same node", "another node"} {
			t.Run(string(kind)+", "+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					broker := &flaky{}
					open, arrived := make(chan struct{}), make(chan struct{}, 8)
					var held atomic.Bool
					broker.before = func(method, room string) {
						if held.Load() && room == "lobby" {
							arrived <- struct{}{}
							<-open
						}
					}
					a, b := cluster(t, moderation.Config{}, chathub.Config{Broker: broker})
					early, late := b.dial("ana", "lobby"), b.dial("ana", "lobby")
					held.Store(true)
					early.Send(hubtest.Frame{Type: "room-message", ID: "early", Room: "lobby", Data: hubtest.Data("early")})
					<-arrived
					d := moderation.Decision{Kind: kind, Room: "lobby"}
					if kind != moderation.Freeze {
						d.User = "ana"
					}
					decider := a
					if where == "same node" {
						decider = b
					}
					done := decider.deciding(d)
					synctest.Wait()
					if len(done) > 0 {
						t.Error("decided before the message was stored")
					}
					held.Store(false)
					close(open)
					r := <-done
					if r.err != nil {
						t.Error(r.err)
					}
					if f := early.Wait("ack"); f.Seq == 0 || f.Seq > r.pos.Seq {
						t.Errorf("the message is at %d, the decision at %d", f.Seq, r.pos.Seq)
					}
					if got := answer(t, late, text("lobby", "late")); got == "ack" {
						t.Error("a later message was stored")
					}
				})
			})
		}
	}
}

// TestMessageBeforeCheck: a message that other middleware holds up before its
// check is refused if the decision comes meanwhile.
func TestMessageBeforeCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		a := newNode(t, moderation.Config{}, chathub.Config{Broker: broker})
		b := stoppedNode(t, moderation.Config{}, chathub.Config{Broker: broker})
		g := newGate("room-message")
		defer g.release()
		b.hub.Use(g.middleware)
		if err := b.Start(t.Context(), b.hub); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		ana := b.dial("ana", "lobby")
		ana.Send(hubtest.Frame{Type: "room-message", ID: "m", Room: "lobby", Data: hubtest.Data("1")})
		<-g.arrived
		a.decide(moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: "ana"})
		g.release()
		if f := ana.Wait("error"); f.Code() != chathub.CodeForbidden {
			t.Errorf("it was answered with %s", f.Data)
		}
	})
}

// TestBanUnderWay: joins, resumes and handshakes that were allowed before a ban
// do not survive it.
func TestBanUnderWay(t *testing.T) {
	for _, where := range []string{"same node", "another node"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := make(chan struct{})
				var held atomic.Bool
				hold := func() {
					if held.Load() {
						<-open
					}
				}
				a, b := cluster(t, moderation.Config{}, chathub.Config{
					Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
						if a.Room == "lobby" {
							hold()
						}
						return nil
					},
					OnConnect: func(context.Context, *chathub.Client, *http.Request) error { hold(); return nil },
				})
				joins, resumes := b.dial("ana"), b.dial("ana")
				held.Store(true)
				joins.Send(hubtest.Frame{Type: "join-room", ID: "j", Room: "lobby"})
				resumes.Send(hubtest.Frame{Type: "resume", ID: "r", Data: hubtest.Data(map[string]any{"rooms": map[string]any{"lobby": map[string]any{"epoch": "", "seq": 0}}})})
				var handshakes sync.WaitGroup
				var shakes *hubtest.Client
				handshakes.Go(func() {
					var err error
					if shakes, err = hubtest.DialHeader(t, b.hub, http.Header{"Authorization": {"Bearer ben"}}); err != nil {
						t.Error(err)
					}
				})
				synctest.Wait()
				decider := a
				if where == "same node" {
					decider = b
				}
				decider.decide(moderation.Decision{Kind: moderation.Ban, Room: "lobby", User: "ana"})
				decider.decide(moderation.Decision{Kind: moderation.Ban, User: "ben"})
				held.Store(false)
				close(open)
				handshakes.Wait()
				if f := joins.Wait("error"); f.Code() != chathub.CodeForbidden {
					t.Errorf("the join was answered with %s", f.Data)
				}
				if f := resumes.Wait("ack"); !strings.Contains(string(f.Data), `"forbidden"`) {
					t.Errorf("the resume was answered with %s", f.Data)
				}
				if f := shakes.Next(); f.Type != "connect-error" {
					t.Errorf("the handshake was answered with %s", f.Type)
				}
			})
		})
	}
}

// delay is how long a broker takes.
func delay(string, string) {
	time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
}

// TestDecisionsCut: on two nodes, with many who write all the time, nothing is
// in the log after the position of a decision that the decision forbids, until
// it is lifted.
func TestDecisionsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seed = 1
		random := rand.New(rand.NewPCG(seed, seed))
		broker := &flaky{MemoryBroker: chathub.MemoryBroker{MaxMessages: -1, MaxBytes: -1}}
		broker.before = delay
		a, b := cluster(t, moderation.Config{}, chathub.Config{Broker: broker})
		nodes := []*node{a, b}
		ctx, cancel := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		users := []string{"ana", "ben", "cid"}
		for i, user := range users {
			for k, n := range nodes {
				writers.Go(func() { write(ctx, t, n, user, fmt.Sprint(i, k)) })
			}
		}
		for round := range 60 {
			user := users[random.IntN(len(users))]
			d := moderation.Decision{Kind: moderation.Mute, Room: "lobby", User: user}
			switch random.IntN(4) {
			case 0:
				d.Kind = moderation.Ban
			case 1:
				d = moderation.Decision{Kind: moderation.Freeze, Room: "lobby"}
			case 2:
				d.Room = ""
			}
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
			pos := nodes[random.IntN(2)].decide(d)
			if d.Room == "" {
				var err error
				if pos, err = a.hub.Head(t.Context(), "lobby"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Duration(10+random.IntN(30)) * time.Millisecond)
			entries, _, err := a.hub.History(t.Context(), "lobby", chathub.Range{After: pos.Seq, Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			others := 0
			for _, e := range entries {
				if e.Type != "room-message" {
					continue
				}
				if e.From.ID == d.User || d.User == "" {
					t.Errorf("round %d: %+v at %d, and a message of %s at %d", round, d, pos.Seq, e.From.ID, e.Seq)
				}
				others++
			}
			if others == 0 && d.Kind != moderation.Freeze {
				t.Errorf("round %d: nobody else wrote", round)
			}
			nodes[random.IntN(2)].lift(d.Kind, d.Room, d.User)
		}
		cancel()
		writers.Wait()
	})
}

// write sends messages until ctx ends, and joins again if it is taken out of
// the room.
func write(ctx context.Context, t *testing.T, n *node, user, prefix string) {
	c := n.dial(user)
	for i := 0; ctx.Err() == nil; i++ {
		f := text("lobby", "x")
		f.ID = fmt.Sprint(prefix, "-", i)
		if r := c.Request(f); r.Code() == chathub.CodeNotInRoom {
			c.Request(frame("join-room", "lobby", nil))
		} else if r.Type == "error" && r.Code() != chathub.CodeForbidden {
			t.Errorf("%s is answered %s", user, r.Data)
			return
		}
		time.Sleep(time.Duration(1+i%3) * time.Millisecond)
	}
}

// TestStartMeanwhile: a node that starts has what is decided before, while and
// after it does.
func TestStartMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &flaky{}
		broker.before = delay
		a := newNode(t, moderation.Config{}, chathub.Config{Broker: broker})
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var decided int
		var decider sync.WaitGroup
		decider.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				a.decide(moderation.Decision{Kind: moderation.Mute, User: fmt.Sprint("user", i)})
				mu.Lock()
				decided = i + 1
				mu.Unlock()
			}
		})
		for range 20 {
			time.Sleep(7 * time.Millisecond)
			b := newNode(t, moderation.Config{}, chathub.Config{Broker: broker})
			for range 5 {
				mu.Lock()
				n := decided
				mu.Unlock()
				for i := range n {
					if b.MayWrite(fmt.Sprint("user", i), "") == nil {
						t.Fatalf("a node that has just started does not know decision %d of %d", i, n)
					}
				}
				time.Sleep(3 * time.Millisecond)
			}
			_ = b.hub.Close()
		}
		cancel()
		decider.Wait()
	})
}
