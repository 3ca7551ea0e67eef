package main

import (
	"math/rand/v2"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/internal/ledger"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// retryAfter is how long a peer waits, on average, before it asks again for
// what the hub cannot do now.
const retryAfter = 500 * time.Millisecond

// refusal is an error in an answer.
type refusal struct {
	Code       string `json:"code"`
	RetryAfter int    `json:"retryAfterMs"`
}

// refusalOf returns the error that an answer is, or nil.
func refusalOf(a hubtest.Frame) *refusal {
	if a.Type != "error" {
		return nil
	}
	var e refusal
	_ = json.Unmarshal(a.Data, &e) // no code counts as ""
	return &e
}

// isTemporary reports whether the same request may succeed later.
func (e *refusal) isTemporary() bool {
	return e != nil && (e.Code == string(chathub.CodeUnavailable) || e.Code == string(chathub.CodeRateLimited))
}

// ask returns a request. If the hub cannot do it now, it is made and sent again
// on the same connection, until there is another answer. The caller holds p.mu,
// and so does ask when it calls make and answered.
func (p *peer) ask(s *session, make func() hubtest.Frame, answered func(a hubtest.Frame)) hubtest.Frame {
	f := make()
	f.ID = p.nextID()
	s.calls[f.ID] = func(a hubtest.Frame) {
		if e := refusalOf(a); e.isTemporary() {
			p.later(s, e, func() hubtest.Frame { return p.ask(s, make, answered) })
			return
		}
		answered(a)
	}
	return f
}

// later makes and sends a request after a while, if the session still lasts. It
// holds p.mu when it calls make.
func (p *peer) later(s *session, e *refusal, make func() hubtest.Frame) {
	jitter := rand.N(retryAfter) //nolint:gosec // not a secret
	pause := time.Duration(e.RetryAfter)*time.Millisecond + retryAfter/2 + jitter
	time.AfterFunc(pause, func() {
		p.mu.Lock()
		if p.session != s {
			p.mu.Unlock()
			return
		}
		f := make()
		p.mu.Unlock()
		_ = s.send(f) // if it fails, reading fails too
	})
}

// begin joins the rooms or, after an interruption, resumes.
func (p *peer) begin(s *session) {
	if !s.await(s.welcome) {
		return
	}
	p.mu.Lock()
	var frames []hubtest.Frame
	s.waiting = 1
	if f, ok := p.resume(s); ok {
		frames = append(frames, f)
	}
	for _, name := range p.rooms {
		if p.tracks[room(name)] == nil {
			s.waiting++
			frames = append(frames, p.join(s, name))
		}
	}
	p.begun(s)
	p.mu.Unlock()
	for _, f := range frames {
		_ = s.send(f) // if it fails, reading fails too
	}
	s.await(s.ready)
}

// begun notes that one of the things for which a session waits is done. The
// caller holds p.mu.
func (p *peer) begun(s *session) {
	if s.waiting--; s.waiting == 0 {
		close(s.ready)
	}
}

// join returns the request to join a room, from the last message on that the
// peer has seen of it. The session waits for it.
func (p *peer) join(s *session, name string) hubtest.Frame {
	return p.ask(s, func() hubtest.Frame {
		f := hubtest.Frame{Type: "join-room", Room: name}
		if t := p.tracks[room(name)]; t != nil {
			f.Data = hubtest.Data(map[string]chathub.Position{"since": positionOf(t)})
		}
		return f
	}, func(a hubtest.Frame) {
		defer p.begun(s)
		if a.Type == "error" {
			p.wrong("%s: joining %s: %s", p.id, name, a.Data)
			return
		}
		p.joined(s, room(name), a.Data)
	})
}

// resume returns the request for everything that was missed, or false if
// nothing can have been. The session waits for it, and for the rooms that have
// to be joined after it.
func (p *peer) resume(s *session) (hubtest.Frame, bool) {
	type topics[T any] struct {
		Rooms map[string]T `json:"rooms"`
		Inbox T            `json:"inbox,omitzero"`
	}
	data := topics[chathub.Position]{Rooms: make(map[string]chathub.Position)}
	for _, name := range p.rooms {
		if t := p.tracks[room(name)]; t != nil {
			data.Rooms[name] = positionOf(t)
		}
	}
	if !s.inbox {
		data.Inbox = positionOf(p.tracks[inbox(p.id)])
	} else if len(data.Rooms) == 0 {
		return hubtest.Frame{}, false
	}
	s.waiting++
	return p.ask(s, func() hubtest.Frame {
		return hubtest.Frame{Type: "resume", Data: hubtest.Data(data)}
	}, func(a hubtest.Frame) {
		defer p.begun(s)
		var all topics[jsontext.Value]
		if err := json.Unmarshal(a.Data, &all); err != nil || a.Type == "error" {
			p.wrong("%s: resume: %s", p.id, a.Data)
			return
		}
		for name := range data.Rooms {
			var part struct {
				Error *refusal `json:"error"`
			}
			if json.Unmarshal(all.Rooms[name], &part) == nil && part.Error.isTemporary() {
				p.soak.answered(part.Error.Code)
				s.waiting++
				p.later(s, part.Error, func() hubtest.Frame { return p.join(s, name) })
				continue
			}
			p.joined(s, room(name), all.Rooms[name])
		}
		if !s.inbox {
			p.joined(s, inbox(p.id), all.Inbox)
			s.inbox = true
		}
	}), true
}

// joined notes the head of a log that the peer hears from now on.
func (p *peer) joined(s *session, topic string, data []byte) {
	var a struct {
		chathub.Position `json:",inline"`
		Recovered        bool    `json:"recovered"`
		Read             *uint64 `json:"read"` // absent if the hub cannot say it now
	}
	if err := json.Unmarshal(data, &a); err != nil || a.Epoch == "" {
		p.wrong("%s: %s: %s", p.id, topic, data)
		return
	}
	s.live[topic] = a.Seq
	t := p.tracks[topic]
	switch {
	case t == nil:
		t = ledger.NewTrack(topic, a.Epoch, a.Seq)
		p.tracks[topic] = t
	case t.Epoch != a.Epoch:
		p.wrong("%s: %s has become another log", p.id, topic)
		t.Epoch = a.Epoch
	case !a.Recovered:
		p.unrecovered.Add(1)
		t.Hole = a.Seq
		clear(t.Shown) // changes of them may be missing
	}
	if a.Read != nil {
		p.hasRead(t, *a.Read)
	}
}

// positionOf returns where a client goes on.
func positionOf(t *ledger.Track) chathub.Position {
	return chathub.Position{Epoch: t.Epoch, Seq: t.Last}
}
