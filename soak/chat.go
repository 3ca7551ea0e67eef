package main

import (
	"context"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/internal/ledger"
	"github.com/go-json-experiment/json"
)

// keys are the reactions that peers choose from.
var keys = []string{"👍", "🎉", "no"}

// isChange reports whether a message changes another one.
func (m *message) isChange() bool {
	switch m.frame.Type {
	case "edit-message", "delete-message", "react":
		return true
	}
	return false
}

// becameOf returns what a message in its present form has become.
func becameOf(version uint64, f hubtest.Frame) ledger.Became {
	if f.Edited == 0 {
		f.Data = nil // as it was sent
	}
	text, err := json.Marshal(hubtest.Frame{Data: f.Data, Edited: f.Edited, Deleted: f.Deleted, Reactions: f.Reactions}, json.Deterministic(true))
	if err != nil {
		return ledger.Became{} // it came as JSON
	}
	if version == 0 {
		text = nil
	}
	return ledger.Became{Version: version, Text: string(text), Deleted: f.Deleted > 0}
}

// learn tells the ledger, and shows, what a message of a log says.
func (p *peer) learn(t *ledger.Track, f hubtest.Frame) {
	if f.Type != "message-changed" {
		from := ""
		if f.Type == "room-message" {
			from = sender(f)
		}
		p.ledger.Put(t.Topic, f.Seq, f.ID, from)
		if f.Deleted > 0 && f.Data != nil {
			p.wrong("%s: a deleted message with data: %s", p.id, f.Data)
		}
		now := becameOf(f.Version, f)
		p.ledger.Change(t.Topic, f.Seq, now)
		t.Show(f.Seq, now, false)
		return
	}
	var data struct {
		Seq     uint64        `json:"seq"`
		Message hubtest.Frame `json:"message"`
	}
	if err := json.Unmarshal(f.Data, &data); err != nil || data.Seq == 0 || data.Seq >= f.Seq {
		p.wrong("%s: message-changed: %s", p.id, f.Data)
		return
	}
	now := becameOf(f.Seq, data.Message)
	p.ledger.Change(t.Topic, data.Seq, now)
	t.Show(data.Seq, now, true)
}

// hasRead checks that a marker does not move back.
func (p *peer) hasRead(t *ledger.Track, seq uint64) {
	if seq < t.Read {
		p.wrong("%s: the marker of %s moves from %d to %d", p.id, t.Topic, t.Read, seq)
	}
	t.Read = max(t.Read, seq)
}

// heardRead handles a read of the inbox, which is the peer's own and comes
// after a resume.
func (p *peer) heardRead(s *session, f hubtest.Frame) {
	if sender(f) != p.id {
		p.foreign.Add(1)
		p.note("%s got a read of %s", p.id, sender(f))
	} else if s.inbox {
		p.received.Add(1)
		if p.tracks[inbox(p.id)].Saw(f.Seq) == ledger.Repeated {
			p.doubled.Add(1)
		}
	}
}

// meddle changes a message that is shown, or marks messages as read. It reports
// false if there is none. The caller holds p.mu.
func (p *peer) meddle() (f hubtest.Frame, ok bool) {
	name := p.rooms[p.rand.IntN(len(p.rooms))]
	t := p.tracks[room(name)]
	if t == nil || t.Last == 0 {
		return f, false
	}
	if p.rand.IntN(4) == 0 {
		return p.markRead(t, name, t.Last), true
	}
	// Mostly one of the newest, so that several change one message.
	seq := uint64(0)
	for at := range t.Shown {
		if !t.Shown[at].Deleted && p.rand.IntN(3) == 0 {
			seq = max(seq, at)
		}
	}
	if seq == 0 {
		return f, false
	}
	f = hubtest.Frame{Type: "react", ID: p.nextID(), Room: name}
	switch mine := p.ledger.Author(t.Topic, seq) == p.id; {
	case mine && p.rand.IntN(4) == 0:
		f.Type, f.Data = "delete-message", hubtest.Data(map[string]uint64{"seq": seq})
	case mine:
		f.Type, f.Data = "edit-message", hubtest.Data(map[string]any{"seq": seq, "data": payload{Pad: f.ID}})
	default:
		f.Data = hubtest.Data(map[string]any{"seq": seq, "key": keys[p.rand.IntN(len(keys))], "on": p.rand.IntN(3) > 0})
	}
	p.unacked[f.ID] = &message{frame: f, retryAt: time.Now().Add(answerWithin)}
	p.sent.Add(1)
	return f, true
}

