package chathub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// mostUnread bounds the counts of unread messages. It stands for that many or
// more.
const mostUnread = 100

// The kinds of the names in an inbox that hold how far its user has read: of
// rooms, and of conversations with other users.
const (
	kindRead = "read"
	kindSeen = "seen"
)

// marker is how far a user has read a log.
type marker struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`

	at uint64 // position in the inbox; 0: there is no marker
}

// in returns the position of the marker in a log of the given epoch. Markers of
// other epochs mean nothing.
func (mk marker) in(epoch string) uint64 {
	if mk.Epoch != epoch {
		return 0
	}
	return mk.Seq
}

// markerName is the name of a user's marker, for a room or, if that is empty,
// for the conversation with a user.
func markerName(room, peer string) string {
	if room != "" {
		return kindRead + "/" + room
	}
	return kindSeen + "/" + peer
}

// markers reads markers of a user, by name. Those that do not exist are zero.
func (h *Hub) markers(ctx context.Context, user string, names ...string) (map[string]marker, error) {
	if len(names) == 0 {
		return nil, nil
	}
	named, err := h.session.ReadNamed(ctx, []NameQuery{{Topic: Topic{User: user}, Names: names}})
	if err != nil {
		return nil, err
	}
	return markersIn(named[0]), nil
}

// markersIn decodes markers, by name.
func markersIn(named []Message) map[string]marker {
	all := make(map[string]marker, len(named))
	for i := range named {
		m := &named[i]
		var env struct {
			Data marker `json:"data"`
		}
		if json.Unmarshal(eventIn(m), &env) == nil {
			env.Data.at = m.Seq
			all[m.Name] = env.Data
		}
	}
	return all
}

// markReadData is the data of a mark-read.
type markReadData struct {
	Seq uint64 `json:"seq"`
}

func markReadDataOf(e *Event) (d markReadData, err error) {
	if err := decodeData(e, &d); err != nil {
		return d, err
	}
	if bad := checkSeq("data.seq", d.Seq); bad != nil {
		return d, bad
	}
	return d, nil
}

func checkMarkRead(_ *Client, e *Event) *Error {
	if err := roomOrTo(e); err != nil {
		return err
	}
	if _, err := markReadDataOf(e); err != nil {
		bad, _ := publicError(err)
		return bad
	}
	return nil
}

func markReadAction(_ context.Context, _ *Client, e *Event) (Action, error) {
	d, err := markReadDataOf(e)
	return Action{Type: e.Type, Room: e.Room, To: e.To, Seq: d.Seq}, err
}

var errManyMarkers = errors.New("chathub: the marker changes all the time")

// reading is how far a user has read a log, as clients are told.
type reading struct {
	state map[string]StateValue // of the room; in answers to joins only

	Seq    uint64 `json:"seq"`
	Unread int    `json:"unread"`
	// Head is the position up to which Unread counts.
	Head  uint64 `json:"head"`
	Epoch string `json:"epoch"`
}

func onMarkRead(ctx context.Context, c *Client, e *Event) (any, error) {
	d, err := markReadDataOf(e)
	if err != nil {
		return nil, err
	}
	user := c.User().ID
	q := SurveyQuery{Topic: Topic{Room: e.Room}, After: d.Seq, Reader: user, Most: mostUnread}
	if e.Room == "" {
		q.Topic, q.From = Topic{User: user}, e.To
	}
	name := markerName(e.Room, e.To)
	for range changeTries {
		all, err := c.hub.markers(ctx, user, name)
		if err != nil {
			return nil, err
		}
		old := all[name]
		standing, err := c.hub.session.Survey(ctx, []SurveyQuery{q})
		if err != nil {
			return nil, err
		}
		at := standing[0]
		if d.Seq > at.Head.Seq {
			return nil, errorf(CodeBadRequest, "data.seq is after the newest message")
		}
		r := reading{Seq: d.Seq, Unread: at.Unread, Head: at.Head.Seq, Epoch: at.Head.Epoch}
		if had := old.in(at.Head.Epoch); had >= d.Seq {
			if q.After = had; had > d.Seq { // another device was ahead: count again
				d.Seq = had
				continue
			}
			return r.answer(), nil
		}
		err = c.storeMarker(ctx, e, name, &r, old.at)
		if err == nil {
			c.tellReceipt(e, r.Seq)
			return r.answer(), nil
		}
		if !hasCode(err, CodeConflict) {
			return nil, err
		}
	}
	return nil, Unavailable(errManyMarkers)
}

func (r *reading) answer() any {
	return struct {
		Seq    uint64 `json:"seq"`
		Unread int    `json:"unread"`
		Head   uint64 `json:"head"`
	}{r.Seq, r.Unread, r.Head}
}

// storeMarker stores a marker in the user's inbox, unless another one has come
// meanwhile. The user's other connections are told.
func (c *Client) storeMarker(ctx context.Context, e *Event, name string, r *reading, expect uint64) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	user := c.User()
	env := envelope{typ: eventRead, room: e.Room, to: e.To, from: &user, data: data}
	_, err = c.publish(ctx, Message{
		Topic:  Topic{User: user.ID},
		Owner:  user.ID,
		Notice: true,
		Name:   name,
		Expect: &expect,
		Body:   env.body(&note.Routed{Except: []string{c.id}}),
	})
	return err
}

// unreadOf returns what the answers to join-room and resume say about each room
// besides its position and users: the marker, the number of unread messages up
// to the position of the join, and the state. It is charged to nobody, since it
// is small.
func (c *Client) unreadOf(ctx context.Context, joins []*join) (map[string]reading, error) {
	if len(joins) == 0 {
		return nil, nil
	}
	user := c.User().ID
	names := make([]string, len(joins))
	for i, j := range joins {
		names[i] = markerName(j.room, "")
	}
	ask := make([]NameQuery, 0, 1+len(joins))
	for _, j := range joins {
		ask = append(ask, NameQuery{Topic: Topic{Room: j.room}, Kind: kindState})
	}
	named, err := c.hub.session.ReadNamed(ctx, append(ask, NameQuery{Topic: Topic{User: user}, Names: names}))
	if err != nil {
		return nil, err
	}
	markers := markersIn(named[len(joins)])
	all := make(map[string]reading, len(joins))
	var queries []SurveyQuery
	for i, j := range joins {
		seq := markers[names[i]].in(j.pos.Epoch)
		all[j.room] = reading{Seq: seq, state: roomState(named[i])}
		if seq < j.pos.Seq {
			queries = append(queries, SurveyQuery{Topic: Topic{Room: j.room}, After: seq, Before: j.pos.Seq + 1, Reader: user, Most: mostUnread})
		}
	}
	if len(queries) == 0 {
		return all, nil
	}
	standings, err := c.hub.session.Survey(ctx, queries)
	if err != nil {
		return nil, err
	}
	for i, q := range queries {
		r := all[q.Topic.Room]
		r.Unread = standings[i].Unread
		all[q.Topic.Room] = r
	}
	return all, nil
}

// receipts gathers how far users have read, to tell the members of their rooms.
// Any goroutine may use it.
type receipts struct {
	hub *Hub

	mu    sync.Mutex
	rooms map[string]map[string]uint64 // position by user, by room
}

// tellReceipt tells the members of a room, soon, how far the client's user has
// read.
func (c *Client) tellReceipt(e *Event, seq uint64) {
	cfg := &c.hub.cfg
	if !cfg.ReadReceipts || e.Room == "" || !c.inRoom(e.Room) {
		return
	}
	rc := &c.hub.receipts
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if rc.rooms == nil {
		rc.rooms = make(map[string]map[string]uint64)
	}
	users := rc.rooms[e.Room]
	if users == nil {
		users = make(map[string]uint64)
		rc.rooms[e.Room] = users
		wait := cfg.PresenceInterval
		if wait < 0 {
			wait = mergeTime
		}
		time.AfterFunc(wait, func() { rc.send(e.Room) })
	}
	users[c.User().ID] = max(seq, users[c.User().ID])
}

// send tells the members of a room what has been gathered.
func (rc *receipts) send(room string) {
	rc.mu.Lock()
	users := rc.rooms[room]
	delete(rc.rooms, room)
	rc.mu.Unlock()
	tooMany := false
	if rc.hub.onLoop(func(l *loop) {
		r := l.rooms[room]
		tooMany = r == nil || l.countsOnly(&r.presence)
	}) != nil || tooMany {
		return
	}
	type receipt struct {
		ID  string `json:"id"`
		Seq uint64 `json:"seq"`
	}
	list := make([]receipt, 0, len(users))
	for id, seq := range users {
		list = append(list, receipt{id, seq})
	}
	data, err := json.Marshal(map[string]any{"users": list})
	if err != nil {
		return // numbers and strings: it cannot be
	}
	env := envelope{typ: eventRead, room: room, ts: timestamp(), data: data}
	ctx, cancel := rc.hub.brokerContext()
	defer cancel()
	// At most once, as presence.
	_ = rc.hub.sendVolatile(ctx, Message{Topic: Topic{Room: room}, Body: env.body(&note.Routed{})})
}

// appendReading adds to the answer for a room how far its user has read.
func appendReading(b jsontext.Value, r reading) jsontext.Value {
	add, err := json.Marshal(struct {
		Read   uint64 `json:"read"`
		Unread int    `json:"unread"`
	}{r.Seq, r.Unread})
	if err != nil {
		return b
	}
	b[len(b)-1] = ','
	return append(b, add[1:]...)
}
