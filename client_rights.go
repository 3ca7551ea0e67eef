package chathub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/wire"
)

// rights keeps a right that was taken away from being used by what was checked
// before. A check is an Authenticate or Authorize of the application, together
// with the registration or join that follows. A revocation, which is a Leave or
// a Disconnect, acts on the clients that are there, and is noted for the checks
// that are under way. Any goroutine may use it.
type rights struct {
	mu     sync.Mutex
	now    uint64         // number of revocations so far
	checks map[uint64]int // under way, by the value of now when they began
	recent []revocation   // newer than the oldest check under way, in order
	lost   uint64         // number of the newest one that there was no room for
}

// maxRevocations bounds how many are noted. A check that takes so long that
// more come meanwhile, such as one that hangs, has to be made again.
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

// check is one that is under way. The zero value is none.
type check struct {
	rights *rights
	since  uint64
}

// begin begins a check, which must end.
func (rts *rights) begin() check {
	rts.mu.Lock()
	defer rts.mu.Unlock()
	if rts.checks == nil {
		rts.checks = make(map[uint64]int)
	}
	rts.checks[rts.now]++
	return check{rts, rts.now}
}

// end forgets the revocations that no check needs any more.
func (ck check) end() {
	rts := ck.rights
	if rts == nil {
		return
	}
	rts.mu.Lock()
	defer rts.mu.Unlock()
	if rts.checks[ck.since]--; rts.checks[ck.since] > 0 {
		return
	}
	delete(rts.checks, ck.since)
	if len(rts.recent) == 0 {
		return
	}
	oldest := rts.now
	for since := range rts.checks {
		oldest = min(oldest, since)
	}
	rts.recent = slices.DeleteFunc(rts.recent, func(r revocation) bool { return r.at <= oldest })
}

// revoke notes a revocation for the checks that are under way.
func (rts *rights) revoke(r revocation) {
	rts.mu.Lock()
	defer rts.mu.Unlock()
	rts.now++
	if len(rts.checks) > 0 {
		if len(rts.recent) == maxRevocations {
			rts.lost = rts.recent[len(rts.recent)/2].at
			rts.recent = slices.Delete(rts.recent, 0, len(rts.recent)/2+1)
		}
		r.at = rts.now
		rts.recent = append(rts.recent, r)
	}
}

var errCheckOutdated = Unavailable(errors.New("too many rights were taken away meanwhile"))

// outdated returns an error if not all revocations since the check began are
// known any more.
func (ck check) outdated() error {
	if ck.rights == nil {
		return nil
	}
	ck.rights.mu.Lock()
	defer ck.rights.mu.Unlock()
	if ck.since < ck.rights.lost {
		return errCheckOutdated
	}
	return nil
}

// disconnected returns the Disconnect of a client since the check began, if
// there was one.
func (ck check) disconnected(c *Client) *revocation {
	return ck.find(func(r *revocation) bool { return len(r.rooms) == 0 && r.concerns(c) })
}

// removed returns the Leave that took a client out of a room since the check
// began, if there was one.
func (ck check) removed(c *Client, room string) *revocation {
	return ck.find(func(r *revocation) bool { return slices.Contains(r.rooms, room) && r.concerns(c) })
}

func (ck check) find(match func(*revocation) bool) *revocation {
	if ck.rights == nil {
		return nil
	}
	ck.rights.mu.Lock()
	defer ck.rights.mu.Unlock()
	for i := range ck.rights.recent {
		if r := &ck.rights.recent[i]; r.at > ck.since && match(r) {
			found := *r
			return &found
		}
	}
	return nil
}

// concerns reports whether a revocation is for a client. That of a room is for
// its members, and a client that is about to join is none.
func (r *revocation) concerns(c *Client) bool {
	switch {
	case slices.Contains(r.except, c.id):
		return false
	case len(r.clients) > 0:
		return slices.Contains(r.clients, c.id)
	}
	return slices.ContainsFunc(r.targets, func(t Topic) bool {
		return t == Topic{} || t.User != "" && t.User == c.User().ID
	})
}

// errRemoved is the end of a join whose right was taken away meanwhile.
func errRemoved(r *revocation) *Error {
	message := "Removed from the room"
	if r.reason != "" {
		message = r.reason
	}
	return &Error{Code: CodeForbidden, Message: message}
}

// errWasDisconnected marks the refusal by errDisconnected.
var errWasDisconnected = errors.New("disconnected during the handshake")

