package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"pgregory.net/rapid"
)

// rights are what the application of one tenant allows. The hubs ask it at any
// time. It looks something up, and then takes a while to answer, so that rights
// change while they are checked.
type rights struct {
	mu     sync.Mutex
	banned map[string]bool    // users
	barred map[[2]string]bool // users and rooms
	pause  func()
}

// take takes away the right to be in a room, or without a room the right to
// connect.
func (rts *rights) take(user, room string) {
	rts.mu.Lock()
	defer rts.mu.Unlock()
	if room == "" {
		rts.banned[user] = true
		return
	}
	rts.barred[[2]string{user, room}] = true
}

// restore gives everyone all rights.
func (rts *rights) restore() {
	rts.mu.Lock()
	defer rts.mu.Unlock()
	rts.banned, rts.barred = make(map[string]bool), make(map[[2]string]bool)
}

// check checks a right of a user: to be in a room or, without one, to connect.
func (rts *rights) check(user, room string) error {
	rts.mu.Lock()
	no := rts.banned[user] || rts.barred[[2]string{user, room}]
	rts.mu.Unlock()
	rts.pause()
	if no {
		return &chathub.Error{Code: chathub.CodeForbidden, Message: "Banned"}
	}
	return nil
}

// Authenticate implements [chathub.Authenticator].
func (s *stage) Authenticate(ctx context.Context, token string, r *http.Request) (chathub.Identity, error) {
	id, err := hubtest.Auth{}.Authenticate(ctx, token, r)
	if err == nil {
		err = s.worldOf(id.Tenant).rights.check(id.User.ID, "")
	}
	return id, err
}

func (s *stage) authorize(_ context.Context, c *chathub.Client, a chathub.Action) error {
	if a.Type != "join-room" {
		return nil
	}
	return s.worldOf(c.Tenant()).rights.check(c.User().ID, a.Room)
}

func (s *stage) worldOf(tenant string) *world {
	return s.worlds[slices.IndexFunc(s.worlds, func(w *world) bool { return w.tenant == tenant })]
}

// stray is a handshake that was under way when its user was banned.
type stray struct {
	user   string
	hub    *chathub.Hub
	client *hubtest.Client // nil if it was refused
	done   chan struct{}   // closed when the handshake has ended
}

// opBan lets the application take away a right of a user who is using it. When
// the call has returned, nothing comes of what was under way. The right comes
// back at the next quiet time.
func (w *world) opBan(t *rapid.T) {
	if w.any(func(w *world) bool { return w.truth.failing() }) {
		t.SkipNow() // what fails may be tried again, or come later
	}
	n := w.pickNode(t)
	user := rapid.SampledFrom(users).Draw(t, "user")
	if rapid.IntRange(0, 3).Draw(t, "connected") > 0 {
		user = w.pickConn(t).d.user
	}
	room := rapid.SampledFrom(append([]string{""}, rooms...)).Draw(t, "room")
	var conns []*conn
	for _, c := range w.conns {
		if c.left || c.ended || c.d.user != user {
			continue
		}
		if room != "" && (c.paused || c.moving[room]) {
			t.SkipNow() // it is not known what comes of that
		}
		conns = append(conns, c)
	}
	w.useRights(t, user, room, conns)
	w.ban(n, user, room, conns)
}

// ban takes away the right to be in a room, or without a room the right to
// connect, of a user who has the given connections.
func (w *world) ban(n *node, user chathub.User, room string, conns []*conn) {
	w.moved = true
	w.note("hub %d bans %s from %q: %v", w.index(n.hub), user.ID, room, conns)
	w.rights.take(user.ID, room)
	target := w.of(n.hub).ToUser(user.ID)
	if room == "" {
		w.mayBeSlow(target.Disconnect(w.ctx, "banned"))
	} else {
		w.mayBeSlow(target.Remove(w.ctx, "banned", room))
	}
	w.truth.silence(user.ID, room)
	for _, c := range conns {
		c.lose(room)
	}
	w.note("%s is banned from %q", user.ID, room)
}

