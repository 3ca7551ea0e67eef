package moderation

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
)

const (
	// readBack and pagesBack bound how many messages of a room are read to find
	// out who wrote lately.
	readBack, pagesBack = 256, 8
	// idleSlow is how long a room in slow mode is followed after the last
	// message that this node has checked there.
	idleSlow = 10 * time.Minute
)

// slowRooms are the rooms in slow mode in which clients of this node write. Any
// goroutine may use it.
type slowRooms struct {
	mod *Moderation

	mu    sync.Mutex
	rooms map[place]*slowRoom
	ended bool
}

// slowRoom knows when each user wrote in a room last: what this node lets pass,
// and what the log of the room has from other nodes.
type slowRoom struct {
	cancel context.CancelFunc
	ready  chan struct{} // closed when what is in the log is known, or failed is set

	mu     sync.Mutex
	failed error
	turns  map[string]turn
	usedAt time.Time
	pruned int // turns that were left at the last pruning
}

// turn is the last message of a user.
type turn struct {
	at time.Time
	id string
}

// taken is a turn that a user has taken. The zero value is none.
type taken struct {
	room         *slowRoom
	user         string
	turn, before turn
}

// take returns an error if a user must not write yet, and otherwise notes that
// the user writes now.
func (sr *slowRooms) take(ctx context.Context, d *Decision, user, event string) (taken, error) {
	r, err := sr.room(ctx, d)
	if err != nil {
		return taken{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.usedAt = now
	last, wrote := r.turns[user]
	if event != "" && last.id == event {
		return taken{}, nil // a repetition, which the log does not store again
	}
	if wait := last.at.Add(d.Every).Sub(now); wrote && wait > 0 {
		return taken{}, &chathub.Error{Code: chathub.CodeRateLimited, Message: "Slow mode", RetryAfter: wait}
	}
	r.prune(now, d.Every)
	r.turns[user] = turn{now, event}
	return taken{r, user, r.turns[user], last}, nil
}

// giveBack undoes a take after which no message was stored.
func (tk *taken) giveBack() {
	r := tk.room
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turns[tk.user] == tk.turn {
		r.turns[tk.user] = tk.before
	}
}

// prune forgets users who may write again, if there are many. The caller holds
// the mutex.
func (r *slowRoom) prune(now time.Time, every time.Duration) {
	if len(r.turns) < 1024 || len(r.turns) < 2*r.pruned {
		return
	}
	maps.DeleteFunc(r.turns, func(_ string, t turn) bool { return now.Sub(t.at) >= every })
	r.pruned = len(r.turns)
}

// heard notes a message in the log.
func (r *slowRoom) heard(e *chathub.Entry) {
	if e.Type != "room-message" || e.From.ID == "" {
		return
	}
	at := e.Time
	if now := time.Now(); at.After(now) { // another clock
		at = now
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.After(r.turns[e.From.ID].at) {
		r.turns[e.From.ID] = turn{at, e.ID}
	}
}

// room returns what is known of a room in slow mode, once that is everything.
func (sr *slowRooms) room(ctx context.Context, d *Decision) (*slowRoom, error) {
	sr.mu.Lock()
	at := place{d.tenant, d.Room}
	r := sr.rooms[at]
	if r == nil && !sr.ended {
		follow, cancel := context.WithCancel(context.Background())
		r = &slowRoom{cancel: cancel, ready: make(chan struct{}), turns: make(map[string]turn), usedAt: time.Now()}
		sr.rooms[at] = r
		go sr.follow(follow, r, d)
	}
	sr.mu.Unlock()
	if r == nil {
		return nil, chathub.ErrClosed
	}
	select {
	case <-r.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r, r.failed
}

// follow keeps a slowRoom up to date.
func (sr *slowRooms) follow(ctx context.Context, r *slowRoom, d *Decision) {
	defer r.cancel()
	head, err := sr.readBack(ctx, r, d)
	if err != nil {
		sr.drop(place{d.tenant, d.Room}, r)
		r.mu.Lock()
		r.failed = err
		r.mu.Unlock()
		close(r.ready)
		return
	}
	close(r.ready)
	err = sr.mod.hub.Tenant(d.tenant).Follow(ctx, d.Room, head, func(_ context.Context, e chathub.Entry) error {
		r.heard(&e)
		return nil
	})
	sr.drop(place{d.tenant, d.Room}, r)
	if ctx.Err() == nil {
		sr.mod.log.Debug("moderation: a room in slow mode is not followed any more", "room", d.Room, "err", err)
	}
}

// readBack reads who wrote in the room lately, and returns where the log ends.
func (sr *slowRooms) readBack(ctx context.Context, r *slowRoom, d *Decision) (chathub.Position, error) {
	head, err := sr.mod.hub.Tenant(d.tenant).Head(ctx, d.Room)
	if err != nil {
		return head, err
	}
	since := time.Now().Add(-d.Every)
	page := chathub.Range{Limit: readBack}
	for range pagesBack {
		entries, more, err := sr.mod.hub.Tenant(d.tenant).History(ctx, d.Room, page)
		if err != nil {
			return head, err
		}
		for i := range entries {
			r.heard(&entries[i])
		}
		if !more || len(entries) == 0 || entries[0].Time.Before(since) {
			break
		}
		page.Before = entries[0].Seq
	}
	return head, nil
}

func (sr *slowRooms) drop(at place, r *slowRoom) {
	sr.mu.Lock()
	defer sr.mu.Unlock()
	if sr.rooms[at] == r {
		delete(sr.rooms, at)
	}
}

// sweep forgets rooms that are not in slow mode any more, or in which nobody
// writes. Every returns the slow mode of a room.
func (sr *slowRooms) sweep(every func(place) time.Duration) {
	sr.mu.Lock()
	defer sr.mu.Unlock()
	for at, r := range sr.rooms {
		r.mu.Lock()
		idle := time.Since(r.usedAt)
		r.mu.Unlock()
		if e := every(at); e == 0 || idle > max(idleSlow, e) {
			r.cancel()
			delete(sr.rooms, at)
		}
	}
}

func (sr *slowRooms) end() {
	sr.mu.Lock()
	defer sr.mu.Unlock()
	sr.ended = true
	for _, r := range sr.rooms {
		r.cancel()
	}
	clear(sr.rooms)
}
