package chathub

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// PresenceChange says that a user has come online, or has gone.
type PresenceChange struct {
	Tenant string
	User   User
	Online bool
	At     time.Time // when this hub noticed, after the grace
}

const (
	// hookCalls is how many calls of Config.OnPresence run at a time.
	hookCalls = 8
	// hookTimeout is when the ctx of a call ends.
	hookTimeout = 30 * time.Second
	// hookRetry is how long a user waits for the next call after one failed.
	hookRetry = 2 * time.Second
	// hookStart is for how many beats a node that has just started does not
	// lead: the others first tell it what has been told.
	hookStart = 2
)

// presenceHook tells the application who came online and who went, once per
// cluster. It belongs to the loop. Every node knows of each user what the
// application was told last. One node, the leader, makes the calls, and tells
// the others of each that has returned. So the next leader goes on where it
// ended, and at worst repeats what the last one did not get to say.
type presenceHook struct {
	users   map[string]*hookedUser // who are online, or were told to be; by scoped id
	due     []*hookedUser          // for whom a call is to be made, in order
	failed  []*hookedUser          // to be tried again
	running int                    // calls
	told    []*hookedUser          // of which the other nodes are to hear
	began   time.Time              // when this node did, or zero: nobody wants to be told
	led     bool                   // as of the last look
	idle    chan struct{}          // not nil: closed once no call runs, and none is due here
}

// hookedUser is a user, and what the application knows of it.
type hookedUser struct {
	world  world
	user   User
	online bool
	at     time.Time // of that
	told   bool      // online is what the application was told last
	busy   bool      // in due or failed, or a call runs
	retry  time.Time // of one that failed
}

func (k *presenceHook) init(cfg *Config) {
	if cfg.OnPresence != nil {
		k.users = make(map[string]*hookedUser)
		k.began = time.Now()
	}
}

// hooked reports whether a room is the world of a tenant whose presence all
// nodes keep, because the application wants to be told of it.
func (l *loop) hooked(name string) bool {
	return l.cfg.OnPresence != nil && name != "" && plain(name) == ""
}

// leads reports whether this node makes the calls. Ids of nodes begin with the
// time at which they started, so it is the oldest one that is alive.
func (l *loop) leads() bool {
	isNew := l.now().Sub(l.hook.began) < hookStart*l.cfg.NodeLease/beatsPerLease
	if isNew || l.now().UnixNano()-l.hub.noteSentAt.Load() > int64(l.cfg.NodeLease)/2 {
		return false // in the second case, it may be cut off, and another one leads
	}
	for id := range l.nodes.all {
		if id < l.hub.node {
			return false
		}
	}
	return true
}

// hookChanges notes what has changed in the presence of everyone of a tenant.
func (l *loop) hookChanges(w world, changes []note.User, online bool) {
	for _, u := range changes {
		h := l.hookedUser(w, u)
		h.online, h.at = online, l.now()
		l.reconcile(h)
	}
}

func (l *loop) hookedUser(w world, u note.User) *hookedUser {
	id := w.scoped(u.ID)
	h := l.hook.users[id]
	if h == nil {
		h = &hookedUser{world: w}
		l.hook.users[id] = h
	}
	h.user = User(u)
	return h
}

// reconcile has a call made for a user of whom the application does not know
// the truth, if this node makes the calls.
func (l *loop) reconcile(h *hookedUser) {
	switch {
	case h.busy:
	case h.online == h.told:
		if !h.online {
			delete(l.hook.users, h.world.scoped(h.user.ID))
		}
	case l.leads():
		h.busy = true
		l.hook.due = append(l.hook.due, h)
		l.callHooks()
	}
}

// callHooks begins as many calls as may run.
func (l *loop) callHooks() {
	k := &l.hook
	for len(k.due) > 0 && k.running < hookCalls && (k.idle == nil || len(l.nodes.all) == 0) {
		h := k.due[0]
		k.due[0] = nil
		k.due = k.due[1:]
		if h.online == h.told { // it has changed back meanwhile
			h.busy = false
			l.reconcile(h)
			continue
		}
		k.running++
		change := PresenceChange{Tenant: string(h.world), User: h.user, Online: h.online, At: h.at}
		go l.hub.callHook(h, change)
	}
	if k.idle != nil && k.running == 0 && (len(k.due) == 0 || len(l.nodes.all) > 0) {
		close(k.idle)
		k.idle = nil
	}
	l.hub.counters.presenceWaiting.Store(int64(len(k.due) + len(k.failed)))
}

