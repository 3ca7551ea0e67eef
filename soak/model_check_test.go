package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// stream is what one connection hears of a log.
type stream struct {
	topic  chathub.Topic
	life   *life
	cursor uint64 // everything up to here is accounted for
	// replay is the end of the past that was requested. It holds all messages,
	// even those that were not for this connection when they were live.
	replay uint64
	// open, until the first message: entries up to here may be left out.
	open uint64
	// want is how many past messages must come if open allows to leave out
	// some. They began at first, and past of them have come.
	want        int
	first, past uint64
	gaps        bool // the past may have gaps, as the log may
	// asked is the head of the log when the past was asked for.
	asked    uint64
	ordinary bool   // the past has no named messages
	deleted  uint64 // how many deleted messages were among the past
	leaving  bool   // the application is taking the client out of the room
}

// verify checks what came over a connection, when all that can come has come.
func (c *conn) verify() {
	for _, f := range c.unread {
		c.check(f)
	}
	c.unread = nil
	if _, over := c.w.ends.get(c.id); over || c.left || c.paused {
		return
	}
	for room, must := range c.removed {
		if must {
			c.w.fatalf("%s was not told that it is out of %s", c, room)
		}
	}
	clear(c.removed)
	for t, s := range c.streams {
		c.complete(s)
		if s.leaving {
			delete(c.streams, t)
			delete(c.rosters, t.Room)
			delete(c.typing, t.Room)
		}
	}
	clear(c.moving)
	for room := range c.member {
		c.member[room] = out
	}
	for t := range c.streams {
		if t.Room != "" {
			c.member[t.Room] = in
		}
	}
}

// check checks a frame.
func (c *conn) check(f hubtest.Frame) {
	switch f.Type {
	case "ack":
		c.checkAck(f)
	case "error":
		c.checkError(f)
	case "online-users", "user-online", "user-offline", "user-joined", "user-left":
		c.checkPresence(f)
	case "typing", "stop-typing":
		c.stream(chathub.Topic{Room: f.Room}, f)
		if f.From.ID == c.d.user.ID {
			break // on another tab: a user who types on both has not stopped
		}
		if c.typing[f.Room] == nil {
			c.typing[f.Room] = make(map[string]string)
		}
		c.typing[f.Room][f.From.ID] = f.Type
	case "removed":
		if _, may := c.removed[f.Room]; !may {
			c.w.fatalf("%s was not put out of a room, and got %s", c, show(f))
		}
		// It may come again, after the answer to a join that was under way.
		if c.removed[f.Room] = false; !c.expelled[f.Room] {
			delete(c.removed, f.Room)
		}
	case "reconnect":
		c.told = true
	case "pong":
	default:
		if f.Type == "read" && f.Seq == 0 {
			c.checkReceipts(f)
		} else if f.Seq > 0 {
			c.checkDurable(f)
		} else {
			c.checkVolatile(f)
		}
	}
}

// stream returns what c hears of a log. If there is none, f is not for c.
func (c *conn) stream(t chathub.Topic, f hubtest.Frame) *stream {
	s := c.streams[t]
	if s == nil {
		c.w.fatalf("%s is no recipient of %s", c, show(f))
	}
	return s
}

// checkDurable checks that a stored message is the next one, and unchanged.
func (c *conn) checkDurable(f hubtest.Frame) {
	w := c.w
	t := c.d.logOf(f)
	s := c.stream(t, f)
	if s.open == forever {
		for _, l := range w.truth.lives(t) {
			if e := l.at(f.Seq); e != nil && show(f) == show(e.frame(t)) {
				s.is(l)
				break
			}
		}
	}
	c.mayHear(s, f)
	e := s.life.at(f.Seq)
	if e == nil {
		w.fatalf("%s: position %d of %v has no message: %s", c, f.Seq, t, show(f))
	}
	if past := f.Seq <= s.replay; past && e.name == "" {
		c.checkPresent(t, s.life, f, s.asked)
	} else if past && e.envelope.Type == "read" {
		c.checkRead(e, f)
	} else if want := e.frame(t); show(f) != show(want) {
		w.fatalf("%s: got %s\nwant   %s", c, show(f), show(want))
	}
	if f.Seq <= s.cursor {
		w.fatalf("%s: position %d of %v after %d", c, f.Seq, t, s.cursor)
	}
	c.account(s, f.Seq-1)
	s.cursor = f.Seq
	if f.Seq <= s.replay {
		if s.past++; s.first == 0 {
			s.first = f.Seq
		}
		if f.Deleted > 0 {
			s.deleted++
		}
		if s.ordinary && e.name != "" {
			w.fatalf("%s: a change in the history of %v: %s", c, t, show(f))
		}
		return
	}
	if e.isNotFor(c) {
		w.fatalf("%s got an emit that excepts it: %s", c, show(f))
	}
	if e.several() {
		if len(c.heard[e.emit]) > 0 {
			w.fatalf("%s got one emit twice: %s; also in %v", c, show(f), c.heard[e.emit])
		}
		c.heard[e.emit] = map[chathub.Topic]bool{t: true}
	}
}

