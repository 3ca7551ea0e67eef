package client

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// feed is how far the program has got in the log of a room or in the inbox. The
// loop owns it.
//
// Invariant: every durable event up to pos.Seq is in the queue, or was, unless
// the program has been told of a gap.
type feed struct {
	room  string // empty for the inbox
	queue *queue
	pos   Position
	known bool // whether there is a position; if not, the log is joined at its end

	member bool // the server has put this connection into the room, or resumed the inbox
	live   bool // the next durable event comes after pos
	asked  bool // a request that will make it live is under way
	joined func(part)
	forget func() // ends a request to join; may be nil
}

func (f *feed) disconnected() { f.member, f.live, f.asked = false, false, false }

// part is the answer to a join, or a part of the answer to resume.
type part struct {
	Epoch     string `json:"epoch"`
	Seq       uint64 `json:"seq"`
	Users     []User `json:"users"`
	Count     *int   `json:"count"`
	Recovered bool   `json:"recovered"`
	Read      uint64 `json:"read"`
	Unread    *int   `json:"unread"`
	// State is nil if the room has none, and null if it was left out.
	State    jsontext.Value    `json:"state"`
	Versions map[string]uint64 `json:"versions"`
	Error    jsontext.Value    `json:"error"`
}

// decodePart returns the answer for one log.
func decodePart(data jsontext.Value) (p part, err error) {
	switch {
	case len(data) == 0 || json.Unmarshal(data, &p) != nil:
		return part{}, errInvalid
	case p.Error != nil:
		return part{}, errorOf(p.Error)
	case p.Epoch == "" || p.Seq > maxSeq:
		return part{}, errInvalid
	}
	return p, nil
}

// feeds returns the inbox, if it is read, and all rooms.
func (l *loop) feeds() []*feed {
	all := make([]*feed, 0, len(l.order)+1)
	if l.inbox != nil {
		all = append(all, &l.inbox.feed)
	}
	for _, r := range l.order {
		all = append(all, &r.feed)
	}
	return all
}

// catchUp joins or resumes each log that is not live: after a welcome, after a
// call of Join, and once a queue that was full is half empty.
func (l *loop) catchUp() {
	if l.welcome == nil || l.conn == nil || l.finished != nil {
		return
	}
	var resume []*feed
	size := 0
	for _, f := range l.feeds() {
		_, leaving := l.leaving[f.room]
		if f.live || f.asked || leaving || f.queue.crowded() {
			continue
		}
		f.asked = true
		if !f.known {
			l.askToJoin(f)
			continue
		}
		// This is never too small, even if each byte of a name is escaped.
		s := 6*len(f.room) + 6*len(f.pos.Epoch) + 60
		if len(resume) > 0 && l.maxMessage > 0 && size+s > l.maxMessage-200 {
			l.askToResume(resume)
			resume, size = nil, 0
		}
		resume = append(resume, f)
		size += s
	}
	if len(resume) > 0 {
		l.askToResume(resume)
	}
}

// askToJoin joins a room.
func (l *loop) askToJoin(f *feed) {
	if l.conn == nil {
		return
	}
	r := request{Type: "join-room", Room: f.room}
	room := l.rooms[f.room]
	if f.known {
		r.Data, _ = encodeData(map[string]Position{"since": f.pos})
	} else if room.history > 0 {
		r.Data, _ = encodeData(map[string]int{"history": room.history})
	}
	f.forget = l.requests.ask(r, now, func(answer frame, err error) {
		var p part
		if err == nil {
			p, err = decodePart(answer.Data)
		}
		l.feedAnswered(f, p, err)
	})
}

// askToResume catches up with logs of which a position is known.
func (l *loop) askToResume(feeds []*feed) {
	if l.conn == nil {
		return
	}
	var data struct {
		Rooms map[string]Position `json:"rooms"`
		Inbox *Position           `json:"inbox,omitempty"`
	}
	data.Rooms = make(map[string]Position)
	for _, f := range feeds {
		if f.room == "" {
			data.Inbox = &f.pos
		} else {
			data.Rooms[f.room] = f.pos
		}
	}
	encoded, err := encodeData(data)
	if err != nil { // no name and no epoch comes here that is not UTF-8
		l.lost(err)
		return
	}
	first := !l.ready
	if first {
		l.resuming++
	}
	l.requests.ask(request{Type: "resume", Data: encoded}, now, func(answer frame, err error) {
		if err != nil {
			if l.conn != nil { // else the next connection resumes
				l.lost(err)
			}
			return
		}
		var all struct {
			Rooms map[string]jsontext.Value `json:"rooms"`
			Inbox jsontext.Value            `json:"inbox"`
		}
		if json.Unmarshal(answer.Data, &all) != nil {
			l.lost(errInvalid)
			return
		}
		for _, f := range feeds {
			encoded := all.Inbox
			if f.room != "" {
				encoded = all.Rooms[f.room]
			}
			p, err := decodePart(encoded)
			l.feedAnswered(f, p, err)
			if l.conn == nil {
				return
			}
		}
		if first {
			l.resuming--
			l.settleReady()
		}
	})
}

