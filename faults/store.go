//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// Bounds that are small enough to be reached.
const (
	floodedBytes   = 32 << 20 // MaxTotalBytes
	floodedInboxes = 5000     // MaxIdleTopics
	floodedRooms   = 100      // MaxIdleTopics, against names of rooms
	floodedLog     = 250      // MaxMessages
)

// storeFloods are about what is stored, and who pays when a store is full.
var storeFloods = []scenario{
	{name: "notifications to made-up users", provoke: beside(notifyMadeUp)},
	{name: "notifications to made-up users, without rate limits", set: settings{Rate: -1, Store: floodedBytes}, provoke: beside(fillStore)},
	{name: "notifications to made-up users, on disk", onDisk: true, provoke: beside(notifyMadeUp)},
	{name: "notifications to made-up users, on disk, without rate limits", onDisk: true, set: settings{Rate: -1, Store: floodedBytes}, provoke: beside(fillStore)},
	{name: "private messages to made-up users", provoke: beside(writeMadeUp)},
	{name: "private messages to made-up users, without rate limits", set: settings{Rate: -1, IdleLogs: floodedInboxes}, provoke: beside(fillInboxes)},
	{name: "resumes with rooms over MaxRooms", set: settings{IdleLogs: floodedRooms}, provoke: beside(resumeMadeUp)},
	{name: "notifications into one inbox", provoke: floodInbox},
	{name: "notifications into one inbox, on disk", onDisk: true, provoke: floodInbox},
	{name: "a busy room, and an id that is repeated", set: settings{Rate: -1, Log: floodedLog, Store: 2 << 20}, provoke: beside(repeat)},
}

// large is data that a message of MaxMessageBytes has room for, once JSON.
var large = hubtest.Data(strings.Repeat("x", 65_000))

// madeUp returns the id of a user whom nobody has ever seen.
func madeUp(i uint64) string { return fmt.Sprint("made-up", i) }

// largeNotification and privateMessage are to made-up users.
func largeNotification(i uint64) hubtest.Frame {
	return hubtest.Frame{Type: "send-notification", To: madeUp(i % 4000), Data: large}
}

func privateMessage(i uint64) hubtest.Frame {
	return hubtest.Frame{Type: "private-message", To: madeUp(i), Data: hubtest.Data("flood")}
}

// notifyMadeUp sends large notifications to thousands of made-up users.
func notifyMadeUp(t *trial) {
	a := &attack{t: t, user: "hostile", conns: 2, next: largeNotification}
	a.run()
	perSecond := a.within("bytes", a.ackedBytes.Load(), userByteBurst, userByteRate)
	t.figure("One user, 2 connections, %s: %d notifications of 65 kB to 4000 made-up users accepted, %.0f kB/s with the burst (limit %d)",
		t.floodTime(), a.acked.Load(), perSecond/1e3, userByteRate/1000)
}

// fillStore fills the store with notifications, at least twice over.
func fillStore(t *trial) {
	a := &attack{t: t, user: "hostile", conns: 2, next: largeNotification}
	a.enough = func() bool { return a.sent.Load() > 2*floodedBytes }
	a.run()
	held := int64(t.order(order{Do: "idle"}).Heap) - int64(t.before.Heap)
	if t.data == "" && held > floodedBytes*5/4 {
		t.failf("%d bytes of memory are held, with %d for the store", held, floodedBytes)
	}
	t.figure("One user, 2 connections, %s: %d notifications of 65 kB accepted, %d MB, and %d refused (the store holds %d MB)",
		t.floodTime(), a.acked.Load(), a.ackedBytes.Load()/1e6, a.refused.Load(), floodedBytes/1_000_000)
}

// writeMadeUp sends private messages, each to another made-up user.
func writeMadeUp(t *trial) {
	a := &attack{t: t, user: "hostile", conns: 2, next: privateMessage}
	a.run()
	perSecond := a.within("messages", a.acked.Load(), userBurst, userRate)
	t.figure("One user, 2 connections, %s: messages to %d made-up users accepted, %.0f/s with the burst (limit %d)",
		t.floodTime(), a.acked.Load(), perSecond, userRate)
}

// fillInboxes does it until there are more inboxes than the store may keep.
func fillInboxes(t *trial) {
	a := &attack{t: t, user: "hostile", conns: 4, next: privateMessage}
	a.enough = func() bool { return a.acked.Load() > floodedInboxes*5/4 }
	a.run()
	t.figure("One user, 4 connections, %s: messages to %d made-up users accepted (MaxIdleTopics %d)",
		t.floodTime(), a.acked.Load(), floodedInboxes)
}

