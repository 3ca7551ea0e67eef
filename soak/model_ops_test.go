package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

// operations are the operations, and how often each happens.
var operations = []struct {
	weight int
	name   string
	do     func(w *world, t *rapid.T)
}{
	{6, "connect", (*world).opConnect},
	{8, "join", (*world).opJoin},
	{4, "leave", (*world).opLeave},
	{12, "say", (*world).opSay},
	{6, "tell", (*world).opTell},
	{5, "repeat", (*world).opRepeat},
	{2, "shout", (*world).opShout},
	{3, "type", (*world).opType},
	{4, "history", (*world).opHistory},
	{4, "edit", (*world).opEdit},
	{3, "delete", (*world).opDelete},
	{5, "react", (*world).opReact},
	{2, "flip", (*world).opFlip},
	{2, "reply", (*world).opReply},
	{4, "mark read", (*world).opMarkRead},
	{2, "overview", (*world).opOverview},
	{1, "censor", (*world).opCensor},
	{1, "nap", (*world).opNap},
	{2, "close", (*world).opClose},
	{4, "drop", (*world).opDrop},
	{2, "pause", (*world).opPause},
	{3, "unpause", (*world).opUnpause},
	{1, "misbehave", (*world).opMisbehave},
	{5, "emit", (*world).opEmit},
	{3, "move", (*world).opMove},
	{1, "throw out", (*world).opThrowOut},
	{3, "ban", (*world).opBan},
	{1, "restart", (*world).opRestart},
	{4, "fail", (*world).opFail},
	{3, "wait", (*world).opWait},
	{8, "settle", func(w *world, _ *rapid.T) { w.settle() }},
	{1, "peace", func(w *world, _ *rapid.T) { w.peace() }},
}

// run runs random operations, each in one of the tenants.
func (s *stage) run() {
	actions := make(map[string]func(*rapid.T))
	for _, op := range operations {
		for i := range op.weight {
			actions[op.name+strings.Repeat("'", i)] = func(t *rapid.T) {
				op.do(s.worlds[rapid.IntRange(0, len(s.worlds)-1).Draw(t, "tenant")], t)
			}
		}
	}
	for _, w := range s.worlds {
		for i, d := range w.devices[:4] {
			d.connect(w.nodes[i%len(w.nodes)], "forget")
			for _, room := range rooms[:rapid.IntRange(0, len(rooms)).Draw(w.t, "rooms to begin with")] {
				if d.conn != nil { // not cut off at once
					d.conn.join(room, "plain")
				}
			}
		}
	}
	s.settle()
	s.t.Repeat(actions)
}

// pick picks a value that suits an operation, or skips the operation if there
// is none.
func pick[T any](t *rapid.T, what string, all []T, fit func(T) bool) T {
	var some []T
	for _, v := range all {
		if fit(v) {
			some = append(some, v)
		}
	}
	if len(some) == 0 {
		t.SkipNow()
	}
	return some[rapid.IntRange(0, len(some)-1).Draw(t, what)]
}

// pickConn picks a connection that is ready.
func (w *world) pickConn(t *rapid.T) *conn {
	return pick(t, "connection", w.conns, func(c *conn) bool { return !c.left && !c.ended })
}

func (w *world) pickNode(t *rapid.T) *node {
	return pick(t, "hub", w.nodes, func(n *node) bool { return n.stopped == nil })
}

func (w *world) index(h *chathub.Hub) int {
	return slices.IndexFunc(w.nodes, func(n *node) bool { return n.hub == h })
}

// nextID returns an id that the client's user has not used. Others may have.
func (c *conn) nextID() string {
	ids := c.w.ids
	ids[c.d.user.ID]++
	return "i" + strconv.Itoa(ids[c.d.user.ID])
}

// payload returns data that no other message has.
func (w *world) payload(t *rapid.T) jsontext.Value {
	w.count++
	pad := rapid.SampledFrom([]int{0, 0, 0, 50, 500}).Draw(t, "padding")
	return fmt.Appendf(nil, `{"n":%d,"pad":%q}`, w.count, strings.Repeat("x", pad))
}

func (w *world) opConnect(t *rapid.T) {
	if w.moved {
		t.SkipNow()
	}
	d := pick(t, "device", w.devices, func(d *device) bool { return d.conn == nil })
	n := w.pickNode(t)
	d.connect(n, rapid.SampledFrom([]string{"resume", "resume", "join", "forget"}).Draw(t, "how"))
}

