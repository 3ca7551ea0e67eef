package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/internal/note"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// change is the data of a message-changed.
type change struct {
	Seq     uint64 `json:"seq,omitzero"`
	ID      string `json:"id,omitzero"`
	Author  string `json:"author,omitzero"`
	Change  string `json:"change"`
	Message state  `json:"message"`
}

// state is what a message has become.
type state struct {
	Data      jsontext.Value              `json:"data,omitzero"`
	Edited    int64                       `json:"edited,omitzero"`
	Deleted   int64                       `json:"deleted,omitzero"`
	Reactions map[string]hubtest.Reaction `json:"reactions,omitzero"`
}

// has reports whether a user has set a key.
func (st *state) has(user, key string) bool { return slices.Contains(st.Reactions[key].Users, user) }

// bare is the state without times, which the model does not know.
func (st *state) bare() string {
	s := state{Data: st.Data, Reactions: st.Reactions, Edited: min(st.Edited, 1), Deleted: min(st.Deleted, 1)}
	b, _ := json.Marshal(s, json.Deterministic(true))
	return string(b)
}

// decode reads what the hub has stored.
func (e *entry) decode(m chathub.Message) error {
	var r note.Routed
	if err := r.Decode(m.Body); err != nil {
		return err
	}
	var f hubtest.Frame
	if err := json.Unmarshal(r.Body, &f); err != nil {
		return err
	}
	if e.id = f.ID; m.Name == "" {
		return nil
	}
	e.envelope, e.except, e.state = f, r.Except, r.State
	if f.Type == "message-changed" {
		return json.Unmarshal(f.Data, &e.change, json.RejectUnknownMembers(true))
	}
	return nil
}

// recordNamed notes a named message. The caller holds t.mu.
func (t *truth) recordNamed(topic chathub.Topic, l *life, e *entry) {
	for _, old := range l.entries {
		if old.name == e.name {
			old.replaced = true
		}
	}
	switch kind, _, _ := strings.Cut(e.name, "/"); kind {
	case "m":
		if l.changes == nil {
			l.changes = make(map[uint64][]*entry)
		}
		l.changes[e.tied] = append(l.changes[e.tied], e)
	default:
		t.recordMarker(topic, e)
	}
}

// isMessage reports whether an entry is a message of a user that can change.
func (e *entry) isMessage(t chathub.Topic) bool {
	if e == nil || e.name != "" || e.emit != nil {
		return false
	}
	return e.event.Type == "room-message" && t.Room != "" || e.event.Type == "private-message" && t.User != ""
}

// became returns what the message at a position had become at another one, and
// the position of that change, or 0.
func (l *life) became(seq, at uint64) (st *state, version uint64) {
	st = &state{}
	for _, v := range l.changes[seq] {
		if v.seq <= at {
			st, version = &v.change.Message, v.seq
		}
	}
	return st, version
}

// isDeleted reports whether the message at a position is deleted by now.
func (l *life) isDeleted(seq uint64) bool {
	st, _ := l.became(seq, forever)
	return st.Deleted > 0
}

// present returns a message in the form that it got at a version, as a user
// sees it. It returns false if there is no such version.
func (e *entry) present(t chathub.Topic, l *life, version uint64, user string) (hubtest.Frame, bool) {
	f := e.frame(t)
	if version == 0 {
		return f, true
	}
	st, v := l.became(e.seq, version)
	if v != version {
		return f, false
	}
	f.Version, f.Edited, f.Deleted, f.Reactions = version, st.Edited, st.Deleted, st.Reactions
	for _, key := range slices.Sorted(maps.Keys(st.Reactions)) {
		if st.has(user, key) {
			f.Mine = append(f.Mine, key)
		}
	}
	switch {
	case st.Deleted > 0:
		f.Data = nil
	case st.Data != nil:
		f.Data = st.Data
	}
	return f, true
}

