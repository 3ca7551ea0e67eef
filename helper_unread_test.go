package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// unreadLog is what a log has, as somebody hears who is always there.
type unreadLog struct {
	messages map[uint64]*unreadMessage
	ids      map[string]uint64 // of private messages
	head     uint64
	read     map[string]uint64 // markers of ana, by conversation; "" in a room
}

type unreadMessage struct {
	from    string
	deleted uint64 // position of the deletion; 0: it is not deleted
}

func newUnreadLog() *unreadLog {
	return &unreadLog{messages: make(map[uint64]*unreadMessage), ids: make(map[string]uint64), read: make(map[string]uint64)}
}

// hear takes in a frame, which may come again.
func (l *unreadLog) hear(t *testing.T, f hubtest.Frame) {
	l.head = max(l.head, f.Seq)
	switch f.Type {
	case "room-message", "private-message":
		from := ""
		if f.From != nil {
			from = f.From.ID
		}
		if l.messages[f.Seq] == nil {
			l.messages[f.Seq] = &unreadMessage{from: from}
		}
		if f.Type == "private-message" {
			l.ids[from+"/"+f.ID] = f.Seq
		}
	case "message-changed":
		d := dataOf[changedOf](t, f)
		if d.Change != "deleted" {
			return
		}
		seq := d.Seq
		if seq == 0 {
			seq = l.ids[d.Author+"/"+d.ID]
		}
		if l.messages[seq] == nil {
			l.messages[seq] = &unreadMessage{from: "?"}
		}
		if m := l.messages[seq]; m.deleted == 0 {
			m.deleted = f.Seq
		}
	}
}

// count counts what is unread for ana: of peer or, in a room, of everybody
// else. Deletions up to head have happened.
func (l *unreadLog) count(peer string, read, head uint64) (n int) {
	for seq, m := range l.messages {
		isOfOther := m.from != "ana" && (peer == "" || m.from == peer)
		if read < seq && seq <= head && isOfOther && (m.deleted == 0 || m.deleted > head) {
			n++
		}
	}
	return min(n, 100)
}

// unreadBase is what a client was told last.
type unreadBase struct {
	read, head uint64
	unread     int
}

// replace takes over an answer or a read, unless it is outdated.
func (base *unreadBase) replace(other unreadBase) {
	if other.read > base.read || other.read == base.read && other.head >= base.head {
		*base = other
	}
}

// unreadDevice is a connection of ana that keeps the numbers as the protocol
// says.
type unreadDevice struct {
	*hubtest.Client
	node    int
	joined  map[string]bool
	from    map[string]uint64 // position from which on it knows all of a log
	seq     map[string]uint64 // position to resume from
	epoch   map[string]string
	base    map[string]*unreadBase
	logs    map[string]*unreadLog // what it has heard
	pending map[string]hubtest.Frame
}

// unreadWorld is two nodes with their users.
type unreadWorld struct {
	t       *testing.T
	rnd     *rand.Rand
	parties []*party
	rooms   []string
	authors []guest               // bob, cid, and ana
	zoe     *hubtest.Client       // hears all rooms
	ear     *hubtest.Client       // of ana, which hears all of her inbox
	logs    map[string]*unreadLog // of the rooms; "": the inbox
	devices []*unreadDevice
	nextID  int

	running            sync.WaitGroup
	told               []unreadAnswer
	deletions, counted int
	many               int // counts that are at their bound
	asked              int // how often a device could not know a number
}

// unreadAnswer is something that a node has said.
type unreadAnswer struct {
	what, room, peer string
	unreadBase
}

func newUnreadWorld(t *testing.T, rnd *rand.Rand) *unreadWorld {
	_, one, two := cluster(t)
	w := &unreadWorld{t: t, rnd: rnd, parties: []*party{one, two}, rooms: []string{"red", "blue"}, logs: map[string]*unreadLog{"": newUnreadLog()}}
	for _, room := range w.rooms {
		w.logs[room] = newUnreadLog()
	}
	w.authors = []guest{one.dial("bob", w.rooms...), two.dial("cid", w.rooms...), one.dial("ana", w.rooms...)}
	w.zoe, w.ear = two.dial("zoe", w.rooms...).Client, two.dial("ana").Client
	for i := range 3 {
		w.devices = append(w.devices, w.newDevice(i%2))
	}
	return w
}

