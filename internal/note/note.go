// Package note is what the nodes of a cluster tell each other, as bytes: what
// they carry for clients ([Routed]) and what they say of themselves ([Note]).
//
// Two versions of a node share a cluster while one is replaced by the other. So
// the values of operations and the order of fields must not change; the tests
// hold them fast.
package note

import (
	"errors"
	"iter"
	"time"
)

// Op is what a body does with the connections or the node that it reaches.
type Op byte

// Operations of a [Routed].
const (
	OpEmit Op = iota
	OpJoin
	OpLeave
	OpDisconnect
	// OpChange is OpEmit of what a message has become, or of how far a user has
	// read, with that as its State.
	OpChange
	opRoutedEnd
)

// Operations of a [Note].
const (
	// OpBeat, to everyone: From is alive, and its users are at position Seq.
	OpBeat Op = 0x40 + iota
	// OpBye, to everyone: From ends.
	OpBye
	// OpState: the users of a room, or those online, at From. The audience of
	// the topic gets it as a difference from one position to the next, a node
	// that has sent an OpCheck as a whole.
	OpState
	// OpCheck asks for the state of whatever is not at the positions in Marks.
	OpCheck
	// OpCheckDone: everything that the OpCheck of this ID asked for has been
	// sent.
	OpCheckDone
	// OpQuestion, OpAnswers and OpQuestionDone carry an emit with ack: the
	// question, the answers so far, and that nobody waits any more.
	OpQuestion
	OpAnswers
	OpQuestionDone
	// OpRevoke, to everyone: the clients of Topics or Clients are to leave
	// Rooms or, without Rooms, to be disconnected, for the reason in Data. A
	// node answers with OpAnswers without replies when it has done so.
	OpRevoke
	// OpTold, to everyone: the application has been told that Users, of those
	// online in Room, came or went.
	OpTold
	// OpInspect, to everyone: which of the connections or rooms (Event) of a
	// node are on the page that Data asks for? A node answers with OpAnswers.
	OpInspect
	// OpSettle, to everyone: a node answers with OpAnswers without replies when
	// it has dealt with the log of Room up to Seq.
	OpSettle
	// OpAway, to everyone or to a node: what becomes of the Jobs of From.
	OpAway
	opNoteEnd
)

// MaxBytes is about how much a note holds. [Note.Split] makes several of one
// that has more.
const MaxBytes = 32 << 10

// ErrBody says that bytes are not what this version writes.
var ErrBody = errors.New("chathub: not a message body of this version")

// User is a user of the application.
type User struct{ ID, Name string }

// Topic names an audience: a room, a user, a node or, if empty, everyone.
type Topic struct{ Room, User, Node string }

// Note is what one node tells others of itself. Which fields it has depends on
// its Op; see fields.
type Note struct {
	Op   Op
	From string // the node that sends it
	ID   uint64 // number of a beat; otherwise it links a question and its answers

	Room  string // empty: online
	Prev  uint64 // position that a difference starts from; 0: this is a whole
	Seq   uint64 // position that it leads to
	Part  uint64 // number of this part of a whole, from 0
	More  bool   // another part follows
	Users []Movement

	Fresh bool // the sender knows nothing yet
	Marks []Mark

	Timeout time.Duration // 0: none
	// Have, in a question, is the number of answers that have arrived, plus
	// one; 0: this is the first time. In answers, it is how many there will be.
	Have    uint64
	Topics  []Topic // their Node is not sent
	Except  []string
	Clients []string
	Rooms   []string
	Event   string
	Data    []byte
	Replies []Reply

	Jobs []Job
}

// Movement is what a node says of one of its users.
type Movement struct {
	User User
	How  How
	Age  time.Duration // if How is Lingers: for how long
}

// How says how a user is at a node.
type How byte

const (
	Came    How = iota
	Went        // its last connection is lost
	Left        // of its own accord: it has no grace
	Lingers     // has no connection anywhere, and is in its grace
	howEnd
)

// Mark is the position up to which a node knows another's users, in a room or,
// without one, online.
type Mark struct {
	Room string
	Seq  uint64
}

// Reply is a connection that got a question, and its answer.
type Reply struct {
	Client  string
	User    User
	State   ReplyState
	Data    []byte
	Code    string
	Message string
}

// ReplyState says what came of a question.
type ReplyState byte

const (
	Waiting  ReplyState = iota
	Answered            // with Data
	Refused             // with Code and Message
	Gone
	replyStateEnd
)

// Job is a stored message, because of which users who are away have to be told.
type Job struct {
	State JobState
	Topic Topic // of its log; the Node is not sent
	Epoch string
	Seq   uint64
	User  string        // the only one; empty: all whom the message is for
	Delay time.Duration // until it is due
}

// JobState says what becomes of a job.
type JobState byte

const (
	JobPending JobState = iota // the sender has it
	JobDone
	JobYours // it was of a node that has gone, and falls to whoever hears this
	// JobNone is no job: the sender has no others than those that follow.
	JobNone
	jobStateEnd
)

// IsNote tells a Note from a Routed.
func IsNote(body []byte) bool { return len(body) > 0 && Op(body[0]) >= OpBeat }

