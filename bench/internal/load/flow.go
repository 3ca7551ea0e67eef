//go:build linux

package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Room is a set of clients that all receive what each of them publishes.
// Clients enter it before traffic flows.
type Room struct {
	Name    string
	members []*Conn
	counts  []atomic.Uint32 // messages seen, by seat
	ignored []bool          // by seat: paused, and not waited for
	sent    atomic.Uint32
}

// NewRoom returns an empty room for at most size clients.
func NewRoom(name string, size int) *Room {
	return &Room{Name: name, counts: make([]atomic.Uint32, size), ignored: make([]bool, size)}
}

func (r *Room) enter(c *Conn) {
	c.seat = len(r.members)
	r.members = append(r.members, c)
}

// Members returns the clients of the room, in the order in which they entered.
func (r *Room) Members() []*Conn { return r.members }

// Ignore makes the room not wait for a client whose reading is paused.
func (r *Room) Ignore(c *Conn) { r.ignored[c.seat] = true }

// Sent returns how many messages were published in the room.
func (r *Room) Sent() int { return int(r.sent.Load()) }

// floor returns how many messages every member has seen.
func (r *Room) floor() uint32 {
	least := r.sent.Load()
	for i := range r.members {
		if !r.ignored[i] {
			least = min(least, r.counts[i].Load())
		}
	}
	return least
}

// Missing returns how many messages members have not seen, all together.
func (r *Room) Missing() (n int) {
	for i := range r.members {
		if !r.ignored[i] {
			n += int(r.sent.Load() - r.counts[i].Load())
		}
	}
	return n
}

// publish sends n messages from one member.
func (r *Room) publish(from *Conn, n int) {
	f := from.fleet
	var b []byte
	for range n {
		text := f.cfg.Dialect.Publish(r.Name, Payload(f.cfg.Size, f.now()))
		if f.deflater != nil {
			b = append(b, f.deflate(text)...)
		} else {
			b = append(b, ClientFrame(opText, text)...)
		}
	}
	r.sent.Add(uint32(n)) // before anyone can see them
	from.write(b)
}

// deflate returns text as a compressed frame.
func (f *Fleet) deflate(text string) []byte {
	f.deflating.Lock()
	defer f.deflating.Unlock()
	return f.deflater.frame(text)
}

// Publish sends one message from the room's first member.
func (r *Room) Publish() { r.publish(r.members[0], 1) }

// flow keeps rooms saturated.
type flow struct {
	mu         sync.Mutex
	rooms      []*Room
	window     uint32
	publishers int
	next       int
	ended      bool
}

// Saturate keeps window messages under way in every room, published by its
// first publishers members in turn. A message is under way until all members
// have seen it. Saturation goes on until Drain.
func (f *Fleet) Saturate(rooms []*Room, window, publishers int) {
	f.flow.Store(&flow{rooms: rooms, window: uint32(window), publishers: publishers})
	f.pump()
}

// pump publishes what the windows allow. Readers call it after each batch, so
// that saturation needs no thread of its own.
func (f *Fleet) pump() {
	fl := f.flow.Load()
	if fl == nil {
		return
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.ended { // by Drain, while pump waited for the mutex
		return
	}
	for _, r := range fl.rooms {
		free := int(fl.window - (r.sent.Load() - r.floor()))
		share := (free + fl.publishers - 1) / fl.publishers
		for free > 0 {
			n := min(share, free)
			r.publish(r.members[fl.next%min(fl.publishers, len(r.members))], n)
			fl.next++
			free -= n
		}
	}
}

// Pace publishes perSecond messages a second for some time, evenly spread. Each
// goes to the next of the rooms, from the room's next member.
func (f *Fleet) Pace(ctx context.Context, rooms []*Room, perSecond float64, during time.Duration) error {
	step := time.Duration(float64(time.Second) / perSecond)
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i++ {
		at := time.Duration(i) * step
		if at >= during {
			return nil
		}
		timer.Reset(time.Until(begin.Add(at)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		r := rooms[i%len(rooms)]
		r.publish(r.members[i/len(rooms)%min(8, len(r.members))], 1)
	}
}

// Drain ends saturation, and waits until every member has seen all messages.
func (f *Fleet) Drain(ctx context.Context, rooms []*Room) error {
	if fl := f.flow.Swap(nil); fl != nil {
		fl.mu.Lock() // waits for a pump that has begun; the others go on reading
		fl.ended = true
		fl.mu.Unlock()
	}
	err := f.Until(ctx, func() bool {
		for _, r := range rooms {
			if r.floor() != r.sent.Load() {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("messages missing: %w", err)
	}
	return nil
}

// Greet publishes in each room until a message has reached everyone in it, and
// then sets all counts to zero. A server that does not acknowledge a join may
// still be adding the last clients when their handshakes are done.
func (f *Fleet) Greet(ctx context.Context, rooms []*Room) error {
	const patience = 2 * time.Second
	for {
		before := make(map[*Conn]int)
		for _, r := range rooms {
			for _, c := range r.members {
				before[c] = c.Total()
			}
		}
		for _, r := range rooms {
			r.Publish()
		}
		short, cancel := context.WithTimeout(ctx, patience)
		err := f.Until(short, func() bool {
			for c, n := range before {
				if c.Total() == n {
					return false
				}
			}
			return true
		})
		cancel()
		switch {
		case err == nil:
			for _, r := range rooms {
				r.sent.Store(0)
				for i := range r.counts {
					r.counts[i].Store(0)
				}
			}
			return nil
		case ctx.Err() != nil, !errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("greeting: %w", err)
		}
	}
}