// account checks that messages up to a position that are not accounted for may
// be missing.
func (c *conn) account(s *stream, upTo uint64) {
	for seq := s.cursor + 1; seq <= upTo; seq++ {
		e := s.life.at(seq)
		live := seq > s.replay && (e.isNotFor(c) || e.several() && len(c.heard[e.emit]) > 0)
		if !live && seq > s.open && !s.gap(c.w, seq) && !s.gone(c.w, e) {
			c.w.fatalf("%s missed position %d of %v: %s", c, seq, s.topic, show(e.frame(s.topic)))
		}
	}
	s.cursor = max(s.cursor, upTo)
	s.open = 0
}

// gap reports whether a position of the past may be missing: a log drops
// messages anywhere, and of an inbox with too many of them, a fair part is
// sent.
func (s *stream) gap(w *world, seq uint64) bool {
	return s.gaps && seq <= s.replay && (s.topic.User != "" || seq <= w.truth.trimmed(s.topic, s.life))
}

// gone reports whether an entry of the past need not be there any more: a
// deleted message, a named one that was replaced, or a marker in a log that has
// gone.
func (s *stream) gone(w *world, e *entry) bool {
	return e.seq <= s.replay && (e.replaced || e.envelope.Type == "read" && !w.truth.keys || e.name != "" && s.ordinary || e.name == "" && s.life.isDeleted(e.seq))
}

// complete checks that all messages have come.
func (c *conn) complete(s *stream) {
	if s.leaving {
		return
	}
	l, _ := c.w.truth.latest(s.topic)
	s.is(l)
	c.account(s, s.life.head())
	c.enough(s)
}

// enough checks that as much of the requested past came as there is.
func (c *conn) enough(s *stream) {
	if s.want == 0 || c.w.tight { // with a small outbox, its bytes are the limit
		return
	}
	older := s.replay
	if s.past > 0 {
		older = s.first - 1
	}
	if int(s.past-s.deleted) > s.want {
		c.w.fatalf("%s: %d older messages of %v, wanted %d", c, s.past, s.topic, s.want)
	}
	for seq := c.w.truth.trimmed(s.topic, s.life); int(s.past) < s.want && seq < older; seq++ {
		if e := s.life.at(seq + 1); !s.gone(c.w, e) {
			c.w.fatalf("%s: only %d older messages of %v, wanted %d, and %s is still there", c, s.past, s.topic, s.want, show(e.frame(s.topic)))
		}
	}
	s.want = 0
}

// is says which life of its log a stream is of, if no answer said it.
func (s *stream) is(l *life) {
	if s.open == forever && s.life != l {
		s.life, s.cursor = l, 0
	}
}

// forever is greater than all positions.
const forever = math.MaxUint64

// joined begins a stream that no answer announces. Messages after from may
// begin to come at any time until the next check.
func (c *conn) joined(t chathub.Topic, from mark) {
	c.streams[t] = &stream{topic: t, life: from.life, cursor: from.seq, open: forever}
	c.member[t.Room] = unsure
}

