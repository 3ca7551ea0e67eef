package chathub

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc64"
	"slices"
	"strconv"
	"time"

	"github.com/chathub-go/chathub/internal/change"
	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/text"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxSeq is the highest position. JavaScript has no larger whole numbers.
const maxSeq = 1<<53 - 1

// maxReactionKey is the length of a reaction's key, in bytes.
const maxReactionKey = 32

// changeData is the data of an edit-message, delete-message or react.
type changeData struct {
	Seq    *uint64        `json:"seq"`
	ID     string         `json:"id"`
	Author string         `json:"author"`
	Data   jsontext.Value `json:"data"`
	Key    string         `json:"key"`
	On     *bool          `json:"on"`
}

// changeDataOf decodes and checks the data of an event that changes a message.
func changeDataOf(e *Event) (*changeData, error) {
	var d changeData
	if err := decodeData(e, &d); err != nil {
		return nil, err
	}
	switch {
	case e.Room != "":
		if d.Seq == nil {
			return nil, errorf(CodeBadRequest, "data.seq is missing")
		}
		if err := checkSeq("data.seq", *d.Seq); err != nil {
			return nil, err
		}
	case d.ID == "" || len(d.ID) > text.MaxID:
		return nil, errorf(CodeBadRequest, "data.id must be 1 to %d bytes", text.MaxID)
	case e.Type == eventReact && !text.Valid(d.Author, text.MaxUser):
		return nil, errorf(CodeBadRequest, "data.author must be the id of the user who sent the message")
	}
	switch e.Type {
	case eventEditMessage:
		if d.Data == nil {
			return nil, errorf(CodeBadRequest, "data.data is missing")
		}
	case eventReact:
		if !text.Valid(d.Key, maxReactionKey) {
			return nil, errorf(CodeBadRequest, "data.key must be 1 to %d bytes without control characters", maxReactionKey)
		}
	}
	return &d, nil
}

func checkSeq(name string, seq uint64) *Error {
	if seq == 0 || seq > maxSeq {
		return errorf(CodeBadRequest, "%s must be a whole number from 1 to %d", name, uint64(maxSeq))
	}
	return nil
}

// roomOrTo refuses an event that names neither a room nor a user, or both.
func roomOrTo(e *Event) *Error {
	switch {
	case e.Room == "" && e.To == "":
		return errorf(CodeBadRequest, "room or to is missing")
	case e.Room != "" && e.To != "":
		return errorf(CodeBadRequest, "either room or to, not both")
	}
	return nil
}

// checkChange is the check of an event that changes a message.
func checkChange(c *Client, e *Event) *Error {
	if err := roomOrTo(e); err != nil {
		return err
	}
	if _, err := changeDataOf(e); err != nil {
		bad, _ := publicError(err)
		return bad
	}
	if e.Room != "" {
		return isMember(c, e)
	}
	return nil
}

// changeAction finds the message that an event changes, and checks what the
// protocol says about who may do that.
func changeAction(ctx context.Context, c *Client, e *Event) (a Action, err error) {
	d, err := changeDataOf(e)
	if err != nil {
		return a, err
	}
	var m *changing
	if e.Room != "" {
		m, err = c.hub.roomMessage(ctx, c.world().room(e.Room), *d.Seq)
	} else {
		author := c.User().ID
		if e.Type == eventReact {
			author = d.Author
		}
		m, err = c.privateMessage(ctx, e.To, author, d.ID)
	}
	if err != nil {
		return a, err
	}
	m.event, m.peer = e.Type, e.To
	e.message = m
	a = Action{Type: e.Type, Room: e.Room, To: e.To, Seq: m.seq, Author: m.author, Time: time.UnixMilli(m.time)}
	switch isAuthor := m.author == c.User().ID; {
	case e.Type == eventEditMessage && !isAuthor:
		return a, errorf(CodeForbidden, "Only the author may edit a message")
	case e.Type == eventDeleteMessage && !isAuthor && !c.isModerator(ctx, a):
		return a, errorf(CodeForbidden, "Only the author or a moderator may delete a message")
	}
	return a, nil
}

func (c *Client) isModerator(ctx context.Context, a Action) bool {
	f := c.hub.cfg.Moderator
	return f != nil && a.Room != "" && f(ctx, c, a)
}

// onChange carries out an edit-message, delete-message or react.
func onChange(ctx context.Context, c *Client, e *Event) (any, error) {
	d, err := changeDataOf(e) // middleware may have changed it
	if err != nil {
		return nil, err
	}
	if !e.message.isOf(e, d) {
		if _, err := changeAction(ctx, c, e); err != nil {
			return nil, err
		}
	}
	user := c.User()
	op := change.Op{User: user.ID}
	switch e.Type {
	case eventEditMessage:
		op.Kind, op.Data = change.Edit, d.Data
	case eventDeleteMessage:
		op.Kind = change.Delete
	case eventReact:
		op.Kind, op.Key, op.On = change.React, d.Key, d.On == nil || *d.On
	}
	if e.ID != "" {
		op.ID = changeID(user.ID, e.ID)
		op.Sum = max(1, crc64.Update(e.dataSum(), checksumTable, []byte(e.Type)))
	}
	var t Topic
	if e.Room != "" {
		t = c.world().room(e.Room)
	}
	if err := c.beginPublish(t); err != nil {
		return nil, err
	}
	defer c.endPublish()
	e.message.trace = e.Trace
	return answerOf(c.hub.changes.apply(ctx, e.message, &op, &user))
}

