package main

import (
	"errors"
	"slices"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

const (
	// moderator may delete the messages of others.
	moderator = "cy"
	// nowhere is a room that never has a message.
	nowhere = "nowhere"
	// forbidden is a room that nobody sees in an overview.
	forbidden = "cellar"
	// giveUp is when a client no longer repeats a change: the server may have
	// forgotten its id, and would carry it out again.
	giveUp = 4 * time.Minute
)

// target is a message to do something with, as a user sees it.
type target struct {
	topic chathub.Topic
	life  *life
	entry *entry // nil: there is no such message
	seq   uint64
}

// pickTarget picks a message that a connection can see. Most often it is one of
// the newest.
func (c *conn) pickTarget(t *rapid.T, private bool) target {
	topic := c.d.inbox
	if !private {
		topic = chathub.Topic{Room: pick(t, "room", allRooms, func(room string) bool { return c.member[room] != out })}
	}
	l, head := c.w.truth.latest(topic)
	if l == nil || head == 0 {
		t.SkipNow()
	}
	now := c.w.truth.upTo(l)
	var some []uint64
	for seq := head; seq > 0 && len(some) < 12; seq-- {
		if now.at(seq).isMessage(topic) && (!private || now.isAlone(topic, now.at(seq))) {
			some = append(some, seq)
		}
	}
	if !private && rapid.IntRange(0, 15).Draw(t, "wrong message") == 0 {
		seq := uint64(rapid.IntRange(1, int(head)+3).Draw(t, "position"))
		return target{topic, l, now.at(seq), seq}
	}
	if len(some) == 0 {
		t.SkipNow()
	}
	// The first few are the likely ones, so that several do something with one.
	i := min(rapid.IntRange(0, len(some)-1).Draw(t, "message"), rapid.IntRange(0, len(some)-1).Draw(t, "or message"))
	return target{topic, l, now.at(some[i]), some[i]}
}

// isAlone reports whether no other message has the name of a private one.
func (l *life) isAlone(t chathub.Topic, e *entry) bool {
	n := 0
	for _, other := range l.entries {
		if other.isMessage(t) && other.id == e.id && other.user == e.user {
			n++
		}
	}
	return n == 1
}

// change lets a client change a message.
func (c *conn) change(tg target, o *op) {
	f := hubtest.Frame{ID: c.nextID()}
	data := map[string]any{}
	o.user, o.topic = c.d.user.ID, tg.topic
	if tg.topic.Room != "" {
		f.Room, o.seq = tg.topic.Room, tg.seq
		data["seq"] = tg.seq
	} else {
		o.id, o.author, o.peer = tg.entry.id, tg.entry.user.ID, tg.entry.with(o.user)
		f.To = o.peer
		data["id"] = o.id
	}
	switch o.kind {
	case "edited":
		f.Type, data["data"] = "edit-message", jsontext.Value(o.data)
	case "deleted":
		f.Type = "delete-message"
	case "reacted":
		f.Type, data["key"] = "react", o.key
		if !o.on || len(o.key)%2 == 0 { // true can be left out
			data["on"] = o.on
		}
		if f.To != "" {
			data["author"] = o.author
		}
	}
	f.Data = hubtest.Data(data)
	r := &request{frame: f, op: o}
	c.w.sent = append(c.w.sent, r)
	c.ask(r)
}

func (w *world) opEdit(t *rapid.T) {
	c := w.pickConn(t)
	tg := c.pickTarget(t, rapid.IntRange(0, 2).Draw(t, "private") == 0)
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 4}).Draw(t, "times") {
		by := c
		if tg.entry.isMessage(tg.topic) && tg.entry.user != c.d.user {
			// Most often it is the author who edits.
			if rapid.IntRange(0, 5).Draw(t, "not the author") > 0 || tg.topic.Room == "" {
				by = w.pickConnOf(t, tg.topic, tg.entry.user)
			}
		}
		if tg.topic.Room == "" {
			tg.topic = by.d.inbox
		}
		by.change(tg, &op{kind: "edited", data: string(w.payload(t))})
	}
}

// pickConnOf picks a connection of a user that can see a log.
func (w *world) pickConnOf(t *rapid.T, topic chathub.Topic, u chathub.User) *conn {
	return pick(t, "connection", w.conns, func(c *conn) bool {
		return !c.left && !c.ended && c.d.user == u && (topic.Room == "" || c.member[topic.Room] != out)
	})
}

func (w *world) opDelete(t *rapid.T) {
	c := w.pickConn(t)
	tg := c.pickTarget(t, rapid.IntRange(0, 2).Draw(t, "private") == 0)
	if tg.topic.Room == "" && tg.entry.user != c.d.user {
		c = w.pickConnOf(t, tg.topic, tg.entry.user)
		tg.topic = c.d.inbox
	}
	c.change(tg, &op{kind: "deleted"})
}

