package main

import (
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// device is a program of a user, with or without a connection. It does what the
// protocol asks of a client (section 6), and remembers its positions.
type device struct {
	w         *world
	user      chathub.User
	inbox     chathub.Topic
	positions map[chathub.Topic]chathub.Position
	views     map[chathub.Topic]*view
	conn      *conn // nil if there is none
}

// conn is a connection of a device. What came over it is checked at quiet
// times, even after it has ended.
type conn struct {
	w      *world
	d      *device
	node   *node
	client *hubtest.Client
	id     string
	name   string                // to print
	asked  map[string][]*request // not answered yet, in order
	// awaited are the logs whose missed messages are still to come.
	awaited map[chathub.Topic]bool

	// What the model knows:
	requests []*request
	sent     map[string]int  // how many, by id
	unread   []hubtest.Frame // received, not checked yet
	streams  map[chathub.Topic]*stream
	member   map[string]certainty
	// rooms that the application puts it into or takes it out of
	moving map[string]bool
	// Rooms that it may be told it is out of; true: must be.
	removed  map[string]bool
	expelled map[string]bool                      // rooms that it lost the right to be in
	limits   map[chathub.Topic]mark               // the last that it may hear of logs; absent: all
	heard    map[*emission]map[chathub.Topic]bool // emits to several topics
	online   *roster
	rosters  map[string]*roster           // of rooms whose list began with an answer
	typing   map[string]map[string]string // by room and user: the last word
	greeted  int
	told     bool // about the shutdown
	napped   bool // a handler of it took long
	barrier  *request
	nonsense int // malformed messages
	nameless int // requests without an id
	paused   bool
	// calm says that the client has always read everything.
	calm bool

	mayEnd  map[int]bool // close codes with a cause
	mustEnd bool
	left    bool // the device has closed it
	ended   bool // and everything is checked
}

// certainty says whether a connection is in a room at the moment.
type certainty int

const (
	out certainty = iota
	in
	unsure // something that changes it is under way
)

// request is a request with an id.
type request struct {
	conn  *conn
	frame hubtest.Frame
	first time.Time // when it was sent for the first time
	// since is the position in a join or resume, by log.
	since   map[chathub.Topic]chathub.Position
	newest  int               // how many messages a join without since requests
	history *historyRequest   // of a history
	op      *op               // of a change
	about   uint64            // the position that a mark-read or a reply is about
	markers map[string]marker // of the user, before the request was sent
	// known is the head of each log before the request was sent, in the log's
	// latest life.
	known  map[chathub.Topic]mark
	member certainty // of the frame's room

	answers []hubtest.Frame // not checked yet
	acked   bool
}

// mark is a position in a life of a log.
type mark struct {
	life *life
	seq  uint64
}

func (w *world) mark(t chathub.Topic) mark {
	l, seq := w.truth.latest(t)
	return mark{l, seq}
}

// answer is the part of an answer about one log.
type answer struct {
	chathub.Position `json:",inline"`
	Recovered        bool            `json:"recovered"`
	Users            *[]chathub.User `json:"users"`
	Count            int             `json:"count"`
	Read             *uint64         `json:"read"`
	Unread           *int            `json:"unread"`
	Error            *struct {
		Code chathub.Code `json:"code"`
	} `json:"error"`
}

// answers returns the parts of an ack of a join or a resume.
func (c *conn) answers(r *request, ack hubtest.Frame) map[chathub.Topic]answer {
	parts := make(map[chathub.Topic]answer)
	if r.frame.Type == "join-room" {
		var a answer
		c.w.parse(ack.Data, &a)
		parts[chathub.Topic{Room: r.frame.Room}] = a
		return parts
	}
	var all struct {
		Rooms map[string]answer `json:"rooms"`
		Inbox *answer           `json:"inbox"`
	}
	c.w.parse(ack.Data, &all)
	for room, a := range all.Rooms {
		parts[chathub.Topic{Room: room}] = a
	}
	if all.Inbox != nil {
		parts[c.d.inbox] = *all.Inbox
	}
	return parts
}

// dial connects a device. The server may refuse while the broker fails, or cut
// it off at once. Then the device stays without a connection.
func (d *device) dial(n *node) *conn {
	w := d.w
	before := w.mark(d.inbox)
	inHall := w.mark(hall)
	client, err := hubtest.DialHeader(w.tb, n.hub, w.header(d.user))
	if err != nil {
		w.fatalf("dial: %v", err)
	}
	var rest []hubtest.Frame
	var f hubtest.Frame
	if w.tight { // the outbox may be full before the welcome is sent
		synctest.Wait()
		rest = client.Pending()
		for waited := 0; len(rest) == 0 && waited < 10; waited++ { // or the broker is slow
			time.Sleep(time.Second)
			synctest.Wait()
			rest = client.Pending()
		}
		if len(rest) == 0 {
			if code, _ := client.Closed(); code != 4001 {
				w.fatalf("no welcome, closed with %d", code)
			}
			return nil
		}
		f, rest = rest[0], rest[1:]
	} else {
		f = client.Next()
	}
	if f.Type == "connect-error" && f.Code() == chathub.CodeUnavailable && w.faulty {
		if code, _ := client.Closed(); code != 4000 {
			w.fatalf("refused as unavailable, closed with %d", code)
		}
		return nil
	}
	if f.Type != "welcome" {
		w.fatalf("first frame is %s %s", f.Type, f.Data)
	}
	var welcome struct {
		ClientID string           `json:"clientId"`
		User     chathub.User     `json:"user"`
		Inbox    chathub.Position `json:"inbox"`
	}
	w.parse(f.Data, &welcome)
	if welcome.User != d.user {
		w.fatalf("%v got the welcome of %v", d.user, welcome.User)
	}
	w.dialed++
	c := &conn{
		w: w, d: d, node: n, client: client,
		name:     fmt.Sprintf("%s-%d", d.user.ID, w.dialed),
		id:       welcome.ClientID,
		asked:    make(map[string][]*request),
		awaited:  make(map[chathub.Topic]bool),
		sent:     make(map[string]int),
		streams:  make(map[chathub.Topic]*stream),
		member:   make(map[string]certainty),
		moving:   make(map[string]bool),
		removed:  make(map[string]bool),
		expelled: make(map[string]bool),
		limits:   make(map[chathub.Topic]mark),
		heard:    make(map[*emission]map[chathub.Topic]bool),
		rosters:  make(map[string]*roster),
		typing:   make(map[string]map[string]string),
		calm:     !w.tight,
		mayEnd:   make(map[int]bool),
	}
	if w.tight {
		c.mayEnd[4001] = true
	}
	life := w.truth.life(d.inbox, welcome.Inbox.Epoch)
	if before.life == life && welcome.Inbox.Seq < before.seq {
		w.fatalf("%s: the head of the inbox is %d in the welcome, and was %d before", c, welcome.Inbox.Seq, before.seq)
	}
	c.streams[d.inbox] = &stream{topic: d.inbox, life: life, cursor: welcome.Inbox.Seq}
	c.joined(hall, inHall)
	if _, remembers := d.positions[d.inbox]; remembers {
		c.awaited[d.inbox] = true
	} else {
		d.positions[d.inbox] = welcome.Inbox
		d.view(d.inbox).begin(c, answer{Position: welcome.Inbox}, false)
	}
	w.note("%s connects, device %d, hub %d", c, slices.Index(w.devices, d), slices.Index(w.nodes, n))
	w.conns = append(w.conns, c)
	d.conn = c
	c.take(rest)
	return c
}

func (c *conn) String() string { return c.name }

// ask sends a request.
func (c *conn) ask(r *request) {
	r.conn = c
	if r.first.IsZero() {
		r.first = time.Now()
	}
	r.known = map[chathub.Topic]mark{c.d.inbox: c.w.mark(c.d.inbox)}
	r.markers = c.w.truth.markersOf(c.d.user.ID)
	for _, room := range append(slices.Clone(allRooms), nowhere) {
		r.known[chathub.Topic{Room: room}] = c.w.mark(chathub.Topic{Room: room})
	}
	for t := range r.since {
		c.awaited[t] = true
	}
	if room := r.frame.Room; room != "" {
		r.member = c.member[room]
	}
	if r.op != nil {
		c.w.asks(r.op)
	}
	if r.frame.ID == "" {
		c.nameless++
	} else {
		c.requests = append(c.requests, r)
		c.sent[r.frame.ID]++
		c.asked[r.frame.ID] = append(c.asked[r.frame.ID], r)
	}
	c.client.Send(r.frame)
	c.w.note("%s sends %s", c, show(r.frame))
}

// read lets the device read what came, and moves its positions.
func (c *conn) read() { c.take(c.client.Pending()) }

func (c *conn) take(frames []hubtest.Frame) {
	for i := range frames {
		frames[i] = placed(frames[i])
	}
	c.unread = append(c.unread, frames...)
	for _, f := range frames {
		switch {
		case f.Type == "ack" && len(c.asked[f.ID]) > 0:
			switch r := c.asked[f.ID][0]; r.frame.Type {
			case "join-room", "resume":
				for t, a := range c.answers(r, f) {
					c.d.answered(t, r, a)
				}
			case "leave-room":
				c.d.view(chathub.Topic{Room: r.frame.Room}).conn = nil
			case "history":
				c.d.showPage(c, r, f)
			case "mark-read":
				if room := r.frame.Room; room != "" {
					var m marker
					c.w.parse(f.Data, &m)
					v := c.d.view(chathub.Topic{Room: room})
					m.Epoch = v.epoch
					v.count(m)
				}
			}
			c.answered(f)
		case f.Type == "error" && len(c.asked[f.ID]) > 0:
			c.answered(f)
		case f.Type == "ack", f.Type == "error" && f.ID != "":
			c.w.fatalf("%s: an answer without a request: %+v", c, f)
		default:
			c.d.show(c, f)
			if f.Seq > 0 {
				c.d.saw(c, f)
			}
		}
	}
}

// answered keeps an answer with its request.
func (c *conn) answered(f hubtest.Frame) {
	r := c.asked[f.ID][0]
	r.answers = append(r.answers, f)
	r.acked = f.Type == "ack"
	if c.asked[f.ID] = c.asked[f.ID][1:]; len(c.asked[f.ID]) == 0 {
		delete(c.asked, f.ID)
	}
}

// answered moves a position after an answer.
func (d *device) answered(t chathub.Topic, r *request, a answer) {
	if a.Error != nil {
		return
	}
	asked, since := r.since[t]
	d.view(t).begin(r.conn, a, since)
	switch {
	case !since:
		d.positions[t] = a.Position
	case a.Recovered:
		d.positions[t] = chathub.Position{Epoch: a.Epoch, Seq: asked.Seq}
	default:
		d.positions[t] = chathub.Position{Epoch: a.Epoch}
	}
	delete(r.conn.awaited, t)
}

// logOf returns the log that a stored message is in. A read comes from the
// inbox, even if it is about a room.
func (d *device) logOf(f hubtest.Frame) chathub.Topic {
	if f.Room != "" && f.Type != "read" {
		return chathub.Topic{Room: f.Room}
	}
	return d.inbox
}

// saw moves a position after a message.
func (d *device) saw(c *conn, f hubtest.Frame) {
	t := d.logOf(f)
	if p, ok := d.positions[t]; ok && !c.awaited[t] {
		p.Seq = f.Seq
		d.positions[t] = p
	}
}

// leave ends the connection from the client's side.
func (c *conn) leave(politely bool) {
	c.w.note("%s leaves, politely: %v", c, politely)
	if politely {
		c.client.Close()
	} else {
		c.client.Drop()
	}
	c.client.Closed() // nothing follows it
	c.read()
	c.left = true
	c.d.conn = nil
}

// parse unmarshals what the server sent.
func (w *world) parse(data []byte, v any) {
	if err := json.Unmarshal(data, v, json.RejectUnknownMembers(false)); err != nil {
		w.fatalf("%s: %v", data, err)
	}
}

// roster is a list of users as a client knows it from events.
type roster struct {
	users map[string]bool
}

func newRoster(users []chathub.User) *roster {
	r := &roster{users: make(map[string]bool)}
	for _, u := range users {
		r.users[u.ID] = true
	}
	return r
}

// ends notes how connections ended for the server. Hubs call it.
type ends struct {
	mu sync.Mutex
	of map[string]chathub.Disconnect
}

func (e *ends) add(c *chathub.Client, d chathub.Disconnect) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.of[c.ID()] = d
}

func (e *ends) get(id string) (chathub.Disconnect, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d, ok := e.of[id]
	return d, ok
}
