package moderation

import (
	"hash/maphash"
	"sync"
	"time"
)

// flights are what clients are writing at this moment. A decision that is new
// waits for what was checked before it. Any goroutine may use it.
type flights struct {
	seed    maphash.Seed
	buckets [64]struct {
		mu      sync.Mutex
		flights map[*flight]struct{}
	}
	pool sync.Pool
}

// flight is something that a client is writing.
type flight struct {
	user   person
	room   string
	landed chan struct{} // closed at the end; nil if nobody waits
}

func (fs *flights) init() {
	fs.seed = maphash.MakeSeed()
	for i := range fs.buckets {
		fs.buckets[i].flights = make(map[*flight]struct{})
	}
	fs.pool.New = func() any { return &flight{} }
}

// begin notes that a user writes in a room. It comes before the check, so that
// a new decision either finds the flight or is found by the check.
func (fs *flights) begin(user person, room string) *flight {
	f := fs.pool.Get().(*flight)
	f.user, f.room = user, room
	b := &fs.buckets[maphash.String(fs.seed, user.user)%uint64(len(fs.buckets))]
	b.mu.Lock()
	b.flights[f] = struct{}{}
	b.mu.Unlock()
	return f
}

func (fs *flights) end(f *flight) {
	b := &fs.buckets[maphash.String(fs.seed, f.user.user)%uint64(len(fs.buckets))]
	b.mu.Lock()
	delete(b.flights, f)
	if f.landed != nil {
		close(f.landed)
	}
	b.mu.Unlock()
	*f = flight{}
	fs.pool.Put(f)
}

// concerns reports whether a decision is about what is being written.
func (d *Decision) concerns(f *flight) bool {
	return d.tenant == f.user.tenant && (d.User == "" || d.User == f.user.user) && (d.Room == "" || d.Room == f.room)
}

// wait waits for what is being written that a decision is about. It reports
// false if that takes longer than patience.
func (fs *flights) wait(decisions []*Decision, patience time.Duration) bool {
	var pending []<-chan struct{}
	for i := range fs.buckets {
		b := &fs.buckets[i]
		b.mu.Lock()
		for f := range b.flights {
			for _, d := range decisions {
				if d.concerns(f) {
					if f.landed == nil {
						f.landed = make(chan struct{})
					}
					pending = append(pending, f.landed)
					break
				}
			}
		}
		b.mu.Unlock()
	}
	if len(pending) == 0 {
		return true
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for _, landed := range pending {
		select {
		case <-landed:
		case <-timer.C:
			return false
		}
	}
	return true
}
