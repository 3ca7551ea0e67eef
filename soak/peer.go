package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/internal/ledger"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

// peer is a user with one program. It behaves in its own way (see
// behaviour.go), and checks what it receives.
type peer struct {
	*soak
	id    string
	kind  kind
	rooms []string
	rand  *rand.Rand // for the goroutine of run

	mu      sync.Mutex
	tracks  map[string]*ledger.Track // by topic
	changed map[string]bool          // the ids of accepted changes
	unacked map[string]*message
	recent  []*message // the latest accepted messages, some of which are sent again
	repeats map[string]*message
	count   int
	session *session // nil while not connected
}

// message is a durable message that a peer has sent.
type message struct {
	frame   hubtest.Frame
	seq     uint64    // from the ack; 0 before it
	retryAt time.Time // when to send it again
}

// session is a connection while it lasts.
type session struct {
	*link
	gone    chan struct{} // closed when reading has ended
	err     error         // why reading ended; set before gone is closed
	welcome chan struct{} // closed after the welcome
	ready   chan struct{} // closed when all rooms are joined and missed messages requested
	left    bool          // the peer itself left

	// Guarded by peer.mu:
	calls    map[string]func(hubtest.Frame) // the handlers of answers
	inbox    bool                           // live: messages missed before no longer come
	fetching bool                           // a page of history is requested
	waiting  int                            // what has to be done before the session is ready
	live     map[string]uint64              // the head of each topic when it was joined
	afterMs  int                            // when to come back, if the server said so
	expires  time.Time                      // of the token
}

func room(name string) string  { return "room " + name }
func inbox(user string) string { return "inbox of " + user }

// token returns a signed token of the peer.
func (p *peer) token(life time.Duration) (string, time.Time) {
	expires := time.Now().Add(life)
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": p.id, "name": p.id, "exp": float64(expires.UnixMilli()) / 1000,
	})
	s, err := t.SignedString(p.secret)
	if err != nil {
		panic(err) // the key is valid
	}
	return s, expires
}

// run connects again and again. It acts while it is connected. After the end of
// ctx it only catches up, until finish is closed.
func (p *peer) run(ctx context.Context) {
	failures := 0
	for {
		token, expires := p.token(p.kind.tokenLife())
		p.dialed()
		l, err := dial(context.WithoutCancel(ctx), p.addr, token)
		var wait time.Duration
		if err != nil {
			p.ended("not connected")
			failures++
			wait = time.Duration(p.rand.Int64N(int64(50 * time.Millisecond << min(failures, 5))))
		} else {
			failures = 0
			wait = p.connected(ctx, l, expires)
		}
		select {
		case <-time.After(wait):
		case <-p.finish:
			return
		}
	}
}

// connected runs a session, and returns how long to wait before the next.
func (p *peer) connected(ctx context.Context, l *link, expires time.Time) time.Duration {
	s := &session{
		link:    l,
		gone:    make(chan struct{}),
		welcome: make(chan struct{}),
		ready:   make(chan struct{}),
		calls:   make(map[string]func(hubtest.Frame)),
		live:    make(map[string]uint64),
		expires: expires,
	}
	p.mu.Lock()
	p.session = s
	p.mu.Unlock()
	go p.read(s)
	p.begin(s)
	if p.act(ctx, s) {
		<-s.gone
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.session = nil
	if s.left {
		p.ended("left")
		return p.backoff()
	}
	code := endOf(s.err)
	switch {
	case code > 0:
		p.ended(strconv.Itoa(code))
	default:
		p.ended("broke off")
	}
	if p.kind == calm && code != 4000 {
		p.cutOff.Add(1)
		p.note("%s, a calm client, was cut off: %v", p.id, s.err)
	}
	if s.afterMs > 0 {
		return time.Duration(s.afterMs) * time.Millisecond
	}
	return p.backoff()
}

// backoff returns how long to wait before coming back. Stormers do not wait.
func (p *peer) backoff() time.Duration {
	if p.kind == stormer {
		return 0
	}
	return time.Duration(p.rand.Int64N(int64(200 * time.Millisecond)))
}

// read handles frames until the connection ends.
func (p *peer) read(s *session) {
	defer close(s.gone)
	for {
		f, err := s.read()
		if err != nil {
			s.err = err
			s.ws.CloseNow()
			return
		}
		p.mu.Lock()
		if p.session == s {
			p.handle(s, f)
		}
		p.mu.Unlock()
	}
}

// await waits until a channel is closed. It returns false if the connection
// ends first.
func (s *session) await(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-s.gone:
		return false
	}
}

// wrong counts a wrong answer.
func (p *peer) wrong(format string, args ...any) {
	p.badAnswer.Add(1)
	p.note(format, args...)
}

// handle handles a frame. The caller holds p.mu.
func (p *peer) handle(s *session, f hubtest.Frame) {
	switch f.Type {
	case "welcome":
		p.welcomed(s, f)
	case "ack", "error":
		p.answered(s, f)
	case "reconnect":
		var data struct {
			AfterMs int `json:"afterMs"`
		}
		_ = json.Unmarshal(f.Data, &data) // without it, the peer comes back at once
		s.afterMs = max(data.AfterMs, 1)
	case "room-message", "message-changed":
		p.got(s, room(f.Room), f)
	case "read":
		p.heardRead(s, f)
	case "private-message":
		if f.To != p.id && sender(f) != p.id {
			p.foreign.Add(1)
			p.note("%s got a private message from %s to %s", p.id, sender(f), f.To)
		} else if s.inbox { // earlier ones come again, after the answer
			p.got(s, inbox(p.id), f)
		}
	}
}