func (w *unreadWorld) newDevice(node int) *unreadDevice {
	d := &unreadDevice{Client: w.parties[node].dial("ana").Client, node: node}
	d.joined, d.from, d.seq, d.epoch = make(map[string]bool), make(map[string]uint64), make(map[string]uint64), make(map[string]string)
	d.base, d.logs, d.pending = make(map[string]*unreadBase), map[string]*unreadLog{"": newUnreadLog()}, make(map[string]hubtest.Frame)
	inbox := dataOf[welcomeData](w.t, d.Welcome).Inbox
	d.seq[""], d.epoch[""], d.from[""] = inbox.Seq, inbox.Epoch, inbox.Seq
	return d
}

func (w *unreadWorld) id() string {
	w.nextID++
	return fmt.Sprint("i", w.nextID)
}

// ask sends a request whose answer is looked at later.
func (w *unreadWorld) ask(d *unreadDevice, f hubtest.Frame) {
	f.ID = w.id()
	d.pending[f.ID] = f
	d.Send(f)
}

// later calls the hub from another goroutine.
func (w *unreadWorld) later(f func(hub *chathub.Hub) error) {
	hub := w.parties[w.rnd.IntN(2)].hub
	w.running.Go(func() {
		if err := f(hub); err != nil && chathubCode(err) != chathub.CodeBadRequest {
			w.t.Error(err)
		}
	})
}

func chathubCode(err error) chathub.Code {
	if e, ok := errors.AsType[*chathub.Error](err); ok {
		return e.Code
	}
	return ""
}

// act does something at random. It does not wait for the result.
func (w *unreadWorld) act() {
	room, author, d := w.rooms[w.rnd.IntN(2)], w.authors[w.rnd.IntN(3)], w.devices[w.rnd.IntN(3)]
	log := w.logs[room]
	seq := 1 + w.rnd.Uint64N(max(1, log.head))
	switch n := w.rnd.IntN(100); {
	case n < 20:
		author.Send(hubtest.Frame{Type: "room-message", ID: w.id(), Room: room, Data: raw(`1`)})
	case n < 23:
		for range 40 {
			author.Send(hubtest.Frame{Type: "room-message", ID: w.id(), Room: room, Data: raw(`1`)})
		}
	case n < 29:
		event := []string{"room-message", "weather"}[w.rnd.IntN(2)]
		w.later(func(hub *chathub.Hub) error { return hub.To(room).Emit(context.Background(), event, 1) })
	case n < 39:
		w.later(func(hub *chathub.Hub) error { return second(hub.DeleteMessage(context.Background(), room, seq)) })
	case n < 43:
		typ := []string{"react", "edit-message"}[w.rnd.IntN(2)]
		author.Send(hubtest.Frame{Type: typ, ID: w.id(), Room: room, Data: hubtest.Data(map[string]any{"seq": seq, "key": "+", "data": 2})})
	case n < 53:
		to := []string{"ana", "ana", "bob"}[w.rnd.IntN(3)]
		author.Send(privateMessage(w.id(), to, `1`))
	case n < 56:
		author.Send(notification(w.id(), "ana", `1`))
	case n < 60:
		for id := range w.logs[""].ids {
			if from, id, _ := strings.Cut(id, "/"); from == "bob" {
				w.authors[0].Send(hubtest.Frame{Type: "delete-message", ID: w.id(), To: "ana", Data: hubtest.Data(map[string]string{"id": id})})
				break
			}
		}
	case n < 72:
		if log.head > 0 {
			w.ask(d, markRead(room, seq))
		}
	case n < 80:
		if head := w.logs[""].head; head > 0 {
			w.ask(d, markSeen("bob", 1+w.rnd.Uint64N(head)))
		}
	case n < 88:
		w.askOverview(d)
	case n < 93:
		w.ask(d, hubtest.Frame{Type: "join-room", Room: room})
	default:
		w.comeBack(d)
	}
}

