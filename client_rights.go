package chathub

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sort"
	"sync"
	"time"
)

// rights keeps a right that was taken away from being used by what was checked
// before. A check is an Authenticate, an Authorize or a handler of the
// application, together with the registration or join that follows. A
// revocation, which is a Leave or a Disconnect, acts on the clients that are
// there, and is noted for the checks that are under way. Any goroutine may use
// it.
type rights struct {
	mu     sync.Mutex
	now    uint64       // number of revocations so far
	checks []checksAt   // under way, in the order of at
	recent []revocation // newer than the oldest check under way, in order
	// forgotten is the number of the last revocation that recent had no room
	// for. Checks that began before it have to be made again.
	forgotten uint64
}

// checksAt are the checks under way that began when at revocations had been.
type checksAt struct {
	at uint64
	n  int
}

// maxRevocations bounds the revocations that are kept for a check that takes
// long, such as an Authenticate that hangs.
const maxRevocations = 4096

// revocation is a Leave of rooms or, without rooms, a Disconnect.
type revocation struct {
	at      uint64 // its number
	targets []Topic
	clients []string // if there are any, the only ones
	except  []string
	rooms   []string
	reason  string
}

// check is one that is under way. Nil is none.
type check struct {
	rights *rights
	began  uint64 // number of revocations when it began
	since  uint64 // revocations up to here do not count; guarded by rights.mu
}

// begin begins a check, which must end.
func (rts *rights) begin() *check {
	rts.mu.Lock()
	defer rts.mu.Unlock()
	if last := len(rts.checks) - 1; last >= 0 && rts.checks[last].at == rts.now {
		rts.checks[last].n++
	} else {
		rts.checks = append(rts.checks, checksAt{rts.now, 1})
	}
	return &check{rights: rts, began: rts.now, since: rts.now}
}

// end forgets the revocations that no check needs any more.
func (ck *check) end() {
	if ck == nil {
		return
	}
	rts := ck.rights
	rts.mu.Lock()
	defer rts.mu.Unlock()
	i := slices.IndexFunc(rts.checks, func(c checksAt) bool { return c.at == ck.began })
	if rts.checks[i].n--; rts.checks[i].n > 0 {
		return
	}
	rts.checks = slices.Delete(rts.checks, i, i+1)
	oldest := rts.now
	if len(rts.checks) > 0 {
		oldest = rts.checks[0].at
	}
	rts.recent = slices.Delete(rts.recent, 0, rts.after(oldest))
}

// renew makes a check as good as one that begins now. It follows a revocation
// that the checking handler has made itself.
func (ck *check) renew() {
	if ck == nil {
		return
	}
	ck.rights.mu.Lock()
	defer ck.rights.mu.Unlock()
	ck.since = ck.rights.now
}

// rightOf returns the check that a handler makes, from its ctx.
func rightOf(ctx context.Context) *check {
	if e := EventFrom(ctx); e != nil {
		return e.right
	}
	return nil
}

// after returns the index of the first recent revocation after number at.
func (rts *rights) after(at uint64) int {
	return sort.Search(len(rts.recent), func(i int) bool { return rts.recent[i].at > at })
}

// revoke notes a revocation for the checks that are under way.
func (rts *rights) revoke(r revocation) {
	rts.mu.Lock()
	defer rts.mu.Unlock()
	rts.now++
	if len(rts.checks) == 0 {
		return
	}
	if len(rts.recent) == maxRevocations {
		half := rts.recent[:maxRevocations/2]
		rts.forgotten = half[len(half)-1].at
		rts.recent = slices.Delete(rts.recent, 0, len(half))
	}
	r.at = rts.now
	rts.recent = append(rts.recent, r)
}

// mayConnect returns an error if a client was disconnected since the check
// began.
func (ck *check) mayConnect(c *Client) error {
	r, err := ck.find(func(r *revocation) bool { return len(r.rooms) == 0 && r.concerns(c) })
	if r != nil {
		return &Error{Code: CodeForbidden, Message: r.reason, Err: errWasDisconnected}
	}
	return err
}