// Encode returns n as the body of a message.
func (n *Note) Encode() []byte {
	c := coder{writing: true, b: []byte{byte(n.Op)}}
	n.fields(&c)
	return c.b
}

// Decode is the opposite of Encode, for a zero Note. The result shares the
// memory of body.
func (n *Note) Decode(body []byte) error {
	if !IsNote(body) || Op(body[0]) >= opNoteEnd {
		return ErrBody
	}
	n.Op = Op(body[0])
	c := coder{b: body[1:]}
	n.fields(&c)
	if c.bad || len(c.b) > 0 {
		return ErrBody
	}
	return nil
}

// fields writes or reads the fields of n, in order.
func (n *Note) fields(c *coder) {
	c.text(&n.From)
	c.number(&n.ID)
	switch n.Op {
	case OpBeat:
		c.number(&n.Seq)
	case OpState:
		c.text(&n.Room)
		c.number(&n.Prev)
		c.number(&n.Seq)
		c.number(&n.Part)
		c.flag(&n.More)
		each(c, &n.Users, func(m *Movement) {
			c.user(&m.User)
			enum(c, &m.How, howEnd)
			c.duration(&m.Age)
		})
	case OpTold:
		c.text(&n.Room)
		each(c, &n.Users, func(m *Movement) {
			c.user(&m.User)
			enum(c, &m.How, howEnd)
		})
	case OpCheck:
		c.flag(&n.Fresh)
		each(c, &n.Marks, func(m *Mark) {
			c.text(&m.Room)
			c.number(&m.Seq)
		})
	case OpInspect:
		c.duration(&n.Timeout)
		c.number(&n.Have)
		c.text(&n.Event)
		c.bytes(&n.Data)
	case OpQuestion:
		c.duration(&n.Timeout)
		c.number(&n.Have)
		c.audience(n)
		c.text(&n.Event)
		c.bytes(&n.Data)
	case OpRevoke:
		c.audience(n)
		each(c, &n.Rooms, c.text)
		c.bytes(&n.Data)
	case OpSettle:
		c.text(&n.Room)
		c.number(&n.Seq)
	case OpAnswers:
		c.number(&n.Have)
		each(c, &n.Replies, func(r *Reply) {
			c.text(&r.Client)
			c.user(&r.User)
			enum(c, &r.State, replyStateEnd)
			c.bytes(&r.Data)
			c.text(&r.Code)
			c.text(&r.Message)
		})
	case OpAway:
		each(c, &n.Jobs, func(j *Job) {
			enum(c, &j.State, jobStateEnd)
			c.text(&j.Topic.Room)
			c.text(&j.Topic.User)
			c.text(&j.Epoch)
			c.number(&j.Seq)
			c.text(&j.User)
			c.duration(&j.Delay)
		})
	}
}

// audience writes or reads the connections that n is for.
func (c *coder) audience(n *Note) {
	each(c, &n.Topics, func(t *Topic) {
		c.text(&t.Room)
		c.text(&t.User)
	})
	each(c, &n.Except, c.text)
	each(c, &n.Clients, c.text)
}

// Split yields n in as many notes as its users, marks, replies or jobs take.
// One that fits, which includes the notes of another Split, is yielded as it
// is. The notes share the rest of n, with two exceptions: a whole becomes
// numbered parts, and the ID of a check is in its last note alone, since the
// answer to that ID means all of them. A difference that becomes several needs
// positions between them, which the caller sets.
func (n *Note) Split() iter.Seq[*Note] {
	return func(yield func(*Note) bool) {
		rest := *n
		for part, more := uint64(0), true; more; part++ {
			m := *n
			m.Users, rest.Users = cut(rest.Users)
			m.Marks, rest.Marks = cut(rest.Marks)
			m.Replies, rest.Replies = cut(rest.Replies)
			m.Jobs, rest.Jobs = cut(rest.Jobs)
			more = len(rest.Users)+len(rest.Marks)+len(rest.Replies)+len(rest.Jobs) > 0
			if part == 0 && !more {
				yield(n)
				return
			}
			switch {
			case n.Op == OpState && n.Prev == 0:
				m.Part, m.More = part, more
			case n.Op == OpCheck && more:
				m.ID = 0
			}
			if !yield(&m) {
				return
			}
		}
	}
}

// cut returns the items that fill a note, and the rest.
func cut[T interface{ size() int }](items []T) (full, rest []T) {
	size := 0
	for i := range items {
		if size += items[i].size(); size >= MaxBytes {
			return items[:i+1], items[i+1:]
		}
	}
	return items, nil
}

// The sizes are about what an item takes in a note.

func (m Movement) size() int { return len(m.User.ID) + len(m.User.Name) + 8 }

func (m Mark) size() int { return len(m.Room) + 8 }

func (r Reply) size() int {
	return len(r.Client) + len(r.User.ID) + len(r.User.Name) + len(r.Data) + len(r.Message) + 16
}

func (j Job) size() int {
	return len(j.Topic.Room) + len(j.Topic.User) + len(j.Epoch) + len(j.User) + 20
}