// opReact lets one or many react to a message.
func (w *world) opReact(t *rapid.T) {
	first := w.pickConn(t)
	private := rapid.IntRange(0, 2).Draw(t, "private") == 0
	tg := first.pickTarget(t, private)
	for range rapid.SampledFrom([]int{1, 1, 2, 3, 15}).Draw(t, "reactions") {
		c := first
		if private {
			u := first.d.user
			if peer := tg.entry.with(u.ID); rapid.Bool().Draw(t, "the other") {
				u = users[slices.IndexFunc(users, func(u chathub.User) bool { return u.ID == peer })]
			}
			c = w.pickConnOf(t, tg.topic, u)
			tg.topic = c.d.inbox
		} else {
			c = pick(t, "connection", w.conns, func(c *conn) bool { return !c.left && !c.ended && c.member[tg.topic.Room] != out })
		}
		c.change(tg, &op{
			kind: "reacted",
			key:  rapid.SampledFrom([]string{"👍", "no"}).Draw(t, "key"),
			on:   rapid.IntRange(0, 2).Draw(t, "off") > 0,
		})
	}
}

// opFlip lets a user react and change their mind, on one device and another. If
// a hub decided by what it remembers, it would be wrong here.
func (w *world) opFlip(t *rapid.T) {
	c := w.pickConn(t)
	tg := c.pickTarget(t, rapid.IntRange(0, 3).Draw(t, "private") == 0)
	other := pick(t, "other", w.conns, func(o *conn) bool {
		return !o.left && !o.ended && o.d.user == c.d.user && (o.node != c.node || len(w.nodes) == 1) &&
			(tg.topic.Room == "" || o.member[tg.topic.Room] != out)
	})
	for i := range rapid.IntRange(3, 5).Draw(t, "times") {
		[]*conn{c, other}[i%2].change(tg, &op{kind: "reacted", key: "no", on: i%2 == 0})
		synctest.Wait()
	}
}

// opReply answers a message, or one that does not exist yet.
func (w *world) opReply(t *rapid.T) {
	c := w.pickConn(t)
	f := hubtest.Frame{ID: c.nextID(), Data: w.payload(t)}
	private := rapid.IntRange(0, 3).Draw(t, "private") == 0
	tg := c.pickTarget(t, private)
	if private {
		f.Type, f.To = "private-message", tg.entry.with(c.d.user.ID)
		f.Re = hubtest.Data(map[string]string{"id": tg.entry.id, "author": tg.entry.user.ID})
	} else {
		f.Type, f.Room, f.Re = "room-message", tg.topic.Room, hubtest.Data(tg.seq)
	}
	r := &request{frame: f, about: tg.seq}
	if private {
		r.about = 0
	}
	c.ask(r)
	if _, head := w.truth.latest(tg.topic); r.about <= head {
		w.sent = append(w.sent, r)
	}
}

// opMarkRead lets one or several devices of a user say how far they have read.
func (w *world) opMarkRead(t *rapid.T) {
	first := w.pickConn(t)
	for range rapid.SampledFrom([]int{1, 1, 2, 4}).Draw(t, "times") {
		c := w.pickConnOf(t, first.d.inbox, first.d.user)
		f := hubtest.Frame{Type: "mark-read", ID: c.nextID()}
		topic := c.d.inbox
		if rapid.IntRange(0, 2).Draw(t, "private") == 0 {
			f.To = rapid.SampledFrom(users).Draw(t, "with").ID
		} else {
			f.Room = rapid.SampledFrom(allRooms).Draw(t, "room")
			topic = chathub.Topic{Room: f.Room}
		}
		_, head := w.truth.latest(topic)
		seq := int(head)
		if seq == 0 || rapid.IntRange(0, 2).Draw(t, "not the newest") == 0 {
			seq = rapid.IntRange(1, seq+2).Draw(t, "position")
		}
		f.Data = hubtest.Data(map[string]int{"seq": seq})
		c.ask(&request{frame: f, about: uint64(seq)})
	}
}

func (w *world) opOverview(t *rapid.T) {
	c := w.pickConn(t)
	c.overview()
}

func (c *conn) overview() {
	c.ask(&request{frame: hubtest.Frame{Type: "overview", ID: c.nextID(), Data: hubtest.Data(map[string]any{
		"rooms": append(slices.Clone(allRooms), nowhere), "inbox": true,
	})}})
}