// connect connects a device. It resumes, unless it forgets its positions.
func (d *device) connect(n *node, how string) {
	if how == "forget" {
		clear(d.positions)
		clear(d.views)
	}
	back := make(map[chathub.Topic]chathub.Position)
	for topic, p := range d.positions {
		back[topic] = p
	}
	c := d.dial(n)
	if c == nil || how == "forget" {
		return
	}
	since := make(map[chathub.Topic]chathub.Position)
	for topic, p := range back {
		switch {
		case how == "resume" || topic == d.inbox:
			since[topic] = p
		default:
			c.join(topic.Room, "since")
		}
	}
	c.resume(since)
}

func (c *conn) resume(since map[chathub.Topic]chathub.Position) {
	var data struct {
		Rooms map[string]chathub.Position `json:"rooms,omitzero"`
		Inbox *chathub.Position           `json:"inbox,omitzero"`
	}
	for topic, p := range since {
		if topic == c.d.inbox {
			data.Inbox = &p
			continue
		}
		if data.Rooms == nil {
			data.Rooms = make(map[string]chathub.Position)
		}
		data.Rooms[topic.Room] = p
	}
	c.ask(&request{frame: hubtest.Frame{Type: "resume", ID: c.nextID(), Data: hubtest.Data(data)}, since: since})
	for topic := range since {
		if topic.Room != "" {
			c.member[topic.Room] = unsure
		}
	}
}

// join joins a room: since the last message that the device saw, with a
// history, or with neither.
func (c *conn) join(room, how string) {
	c.read()
	topic := chathub.Topic{Room: room}
	r := &request{frame: hubtest.Frame{Type: "join-room", ID: c.nextID(), Room: room}}
	p, seen := c.d.positions[topic]
	switch {
	case how == "since" && seen:
		r.since = map[chathub.Topic]chathub.Position{topic: p}
		// History is ignored beside since.
		r.frame.Data = hubtest.Data(map[string]any{"since": p, "history": 3})
	case how == "history":
		r.newest = 4
		r.frame.Data = hubtest.Data(map[string]any{"history": r.newest})
	}
	c.ask(r)
	c.member[room] = unsure
}

func (w *world) opJoin(t *rapid.T) {
	c := w.pickConn(t)
	room := pick(t, "room", allRooms, func(room string) bool { return !c.moving[room] })
	c.join(room, rapid.SampledFrom([]string{"since", "since", "history", "plain"}).Draw(t, "how"))
}

func (w *world) opLeave(t *rapid.T) {
	c := w.pickConn(t)
	room := pick(t, "room", allRooms, func(room string) bool { return c.member[room] != out && !c.moving[room] })
	c.ask(&request{frame: hubtest.Frame{Type: "leave-room", ID: c.nextID(), Room: room}})
	c.member[room] = unsure
}

// post lets several clients send at once.
func (w *world) post(t *rapid.T, frame func(c *conn) hubtest.Frame) {
	for range rapid.SampledFrom([]int{1, 1, 2, 3, 12}).Draw(t, "messages") {
		c := w.pickConn(t)
		f := frame(c)
		f.Data = w.payload(t)
		if rapid.IntRange(0, 9).Draw(t, "anonymous") > 0 {
			f.ID = c.nextID()
		}
		r := &request{frame: f}
		c.ask(r)
		if f.ID != "" {
			w.sent = append(w.sent, r)
		}
	}
}

func (w *world) opSay(t *rapid.T) {
	w.post(t, func(c *conn) hubtest.Frame {
		room := pick(t, "room", allRooms, func(room string) bool { return c.member[room] != out })
		return hubtest.Frame{Type: "room-message", Room: room}
	})
}

func (w *world) opTell(t *rapid.T) {
	w.post(t, func(*conn) hubtest.Frame {
		return hubtest.Frame{
			Type: rapid.SampledFrom([]string{"private-message", "private-message", "send-notification"}).Draw(t, "type"),
			To:   rapid.SampledFrom(users).Draw(t, "to").ID,
		}
	})
}

// opRepeat sends a message of the user again, perhaps over another connection.
func (w *world) opRepeat(t *rapid.T) {
	r := pick(t, "message", w.sent, func(*request) bool { return true })
	c := pick(t, "connection", w.conns, func(c *conn) bool { return !c.left && !c.ended && c.d.user == r.conn.d.user })
	if r.old() {
		t.SkipNow()
	}
	c.ask(r.again())
}

