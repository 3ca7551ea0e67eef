package chathub

import (
	"encoding/binary"
	"errors"
	"time"
)

// What hubs tell each other of themselves, besides what they carry for clients:
// volatile messages whose Body is a note. See docs/design.md, "Between nodes".
const (
	// opBeat, to everyone: from is alive, and its users are at position seq.
	opBeat op = 0x40 + iota
	// opBye, to everyone: from ends.
	opBye
	// opState: who is in a room, or online, at from. To those who hear of it as a
	// difference from one position to the next, to who asked as a whole.
	opState
	// opCheck asks for the state of what is not at the positions named.
	opCheck
	// opChecked: all that opCheck of this id asked for has been said.
	opChecked
	// opAsk, opAnswers and opAsked are EmitWithAck: see ask.go.
	opAsk
	opAnswers
	opAsked
	opNotesEnd
)

// noteBytes is about how much a note holds; what is more goes into several.
const noteBytes = 32 << 10

// note is what one hub tells others. Which fields it has depends on its op; see
// fields.
type note struct {
	op   op
	from string // the node that says it
	id   uint64 // numbers beats; otherwise, what is asked and answered

	room  string // empty: the hub
	prev  uint64 // position that a difference is from; 0: this is the whole
	seq   uint64
	part  uint64 // of a whole in several notes, from 0
	more  bool   // another part follows
	users []movement

	fresh bool // who asks knows nothing yet
	marks []mark

	timeout time.Duration // 0: none
	have    uint64        // answers that have arrived, plus one; in an answer, how many there will be
	topics  []Topic
	except  []string
	clients []string
	event   string
	data    []byte
	replies []reply
}

// movement is what a node says of one of its users.
type movement struct {
	user User
	how  how
	age  time.Duration // of lingers: for how long
}

// how a user is at a node.
type how byte

const (
	came    how = iota
	went        // its last connection has gone
	left        // at its own wish: there is no grace
	lingers     // is nowhere, and in its grace
	howEnd
)

// mark is how far a node knows another's users, in a room or, without one, online.
type mark struct {
	room string
	seq  uint64
}

// reply is a connection that was asked, and what came of it.
type reply struct {
	client  string
	user    User
	state   replyState
	data    []byte
	code    string
	message string
}

type replyState byte

const (
	waiting  replyState = iota
	answered            // with data
	refused             // with code and message
	gone
	replyStateEnd
)

// encode returns the Body of a message with n.
func (n *note) encode() []byte {
	c := coder{writing: true, b: []byte{byte(n.op)}}
	n.fields(&c)
	return c.b
}

// isNote tells a note from what hubs carry for clients.
func isNote(body []byte) bool { return len(body) > 0 && op(body[0]) >= opBeat }

// decode is the opposite of encode.
func (n *note) decode(body []byte) error {
	if !isNote(body) || op(body[0]) >= opNotesEnd {
		return errBody
	}
	n.op = op(body[0])
	c := coder{b: body[1:]}
	n.fields(&c)
	if c.bad || len(c.b) > 0 {
		return errBody
	}
	return nil
}

// fields writes or reads what n has, in order.
func (n *note) fields(c *coder) {
	c.text(&n.from)
	c.number(&n.id)
	switch n.op {
	case opBeat:
		c.number(&n.seq)
	case opState:
		c.text(&n.room)
		c.number(&n.prev)
		c.number(&n.seq)
		c.number(&n.part)
		c.flag(&n.more)
		each(c, &n.users, func(m *movement) {
			c.user(&m.user)
			enum(c, &m.how, howEnd)
			c.duration(&m.age)
		})
	case opCheck:
		c.flag(&n.fresh)
		each(c, &n.marks, func(m *mark) {
			c.text(&m.room)
			c.number(&m.seq)
		})
	case opAsk:
		c.duration(&n.timeout)
		c.number(&n.have)
		each(c, &n.topics, func(t *Topic) {
			c.text(&t.Room)
			c.text(&t.User)
		})
		each(c, &n.except, c.text)
		each(c, &n.clients, c.text)
		c.text(&n.event)
		c.bytes(&n.data)
	case opAnswers:
		c.number(&n.have)
		each(c, &n.replies, func(r *reply) {
			c.text(&r.client)
			c.user(&r.user)
			enum(c, &r.state, replyStateEnd)
			c.bytes(&r.data)
			c.text(&r.code)
			c.text(&r.message)
		})
	}
}

// coder appends to b, or takes from it. Once it is bad, it reads zeros.
type coder struct {
	writing bool
	b       []byte
	bad     bool
}