// changeID identifies an operation by the user's id for it. A hash takes less
// space, and nobody can make one that somebody else is going to have.
func changeID(user, id string) uint64 {
	sum := sha256.Sum256([]byte(user + "\x00" + id))
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// isOf reports whether m is the message that an event is about. Middleware may
// have made another event of it.
func (m *changing) isOf(e *Event, d *changeData) bool {
	switch {
	case m == nil || m.event != e.Type || m.room != e.Room || m.peer != e.To:
		return false
	case m.room != "":
		return m.seq == *d.Seq
	}
	return m.id == d.ID && (e.Type != eventReact || m.author == d.Author)
}

// changing is a stored message that is to be changed.
type changing struct {
	event  string // the type of the event that changes it
	peer   string // whom the event is to
	trace  string // of that event
	room   string
	author string // id of the user who sent it; empty: the application
	// Of a private message: its id, and the recipient.
	id, to string
	// seq and time are those of the copy that the asking user has.
	seq    uint64
	time   int64
	copies []messageCopy // of a private message, one in each inbox
}

// messageCopy is the place of a message in a log.
type messageCopy struct {
	topic Topic
	name  string // of what it has become; see [Message.Name]
	seq   uint64
	time  int64
	body  []byte // its envelope as it was sent; nil: it was erased
}

// kindChanged is the kind of the names of what messages have become.
const kindChanged = "m"

// changedName is the name of what a message of a room has become.
func changedName(seq uint64) string { return kindChanged + "/" + strconv.FormatUint(seq, 10) }

// changedPrivateName is the name of what a private message has become. An id
// may stand for one message to each recipient. A hash is short enough for a
// name, whatever the ids are.
func changedPrivateName(author, to, id string) string {
	// User ids have no control characters.
	sum := sha256.Sum256([]byte(author + "\x00" + to + "\x00" + id))
	return kindChanged + "/" + hex.EncodeToString(sum[:16])
}

// sent are the parts of an envelope in a log that say what it is.
type sent struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	To   string `json:"to"`
	From User   `json:"from"`
}

// sentIn returns the envelope in a message of a log, and what it is. It returns
// nil for what is not an ordinary event.
func sentIn(m *Message) (body []byte, s sent) {
	var r note.Routed
	if m.Name != "" || r.Decode(m.Body) != nil || r.Op != note.OpEmit || json.Unmarshal(r.Body, &s) != nil {
		return nil, sent{}
	}
	return r.Body, s
}

func errNoMessage() *Error { return errorf(CodeBadRequest, "No such message") }

// messageAt returns the ordinary message at a position, or nil.
func (h *Hub) messageAt(ctx context.Context, t Topic, seq uint64) (*Message, error) {
	page, err := h.session.Read(ctx, t, Range{After: seq - 1, Before: seq + 1, Limit: 1, Ordinary: true})
	if err != nil || len(page.Messages) == 0 {
		return nil, err
	}
	return &page.Messages[0], nil
}

// roomMessage finds a room-message by its position.
func (h *Hub) roomMessage(ctx context.Context, t Topic, seq uint64) (*changing, error) {
	m := &changing{room: plain(t.Room), seq: seq, copies: []messageCopy{{topic: t, name: changedName(seq), seq: seq}}}
	found, err := h.messageAt(ctx, t, seq)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return m, h.erased(ctx, m)
	}
	body, s := sentIn(found)
	if s.Type != eventRoomMessage {
		return nil, errorf(CodeBadRequest, "This is not a room-message")
	}
	m.author, m.time = s.From.ID, found.Time
	m.copies[0].body, m.copies[0].time = body, found.Time
	return m, nil
}

// erased completes what is known of a message that the log has no longer, from
// what it has become. If it was not deleted, there is no such message.
func (h *Hub) erased(ctx context.Context, m *changing) error {
	at := &m.copies[0]
	st, _, err := h.stateOf(ctx, at.topic, at.name)
	if err != nil {
		return err
	}
	var s sent
	if st.Deleted == 0 || json.Unmarshal(st.Head, &s) != nil {
		return errNoMessage()
	}
	m.author, m.time = s.From.ID, st.Time
	at.time = st.Time
	return nil
}

// checkKept returns an error if the log has dropped a message.
func (h *Hub) checkKept(ctx context.Context, at *messageCopy) error {
	if found, err := h.messageAt(ctx, at.topic, at.seq); found != nil || err != nil {
		return err
	}
	st, m, err := h.stateOf(ctx, at.topic, at.name)
	if err == nil && (st.Deleted == 0 || m.Tied != at.seq) {
		return errNoMessage()
	}
	return err
}