// resumeMadeUp resumes with made-up rooms, many more than a client may be in,
// and comes back again and again.
func resumeMadeUp(t *trial) {
	const rooms = 250
	a := &attack{t: t, user: "hostile", conns: 2}
	a.next = func(i uint64) hubtest.Frame {
		positions := make(map[string]chathub.Position, rooms)
		for k := range rooms {
			positions[fmt.Sprintf("made-up-%d-%d", i, k)] = chathub.Position{Epoch: "e"}
		}
		return hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{"rooms": positions})}
	}
	a.perConn = 8 // then the next connection has no rooms yet
	a.run()
	a.within("bytes", a.ackedBytes.Load(), userByteBurst, userByteRate)
	t.figure("One user, 2 connections at a time, %s: %d resumes with %d names of rooms answered (MaxRooms 128, MaxIdleTopics %d)",
		t.floodTime(), a.acked.Load(), rooms*a.acked.Load(), floodedRooms)
}

// floodInbox sends notifications, large and small, to a user who is away.
func floodInbox(t *trial) {
	v := leave(t)
	a := &attack{t: t, user: "hostile", conns: 2, next: func(i uint64) hubtest.Frame {
		e := hubtest.Frame{Type: "send-notification", To: "victim", Data: hubtest.Data("flood")}
		if i%4 == 0 {
			e.Data = hubtest.Data(strings.Repeat("x", 60_000))
		}
		return e
	}}
	a.run()
	a.within("notifications", a.acked.Load(), userBurst, userRate)
	perSecond := a.within("bytes", a.ackedBytes.Load(), userByteBurst, userByteRate)
	t.figure("One user, 2 connections, %s: %d notifications to a user who is away accepted, a quarter of them of 60 kB, %.0f kB/s with the burst",
		t.floodTime(), a.acked.Load(), perSecond/1e3)
	// Recovered would mean that the inbox has lost no notification.
	v.comeBack(t, true)
}

// repetition is a message that is sent more than once.
type repetition struct {
	hubtest.Frame
	seq  uint64 // of the first time
	said time.Time
}

// send sends the message, and returns the answer.
func (r *repetition) send(t *trial) hubtest.Frame {
	p := t.member("repeater", r.Room)
	defer p.drop()
	t.must(p.send(r.Frame))
	for {
		e, err := p.next()
		t.must(err)
		if e.ID == r.ID && e.Type != r.Type {
			return e
		}
	}
}

// again sends the message again, which must be known as a repetition.
func (r *repetition) again(t *trial) {
	e := r.send(t)
	if e.Type != "ack" || e.Seq != r.seq || !strings.Contains(string(e.Data), `"dup":true`) {
		t.failf("repeated after %s: %s %s, want a repetition of %d", round(time.Since(r.said)), e.Type, e.Data, r.seq)
	}
}

// repeat repeats messages after thousands of others in the room.
func repeat(t *trial) {
	const promised = 4 * time.Minute // DuplicateWindow is 5
	between := int64(t.scale(5000, 1200))
	var all []*repetition
	rounds, others := 0, int64(0)
	for end := time.Now().Add(t.floodTime()); rounds == 0 || t.flooding(end); rounds++ {
		r := &repetition{Frame: hubtest.Frame{
			Type: "room-message", ID: fmt.Sprint("once", rounds), Room: "busy", Data: hubtest.Data("once"),
		}}
		r.seq, r.said = r.send(t).Seq, time.Now()
		all = append(all, r)
		a := &attack{t: t, user: "hostile", conns: 4, room: "busy", until: time.Now(), next: func(uint64) hubtest.Frame {
			return hubtest.Frame{Type: "room-message", Room: "busy", Data: hubtest.Data("flood")}
		}}
		a.enough = func() bool { return a.acked.Load() >= between }
		a.run()
		others += a.acked.Load()
		for len(all) > 1 && time.Since(all[0].said) > promised {
			all = all[1:]
		}
		all[0].again(t) // the oldest
		r.again(t)
	}
	t.figure("%s: %d messages, each repeated after %d others, and up to %s later: all known as repetitions; %d messages of one user in between (MaxMessages %d)",
		t.floodTime(), rounds, between, promised, others, floodedLog)
}
