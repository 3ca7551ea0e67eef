package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// emission is an emit of the application.
type emission struct {
	event  string
	data   []byte
	topics []chathub.Topic // none: volatile, to everyone or to clients
	except []string
}

// volatile is an event that is not kept.
type volatile struct {
	what     string
	may      func(c *conn) bool // its recipients
	must     []*conn            // those that were certainly there when it was sent
	got      map[*conn]int
	accepted bool
}

// number returns the number by which the model recognises a payload.
func number(data []byte) string {
	n, _, _ := strings.Cut(string(data), ",")
	return strings.TrimRight(n, "}")
}

func (w *world) volatile(what string, data []byte, may func(c *conn) bool) *volatile {
	v := &volatile{what: what, may: may, got: make(map[*conn]int)}
	for _, c := range w.conns {
		if !c.left && may(c) {
			v.must = append(v.must, c)
		}
	}
	w.volatiles[number(data)] = v
	return v
}

// checkVolatile checks that c is a recipient of an event that is not kept.
func (c *conn) checkVolatile(f hubtest.Frame) {
	if f.Type == "greeting" {
		c.greeted++
		return
	}
	v := c.w.volatiles[number(f.Data)]
	if v == nil || v.what != f.Type || !v.may(c) {
		c.w.fatalf("%s is no recipient of %s", c, show(f))
	}
	if v.got[c]++; v.got[c] > 1 {
		c.w.fatalf("%s got twice: %s", c, show(f))
	}
}

// checkVolatiles checks that events that are not kept reached everyone who was
// there and read everything. If the broker failed, one may have reached the
// clients of one hub alone.
func (w *world) checkVolatiles() {
	for n, v := range w.volatiles {
		for _, c := range v.must {
			if v.accepted && !w.faulty && c.calm && !c.left && !c.ended && !c.mustEnd && v.got[c] == 0 {
				w.fatalf("%s did not get %s %s", c, v.what, n)
			}
		}
		v.must = nil
	}
}

// checkPresence keeps the lists of users as a client would.
func (c *conn) checkPresence(f hubtest.Frame) {
	var list struct {
		Users []chathub.User `json:"users"`
		Count int            `json:"count"`
	}
	c.w.parse(f.Data, &list)
	if f.Type == "online-users" {
		if c.online = newRoster(list.Users); len(list.Users) != list.Count {
			c.w.fatalf("%s: %s", c, show(f))
		}
		return
	}
	r := c.online
	if f.Room != "" {
		c.stream(chathub.Topic{Room: f.Room}, f)
		r = c.rosters[f.Room]
	}
	for _, u := range list.Users {
		switch {
		case u == c.d.user && (f.Type == "user-joined" || f.Type == "user-online"):
			c.w.fatalf("%s got its own arrival: %s", c, show(f))
		case r == nil: // the application put it into the room
		case f.Type == "user-online" || f.Type == "user-joined":
			r.users[u.ID] = true
		default:
			delete(r.users, u.ID)
		}
	}
}

// checkPeace checks presence after a quiet time: every hub and every client
// knows the users of all hubs, and nobody types.
func (w *world) checkPeace() {
	online := make(map[string]bool)
	present := make(map[string]map[string]bool)
	for _, room := range allRooms {
		present[room] = make(map[string]bool)
	}
	var conns []*conn
	for _, c := range w.conns {
		if c.left || c.ended || c.paused {
			continue // the heartbeat has found clients that do not read
		}
		conns = append(conns, c)
		online[c.d.user.ID] = true
		for room := range c.streams {
			if room.Room != "" {
				present[room.Room][c.d.user.ID] = true
			}
		}
	}
	connections := 0
	for i, n := range w.nodes {
		hub := fmt.Sprint("hub ", i)
		here := w.of(n.hub)
		connections += here.Stats().Connections
		all, err := here.OnlineUsers(w.ctx)
		if err != nil {
			w.fatalf("%s: OnlineUsers: %v", hub, err)
		}
		w.compare(hub, "online", newRoster(all).users, online)
		for room, users := range present {
			all, err := here.RoomUsers(w.ctx, room)
			if err != nil {
				w.fatalf("%s: RoomUsers: %v", hub, err)
			}
			w.compare(hub, "in "+room, newRoster(all).users, users)
		}
	}
	if connections != len(conns) {
		w.fatalf("the hubs count %d connections of the tenant, but there are %d", connections, len(conns))
	}
	for _, c := range conns {
		if !c.calm {
			continue
		}
		w.compare(c.String(), "online", c.online.users, online)
		for room, r := range c.rosters {
			w.compare(c.String(), "in "+room, r.users, present[room])
		}
		for room, who := range c.typing {
			for id, last := range who {
				if last != "stop-typing" {
					w.fatalf("%s: %s still types in %s", c, id, room)
				}
			}
		}
	}
}

func (w *world) compare(who, what string, got, want map[string]bool) {
	if !maps.Equal(got, want) {
		w.fatalf("%s says that %s are %v, but it is %v", who, what,
			slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// checkEnd checks that a connection ended for a reason, and that its client was
// told.
func (c *conn) checkEnd() {
	w := c.w
	if c.ended || c.left {
		return
	}
	d, over := w.ends.get(c.id)
	if !over {
		if c.mustEnd && !c.paused {
			w.fatalf("%s is still connected", c)
		}
		return
	}
	if d.Remote || !c.mayEnd[d.Code] {
		w.fatalf("%s was closed: %+v", c, d)
	}
	if c.paused {
		return
	}
	code, _ := c.client.Closed()
	c.read()
	c.verify()
	if code != d.Code && (c.calm || code != -1) {
		w.fatalf("%s got close code %d, the server sent %d", c, code, d.Code)
	}
	if d.Code == 4000 && c.calm {
		if !c.told {
			w.fatalf("%s was not told to come back", c)
		}
		for id := range c.asked {
			if c.sent[id] == 1 && w.truth.has(c.id, id) {
				w.fatalf("%s: %q was accepted, but not answered", c, id)
			}
		}
	}
	c.ended = true
	if c.d.conn == c {
		c.d.conn = nil
	}
}