// stateOf returns what a message has become, and the message that says so. If
// it never changed, that has Seq 0.
func (h *Hub) stateOf(ctx context.Context, t Topic, name string) (*change.State, Message, error) {
	named, err := h.session.ReadNamed(ctx, []NameQuery{{Topic: t, Names: []string{name}}})
	if err != nil || len(named[0]) == 0 {
		return &change.State{}, Message{}, err
	}
	m := named[0][0]
	st, err := stateIn(&m)
	return st, m, err
}

var errNoState = errors.New("chathub: what a message has become cannot be read")

// stateIn returns the state that a named message carries.
func stateIn(m *Message) (*change.State, error) {
	var r note.Routed
	if r.Decode(m.Body) != nil || r.Op != note.OpChange {
		return nil, errNoState
	}
	return change.Decode(r.State)
}

// searchedBack is how much older the other copy of a private message may be.
// The two are stored one after the other, unless the sender was interrupted.
const searchedBack = 24 * time.Hour

// privateMessage finds a message between the client's user and another one, by
// its author and id.
func (c *Client) privateMessage(ctx context.Context, peer, author, id string) (*changing, error) {
	me := c.User().ID
	m := &changing{author: author, id: id, to: peer}
	if author != me {
		if author != peer {
			return nil, errNoMessage()
		}
		m.to = me
	}
	own, err := c.findPrivate(ctx, c.inbox(), m)
	switch {
	case err != nil:
		return nil, err
	case own == nil:
		return nil, errNoMessage()
	}
	m.seq, m.time = own.seq, own.time
	m.copies = []messageCopy{*own}
	if peer == me {
		return m, nil
	}
	other, err := c.findPrivate(ctx, c.world().user(peer), m)
	if err != nil {
		return nil, err
	}
	if other != nil {
		m.copies = append(m.copies, *other)
	}
	m.inOrder()
	return m, nil
}

// inOrder puts the copies of a private message into the order in which every
// node takes them.
func (m *changing) inOrder() {
	slices.SortFunc(m.copies, func(a, b messageCopy) int { return cmp.Compare(a.topic.User, b.topic.User) })
}

// findPrivate finds the copy of a private message in an inbox, or returns nil.
// It searches the inbox unless the message has changed before. If m has the
// time of one copy, it searches for the other one back to searchedBack. Of two
// messages of one name, it is the one that has changed, or else the newer one.
// One that was deleted is found only if it has not been sent again.
func (c *Client) findPrivate(ctx context.Context, t Topic, m *changing) (*messageCopy, error) {
	at := &messageCopy{topic: t, name: changedPrivateName(m.author, m.to, m.id)}
	known, err := c.findChanged(ctx, at)
	if err != nil || known && at.body != nil {
		return at, err
	}
	if found, err := c.searchPrivate(ctx, at, m); found || known || err != nil {
		return at, err
	}
	// It may have been deleted meanwhile.
	if known, err := c.findChanged(ctx, at); known || err != nil {
		return at, err
	}
	return nil, nil
}

// findChanged completes the copy of a message that has changed before, and
// reports whether there is one. The log may have dropped it.
func (c *Client) findChanged(ctx context.Context, at *messageCopy) (known bool, err error) {
	_, changed, err := c.hub.stateOf(ctx, at.topic, at.name)
	if err != nil || changed.Seq == 0 {
		return false, err
	}
	found, err := c.hub.messageAt(ctx, at.topic, changed.Tied)
	if err != nil {
		return false, err
	}
	at.seq = changed.Tied
	if found != nil {
		at.body, _ = sentIn(found)
		at.time = found.Time
		return true, nil
	}
	st, _, err := c.hub.stateOf(ctx, at.topic, at.name) // as of the time when it was gone
	at.time = st.Time
	return err == nil && st.Deleted > 0, err
}

// searchPrivate searches the inbox after at.seq for the copy of a message as it
// was sent.
func (c *Client) searchPrivate(ctx context.Context, at *messageCopy, m *changing) (found bool, err error) {
	r := Range{After: at.seq, Limit: 256, MaxBytes: c.hub.cfg.answerBytes(), Ordinary: true}
	for {
		if err := c.awaitReplay(ctx); err != nil {
			return false, err
		}
		page, err := readSome(r, func(r Range) (Page, error) { return c.readLog(ctx, at.topic, r) })
		if err != nil {
			return false, err
		}
		for _, sent := range slices.Backward(page.Messages) {
			if body, s := sentIn(&sent); s.Type == eventPrivateMessage && s.ID == m.id && s.From.ID == m.author && s.To == m.to {
				at.seq, at.time, at.body = sent.Seq, sent.Time, body
				return true, nil
			}
		}
		if !page.More || len(page.Messages) == 0 || page.Messages[0].Time < m.time-searchedBack.Milliseconds() {
			return false, nil
		}
		r.Before = page.Messages[0].Seq
	}
}

// readSome reads from a log, for someone who goes through it. If the next
// message alone is over r.MaxBytes, it is returned all the same.
func readSome(r Range, read func(Range) (Page, error)) (Page, error) {
	page, err := read(r)
	if err == nil && page.More && len(page.Messages) == 0 {
		r.Limit, r.MaxBytes = 1, 0
		return read(r)
	}
	return page, err
}