// checkPresent checks a message that comes in an answer or after one, to a
// request that was sent when the log had a head of known.
func (c *conn) checkPresent(t chathub.Topic, l *life, f hubtest.Frame, known uint64) *entry {
	w := c.w
	e := l.at(f.Seq)
	if e == nil {
		w.fatalf("%s: position %d of %v has no message: %s", c, f.Seq, t, show(f))
	}
	want, ok := e.present(t, l, f.Version, c.d.user.ID)
	if !ok || show(f) != show(want) {
		w.fatalf("%s: got %s\nwant   %s", c, show(f), show(want))
	}
	switch st, due := l.became(f.Seq, known); {
	case st.Deleted > 0 && f.Deleted == 0:
		w.fatalf("%s: a deleted message came back: %s", c, show(f))
	case f.Version < due && w.truth.keys:
		w.fatalf("%s: got version %d of a message, after %d: %s", c, f.Version, due, show(f))
	}
	return e
}

// op is a change that a user or the application has asked for, once or again.
type op struct {
	user string // empty: the application
	kind string // as in a message-changed; "erased": all of a user
	data string // of an edit
	key  string // of a reaction
	on   bool

	topic chathub.Topic // the log in which the user sees it
	seq   uint64        // of a message in a room
	// Of a private message, and the other user:
	id, author, peer string

	sent    int                      // how often
	pending int                      // how often without an answer
	unknown bool                     // an answer did not say whether it was done
	acks    []ack                    // in the user's log
	known   []mark                   // of the log that decides, before each request
	used    map[chathub.Topic]uint64 // where it was carried out
}

// ack is an answer to an op.
type ack struct {
	seq uint64
	dup bool
}

// decides is the log in which the order of changes is decided.
func (o *op) decides() chathub.Topic {
	if o.topic.Room != "" {
		return o.topic
	}
	return chathub.Topic{User: min(o.user, o.peer)}
}

// is reports whether an op is about the message that a change is about.
func (o *op) is(t chathub.Topic, e *entry) bool {
	if o.kind == "erased" {
		return o.topic == t
	}
	if t.Room != "" {
		return o.topic == t && o.seq == e.change.Seq
	}
	return o.topic.User != "" && o.id == e.change.ID && o.author == e.change.Author && (t.User == o.user || t.User == o.peer)
}

// at reports whether an op was certainly carried out at a position.
func (o *op) at(t chathub.Topic, seq uint64) bool {
	return o.topic == t && slices.Contains(o.acks, ack{seq, false})
}

// floats reports whether an op may have been carried out anywhere in a log.
func (o *op) floats(t chathub.Topic) bool {
	if o.kind == "erased" {
		return true
	}
	certain := slices.ContainsFunc(o.acks, func(a ack) bool { return !a.dup })
	switch {
	case o.used[t] > 0:
		return false
	case certain:
		return o.topic != t
	}
	return o.pending > 0 || o.unknown || len(o.acks) > 0
}

// asks notes that an op is sent.
func (w *world) asks(o *op) {
	if o.used == nil {
		o.used = make(map[chathub.Topic]uint64)
		w.ops = append(w.ops, o)
	}
	o.sent++
	o.pending++
	o.known = append(o.known, w.mark(o.decides()))
}

// checkChanges checks that each change is explained by what was asked for: an
// op changes a message once, and only in the way that it says.
func (w *world) checkChanges() {
	for _, t := range w.truth.all() {
		for _, l := range slices.Backward(w.truth.lives(t)) {
			for ; l.checked < len(l.entries); l.checked++ {
				if e := l.entries[l.checked]; strings.HasPrefix(e.name, "m/") {
					w.checkChange(t, l, e)
				}
			}
		}
	}
}

