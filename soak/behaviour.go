package main

import (
	"context"
	"strings"
	"time"

	"github.com/chathub-go/chathub/hubtest"
)

// kind is how a peer behaves. All of them send, receive and check.
type kind int

const (
	calm     kind = iota
	flaky         // loses its connection now and then, with and without a word
	frozen        // stops reading for some seconds, like a laptop that sleeps
	slow          // reads less than comes
	flooder       // sends far too much, or nonsense
	stormer       // all of them drop and come back in the same moment
	expiring      // has tokens of a few seconds
)

// kinds is dealt out to the peers in turn.
var kinds = []kind{
	calm, flaky, calm, frozen, calm, stormer, calm, slow, calm, flaky,
	calm, expiring, calm, flooder, calm, stormer, calm, flaky, calm, calm,
}

// tokenLife is how long a peer's tokens are valid.
func (k kind) tokenLife() time.Duration {
	if k == expiring {
		return 5 * time.Second
	}
	return time.Hour
}

const (
	sendEvery = time.Second // on average
	// answerWithin is how long a peer waits for an ack before it sends again.
	answerWithin = 5 * time.Second
	// resendAtOnce bounds what is sent again in one go, or it would be over the
	// rate that the server allows.
	resendAtOnce = 8
	frozenFor    = 6 * time.Second  // longer than the heartbeat
	vanishedFor  = 10 * time.Second // the server has long found out by then
	slowPause    = 150 * time.Millisecond
)

// act sends, and does what peers of its kind do, until the connection is at its
// end; when ctx ends, it only catches up. It reports false where it walked away
// from a connection that is still open.
func (p *peer) act(ctx context.Context, s *session) bool {
	dawdles := p.kind == slow && p.rand.IntN(2) == 0 // else it could never catch up
	if dawdles {
		p.fault("slow")
		s.wire.slow(slowPause)
	}
	p.retryAll()
	for {
		// Only a stormer minds a storm.
		var storm <-chan struct{}
		if p.kind == stormer {
			storm = p.storm()
		}
		select {
		case <-s.gone:
			return true
		case <-ctx.Done():
			p.settle(s)
			return true
		case <-storm:
			p.fault("storm")
			s.left = true
			s.abort()
			return true
		case <-time.After(sendEvery/2 + time.Duration(p.rand.Int64N(int64(sendEvery)))):
		}
		p.speak(s)
		p.resend(s)
		if !dawdles {
			p.fetch(s)
		}
		if p.kind == expiring && time.Until(s.expires) < 3*time.Second && p.rand.IntN(2) == 0 {
			p.refresh(s)
		}
		if p.rand.IntN(4) > 0 {
			continue
		}
		switch p.kind {
		case flaky:
			return p.leave(s)
		case frozen:
			p.fault("freeze")
			s.wire.freeze()
			select {
			case <-time.After(frozenFor):
			case <-ctx.Done():
			}
			s.wire.recover()
		case flooder:
			p.flood(s)
		case calm, slow, stormer, expiring:
		}
	}
}

// leave ends a connection in one of three ways.
func (p *peer) leave(s *session) bool {
	s.left = true
	switch p.rand.IntN(3) {
	case 0:
		p.fault("close")
		s.close()
	case 1:
		p.fault("reset")
		s.abort()
	default:
		p.fault("vanish")
		s.wire.freeze()
		time.AfterFunc(vanishedFor, s.abort)
		return false
	}
	return true
}

// flood sends much more than the limits allow.
func (p *peer) flood(s *session) {
	f, n := hubtest.Frame{Type: "typing", Room: p.rooms[0]}, 400
	if p.rand.IntN(4) == 0 {
		f, n = hubtest.Frame{Type: "No such Type"}, 60
		p.fault("nonsense")
	} else {
		p.fault("flood")
	}
	for range n {
		if s.send(f) != nil {
			return
		}
	}
}

