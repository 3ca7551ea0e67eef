package chathub

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/text"
	"github.com/go-json-experiment/json"
)

// ConnectionInfo describes a connection, for an operator.
type ConnectionInfo struct {
	Node   string `json:"node"` // the hub that has it
	ID     string `json:"id"`
	Tenant string `json:"tenant,omitzero"`
	User   User   `json:"user"`
	// Address, Agent (the User-Agent header) and Since are known only if
	// Config.KeepConnectionInfo is set.
	Address netip.Addr `json:"address,omitzero"`
	Agent   string     `json:"agent,omitzero"`
	Since   time.Time  `json:"since,omitzero"`
	Heard   time.Time  `json:"heard"`  // when bytes last came from it
	Outbox  int        `json:"outbox"` // bytes that wait to be sent
	Rooms   []string   `json:"rooms"`  // the first 128
}

// RoomInfo describes a room with members, for an operator.
type RoomInfo struct {
	Tenant      string `json:"tenant,omitzero"`
	Name        string `json:"name"`
	Connections int    `json:"connections"` // on all nodes
	Users       int    `json:"users"`       // on all nodes
}

// InspectQuery selects connections or rooms. The zero value selects the first
// of all.
type InspectQuery struct {
	// Tenant, User and Room select those of one tenant, of the user with an id,
	// and in the room with a name. Empty: of all.
	Tenant, User, Room string
	// Search selects what has this text, in any case: in the id or name of its
	// user, its address, its agent or its id, or in the name of the room.
	Search string
	// Limit is how many to return, at most 1000. Default 100.
	Limit int
	// After is the next of the page before.
	After string
}

const (
	inspectLimit = 100
	inspectMost  = 1000
	inspectRooms = 128  // of one connection
	inspectText  = 1024 // bytes of a text of a query
)

func (q *InspectQuery) prepare() error {
	if q.Limit <= 0 {
		q.Limit = inspectLimit
	}
	q.Limit = min(q.Limit, inspectMost)
	for _, s := range []string{q.Tenant, q.User, q.Room, q.Search, q.After} {
		if len(s) > inspectText || !utf8.ValidString(s) {
			return errorf(CodeBadRequest, "A text of the query is not UTF-8, or over %d bytes", inspectText)
		}
	}
	q.Search = strings.ToLower(q.Search)
	return nil
}

// has reports whether one of the texts has what is searched for.
func (q *InspectQuery) has(texts ...string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(strings.ToLower(s), q.Search) })
}

// Connections returns a page of the connections to all nodes, in the order of
// their tenant, user and id. Next is the After of the next page, or "" if there
// is none. Connections that come and go meanwhile may be missing.
//
// A page takes every node a look at all of its connections, some 2 ms of CPU
// for 20,000, of which deliveries wait for a tenth. If a node does not answer
// in time, the error is an [Error] with [CodeUnavailable], and the page has
// those of the others.
func (h *Hub) Connections(ctx context.Context, q InspectQuery) (page []ConnectionInfo, next string, err error) {
	if err := q.prepare(); err != nil {
		return nil, "", err
	}
	page, err = inspect(ctx, h, inspectConnections, &q, h.connectionsHere)
	slices.SortFunc(page, compareConnections)
	if len(page) > q.Limit {
		page = page[:q.Limit]
	}
	if len(page) == q.Limit {
		last := page[len(page)-1]
		next = keyOf(last.Tenant, last.User.ID, last.ID)
	}
	return page, next, err
}