func (w *world) checkChange(t chathub.Topic, l *life, e *entry) {
	f := e.frame(t)
	m, now := l.at(e.tied), e.change.Message
	switch {
	case !m.isMessage(t):
		w.fatalf("%v: not about a message: %s", t, show(f))
	case f.ID != "" || f.Type != "message-changed" || f.Room != t.Room:
		w.fatalf("%v: %s", t, show(f))
	case t.Room != "" && e.change.Seq != m.seq, t.Room == "" && (e.change.ID != m.id || e.change.Author != m.user.ID):
		w.fatalf("%v: position %d is about %d: %s", t, e.seq, e.tied, show(f))
	case (now.Data == nil) != (now.Edited == 0):
		w.fatalf("%v: an edit without its time: %s", t, show(f))
	case now.Deleted > 0 && (now.Data != nil || now.Reactions != nil):
		w.fatalf("%v: a deleted message has something left: %s", t, show(f))
	}
	if !w.truth.keys {
		return // the state before may be lost
	}
	before, _ := l.became(m.seq, e.seq-1)
	if before.Deleted > 0 {
		if now.bare() != before.bare() {
			w.fatalf("%v: a deleted message changes: %s", t, show(f))
		}
		return
	}
	from := ""
	if f.From != nil {
		from = f.From.ID
	}
	byFrom := false
	explain := func(what string, fit func(o *op) bool) {
		var by *op
		for _, o := range w.ops {
			if !o.is(t, e) || !fit(o) {
				continue
			}
			if at := o.at(t, e.seq); at && o.used[t] == 0 || by == nil && o.floats(t) {
				if by = o; at {
					break
				}
			}
		}
		if by == nil {
			w.fatalf("%v: %d: nobody has just asked for %s: %s\nbefore: %s", t, e.seq, what, show(f), before.bare())
		}
		by.used[t] = e.seq
	}
	for _, o := range w.ops {
		byFrom = byFrom || o.is(t, e) && (o.user == from || o.kind == "erased" && from == "")
	}
	if !byFrom {
		w.fatalf("%v: %s, of whom there is nothing: %s", t, from, show(f))
	}
	if now.Deleted > 0 {
		explain("a delete", func(o *op) bool { return o.kind == "deleted" || o.kind == "erased" && o.author == m.user.ID })
		if e.change.Change != "deleted" {
			w.fatalf("%v: deleted, but says otherwise: %s", t, show(f))
		}
		return
	}
	if string(now.Data) != string(before.Data) {
		explain("an edit", func(o *op) bool { return o.kind == "edited" && o.data == string(now.Data) })
	}
	keys := slices.Concat(slices.Collect(maps.Keys(now.Reactions)), slices.Collect(maps.Keys(before.Reactions)))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		r, had := now.Reactions[key], before.Reactions[key]
		if r.Count != len(r.Users) || now.Reactions != nil && r.Count == 0 && had.Count == 0 {
			w.fatalf("%v: %d users, count %d: %s", t, len(r.Users), r.Count, show(f))
		}
		for _, u := range users {
			if on := now.has(u.ID, key); on != before.has(u.ID, key) {
				explain("a reaction", func(o *op) bool {
					return o.kind == "reacted" && o.user == u.ID && o.key == key && o.on == on ||
						o.kind == "erased" && o.author == u.ID && !on
				})
			}
		}
	}
}

// checkOpAck checks the receipt of a change.
func (c *conn) checkOpAck(r *request, f hubtest.Frame) {
	w, o := c.w, r.op
	var receipt chathub.Receipt
	w.parse(f.Data, &receipt)
	if f.Seq != receipt.Seq || f.TS != receipt.Time || receipt.Seq == 0 {
		w.fatalf("%s: an ack with two positions, or none: %s", c, show(f))
	}
	o.pending--
	w.checkReceiptOf(o, ack{receipt.Seq, receipt.Duplicate}, receipt.Time)
}

func (w *world) checkReceiptOf(o *op, a ack, ts int64) {
	o.acks = append(o.acks, a)
	if !w.truth.keys {
		return
	}
	if a.dup {
		w.checkDup(o)
		return
	}
	for _, l := range w.truth.lives(o.topic) {
		e := l.at(a.seq)
		if e == nil || e.name == "" || !o.is(o.topic, e) || e.time != ts {
			continue
		}
		if o.topic != o.decides() { // several changes may have been brought here together
			return
		}
		before, _ := l.became(e.tied, e.seq-1)
		now := &e.change.Message
		good := now.Deleted > 0
		switch o.kind {
		case "edited":
			// Of several edits that were stored together, the last one holds.
			good = good || string(now.Data) != string(before.Data)
		case "reacted":
			good = good || now.has(o.user, o.key) == o.on || slices.ContainsFunc(w.ops, func(p *op) bool {
				return p.kind == "erased" && p.is(o.topic, e) && p.author == o.user && o.on || p.kind == "reacted" && p.is(o.topic, e) && p.user == o.user && p.key == o.key && p.on != o.on &&
					(p.at(o.topic, a.seq) || p.pending > 0 || p.unknown)
			})
		}
		if !good {
			w.fatalf("%s acked at %d of %v, but it is not done: %s\nbefore: %s", o, a.seq, o.topic, now.bare(), before.bare())
		}
		return
	}
	w.fatalf("%s acked at %d of %v, but there is no such change", o, a.seq, o.topic)
}