// errDisconnected is the end of a handshake whose user was disconnected
// meanwhile.
func errDisconnected(r *revocation) *Error {
	return &Error{Code: CodeForbidden, Message: r.reason, Err: errWasDisconnected}
}

// revoke carries out a Leave or Disconnect with each of clients, and notes it
// for checks that are under way. It returns what is left to wait for: messages
// of the clients that are being stored.
func (l *loop) revoke(r revocation, clients []*Client) (published publishes) {
	l.hub.rights.revoke(r)
	for _, c := range clients {
		if len(r.rooms) == 0 {
			l.flushFor(c)
			l.close(c, closeDisconnected, r.reason)
		}
		for _, name := range r.rooms {
			l.removeFrom(c, name, r.reason)
		}
		if ch := c.publishing(); ch != nil {
			published = append(published, ch)
		}
	}
	return published
}

// removeFrom takes a client out of a room, and tells it, if it is a member.
func (l *loop) removeFrom(c *Client, name, reason string) {
	r := l.rooms[name]
	if r == nil || c.onLoop.seatIn(&r.audience) < 0 {
		return
	}
	l.leave(c, r, false)
	l.tellRemoved(c, name, reason)
}

// tellRemoved tells a client that it is not in a room any more.
func (l *loop) tellRemoved(c *Client, room, reason string) {
	e := envelope{typ: eventRemoved, room: room, ts: timestamp(), data: []byte("{}")}
	if reason != "" {
		e.data = append(appendQuoted([]byte(`{"reason":`), reason), '}')
	}
	l.send(c, e.frame(), wire.Durable)
}

// beginPublish is the last check before a message of the client is sent: of its
// membership, if the message goes to a room, and of the connection. If it
// returns nil, endPublish must follow. A revocation waits for that.
func (c *Client) beginPublish(t Topic) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.mu.lostRights():
		return Unavailable(ErrClientGone)
	case t.Room != "" && !slices.Contains(c.mu.rooms, t.Room):
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
	return cl.ended && (cl.end.Code == int(closeDisconnected) || cl.end.Code == int(closeTokenExpired))
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

// connectingKey is the key of the client that is connecting in the ctx of its
// OnConnect.
type connectingKey struct{}

// revoke has every node carry out r, and waits until they have. In an OnConnect
// it is not for the client that is connecting, which is not there yet: so an
// application can end a user's other connections.
func (t Target) revoke(ctx context.Context, r note.Routed) error {
	if c, ok := ctx.Value(connectingKey{}).(*Client); ok {
		t = t.Except(c.id)
	}
	if err := t.act(ctx, r); err != nil {
		return err
	}
	n := &note.Note{Op: note.OpRevoke, Except: t.except, Clients: t.clients, Rooms: r.Rooms, Data: r.Body}
	for _, topic := range t.topics {
		n.Topics = append(n.Topics, note.Topic(topic))
	}
	var q *inquiry
	ctx, cancel := context.WithTimeout(ctx, t.hub.cfg.NodeLease)
	defer cancel()
	err := t.hub.onLoop(func(l *loop) {
		// Where this node's own clients are not in the topic, act has not
		// reached the checks that are under way.
		l.hub.rights.revoke(revocationOf(n))
		if len(l.nodes.all) > 0 && len(t.topics) > 0 {
			q = l.startInquiry(ctx, n)
		}
	})
	if err != nil || q == nil {
		return err
	}
	return q.wait(ctx, t.hub)
}

func revocationOf(n *note.Note) revocation {
	r := revocation{clients: n.Clients, except: n.Except, rooms: n.Rooms, reason: string(n.Data)}
	for _, t := range n.Topics {
		r.targets = append(r.targets, Topic(t))
	}
	return r
}

// hearRevoke carries out a revocation of another node, and answers when
// nothing of the right works here any more.
func (l *loop) hearRevoke(from *node, n *note.Note) {
	key := questionKey{from.id, n.ID}
	if q := l.nodes.questions[key]; q != nil {
		if q.heardAt = l.now(); q.final > 0 {
			l.sendReplies(key, q, nil)
		}
		return
	}
	q := &question{cancel: func() {}, heardAt: l.now()}
	l.nodes.questions[key] = q
	published := l.revoke(revocationOf(n), l.find(n))
	done := call(func(l *loop) {
		q.final = 1
		l.sendReplies(key, q, nil)
	})
	if len(published) == 0 {
		done(l)
		return
	}
	go func() {
		published.wait(l.hub)
		_ = l.hub.post(done) // a closed hub has no clients
	}()
}
