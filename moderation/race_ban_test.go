package moderation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
)

// entries counts how often each user was let in, and keeps the connections.
type entries struct {
	mu  sync.Mutex
	of  map[string]int
	all []*chathub.Client
}

func (e *entries) add(c *chathub.Client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.of[c.User().ID]++
	e.all = append(e.all, c)
}

// inside returns how many connections of a user are in the lobby.
func (e *entries) inside(user string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.all {
		if c.User().ID == user && c.Context().Err() == nil && slices.Contains(c.Rooms(), "lobby") {
			n++
		}
	}
	return n
}

func (e *entries) count(user string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.of[user]
}

// TestBansCut: on two nodes, whoever is banned is not let in again by a
// handshake or a join, and writes nothing, from the return of Decide until the
// ban is lifted, while all of them connect, join, resume and write all the
// time. One node is replaced in between.
func TestBansCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seed = 1
		random := rand.New(rand.NewPCG(seed, seed))
		connects, joins := &entries{of: make(map[string]int)}, &entries{of: make(map[string]int)}
		cfg := chathub.Config{
			PresenceGrace: -1,
			Broker:        &flaky{MemoryBroker: chathub.MemoryBroker{MaxMessages: -1, MaxBytes: -1}, before: delay},
			OnConnect: func(_ context.Context, c *chathub.Client, _ *http.Request) error {
				delay("", "")
				connects.add(c)
				return nil
			},
			Authorize: func(_ context.Context, c *chathub.Client, a chathub.Action) error {
				if a.Type == "join-room" {
					delay("", "")
					joins.add(c)
				}
				return nil
			},
		}
		a, b := cluster(t, moderation.Config{}, cfg)
		nodes := []*node{a, b}
		ctx, cancel := context.WithCancel(t.Context())
		var guests sync.WaitGroup
		users := []string{"ana", "ben", "cid"}
		var mu sync.Mutex // guards nodes
		handler := func(i int) http.Handler {
			mu.Lock()
			defer mu.Unlock()
			return nodes[i].hub
		}
		for k, user := range slices.Concat(users, users) {
			guests.Go(func() { visit(ctx, handler, k%2, user) })
		}
		for round := range 16 {
			if round == 8 {
				_ = nodes[1].hub.Close()
				fresh := newNode(t, moderation.Config{}, cfg)
				mu.Lock()
				nodes[1] = fresh
				mu.Unlock()
				time.Sleep(2 * time.Second)
			}
			user := users[random.IntN(len(users))]
			d := moderation.Decision{Kind: moderation.Ban, User: user}
			if random.IntN(2) == 0 {
				d.Room = "lobby"
			}
			time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			nodes[random.IntN(2)].decide(d)
			head, err := nodes[0].hub.Head(t.Context(), "lobby")
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				if d.Room == "" {
					if reached, err := a.hub.ToUser(user).EmitWithAck(t.Context(), "ask", nil); err != nil || len(reached) > 0 {
						t.Errorf("round %d: %d connections of %s, %v", round, len(reached), user, err)
					}
				}
				if n := connects.inside(user); n > 0 {
					t.Errorf("round %d: %d connections of %s are in the room", round, n, user)
				}
				time.Sleep(100 * time.Millisecond)
			}
			list, _, err := nodes[0].hub.History(t.Context(), "lobby", chathub.Range{After: head.Seq, Limit: 10_000})
			if err != nil || len(list) == 0 {
				t.Errorf("round %d: %d messages, %v", round, len(list), err)
			}
			for _, e := range list {
				if e.From.ID == user {
					t.Errorf("round %d: a message of %s at %d, after %d", round, user, e.Seq, head.Seq)
				}
			}
			nodes[random.IntN(2)].lift(d.Kind, d.Room, d.User)
		}
		for _, user := range users {
			if connects.count(user) < 3 || joins.count(user) < 3 {
				t.Errorf("%s connected %d times and joined %d times", user, connects.count(user), joins.count(user))
			}
		}
		cancel()
		guests.Wait()
	})
}

// visit connects, joins and writes as a user, and begins anew when it is thrown
// out, until ctx ends.
func visit(ctx context.Context, handler func(i int) http.Handler, i int, user string) {
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		// The client reconnects by itself to the hub that it was given.
		c, err := client.Dial(ctx, "ws://example.com/ws", client.Options{
			Token:      func(context.Context) (string, error) { return user, nil },
			HTTPClient: hubtest.HTTPClient(handler(i)),
			BackoffMin: 10 * time.Millisecond,
			BackoffMax: 50 * time.Millisecond,
		})
		if err != nil {
			continue
		}
		stay(ctx, c)
		c.Close()
	}
}

// stay joins and writes until the client is not in the room any more, or for a
// while.
func stay(ctx context.Context, c *client.Client) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	room, err := c.Join(ctx, "lobby", client.JoinOptions{})
	if err != nil {
		return
	}
	for i := 0; ctx.Err() == nil; i++ {
		if _, err := room.Send(ctx, fmt.Sprint(i)); err != nil {
			time.Sleep(200 * time.Millisecond) // it is for the hub to take it out
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