func (w *unreadWorld) askOverview(d *unreadDevice) {
	w.ask(d, hubtest.Frame{Type: "overview", Data: hubtest.Data(map[string]any{"rooms": w.rooms, "inbox": true})})
}

// comeBack has a device connect again, to any node, and resume.
func (w *unreadWorld) comeBack(d *unreadDevice) {
	w.hear(d)
	d.Drop()
	d.node = w.rnd.IntN(2)
	d.Client = w.parties[d.node].dial("ana").Client
	clear(d.pending)
	r := resumeRequest{Rooms: make(map[string]chathub.Position), Inbox: &chathub.Position{Epoch: d.epoch[""], Seq: d.seq[""]}}
	for room := range d.joined {
		r.Rooms[room] = chathub.Position{Epoch: d.epoch[room], Seq: d.seq[room]}
	}
	w.ask(d, hubtest.Frame{Type: "resume", Data: hubtest.Data(r)})
	w.waitFor(d) // live messages of the inbox before the answer come again
}

// waitFor waits for the answers that a device waits for.
func (w *unreadWorld) waitFor(d *unreadDevice) {
	for len(d.pending) > 0 {
		w.take(d, d.Next())
	}
}

func (w *unreadWorld) hear(d *unreadDevice) {
	for _, f := range d.Pending() {
		w.take(d, f)
	}
}

// take is what a client does with a frame.
func (w *unreadWorld) take(d *unreadDevice, f hubtest.Frame) {
	if request, ok := d.pending[f.ID]; ok && (f.Type == "ack" || f.Type == "error") {
		delete(d.pending, f.ID)
		if f.Type == "error" {
			w.t.Errorf("%s %s was answered with %s", request.Type, request.Data, f.Data)
			return
		}
		w.answered(d, request, f)
		return
	}
	if f.Seq == 0 && f.Type != "read" {
		w.t.Errorf("unexpected %s %s", f.Type, f.Data)
		return
	}
	for _, request := range d.pending {
		if request.Type == "resume" {
			return
		}
	}
	log := d.logs[f.Room]
	if f.Type == "read" {
		mark := dataOf[heardMark](w.t, f)
		w.say(d, "read", f.Room, f.To, unreadBase{mark.Seq, mark.Head, mark.Unread})
		log = d.logs[""] // it comes from the inbox
		d.seq[""] = max(d.seq[""], mark.Position)
	} else {
		d.seq[f.Room] = max(d.seq[f.Room], f.Seq)
	}
	log.hear(w.t, f)
}

func (w *unreadWorld) answered(d *unreadDevice, request, f hubtest.Frame) {
	join := func(room string, p resumePart) {
		if d.logs[room] == nil {
			d.logs[room] = newUnreadLog()
		}
		if was := d.joined[room]; request.Type == "join-room" && !was || request.Type == "resume" && !p.Recovered {
			d.from[room] = p.Seq
			d.seq[room] = p.Seq
		}
		d.joined[room], d.epoch[room] = true, p.Epoch
		w.say(d, request.Type, room, "", unreadBase{p.Read, p.Seq, p.Unread})
	}
	switch request.Type {
	case "join-room":
		join(request.Room, dataOf[resumePart](w.t, f))
	case "resume":
		answer := dataOf[resumeAnswer](w.t, f)
		if !answer.Inbox.Recovered {
			d.from[""] = answer.Inbox.Seq
		}
		for room, part := range answer.Rooms {
			join(room, part)
		}
	case "mark-read":
		mark := dataOf[heardMark](w.t, f)
		w.say(d, request.Type, request.Room, request.To, unreadBase{mark.Seq, mark.Head, mark.Unread})
	case "overview":
		answer := dataOf[overviewData](w.t, f)
		for room, o := range answer.Rooms {
			w.say(d, request.Type, room, "", unreadBase{o.Read, o.Seq, o.Unread})
		}
		for _, c := range answer.Conversations {
			w.say(d, request.Type, "", c.User.ID, unreadBase{c.Read, answer.Inbox.Seq, c.Unread})
		}
	}
}