func (w *world) opHistory(t *rapid.T) {
	c := w.pickConn(t)
	h := &historyRequest{Limit: rapid.IntRange(1, 6).Draw(t, "limit")}
	r := &request{frame: hubtest.Frame{Type: "history", ID: c.nextID()}, history: h}
	topic := c.d.inbox
	if rapid.IntRange(0, 3).Draw(t, "private") == 0 {
		r.frame.To = rapid.SampledFrom(users).Draw(t, "with").ID
	} else {
		r.frame.Room = rapid.SampledFrom(allRooms).Draw(t, "room")
		topic = chathub.Topic{Room: r.frame.Room}
	}
	_, head := c.w.truth.latest(topic)
	at := func(what string) uint64 { return uint64(rapid.IntRange(0, int(head)+2).Draw(t, what)) }
	switch rapid.SampledFrom([]string{"newest", "before", "before", "after", "between", "around"}).Draw(t, "which") {
	case "before":
		h.Before = at("before")
	case "after":
		after := at("after")
		h.After = &after
	case "between":
		after := at("after")
		h.After, h.Before = &after, after+1+at("before")
	case "around":
		h.Around = max(1, at("around"))
	}
	if rapid.IntRange(0, 2).Draw(t, "some types") == 0 {
		h.Types = rapid.SampledFrom([][]string{{"room-message"}, {"news", "notification"}, {"room-message", "news", "private-message"}}).Draw(t, "types")
	}
	if r.frame.Room != "" && rapid.IntRange(0, 5).Draw(t, "replies") == 0 {
		h.Re = max(1, at("re"))
	}
	r.frame.Data = hubtest.Data(h)
	c.ask(r)
}

// opCensor lets the application change a message, or erase a user.
func (w *world) opCensor(t *rapid.T) {
	n := w.pickNode(t)
	c := w.pickConn(t)
	tg := c.pickTarget(t, false)
	o := &op{topic: tg.topic, seq: tg.seq}
	ctx := w.ctx
	var receipt chathub.Receipt
	var err error
	what := rapid.SampledFrom([]string{"edited", "edited", "deleted", "erased"}).Draw(t, "what")
	o.kind = what
	w.note("hub %d: %s %d of %s", w.index(n.hub), what, tg.seq, tg.topic.Room)
	switch what {
	case "edited":
		data := w.payload(t)
		o.data = string(data)
		w.asks(o)
		receipt, err = w.of(n.hub).EditMessage(ctx, tg.topic.Room, tg.seq, data)
	case "deleted":
		w.asks(o)
		receipt, err = w.of(n.hub).DeleteMessage(ctx, tg.topic.Room, tg.seq)
	case "erased":
		o.author = c.d.user.ID
		w.asks(o)
		_, err = w.of(n.hub).EraseUser(ctx, o.author, tg.topic.Room)
		w.erased(o, err)
	}
	o.pending--
	e, _ := errors.AsType[*chathub.Error](err)
	switch {
	case err == nil && what == "erased":
	case err == nil:
		w.receipts = append(w.receipts, func() { w.checkReceiptOf(o, ack{receipt.Seq, receipt.Duplicate}, receipt.Time) })
	case e == nil:
		w.fatalf("%v", err)
	default:
		o.pending++
		r := &request{op: o, frame: hubtest.Frame{Type: what}, known: map[chathub.Topic]mark{o.topic: o.known[0]}}
		f := hubtest.Frame{Type: "error", Data: hubtest.Data(map[string]any{"code": e.Code})}
		w.receipts = append(w.receipts, func() {
			if !(&conn{w: w, d: c.d}).checkOpError(r, f) {
				w.fatalf("%s answered by %v", o, err)
			}
		})
	}
}

// erased checks that nothing of a user is left in a room.
func (w *world) erased(o *op, err error) {
	if err != nil {
		return
	}
	known := o.known[0]
	w.receipts = append(w.receipts, func() {
		trimmed := w.truth.trimmed(o.topic, known.life)
		for seq := trimmed + 1; seq != 0 && seq <= known.seq; seq++ {
			e := known.life.at(seq)
			if e.isMessage(o.topic) && e.user.ID == o.author && !known.life.isDeleted(seq) {
				w.fatalf("%s was erased, but not %s", o.author, show(e.frame(o.topic)))
			}
		}
	})
}

// beyond reports whether a request was about a position that the log may not
// have had when it was sent, or no longer.
func (r *request) beyond() bool {
	t := r.conn.d.inbox
	if r.frame.Room != "" {
		t = chathub.Topic{Room: r.frame.Room}
	}
	return r.about > r.known[t].seq || r.about > 0 && !r.conn.w.truth.keys
}

// checkUnread checks what the answer to a join or a resume says about reading.
func (c *conn) checkUnread(r *request, t chathub.Topic, l *life, a answer) {
	switch {
	case t.User != "":
		if a.Read != nil || a.Unread != nil {
			c.w.fatalf("%s: read %v, unread %v for the inbox", c, a.Read, a.Unread)
		}
	case a.Read == nil || a.Unread == nil:
		if !c.w.faulty {
			c.w.fatalf("%s: an answer without read and unread for %v", c, t)
		}
	default:
		c.checkMarker(r, l, "read/"+t.Room, *a.Read)
		c.checkCount(t, l, "", marker{l.epoch, *a.Read, *a.Unread, a.Seq})
	}
}