// Rooms returns a page of the rooms that have members on any node, in the order
// of their tenant and name. See [Hub.Connections].
func (h *Hub) Rooms(ctx context.Context, q InspectQuery) (page []RoomInfo, next string, err error) {
	if err := q.prepare(); err != nil {
		return nil, "", err
	}
	all, err := inspect(ctx, h, inspectRoomList, &q, h.roomsHere)
	slices.SortFunc(all, compareRooms)
	for _, r := range all { // one of each node
		if last := len(page) - 1; last >= 0 && compareRooms(page[last], r) == 0 {
			page[last].Connections += r.Connections
			page[last].Users = max(page[last].Users, r.Users)
		} else {
			page = append(page, r)
		}
	}
	if len(page) > q.Limit {
		page = page[:q.Limit]
	}
	if len(page) == q.Limit {
		last := page[len(page)-1]
		next = world(last.Tenant).scoped(last.Name)
	}
	return page, next, err
}

// The kinds of what nodes ask each other for.
const (
	inspectConnections = "connections"
	inspectRoomList    = "rooms"
)

// inspect collects what this node and the others have.
func inspect[T any](ctx context.Context, h *Hub, kind string, q *InspectQuery, here func(*InspectQuery) ([]T, error)) ([]T, error) {
	data, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.NodeLease)
	defer cancel()
	var asked *inquiry
	if err := h.onLoop(func(l *loop) {
		if len(l.nodes.all) > 0 {
			asked = l.startInquiry(ctx, &note.Note{Op: note.OpInspect, Event: kind, Data: data})
		}
	}); err != nil {
		return nil, err
	}
	all, err := here(q)
	if err != nil || asked == nil {
		return all, err
	}
	err = asked.wait(ctx, h)
	for _, a := range asked.nodes {
		for _, r := range a.replies {
			var one T
			if json.Unmarshal(r.Data, &one) == nil {
				all = append(all, one)
			}
		}
	}
	return all, err
}

// hearInspect answers another node.
func (l *loop) hearInspect(from *node, n *note.Note) {
	key := questionKey{from.id, n.ID}
	q := l.nodes.questions[key]
	if q != nil {
		if q.heardAt = l.now(); q.final > 0 {
			l.sendReplies(key, q, q.replies)
		}
		return
	}
	q = &question{cancel: func() {}, heardAt: l.now()}
	l.nodes.questions[key] = q
	h, kind, data := l.hub, n.Event, n.Data
	go func() {
		replies := h.inspectReplies(kind, data)
		_ = h.post(call(func(l *loop) { // a closed hub has no clients
			q.replies, q.final = replies, 1
			l.sendReplies(key, q, q.replies)
		}))
	}()
}

func (h *Hub) inspectReplies(kind string, data []byte) (replies []note.Reply) {
	var q InspectQuery
	if json.Unmarshal(data, &q) != nil {
		return nil
	}
	add := func(name string, v any) {
		if b, err := json.Marshal(v); err == nil {
			replies = append(replies, note.Reply{Client: name, State: note.Answered, Data: b})
		}
	}
	switch kind {
	case inspectConnections:
		all, _ := h.connectionsHere(&q)
		for _, c := range all {
			add(c.ID, c)
		}
	case inspectRoomList:
		all, _ := h.roomsHere(&q)
		for _, r := range all {
			add(world(r.Tenant).scoped(r.Name), r)
		}
	}
	return replies
}

// connectionsHere returns the first of this node's connections after q.After.
func (h *Hub) connectionsHere(q *InspectQuery) (page []ConnectionInfo, err error) {
	var clients []*Client
	if err := h.onLoop(func(l *loop) {
		clients = make([]*Client, 0, len(l.clients))
		for _, c := range l.clients {
			clients = append(clients, c)
		}
	}); err != nil {
		return nil, err
	}
	var first []*Client
	for _, c := range clients {
		if q.Tenant != "" && q.Tenant != c.Tenant() || q.User != "" && q.User != c.user().ID || q.Room != "" && !c.inRoom(q.Room) ||
			q.After != "" && q.After >= connectionKey(c) {
			continue
		}
		if q.Search != "" {
			info := h.infos.of(c)
			if !q.has(c.user().ID, c.user().Name, c.id, info.agent, info.address.String()) {
				continue
			}
		}
		first = insertFirst(first, c, q.Limit, compareClients)
	}
	for _, c := range first {
		info := h.infos.of(c)
		rooms := c.Rooms()
		page = append(page, ConnectionInfo{
			Node: h.node, ID: c.id, Tenant: c.Tenant(), User: c.User(), Address: info.address, Agent: info.agent, Since: info.since,
			Heard: c.conn.Heard(), Outbox: c.conn.Waiting(), Rooms: rooms[:min(len(rooms), inspectRooms)],
		})
	}
	return page, nil
}