// checkAck checks an answer, and begins the streams that it announces.
func (c *conn) checkAck(f hubtest.Frame) {
	w := c.w
	r := w.requestOf(c, f)
	room := chathub.Topic{Room: r.frame.Room}
	switch r.frame.Type {
	case "join-room", "resume":
		parts := c.answers(r, f)
		if len(parts) != len(r.since) && r.frame.Type == "resume" {
			w.fatalf("%s: resume of %d logs, answer for %d", c, len(r.since), len(parts))
		}
		missed := 0
		for t, a := range parts {
			missed += int(a.Seq - min(a.Seq, r.since[t].Seq))
		}
		for _, t := range slices.SortedFunc(maps.Keys(parts), compareTopics) {
			c.checkJoin(r, t, parts[t], missed)
		}
	case "leave-room":
		delete(c.streams, room)
		delete(c.rosters, room.Room)
		delete(c.typing, room.Room)
	case "room-message":
		c.checkReceipt(r, f, room)
		if r.member == out && c.member[room.Room] == out {
			w.fatalf("%s sent to a room that it is not in: %s", c, show(f))
		}
	case "private-message":
		c.checkReceipt(r, f, c.d.inbox)
	case "send-notification":
		if r.frame.To == c.d.user.ID {
			c.checkReceipt(r, f, c.d.inbox)
		}
	case "history":
		c.checkHistory(r, f)
	case "edit-message", "delete-message", "react":
		c.checkOpAck(r, f)
	case "mark-read":
		c.checkMarkRead(r, f)
	case "overview":
		c.checkOverview(r, f)
	case "message":
		w.volatiles[number(r.frame.Data)].accepted = true
	}
}

// checkJoin checks an answer about one log, and begins its stream.
func (c *conn) checkJoin(r *request, t chathub.Topic, a answer, missed int) {
	w := c.w
	old := c.streams[t]
	if a.Error != nil {
		if !(a.Error.Code == chathub.CodeUnavailable && w.faulty || a.Error.Code == chathub.CodeForbidden && c.isBanned(t.Room)) {
			w.fatalf("%s: rejoining %v: %v", c, t, a.Error.Code)
		}
		return
	}
	l := w.truth.life(t, a.Epoch)
	if before := r.known[t]; before.life == l && a.Seq < before.seq {
		w.fatalf("%s: the head of %v is %d in the answer, and was %d before the request", c, t, a.Seq, before.seq)
	}
	if a.Seq > l.head() {
		w.fatalf("%s: the head of %v is %d in the answer, and is %d now", c, t, a.Seq, l.head())
	}
	if old != nil && !old.leaving { // whose messages up to a.Seq must have come
		if old.is(l); old.life != l || old.cursor > a.Seq {
			w.fatalf("%s: the head of %v is %v in the answer, after %d of %q", c, t, a.Position, old.cursor, old.life.epoch)
		}
		c.account(old, a.Seq)
	}
	s := &stream{topic: t, life: l, cursor: a.Seq, replay: a.Seq, leaving: c.expelled[t.Room]}
	if r.known[t].life == l {
		s.asked = r.known[t].seq
	}
	c.checkUnread(r, t, l, a)
	since, asked := r.since[t]
	s.ordinary = !asked
	switch {
	case asked && a.Recovered:
		if since.Epoch != a.Epoch || since.Seq > a.Seq {
			w.fatalf("%s: %v recovered from %v, but its head is %v", c, t, since, a.Position)
		}
		s.cursor = since.Seq
	case asked:
		limited := int(a.Seq-min(a.Seq, since.Seq)) > w.replayLimit || w.tight && missed > tightReplay
		if since.Epoch == a.Epoch && since.Seq <= a.Seq && !limited && w.truth.trimmed(t, l) <= since.Seq {
			w.fatalf("%s: %v not recovered from %v to %v, although nothing is missing", c, t, since, a.Position)
		}
		s.begin(w.replayLimit)
	case a.Recovered:
		w.fatalf("%s: %v recovered without a request", c, t)
	default:
		s.begin(min(r.newest, w.replayLimit))
	}
	c.streams[t] = s
	if t.Room != "" && a.Users != nil {
		if len(*a.Users) != a.Count {
			w.fatalf("%s: %d users, count %d", c, len(*a.Users), a.Count)
		}
		c.rosters[t.Room] = newRoster(*a.Users)
	}
}

// begin lets a stream begin anywhere in the past, if enough messages come.
func (s *stream) begin(want int) {
	if s.want = want; want > 0 {
		s.cursor, s.open, s.gaps = 0, s.replay, true
	}
}