// markRead returns a mark-read, and expects the answer.
func (p *peer) markRead(t *ledger.Track, name string, seq uint64) hubtest.Frame {
	f := hubtest.Frame{Type: "mark-read", ID: p.nextID(), Room: name, Data: hubtest.Data(map[string]uint64{"seq": seq})}
	p.session.calls[f.ID] = func(a hubtest.Frame) {
		var data struct {
			Seq uint64 `json:"seq"`
		}
		if a.Type == "error" {
			return // it is only a mark: the next one says more
		}
		if err := json.Unmarshal(a.Data, &data); err != nil || data.Seq < seq {
			p.wrong("%s: mark-read up to %d of %s: %s", p.id, seq, name, a.Data)
		}
		p.hasRead(t, data.Seq)
	}
	return f
}

// audit asks the server once more, when everything is quiet: for the newest
// messages of each room, and where the rooms stand. It returns when all answers
// are checked. If the connection ends first, it begins anew with the next one.
func (p *peer) audit(ctx context.Context) error {
	for {
		p.mu.Lock()
		if s := p.session; s != nil && s.isReady() {
			frames, done := p.auditFrames(s)
			p.mu.Unlock()
			for _, f := range frames {
				_ = s.send(f) // if it fails, reading fails too
			}
			select {
			case <-done:
				return nil
			case <-s.gone:
			case <-ctx.Done():
				return ctx.Err()
			}
		} else {
			p.mu.Unlock()
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// auditFrames returns what audit asks, and a channel that is closed when it is
// answered. The caller holds p.mu.
func (p *peer) auditFrames(s *session) (frames []hubtest.Frame, done chan struct{}) {
	done = make(chan struct{})
	waiting := 1 + len(p.rooms)
	ask := func(f hubtest.Frame, check func(a hubtest.Frame)) {
		frames = append(frames, p.ask(s, func() hubtest.Frame { return f }, func(a hubtest.Frame) {
			if a.Type == "error" {
				p.wrong("%s: %s: %s", p.id, f.Type, a.Data)
			} else {
				check(a)
			}
			if waiting--; waiting == 0 {
				close(done)
			}
		}))
	}
	for _, name := range p.rooms {
		t := p.tracks[room(name)]
		data := hubtest.Data(map[string]any{"limit": 200, "types": []string{"room-message"}})
		ask(hubtest.Frame{Type: "history", Room: name, Data: data}, func(a hubtest.Frame) { p.checkPage(t, a) })
	}
	ask(hubtest.Frame{Type: "overview", Data: hubtest.Data(map[string]any{"rooms": p.rooms})}, p.checkOverview)
	return frames, done
}

// checkPage checks that the newest messages of a room are in the form that
// everyone knows.
func (p *peer) checkPage(t *ledger.Track, a hubtest.Frame) {
	var page struct {
		Messages []hubtest.Frame `json:"messages"`
	}
	if err := json.Unmarshal(a.Data, &page); err != nil {
		p.wrong("%s: history: %s", p.id, a.Data)
	}
	for _, m := range page.Messages {
		p.learn(t, m)
		if now := p.ledger.Now(t.Topic, m.Seq); now != becameOf(m.Version, m) {
			p.wrong("%s: history of %s has %d in version %d, but there is %d: %s", p.id, t.Topic, m.Seq, m.Version, now.Version, now.Text)
		}
	}
}

// checkOverview checks where the peer's rooms stand.
func (p *peer) checkOverview(a hubtest.Frame) {
	var data struct {
		Rooms map[string]struct {
			chathub.Position `json:",inline"`
			Read             uint64 `json:"read"`
			Unread           int    `json:"unread"`
		} `json:"rooms"`
	}
	if err := json.Unmarshal(a.Data, &data); err != nil {
		p.wrong("%s: overview: %s", p.id, a.Data)
		return
	}
	for _, name := range p.rooms {
		t := p.tracks[room(name)]
		at, ok := data.Rooms[name]
		if !ok {
			if p.ledger.Head(t.Topic) > 0 {
				p.wrong("%s: an overview without %s", p.id, name)
			}
			continue
		}
		p.hasRead(t, at.Read)
		if n := p.ledger.Unread(t.Topic, p.id, at.Read, at.Seq); n != at.Unread {
			p.wrong("%s: %d unread in %s after %d and up to %d, but there are %d", p.id, at.Unread, name, at.Read, at.Seq, n)
		}
	}
}