// say notes what a device was told.
func (w *unreadWorld) say(d *unreadDevice, what, room, peer string, b unreadBase) {
	w.told = append(w.told, unreadAnswer{what, room, peer, b})
	key := room + "@" + peer
	if d.base[key] == nil {
		d.base[key] = &unreadBase{}
	}
	d.base[key].replace(b)
}

// settle waits until nothing happens any more.
func (w *unreadWorld) settle() {
	w.running.Wait()
	for range 3 {
		time.Sleep(time.Second) // changes of one message are merged
		synctest.Wait()
	}
	for _, f := range w.zoe.Pending() {
		if f.Room != "" {
			w.logs[f.Room].hear(w.t, f)
		}
	}
	for _, f := range w.ear.Pending() {
		w.logs[""].hear(w.t, f)
		if f.Type == "read" {
			seq, room := dataOf[heardMark](w.t, f).Seq, f.Room
			if last := w.logs[room].read[f.To]; seq <= last {
				w.t.Errorf("the marker of %s%s moved from %d to %d", f.Room, f.To, last, seq)
			}
			w.logs[room].read[f.To] = seq
		}
	}
	for _, a := range w.authors {
		for _, f := range a.Pending() {
			if f.Type == "error" && f.Code() != chathub.CodeBadRequest && f.Code() != chathub.CodeConflict && f.Code() != chathub.CodeForbidden {
				w.t.Errorf("an author got %s", f.Data)
			}
		}
	}
	for _, d := range w.devices {
		w.hear(d)
		if len(d.pending) > 0 {
			w.t.Errorf("no answer to %d requests", len(d.pending))
		}
	}
}

func (w *unreadWorld) check() {
	// What the client cannot know it asks for.
	for _, d := range w.devices {
		for key := range d.base {
			if room, peer, _ := strings.Cut(key, "@"); !d.knows(room, peer) {
				w.asked++
				w.askOverview(d)
				w.waitFor(d)
				break
			}
		}
	}
	for _, a := range w.told {
		want := w.logs[a.room].count(a.peer, a.read, a.head)
		if a.unread != want {
			w.t.Errorf("%s of %s%s said that %d are unread after %d and up to %d, want %d", a.what, a.room, a.peer, a.unread, a.read, a.head, want)
		}
		w.counted++
		if a.unread == 100 {
			w.many++
		}
	}
	w.told = nil
	for i, d := range w.devices {
		for _, key := range slices.Sorted(maps.Keys(d.base)) {
			room, peer, _ := strings.Cut(key, "@")
			log, base := w.logs[room], d.base[key]
			if base.unread >= 100 || room != "" && !d.joined[room] {
				continue
			}
			if base.read != log.read[peer] {
				w.t.Errorf("device %d knows marker %d of %s, want %d", i, base.read, key, log.read[peer])
			}
			if got, want := d.shows(room, peer), log.count(peer, log.read[peer], log.head); min(got, 100) != want {
				w.t.Errorf("device %d shows %d unread of %s, want %d", i, got, key, want)
			}
		}
	}
	w.deletions = 0
	for _, log := range w.logs {
		for _, m := range log.messages {
			if m.deleted > 0 {
				w.deletions++
			}
		}
	}
}

// knows reports whether a device can say what is unread now.
func (d *unreadDevice) knows(room, peer string) bool {
	base := d.base[room+"@"+peer]
	if room != "" && !d.joined[room] {
		return true // nobody asks it
	}
	if base.head < d.from[room] {
		return false
	}
	for seq, m := range d.logs[room].messages {
		if m.deleted > base.head && (seq == 0 || m.from == "?" && base.read < seq && seq <= base.head) {
			return false
		}
	}
	return true
}

// shows returns how many messages a device shows as unread.
func (d *unreadDevice) shows(room, peer string) int {
	base := d.base[room+"@"+peer]
	n := base.unread
	for seq, m := range d.logs[room].messages {
		switch isOfOther := m.from != "ana" && (peer == "" || m.from == peer); {
		case !isOfOther || seq <= base.read:
		case seq > base.head && m.deleted == 0:
			n++
		case seq <= base.head && m.deleted > base.head:
			n--
		}
	}
	return n
}