// again returns a request for the same once more.
func (r *request) again() *request {
	return &request{frame: r.frame, op: r.op, about: r.about, first: r.first}
}

// old reports whether a client no longer repeats a request, because it may not
// be a repetition for the server any more: a change would be made again, and
// there would be two private messages of one name. A room-message may be stored
// again.
func (r *request) old() bool {
	return (r.op != nil || r.frame.Type == "private-message") && time.Since(r.first) > giveUp
}

// opShout sends something to everyone, which is not kept.
func (w *world) opShout(t *rapid.T) {
	c := w.pickConn(t)
	f := hubtest.Frame{Type: "message", ID: c.nextID(), Data: w.payload(t)}
	w.volatile("message", f.Data, func(o *conn) bool { return o != c })
	c.ask(&request{frame: f})
}

func (w *world) opType(t *rapid.T) {
	c := w.pickConn(t)
	room := pick(t, "room", allRooms, func(room string) bool { return c.member[room] == in })
	c.ask(&request{frame: hubtest.Frame{Type: rapid.SampledFrom([]string{"typing", "stop-typing"}).Draw(t, "type"), Room: room}})
}

// opNap lets a handler run for a while. Later requests of the client wait for
// it.
func (w *world) opNap(t *rapid.T) {
	ms := rapid.SampledFrom([]int{100, 3000}).Draw(t, "time")
	c := w.pickConn(t)
	c.napped = true
	c.ask(&request{frame: hubtest.Frame{Type: "nap", ID: c.nextID(), Data: hubtest.Data(ms)}})
}

func (w *world) opClose(t *rapid.T) {
	pick(t, "connection", w.conns, func(c *conn) bool { return !c.left && !c.ended && !c.paused }).leave(true)
}

func (w *world) opDrop(t *rapid.T) { w.pickConn(t).leave(false) }

func (w *world) opPause(t *rapid.T) {
	c := pick(t, "connection", w.conns, func(c *conn) bool { return !c.left && !c.ended && !c.paused })
	w.note("%s pauses", c)
	c.client.Pause()
	c.paused, c.calm = true, false
	c.mayEnd[4001], c.mayEnd[4002] = true, true
}

func (w *world) opUnpause(t *rapid.T) {
	pick(t, "connection", w.conns, func(c *conn) bool { return !c.left && c.paused }).unpause()
}

func (c *conn) unpause() {
	c.w.note("%s reads on", c)
	c.client.Resume()
	c.paused = false
}

// opMisbehave lets a client do something that ends its connection.
func (w *world) opMisbehave(t *rapid.T) {
	c := pick(t, "connection", w.conns, func(c *conn) bool { return !c.left && !c.ended && !c.paused })
	c.mustEnd = true
	code := rapid.SampledFrom([]int{1007, 1009, 4501}).Draw(t, "code")
	w.note("%s does something to be closed with %d", c, code)
	switch code {
	case 1007:
		c.mayEnd[code] = true
		c.client.SendText("{\"type\":\"ping\",\"room\":\"\xff\"}")
	case 1009:
		c.mayEnd[code] = true
		c.client.SendText(strings.Repeat(" ", 65<<10))
	default:
		c.mayEnd[code] = true
		c.nonsense += 51
		for range 51 {
			c.client.SendText("{")
		}
	}
}

// opRestart shuts down a hub. Another one takes its place at the next quiet
// time.
func (w *world) opRestart(t *rapid.T) {
	n := w.pickNode(t)
	for _, w := range w.worlds {
		for _, c := range w.conns {
			if c.node == n && !c.left {
				c.mayEnd[4000], c.mustEnd = true, true
			}
		}
	}
	w.note("hub %d restarts", w.index(n.hub))
	n.stopped = make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		n.stopped <- n.hub.Shutdown(ctx)
	}()
}

// opWait lets some time pass.
func (w *world) opWait(t *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{20 * time.Millisecond, 200 * time.Millisecond, 2 * time.Second}).Draw(t, "time")
	w.note("%v pass", d)
	time.Sleep(d)
}

// opFail makes some of the broker's next calls fail.
func (w *world) opFail(t *rapid.T) {
	if w.any(func(w *world) bool { return w.moved }) {
		t.SkipNow()
	}
	w.faulty = true
	f := rapid.SampledFrom(faults).Draw(t, "fault")
	w.note("%s will fail", f)
	w.truth.willFail(f, rapid.IntRange(1, 3).Draw(t, "times"))
}
