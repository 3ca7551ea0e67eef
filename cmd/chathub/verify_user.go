package main

import (
	"context"
	"errors"
	"fmt"
	random "math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/ledger"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
)

const (
	// answerWithin is how long a user waits for an answer before it breaks off
	// the connection, or sends a message again.
	answerWithin = 10 * time.Second
	// silentFor is how long the server may be silent before a user pings it.
	silentFor = 10 * time.Second

	backoffMin = 250 * time.Millisecond
	backoffMax = 5 * time.Second
)

// verifyUser is a user that speaks the protocol itself, so that it sees what
// package client would hide.
type verifyUser struct {
	*verify
	name  string
	rooms []string

	mu      sync.Mutex
	id      string                    // as the server welcomed it
	session *verifySession            // nil while not connected
	tracks  map[string]*ledger.Track  // by topic
	lanes   map[string]*outgoing      // the message that waits for its ack, by topic
	heard   map[string]map[string]int // the number last heard, by topic and sender
	count   int
	last    time.Time // of the last delivery or, before the first, of the first join
	came    int       // connections so far
}

// outgoing is a message that has no ack yet. There is one for each topic at a
// time, so that the numbers are in order.
type outgoing struct {
	frame
	first   time.Time // when it was sent first
	retryAt time.Time
}

// payload is the data of a message.
type payload struct {
	Text string `json:"text"` // for people who see the room
	Run  string `json:"run"`
	User string `json:"user"`
	N    int    `json:"n"`
	At   int64  `json:"at"` // nanoseconds since the run began
}

func roomTopic(room string) string  { return "room " + room }
func inboxTopic(user string) string { return "inbox of " + user }

// live connects again and again. It sends until ctx ends, and then only catches
// up until v.finish is closed.
func (u *verifyUser) live(ctx context.Context) {
	failures := 0
	for {
		wait, connected := u.connect(ctx)
		if connected {
			failures = 0
		}
		if wait < 0 {
			wait = random.N(min(backoffMin<<min(failures, 10), backoffMax) + 1)
		}
		failures++
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-u.finish:
			timer.Stop()
			return
		}
	}
}

// connect connects once, and stays until the end of the connection. It returns
// how long to wait before the next, if the server has said so, and -1
// otherwise.
func (u *verifyUser) connect(ctx context.Context) (wait time.Duration, connected bool) {
	ws, err := u.dial(context.WithoutCancel(ctx))
	if err != nil {
		u.tally.ended(endOf(err))
		u.tally.note("%s cannot connect: %v", u.name, err)
		if !u.tally.connected.Load() && u.tally.failures.Add(1) > int64(5*len(u.users)) {
			u.giveUp(fmt.Errorf("%s cannot be reached: %w", shown(u.con.url), err))
		}
		return -1, false
	}
	s := newSession(u, ws)
	u.mu.Lock()
	u.session = s
	u.mu.Unlock()
	go s.read()
	s.run(ctx)
	ws.CloseNow()
	<-s.gone
	u.mu.Lock()
	defer u.mu.Unlock()
	u.session = nil
	u.tally.ended(s.end())
	if err := s.refused(); err != nil {
		u.refusedFor(err)
	}
	return s.comeBack, s.isReady()
}

// refusedFor handles a refusal for good. If nobody has been let in, there is
// nothing to verify. Otherwise the next server may think differently.
func (u *verifyUser) refusedFor(err error) {
	if u.tally.connected.Load() {
		u.tally.wrong("%s is refused: %v", u.name, err)
		return
	}
	u.giveUp(fmt.Errorf("%s refuses %s: %w", shown(u.con.url), u.name, err))
}

// dial makes a handshake.
func (u *verifyUser) dial(ctx context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	header := make(map[string][]string)
	if u.con.token != nil {
		token, err := u.con.token(ctx, u.name)
		if err != nil {
			return nil, err
		}
		header["Authorization"] = []string{"Bearer " + token}
	}
	ws, res, err := websocket.Dial(ctx, u.con.url.String(), &websocket.DialOptions{
		HTTPClient: u.con.http, HTTPHeader: header, Subprotocols: []string{subprotocol},
	})
	switch {
	case err != nil && res != nil:
		return nil, &statusError{res.StatusCode}
	case err != nil:
		return nil, plain(err)
	}
	ws.SetReadLimit(16 << 20)
	return ws, nil
}

// statusError is a refusal in plain HTTP.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("HTTP status %d", e.status) }

// endOf names the end of a connection, or why there is none.
func endOf(err error) string {
	var ce websocket.CloseError
	var status *statusError
	switch {
	case errors.As(err, &ce):
		return fmt.Sprint(int(ce.Code))
	case errors.As(err, &status):
		return status.Error()
	}
	return "broken or unreachable"
}

// next returns a new message, or false if all topics wait for an ack. The
// caller holds u.mu.
func (u *verifyUser) next(now time.Time) (frame, bool) {
	f := frame{Type: "room-message", Room: u.rooms[random.IntN(len(u.rooms))]}
	topic := roomTopic(f.Room)
	if u.con.distinct && random.IntN(8) == 0 {
		if to := u.other(); to != "" {
			f = frame{Type: "private-message", To: to}
			topic = inboxTopic(to)
		}
	}
	if u.lanes[topic] != nil {
		return frame{}, false
	}
	u.count++
	f.ID = fmt.Sprintf("%s-%s-%d", u.run, u.name, u.count)
	f.Data = encode(payload{
		Text: fmt.Sprintf("%s %d (chathub verify)", u.name, u.count),
		Run:  u.run, User: u.name, N: u.count, At: now.Sub(u.began).Nanoseconds(),
	})
	u.lanes[topic] = &outgoing{frame: f, first: now, retryAt: now.Add(answerWithin)}
	u.tally.sent.Add(1)
	return f, true
}