// checkReceipt checks that an accepted message is at the position in its
// receipt.
func (c *conn) checkReceipt(r *request, f hubtest.Frame, t chathub.Topic) {
	w := c.w
	var receipt chathub.Receipt
	w.parse(f.Data, &receipt)
	if f.Seq != receipt.Seq || f.TS != receipt.Time {
		w.fatalf("%s: an ack with two positions: %s", c, show(f))
	}
	for _, l := range w.truth.lives(t) {
		e := l.at(receipt.Seq)
		if e == nil || e.emit != nil || e.user != c.d.user || e.event.ID != r.frame.ID || e.time != receipt.Time {
			continue
		}
		if receipt.Duplicate || e.client == c.id {
			return
		}
	}
	w.fatalf("%s: %s, but there is no such message", c, show(f))
}

// checkError checks that an error has a cause.
func (c *conn) checkError(f hubtest.Frame) {
	w := c.w
	if f.ID == "" {
		left := &c.nameless
		if f.Code() == chathub.CodeBadRequest {
			left = &c.nonsense
		}
		if *left--; *left < 0 {
			w.fatalf("%s: %s", c, show(f))
		}
		return
	}
	r := w.requestOf(c, f)
	if r.op != nil && c.checkOpError(r, f) {
		return
	}
	switch f.Code() {
	case chathub.CodeUnavailable:
		if w.faulty || c.isBanned("") {
			return
		}
	case chathub.CodeForbidden:
		if r.frame.Type == "join-room" && c.isBanned(r.frame.Room) {
			return
		}
	case chathub.CodeBadRequest:
		if r.beyond() {
			return
		}
	case chathub.CodeNotInRoom:
		if r.member != in || c.member[r.frame.Room] != in {
			return
		}
	case chathub.CodeRateLimited: // too many requests wait for a handler
		if c.napped || w.slow || w.faulty || w.truth.hesitant {
			return
		}
	}
	w.fatalf("%s: %s answered by %s", c, show(r.frame), show(f))
}

// requestOf returns the request that the next unchecked answer with this id
// answers.
func (w *world) requestOf(c *conn, f hubtest.Frame) *request {
	for _, r := range c.requests {
		if r.frame.ID == f.ID && len(r.answers) > 0 {
			r.answers = r.answers[1:]
			return r
		}
	}
	w.fatalf("%s: an answer without a request: %s", c, show(f))
	return nil
}

// frame returns an entry of a log as clients receive it when it is new.
func (e *entry) frame(t chathub.Topic) hubtest.Frame {
	f := e.envelope
	switch {
	case e.name != "":
	case e.emit != nil:
		f = hubtest.Frame{Type: e.emit.event, Room: t.Room, Data: e.emit.data}
	default:
		f = hubtest.Frame{Type: e.event.Type, Room: t.Room, To: e.event.To, From: &e.user, Data: e.event.Data}
		if re := e.event.Re; re.Seq > 0 {
			f.Re = hubtest.Data(re.Seq)
		} else if re.ID != "" {
			f.Re = fmt.Appendf(nil, `{"id":%q,"author":%q}`, re.ID, re.Author)
		}
		if f.Type == "send-notification" {
			f.Type = "notification"
		}
	}
	f.ID, f.Seq, f.TS = e.id, e.seq, e.time
	return f
}

// several reports whether an entry is part of an emit to several topics.
func (e *entry) several() bool { return e.emit != nil && len(e.emit.topics) > 1 }

// isNotFor reports whether a connection does not receive an entry while it is
// live.
func (e *entry) isNotFor(c *conn) bool {
	if e.name != "" {
		return slices.Contains(e.except, c.id)
	}
	if e.emit != nil {
		return slices.Contains(e.emit.except, c.id)
	}
	return e.event.Type == "private-message" && e.client == c.id
}

func show(f hubtest.Frame) string {
	f.Mine = slices.Sorted(slices.Values(f.Mine)) // their order means nothing
	b, err := json.Marshal(f, json.Deterministic(true))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func compareTopics(a, b chathub.Topic) int {
	return cmp.Or(cmp.Compare(a.Room, b.Room), cmp.Compare(a.User, b.User))
}