// useRights lets a user begin several things that need rights.
func (w *world) useRights(t *rapid.T, user chathub.User, room string, conns []*conn) {
	for _, c := range conns {
		if c.paused {
			continue
		}
		in := rapid.SampledFrom(rooms).Draw(t, "in")
		if room != "" {
			in = room
		}
		for _, what := range rapid.SliceOfN(rapid.SampledFrom([]string{"join", "say", "tell", "history"}), 0, 3).Draw(t, "under way") {
			f := hubtest.Frame{ID: c.nextID(), Room: in, Data: w.payload(t)}
			r := &request{}
			switch what {
			case "join":
				if !c.moving[in] {
					c.join(in, rapid.SampledFrom([]string{"since", "plain"}).Draw(t, "how"))
				}
				continue
			case "say":
				f.Type = "room-message"
			case "tell":
				f.Type, f.Room, f.To = "private-message", "", rapid.SampledFrom(users).Draw(t, "to").ID
			case "history":
				r.history = &historyRequest{Limit: 5}
				f.Type, f.Data = "history", hubtest.Data(r.history)
			}
			r.frame = f
			c.ask(r)
			if what == "say" || what == "tell" {
				w.sent = append(w.sent, r)
			}
		}
	}
	if room == "" {
		for range rapid.IntRange(0, 2).Draw(t, "handshakes") {
			w.knock(w.pickNode(t), user)
		}
	}
	switch rapid.IntRange(0, 2).Draw(t, "meanwhile") {
	case 1:
		synctest.Wait() // until all of them wait for something
	case 2:
		time.Sleep(time.Duration(rapid.IntRange(1, 60).Draw(t, "ms")) * time.Millisecond)
	}
}

// knock begins a handshake that is not waited for.
func (w *world) knock(n *node, user chathub.User) {
	w.note("%s knocks at hub %d", user.ID, w.index(n.hub))
	st := &stray{user: user.ID, hub: n.hub, done: make(chan struct{})}
	w.strays = append(w.strays, st)
	go func() {
		defer close(st.done)
		st.client, _ = hubtest.DialHeader(w.tb, st.hub, w.header(user)) // or it is refused
	}()
}

func (w *world) header(u chathub.User) http.Header {
	return http.Header{"Authorization": {"Bearer " + u.ID + "/" + u.Name + "/" + w.tenant}}
}

// lose notes that the right to be in a room, or to be connected, is gone.
func (c *conn) lose(room string) {
	if room == "" {
		c.mayEnd[4503], c.mustEnd = true, true
		for t := range c.streams {
			c.limits[t] = c.w.mark(t)
		}
		return
	}
	t := chathub.Topic{Room: room}
	c.limits[t] = c.w.mark(t)
	if s := c.streams[t]; s != nil {
		s.leaving = true
	}
	if c.member[room] != out {
		c.removed[room] = c.member[room] == in
		c.member[room] = unsure
	}
	c.moving[room], c.expelled[room] = true, true
	delete(c.rosters, room)
}

// isBanned reports whether the client has lost the right to be connected or,
// if there is a room, in the room.
func (c *conn) isBanned(room string) bool {
	return c.expelled[room] || c.mayEnd[4503]
}

// mayHear checks that a message is not from after the client lost the right to
// hear it.
func (c *conn) mayHear(s *stream, f hubtest.Frame) {
	if end, lost := c.limits[s.topic]; lost && end.life == s.life && f.Seq > end.seq {
		c.w.fatalf("%s was banned when %v was at %d, and got %s", c, s.topic, end.seq, show(f))
	}
}

// checkStrays checks that handshakes of banned users came to nothing.
func (w *world) checkStrays() {
	for _, st := range w.strays {
		<-st.done
		if st.client == nil {
			continue
		}
		w.note("%s, who knocked at hub %d, must be disconnected", st.user, w.index(st.hub))
		code, reason := st.client.Closed()
		if w.index(st.hub) < 0 {
			continue // the hub has shut down meanwhile, and may have cut it off
		}
		if code != 4503 && code != 4505 && code != 4001 {
			w.fatalf("a handshake of %s, who was banned, ended with %d %q", st.user, code, reason)
		}
	}
	w.strays = nil
}

// forgive gives all rights back, at a quiet time.
func (w *world) forgive() {
	w.rights.restore()
	w.truth.silence("", "")
	for _, c := range w.conns {
		if !c.mustEnd && !c.paused { // else what came before is still to be checked
			clear(c.limits)
			clear(c.expelled)
		}
	}
}

// silence says that no message of a user may be stored from now on, or in one
// room, or that of everyone may be again.
func (t *truth) silence(user, room string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if user == "" {
		t.silent = nil
		return
	}
	t.silent = append(t.silent, [2]string{user, room})
}

// checkSilent complains about a message whose sender had no right to send it.
// The caller holds t.mu.
func (t *truth) checkSilent(topic chathub.Topic, e *entry) {
	if e.emit != nil || e.client == "" {
		return
	}
	for _, no := range t.silent {
		if e.user.ID == no[0] && (no[1] == "" || no[1] == topic.Room) {
			t.findings = append(t.findings, fmt.Sprintf("%v: position %d was stored after %s was banned from %q", topic, e.seq, no[0], no[1]))
		}
	}
}