func (o *op) String() string {
	b, _ := json.Marshal(map[string]any{
		"user": o.user, "kind": o.kind, "data": o.data, "key": o.key, "on": o.on, "seq": o.seq, "id": o.id, "author": o.author,
	}, json.Deterministic(true))
	return string(b)
}

// checkDup checks an ack which says that there was nothing to do.
func (w *world) checkDup(o *op) {
	if o.sent > 1 {
		return
	}
	for _, t := range w.logs(o) {
		for _, l := range w.truth.lives(t) {
			for _, m := range l.find(t, o) {
				from := o.known[0]
				if from.life != l || o.kind != "reacted" {
					if o.kind == "reacted" || o.kind == "deleted" && l.isDeleted(m.seq) {
						return
					}
					continue
				}
				// It was so at some time since the request was sent.
				st, _ := l.became(m.seq, from.seq)
				so := st.has(o.user, o.key) == o.on
				for _, v := range l.changes[m.seq] {
					so = so || v.seq > from.seq && v.change.Message.has(o.user, o.key) == o.on
				}
				if so {
					return
				}
			}
		}
	}
	w.fatalf("%s acked as done before, but it was not", o)
}

// logs returns the logs that may have decided about an op. The one that does
// may not have had the message: a private one is in one inbox only until its
// sender completes it, or if the other inbox has dropped it.
func (w *world) logs(o *op) []chathub.Topic {
	t := o.decides()
	if t.Room != "" || w.kept(t, o, o.known[0].seq) {
		return []chathub.Topic{t}
	}
	return []chathub.Topic{t, {User: max(o.user, o.peer)}}
}

// find returns the messages that an op may be about: several if an id was used
// again after the server had forgotten it.
func (l *life) find(t chathub.Topic, o *op) (all []*entry) {
	if t.Room != "" {
		if e := l.at(o.seq); e.isMessage(t) {
			all = append(all, e)
		}
		return all
	}
	for _, e := range l.entries {
		if e.isMessage(t) && e.id == o.id && e.user.ID == o.author && (e.event.To == o.peer || e.event.To == o.user) {
			all = append(all, e)
		}
	}
	return all
}

// checkOpError checks that a refused change has a cause.
func (c *conn) checkOpError(r *request, f hubtest.Frame) (known bool) {
	w, o := c.w, r.op
	o.pending--
	lives := w.truth.lives(o.topic)
	switch f.Code() {
	case chathub.CodeUnavailable:
		o.unknown = true
		return w.faulty || w.slow // a change may take longer than the hub waits
	case chathub.CodeForbidden:
		for _, l := range lives {
			for _, m := range l.find(o.topic, o) {
				if m.user.ID != o.user && (o.kind == "edited" || o.kind == "deleted" && o.user != moderator) {
					return true
				}
			}
		}
	case chathub.CodeConflict: // the other copy may not be deleted yet
		for _, t := range w.logs(o) {
			for _, l := range w.truth.lives(t) {
				if o.kind != "deleted" && slices.ContainsFunc(l.find(t, o), func(m *entry) bool { return l.isDeleted(m.seq) }) {
					return true
				}
			}
		}
	case chathub.CodeBadRequest:
		// The user's log may have dropped it when the other one had decided, or
		// the other way round.
		o.unknown = o.topic != o.decides()
		return !w.kept(o.topic, o, r.known[o.topic].seq) || !w.kept(o.decides(), o, o.known[len(o.known)-1].seq)
	}
	return false
}

// kept reports whether a log has had the message that an op is about all the
// time since it had a head of known.
func (w *world) kept(t chathub.Topic, o *op, known uint64) bool {
	lives := w.truth.lives(t)
	if len(lives) != 1 {
		return false
	}
	trimmed := w.truth.trimmed(t, lives[0])
	return slices.ContainsFunc(lives[0].find(t, o), func(e *entry) bool { return trimmed < e.seq && e.seq <= known })
}