// mayJoin returns an error if a client was taken out of a room since the check
// began.
func (ck *check) mayJoin(c *Client, room string) error {
	r, err := ck.find(func(r *revocation) bool { return slices.Contains(r.rooms, room) && r.concerns(c) })
	if r != nil {
		return &Error{Code: CodeForbidden, Message: cmp.Or(r.reason, "Removed from the room")}
	}
	return err
}

// errWasDisconnected marks the refusal by mayConnect.
var errWasDisconnected = errors.New("disconnected during the handshake")

var errCheckTooOld = errors.New("too many rights were taken away while this one was checked")

// find returns the first matching revocation since the check began.
func (ck *check) find(match func(*revocation) bool) (*revocation, error) {
	if ck == nil {
		return nil, nil
	}
	ck.rights.mu.Lock()
	defer ck.rights.mu.Unlock()
	if ck.since < ck.rights.forgotten {
		return nil, Unavailable(errCheckTooOld)
	}
	newer := ck.rights.recent[ck.rights.after(ck.since):]
	for i := range newer {
		if match(&newer[i]) {
			found := newer[i]
			return &found, nil
		}
	}
	return nil, nil
}

// concerns reports whether a revocation is for a client. That of a room is for
// its members, and a client that is about to join is none.
func (rev *revocation) concerns(c *Client) bool {
	switch {
	case slices.Contains(rev.except, c.id):
		return false
	case len(rev.clients) > 0:
		// Without a target, it is this hub's own.
		return slices.Contains(rev.clients, c.id) && (len(rev.targets) == 0 || slices.Contains(rev.targets, c.world().everyone()))
	}
	return slices.Contains(rev.targets, c.world().everyone()) || slices.Contains(rev.targets, c.inbox())
}

// mayConcern reports whether a revocation may be for a client that is in no
// room any more.
func (rev *revocation) mayConcern(c *Client) bool {
	return rev.concerns(c) || slices.ContainsFunc(rev.targets, func(t Topic) bool { return t.Room != "" && t.world() == c.world() })
}

// beginPublish is the last check before a message of the client is sent: of
// its membership, if the message goes to a room, and of the connection. If it
// returns nil, endPublish must follow. A revocation waits for that.
func (c *Client) beginPublish(t Topic) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.mu.lostRights():
		return Unavailable(ErrClientGone)
	case t.Room != "" && !slices.Contains(c.mu.rooms, plain(t.Room)):
		return errNotInRoom()
	}
	c.mu.publishing = true
	return nil
}

// lostRights reports whether the connection ended because its user may do
// nothing any more. After another end, what has begun is finished.
func (c *Client) lostRights() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.lostRights()
}

func (cl *clientLocked) lostRights() bool {
	return cl.end != nil && (cl.end.Code == int(closeDisconnected) || cl.end.Code == int(closeTokenExpired))
}

func (c *Client) endPublish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.publishing = false
	if c.mu.published != nil {
		close(c.mu.published)
		c.mu.published = nil
	}
}

// publishing returns a channel that is closed when the message that the client
// is publishing is stored, or refused; nil if there is none.
func (c *Client) publishing() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.publishing {
		return nil
	}
	if c.mu.published == nil {
		c.mu.published = make(chan struct{})
	}
	return c.mu.published
}

// publishes are messages that are being stored: channels that are closed when
// they are.
type publishes []<-chan struct{}

// wait waits for them, but no longer than a call of the broker may take.
func (ps publishes) wait(h *Hub) {
	timer := time.NewTimer(brokerTimeout)
	defer timer.Stop()
	for _, published := range ps {
		select {
		case <-published:
		case <-timer.C:
			h.log.Warn("chathub: a message is still being stored after its sender was removed")
			return
		case <-h.life.ctx.Done():
			return
		}
	}
}