// insertFirst inserts v into a sorted list of at most so many items, the first
// ones of all.
func insertFirst[T any](list []T, v T, most int, compare func(a, b T) int) []T {
	if len(list) == most && compare(list[most-1], v) <= 0 {
		return list
	}
	i, _ := slices.BinarySearchFunc(list, v, compare)
	if len(list) == most {
		list = list[:most-1]
	}
	return slices.Insert(list, i, v)
}

// roomsHere returns the first of this node's rooms after q.After.
func (h *Hub) roomsHere(q *InspectQuery) (page []RoomInfo, err error) {
	after := RoomInfo{Tenant: string(worldOf(q.After)), Name: plain(q.After)}
	err = h.onLoop(func(l *loop) {
		for scoped, r := range l.rooms {
			w, name := split(scoped)
			info := RoomInfo{Tenant: string(w), Name: name, Connections: len(r.members)}
			if len(r.members) == 0 || name == "" || q.Tenant != "" && q.Tenant != info.Tenant || q.Room != "" && q.Room != name ||
				q.User != "" && !l.isMember(r, w.scoped(q.User)) || q.After != "" && compareRooms(after, info) >= 0 || q.Search != "" && !q.has(name) {
				continue
			}
			page = insertFirst(page, info, q.Limit, compareRooms)
		}
		for i, info := range page {
			page[i].Users = l.rooms[world(info.Tenant).scoped(info.Name)].presence.roster.Count()
		}
	})
	return page, err
}

// isMember reports whether a connection of a user is in a room.
func (l *loop) isMember(r *room, scopedUser string) bool {
	u := l.users[scopedUser]
	return u != nil && slices.ContainsFunc(u.members, func(m member) bool { return m.c.onLoop.seatIn(&r.audience) >= 0 })
}

func compareConnections(a, b ConnectionInfo) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.User.ID, b.User.ID), cmp.Compare(a.ID, b.ID))
}

func compareRooms(a, b RoomInfo) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Name, b.Name))
}

func compareClients(a, b *Client) int {
	return cmp.Or(cmp.Compare(a.world(), b.world()), cmp.Compare(a.user().ID, b.user().ID), cmp.Compare(a.id, b.id))
}

// connectionKey is what connections are sorted by: names have no zero byte.
func connectionKey(c *Client) string { return keyOf(c.Tenant(), c.user().ID, c.id) }

func keyOf(tenant, user, id string) string { return tenant + "\x00" + user + "\x00" + id }

// infos is what is kept of connections for an operator. Any goroutine may use
// it.
type infos struct {
	mu  sync.Mutex
	all map[*Client]connectionInfo
}

type connectionInfo struct {
	address netip.Addr
	agent   string
	since   time.Time
}

// add keeps what is known of a connection, until remove.
func (in *infos) add(c *Client, r *http.Request) {
	if !c.hub.cfg.KeepConnectionInfo {
		return
	}
	// A name is short and without control characters.
	info := connectionInfo{handshake.ClientAddr(r, c.hub.cfg.TrustedProxies), strings.Clone(text.Name(r.UserAgent())), time.Now()}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.all == nil {
		in.all = make(map[*Client]connectionInfo)
	}
	in.all[c] = info
}

func (in *infos) remove(c *Client) {
	if !c.hub.cfg.KeepConnectionInfo {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.all, c)
}

// of returns what is kept of a connection, or nothing.
func (in *infos) of(c *Client) connectionInfo {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.all[c]
}