// speak sends one message.
func (p *peer) speak(s *session) {
	p.mu.Lock()
	if p.rand.IntN(4) == 0 {
		if f, ok := p.meddle(); ok {
			p.mu.Unlock()
			_ = s.send(f)
			return
		}
	}
	f := hubtest.Frame{Type: "room-message", ID: p.nextID(), Room: p.rooms[p.rand.IntN(len(p.rooms))]}
	data := payload{At: time.Since(p.began).Nanoseconds(), Live: p.kind == calm}
	switch r := p.rand.IntN(20); {
	case r < 3:
		f.Type, f.Room, f.To = "private-message", "", p.other()
	case r == 3 && len(p.recent) > 0: // again what was accepted: it must not be stored twice
		m := p.recent[len(p.recent)-1]
		p.mu.Unlock()
		_ = s.send(m.frame) // where it fails, reading does
		return
	case f.Room == square:
		data.Pad = strings.Repeat("x", squareBytes)
	}
	f.Data = hubtest.Data(data)
	p.unacked[f.ID] = &message{frame: f, retryAt: time.Now().Add(answerWithin)}
	p.mu.Unlock()
	p.sent.Add(1)
	_ = s.send(f)
}

// other returns the id of another peer.
func (p *peer) other() string {
	for {
		if o := p.peers[p.rand.IntN(len(p.peers))]; o != p {
			return o.id
		}
	}
}

// retryAll has all messages without an ack sent again: the connection is new.
func (p *peer) retryAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.unacked {
		m.retryAt = time.Time{}
	}
}

// resend sends again what has no ack and is due.
func (p *peer) resend(s *session) {
	p.mu.Lock()
	var due []hubtest.Frame
	for _, m := range p.unacked {
		if time.Now().After(m.retryAt) && len(due) < resendAtOnce {
			m.retryAt = time.Now().Add(answerWithin)
			due = append(due, m.frame)
		}
	}
	p.mu.Unlock()
	for _, f := range due {
		_ = s.send(f)
	}
}

// refresh brings a new token before the old one expires.
func (p *peer) refresh(s *session) {
	p.fault("refresh")
	token, expires := p.token(p.kind.tokenLife())
	s.expires = expires
	p.mu.Lock()
	f := hubtest.Frame{Type: "refresh-token", ID: p.nextID(), Data: hubtest.Data(map[string]string{"token": token})}
	s.calls[f.ID] = func(a hubtest.Frame) {
		if a.Type == "error" {
			p.wrong("%s: refresh: %s", p.id, a.Data)
		}
	}
	p.mu.Unlock()
	_ = s.send(f)
}

// fetch asks for a page of history where there is a gap that may be filled by
// it. One page is asked for at a time.
func (p *peer) fetch(s *session) {
	p.mu.Lock()
	var f hubtest.Frame
	for _, name := range p.rooms {
		if t := p.tracks[room(name)]; t != nil && !s.fetching && f.Type == "" {
			if g, ok := t.Fillable(); ok {
				f = p.history(s, t, name, g)
			}
		}
	}
	p.mu.Unlock()
	if f.Type != "" {
		_ = s.send(f)
	}
}

// settle catches up, and sends again what has no ack, until the soak is
// finished.
func (p *peer) settle(s *session) {
	s.wire.recover()
	for {
		p.resend(s)
		p.fetch(s)
		select {
		case <-s.gone:
			return
		case <-p.finish:
			s.left = true
			s.close()
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// standing is what a peer lacks.
type standing struct {
	ready            bool // it is connected, and in all its rooms
	missing, unacked int
}

func (p *peer) standing() (st standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tracks {
		st.missing += t.Missing(p.ledger) + t.Stale(p.ledger)
	}
	st.unacked = len(p.unacked)
	st.ready = p.session != nil && p.session.isReady()
	return st
}

// noteMissing notes what the peer lacks, by log.
func (p *peer) noteMissing() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tracks {
		if missing, stale := t.Missing(p.ledger), t.Stale(p.ledger); missing+stale > 0 {
			p.note("%s lacks %d messages of %s, and shows %d in an old form; it is at %d, of which history has to fill up to %d, and lacks %v",
				p.id, missing, t.Topic, stale, t.Last, t.Hole, t.Gaps(5))
		}
	}
}

func (s *session) isReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}