func (c *coder) number(v *uint64) {
	if c.writing {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	n, k := binary.Uvarint(c.b)
	if k <= 0 {
		n, k, c.bad = 0, 0, true
	}
	*v, c.b = n, c.b[k:]
}

// count writes or reads a number of things that have at least a byte each.
func (c *coder) count(n int) int {
	v := uint64(n)
	c.number(&v)
	if !c.writing && v > uint64(len(c.b)) {
		c.bad = true
		return 0
	}
	return int(v)
}

func (c *coder) text(s *string) {
	n := c.count(len(*s))
	if c.writing {
		c.b = append(c.b, *s...)
		return
	}
	*s, c.b = string(c.b[:n]), c.b[n:]
}

// bytes keeps the difference between empty and nil; what it reads shares b's memory.
func (c *coder) bytes(p *[]byte) {
	some := *p != nil
	c.flag(&some)
	if !some {
		return
	}
	n := c.count(len(*p))
	if c.writing {
		c.b = append(c.b, *p...)
		return
	}
	*p, c.b = c.b[:n:n], c.b[n:]
}

func (c *coder) flag(v *bool) {
	var b byte
	if *v {
		b = 1
	}
	enum(c, &b, 2)
	*v = b == 1
}

// duration is rounded up to milliseconds.
func (c *coder) duration(d *time.Duration) {
	v := uint64(max(0, ceilMillis(*d)))
	c.number(&v)
	if !c.writing {
		const most = 1 << 40 // beyond all that is meant, and no overflow
		*d = time.Duration(min(v, most)) * time.Millisecond
	}
}

func (c *coder) user(u *User) {
	c.text(&u.ID)
	c.text(&u.Name)
}

// enum is a byte below end.
func enum[T ~byte](c *coder, v *T, end T) {
	if c.writing {
		c.b = append(c.b, byte(*v))
		return
	}
	if len(c.b) == 0 || T(c.b[0]) >= end {
		c.bad = true
		return
	}
	*v, c.b = T(c.b[0]), c.b[1:]
}

// each is a number of things.
func each[T any](c *coder, s *[]T, one func(*T)) {
	n := c.count(len(*s))
	if c.writing {
		for i := range *s {
			one(&(*s)[i])
		}
		return
	}
	for range n {
		var v T
		if one(&v); c.bad {
			return
		}
		*s = append(*s, v)
	}
}

// op is what a message between hubs does with whoever it reaches.
type op byte

const (
	opEmit op = iota
	opJoin
	opLeave
	opDisconnect
	opCount
)

// routed is the content of a Message: an operation and whom it is for, within
// its topic.
type routed struct {
	op op
	// except lists connections that it is not for.
	except []string
	// once, where not 0, is common to the messages of one emit to several topics:
	// who hears several of those gets the first one only.
	once uint64
	// clients, where there are any, are the only connections that it is for.
	clients []string
	// rooms to join or leave.
	rooms []string
	// body is the envelope without seq and ts, or the reason of a disconnect.
	body []byte
}

// emit returns the Body of a Message that emits e.
func (r *routed) emit(e *envelope) []byte {
	return e.append(r.encode(envelopeOverhead + len(e.data)))
}

// encode returns the Body of a Message, with room for more bytes of body: op,
// once, three counted lists of counted strings, and the rest is body.
func (r *routed) encode(room int) []byte {
	b := make([]byte, 0, 14+len(r.body)+room+32*(len(r.except)+len(r.clients)+len(r.rooms)))
	b = append(b, byte(r.op))
	b = binary.AppendUvarint(b, r.once)
	for _, list := range [...][]string{r.except, r.clients, r.rooms} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	return append(b, r.body...)
}

var errBody = errors.New("chathub: not a message body of this version")

// decode is the opposite of encode. The result shares b's memory.
func (r *routed) decode(b []byte) error {
	if len(b) == 0 || op(b[0]) >= opCount {
		return errBody
	}
	once, k := binary.Uvarint(b[1:])
	if k <= 0 {
		return errBody
	}
	r.op, r.once, b = op(b[0]), once, b[1+k:]
	for _, list := range [...]*[]string{&r.except, &r.clients, &r.rooms} {
		n, rest, ok := count(b)
		if !ok {
			return errBody
		}
		b = rest
		for range n {
			size, rest, ok := count(b)
			if !ok {
				return errBody
			}
			*list = append(*list, string(rest[:size]))
			b = rest[size:]
		}
	}
	r.body = b
	return nil
}

// count reads a number that counts bytes or items of which each has a byte: one
// beyond what is left is a lie.
func count(b []byte) (n int, rest []byte, ok bool) {
	v, k := binary.Uvarint(b)
	if k <= 0 || v > uint64(len(b)-k) {
		return 0, nil, false
	}
	return int(v), b[k:], true
}