// feedAnswered takes the answer about one log. The messages that were missed
// follow it.
func (l *loop) feedAnswered(f *feed, p part, err error) {
	room := l.rooms[f.room]
	switch {
	case l.conn == nil: // the next connection asks again
		return
	case f.room != "" && room == nil: // left meanwhile
		if _, leaving := l.leaving[f.room]; err == nil && !leaving {
			l.askToLeave(f.room, func(error) {})
		}
		return
	case room != nil && &room.feed != f: // left, and joined again
		return
	case err != nil && f.room == "":
		l.lost(err)
		return
	case err != nil:
		if _, again := temporary(err); again {
			l.askToJoin(f) // on its own, which is sent again until it is answered
			return
		}
		l.endRoom(room, err)
		return
	}
	asked := f.known
	old := f.pos
	f.pos = Position{Epoch: p.Epoch, Seq: p.Seq}
	switch {
	case asked && p.Recovered:
		f.pos.Seq = old.Seq
	case asked, room != nil && room.history > 0:
		f.pos.Seq = 0
	}
	f.known, f.asked, f.member, f.live = true, false, true, true
	if asked && !p.Recovered {
		l.opts.Logger.Warn("chathub client: messages are missing", "room", f.room, "after", old.Seq, "head", p.Seq)
		f.queue.put(Event{Type: TypeGap, Room: f.room, Position: Position{Epoch: p.Epoch, Seq: p.Seq}}, certain)
	}
	f.joined(p)
	l.outbox.flush(time.Now())
}

// deliver puts an event into the queue that it belongs to.
func (l *loop) deliver(fr frame) {
	if fr.Type == TypeRead {
		var d struct {
			Position uint64 `json:"position"`
		}
		if json.Unmarshal(fr.Data, &d) == nil && d.Position <= maxSeq { // none: it is of others
			fr.Seq = d.Position
		}
	}
	isDurable := fr.Seq > 0
	switch {
	case isDurable && (fr.Room == "" || fr.Type == TypeRead):
		// A read with a position is in the inbox, whatever room it is about.
		if l.inbox == nil || !l.inbox.feed.isNew(fr.Seq) {
			return
		}
		if l.isOwn(fr) {
			l.inbox.feed.pos.Seq = fr.Seq
		} else {
			l.put(&l.inbox.feed, fr)
		}
	case fr.Room != "" && l.rooms[fr.Room] != nil:
		l.deliverToRoom(l.rooms[fr.Room], fr)
	default:
		l.rest.put(fr.event(""), volatile)
	}
}

func (l *loop) deliverToRoom(r *Room, fr frame) {
	f := &r.feed
	if !f.member {
		return // what counts of it comes after the answer
	}
	switch fr.Type {
	case TypeUserJoined, TypeUserLeft:
		p, ok := presenceOf(fr.Data)
		if ok && r.roster.change(p, fr.Type == TypeUserJoined) && r.roster.due(time.Now()) {
			l.listRoom(r)
		}
	case TypeStateChanged:
		r.state.change(fr)
	case TypeRemoved:
		var d struct {
			Reason string `json:"reason"`
		}
		_ = json.Unmarshal(fr.Data, &d) // without it, there is no reason
		f.queue.put(fr.event(""), certain)
		if d.Reason == "" {
			d.Reason = "Removed from the room"
		}
		l.endRoom(r, &Error{Code: CodeNotInRoom, Message: d.Reason})
		return
	}
	if fr.Seq == 0 {
		f.queue.put(fr.event(""), volatile)
	} else if f.isNew(fr.Seq) {
		l.put(f, fr)
	}
}

// isNew reports whether a durable event is to be taken now.
func (f *feed) isNew(seq uint64) bool { return f.live && seq > f.pos.Seq }

// put puts a new durable event into the queue of its log. If it does not fit,
// the log is read again from there later.
func (l *loop) put(f *feed, fr frame) {
	if f.queue.put(fr.event(f.pos.Epoch), durable) {
		f.pos.Seq = fr.Seq
		return
	}
	f.live = false
	l.opts.Logger.Warn("chathub client: events are read too slowly", "room", f.room)
	if !f.queue.crowded() { // half of it was read in this moment
		signal(l.drained)
	}
}

// listRoom asks for the whole list of a room's users, which the answer to
// another join has.
func (l *loop) listRoom(r *Room) {
	l.requests.ask(request{Type: "join-room", Room: r.name}, now, func(answer frame, err error) {
		if err != nil || l.rooms[r.name] != r || !r.feed.member {
			return
		}
		if p, err := decodePart(answer.Data); err == nil {
			r.take(p)
		}
	})
}