func (p *peer) welcomed(s *session, f hubtest.Frame) {
	var data struct {
		Inbox chathub.Position `json:"inbox"`
	}
	if err := json.Unmarshal(f.Data, &data); err != nil {
		p.wrong("%s: welcome: %s", p.id, f.Data)
	}
	topic := inbox(p.id)
	if p.tracks[topic] == nil {
		p.tracks[topic] = ledger.NewTrack(topic, data.Inbox.Epoch, data.Inbox.Seq)
		s.inbox = true
	}
	s.live[topic] = data.Inbox.Seq
	close(s.welcome)
}

// got checks a message that came.
func (p *peer) got(s *session, topic string, f hubtest.Frame) {
	t := p.tracks[topic]
	stood, joined := s.live[topic]
	if t == nil || !joined {
		p.foreign.Add(1)
		p.note("%s got %s of %s", p.id, f.ID, topic)
		return
	}
	p.received.Add(1)
	p.learn(t, f)
	switch t.Saw(f.Seq) {
	case ledger.Repeated:
		p.doubled.Add(1)
		p.note("%s got %d of %s again", p.id, f.Seq, topic)
	case ledger.Filled:
		p.reordered.Add(1)
		p.note("%s got %d of %s late", p.id, f.Seq, topic)
	case ledger.Expected:
	}
	var data payload
	if p.kind == calm && f.Seq > stood && json.Unmarshal(f.Data, &data) == nil && data.Live {
		age := time.Since(p.began) - time.Duration(data.At)
		// An older one was sent again, and its age tells nothing about the
		// server.
		if age < answerWithin {
			p.latency.Record(age)
		}
	}
}

// history returns the request for the newest page of a gap.
func (p *peer) history(s *session, t *ledger.Track, name string, g ledger.Stretch) hubtest.Frame {
	s.fetching = true
	f := hubtest.Frame{Type: "history", ID: p.nextID(), Room: name, Data: hubtest.Data(map[string]uint64{"before": g.To + 1, "limit": 200})}
	s.calls[f.ID] = func(a hubtest.Frame) {
		s.fetching = false
		if a.Type == "error" {
			return // the next tick requests it again
		}
		var page struct {
			Messages []hubtest.Frame `json:"messages"`
			More     bool            `json:"more"`
		}
		if err := json.Unmarshal(a.Data, &page); err != nil {
			p.wrong("%s: history: %s", p.id, a.Data)
			return
		}
		from := g.From
		for i, m := range page.Messages {
			p.learn(t, m)
			if i == 0 && page.More {
				from = m.Seq
			}
			if m.Seq >= g.From && t.Fill(m.Seq) == ledger.Filled {
				p.backfilled.Add(1)
			}
		}
		if !t.Searched(p.ledger, from, g.To) && len(page.Messages) == 0 {
			t.Hole = 0 // the log no longer has it
		}
		go p.fetch(s) // the next page; this goroutine has to read
	}
	return f
}

// answered handles an ack or an error.
func (p *peer) answered(s *session, f hubtest.Frame) {
	if e := refusalOf(f); e != nil {
		p.soak.answered(e.Code)
		if m := p.unacked[f.ID]; m != nil && m.isChange() && (e.Code == "conflict" || e.Code == "bad_request") {
			delete(p.unacked, f.ID) // somebody has deleted the message, or the log has dropped it
			p.acked.Add(1)
			p.changed[f.ID] = true
			return
		}
		if m := p.unacked[f.ID]; m != nil {
			m.retryAt = time.Now().Add(time.Duration(e.RetryAfter) * time.Millisecond)
			return
		}
	}
	if call := s.calls[f.ID]; call != nil {
		delete(s.calls, f.ID)
		call(f)
		return
	}
	if p.changed[f.ID] || f.Type == "error" && (f.ID == "" || p.repeats[f.ID] != nil) {
		return
	}
	var receipt struct {
		Seq uint64 `json:"seq"`
		Dup bool   `json:"dup"`
	}
	if err := json.Unmarshal(f.Data, &receipt); err != nil || receipt.Seq == 0 {
		p.wrong("%s: %s", p.id, f.Data)
		return
	}
	if m := p.unacked[f.ID]; m != nil {
		p.accepted(m, receipt.Seq)
		return
	}
	if m := p.repeats[f.ID]; m == nil {
		p.stray.Add(1)
		p.note("%s: an answer without a request: %s", p.id, f.ID)
	} else if receipt.Seq != m.seq || !receipt.Dup {
		p.wrong("%s: %s was accepted at %d, and repeated as %s", p.id, f.ID, m.seq, f.Data)
	}
}

// accepted notes the position of a message.
func (p *peer) accepted(m *message, seq uint64) {
	const kept = 256
	p.acked.Add(1)
	delete(p.unacked, m.frame.ID)
	m.seq = seq
	if m.isChange() {
		p.changed[m.frame.ID] = true
		return
	}
	p.recent = append(p.recent, m)
	if len(p.recent) > kept {
		delete(p.repeats, p.recent[0].frame.ID)
		p.recent = p.recent[1:]
	}
	// If an ack comes late, after the message was sent again, there is a second
	// ack.
	p.repeats[m.frame.ID] = m
	if m.frame.To == "" {
		p.ledger.Put(room(m.frame.Room), seq, m.frame.ID, p.id)
		return
	}
	p.ledger.Put(inbox(p.id), seq, m.frame.ID, "")
	p.ledger.Promise(inbox(m.frame.To), m.frame.ID)
	p.tracks[inbox(p.id)].Own[seq] = true
}

func (p *peer) nextID() string {
	p.count++
	return fmt.Sprintf("%s-%d", p.id, p.count)
}

// payload is the data of a message.
type payload struct {
	At   int64  `json:"at"`   // nanoseconds since the start
	Live bool   `json:"live"` // it was sent at that time
	Pad  string `json:"pad,omitzero"`
}