// callHook makes a call, outside of the loop.
func (h *Hub) callHook(u *hookedUser, change PresenceChange) {
	ctx, cancel := context.WithTimeout(h.life.ctx, hookTimeout)
	defer cancel()
	err := h.guard("OnPresence", func() error { return h.cfg.OnPresence(ctx, change) })
	if err != nil && h.life.ctx.Err() == nil {
		h.logLimited("OnPresence", slog.LevelWarn, "chathub: OnPresence failed, and is called again", func() []any {
			return []any{"user", change.User.ID, "tenant", change.Tenant, "online", change.Online, "err", err}
		})
	}
	// A closed hub makes no more calls.
	_ = h.post(call(func(l *loop) { l.hookReturned(u, change.Online, err) }))
}

// hookReturned is the end of a call.
func (l *loop) hookReturned(h *hookedUser, online bool, err error) {
	k := &l.hook
	k.running--
	if err != nil {
		h.retry = l.now().Add(hookRetry)
		k.failed = append(k.failed, h)
	} else {
		h.busy = false
		h.told = online
		k.told = append(k.told, h)
		l.reconcile(h)
	}
	l.callHooks()
}

// tellHooked tells the other nodes what the application has been told. If to is
// not nil, it tells that node of all users.
func (l *loop) tellHooked(to *node) {
	k := &l.hook
	notes := make(map[world]*note.Note)
	add := func(h *hookedUser) {
		n := notes[h.world]
		if n == nil {
			n = &note.Note{Op: note.OpTold, Room: h.world.everyone().Room}
			notes[h.world] = n
		}
		how := note.Came
		if !h.told {
			how = note.Went
		}
		n.Users = append(n.Users, note.Movement{User: note.User(h.user), How: how})
	}
	topic := Topic{}
	if to != nil {
		topic.Node = to.id
		for _, h := range k.users {
			if h.told {
				add(h)
			}
		}
	} else {
		for _, h := range k.told {
			add(h)
		}
		clear(k.told)
		k.told = k.told[:0]
		if len(l.nodes.all) == 0 {
			return
		}
	}
	for _, n := range notes {
		l.sendNote(topic, n)
	}
}

// hearTold notes what the application has been told by another node.
func (l *loop) hearTold(n *note.Note) {
	if l.cfg.OnPresence == nil {
		return
	}
	w := worldOf(n.Room)
	for _, m := range n.Users {
		h := l.hookedUser(w, m.User)
		h.told = m.How == note.Came
		l.reconcile(h)
	}
}

// sweepHooks does what is due about calls: it takes over from a leader that has
// gone, and tries again what has failed.
func (l *loop) sweepHooks(now time.Time) {
	k := &l.hook
	if l.cfg.OnPresence == nil {
		return
	}
	if leads := l.leads(); leads && !k.led {
		k.led = true
		waiting := make([]*hookedUser, 0, len(k.users))
		for _, h := range k.users {
			waiting = append(waiting, h)
		}
		slices.SortFunc(waiting, func(a, b *hookedUser) int {
			return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.user.ID, b.user.ID))
		})
		for _, h := range waiting {
			l.reconcile(h)
		}
	} else if !leads && k.led {
		k.led = false
		for _, h := range slices.Concat(k.due, k.failed) {
			h.busy = false
		}
		k.due, k.failed = nil, nil
	}
	k.failed = slices.DeleteFunc(k.failed, func(h *hookedUser) bool {
		if now.Before(h.retry) {
			return false
		}
		h.busy = false
		l.reconcile(h)
		return true
	})
	l.callHooks()
}

// awaitHooks waits until no call of OnPresence runs any more and the other
// nodes have been told, so that none of them repeats one. If this node is
// alone, it waits for those that are due, too.
func (h *Hub) awaitHooks(ctx context.Context) {
	if h.cfg.OnPresence == nil {
		return
	}
	idle := make(chan struct{})
	if h.onLoop(func(l *loop) {
		l.hook.idle = idle
		l.callHooks()
	}) != nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
	}
	sent := make(chan struct{})
	if h.onLoop(func(l *loop) {
		l.tellHooked(nil)
		l.nodes.courier.add(func(*Hub) { close(sent) })
	}) != nil {
		return
	}
	select {
	case <-sent:
	case <-ctx.Done():
	}
}