// other returns the id of another user, once that is known.
func (u *verifyUser) other() string {
	o := u.users[random.IntN(len(u.users))]
	if o == u || !o.mu.TryLock() { // two users may ask for each other
		return ""
	}
	defer o.mu.Unlock()
	return o.id
}

// due returns the messages to send again. The caller holds u.mu.
func (u *verifyUser) due(now time.Time) (all []frame) {
	for _, m := range u.lanes {
		if !now.Before(m.retryAt) {
			m.retryAt = now.Add(answerWithin)
			all = append(all, m.frame)
		}
	}
	return all
}

// answered takes the answer to a message. It reports false if it is to none.
// The caller holds u.mu.
func (u *verifyUser) answered(f frame) bool {
	for topic, m := range u.lanes {
		if m.ID != f.ID {
			continue
		}
		if f.Type == "error" {
			d := f.fault()
			u.tally.answeredWith(d.Code)
			if d.Code == "rate_limited" || d.Code == "unavailable" {
				wait := time.Duration(min(max(d.RetryAfterMs, 100), 60_000)) * time.Millisecond
				m.retryAt = time.Now().Add(wait)
				return true
			}
			u.tally.note("%s: a message is refused: %s: %s", u.name, printable(d.Code), printable(d.Message))
			u.tally.refused.Add(1)
			delete(u.lanes, topic)
			return true
		}
		var receipt struct {
			Seq uint64 `json:"seq"`
		}
		if json.Unmarshal(f.Data, &receipt) != nil || receipt.Seq == 0 {
			u.tally.wrong("%s: a receipt without a position: %s", u.name, printable(string(f.Data)))
		} else if m.To == "" {
			u.ledger.Put(topic, receipt.Seq, m.ID, u.id)
		} else {
			own := inboxTopic(u.id)
			u.ledger.Put(own, receipt.Seq, m.ID, "")
			u.ledger.Promise(topic, m.ID)
			u.tracks[own].Own[receipt.Seq] = true
		}
		u.tally.acked.Add(1)
		u.tally.ackLatency.Record(time.Since(m.first))
		delete(u.lanes, topic)
		return true
	}
	return false
}

// got checks a durable event. The caller holds u.mu.
func (u *verifyUser) got(topic string, f frame) {
	t := u.tracks[topic]
	u.tally.received.Add(1)
	u.ledger.Put(topic, f.Seq, f.ID, "")
	outcome := t.Saw(f.Seq)
	switch outcome {
	case ledger.Repeated:
		u.tally.doubled.Add(1)
		u.tally.note("%s got %d of %s again", u.name, f.Seq, topic)
	case ledger.Filled:
		u.tally.reordered.Add(1)
		u.tally.note("%s got %d of %s late", u.name, f.Seq, topic)
	case ledger.Expected:
	}
	var p payload
	if json.Unmarshal(f.Data, &p) != nil || p.Run != u.run {
		return // of somebody else
	}
	now := time.Now()
	u.delivered(now)
	if outcome != ledger.Expected || f.To != "" && p.User == u.name {
		return // not a delivery, or the sender's own copy after a resume
	}
	u.tally.latency.Record(now.Sub(u.began) - time.Duration(p.At))
	if u.heard[topic] == nil {
		u.heard[topic] = make(map[string]int)
	}
	switch last := u.heard[topic][p.User]; {
	case p.N == last:
		u.tally.doubled.Add(1)
		u.tally.note("%s: message %d of %s is stored twice in %s", u.name, p.N, p.User, topic)
	case p.N < last:
		u.tally.reordered.Add(1)
		u.tally.note("%s: message %d of %s comes after %d in %s", u.name, p.N, p.User, last, topic)
	}
	u.heard[topic][p.User] = max(u.heard[topic][p.User], p.N)
}

// delivered measures how long nothing came. The caller holds u.mu.
func (u *verifyUser) delivered(now time.Time) {
	u.tally.silence.note(now.Sub(u.last), u.name, u.last.Sub(u.began))
	u.last = now
	u.tally.deliveredTo(now, u.began)
}

// heardNothing measures how long nothing has come until now.
func (u *verifyUser) heardNothing() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); !u.last.IsZero() {
		u.tally.silence.note(now.Sub(u.last), u.name, u.last.Sub(u.began))
	}
}

// isReady reports whether the user is connected and has resumed.
func (u *verifyUser) isReady() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.session != nil && u.session.isReady()
}

// caughtUp reports whether the user has all there is, and all its messages are
// acknowledged.
func (u *verifyUser) caughtUp() bool {
	missing, unacked := u.missing()
	return u.isReady() && missing == 0 && unacked == 0
}

func (u *verifyUser) missing() (missing, unacked int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, t := range u.tracks {
		if u.con.distinct || !strings.HasPrefix(t.Topic, "inbox") {
			missing += t.Missing(u.ledger)
		}
	}
	return missing, len(u.lanes)
}
