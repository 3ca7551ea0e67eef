package chathub

import "context"

// Broker carries messages between the hubs of one application, and keeps the
// durable ones in a log per topic. [MemoryBroker] is the default. An adapter
// connects hubs through something that several machines share. Hubs on one
// Broker act as the nodes of one cluster.
//
// An implementation must pass the conformance suite, hubtest.TestBroker.
type Broker interface {
	// Attach connects a hub. From then on, deliver is called for every message
	// of every topic that the session subscribes, and for all of Topic{}.
	//
	// For one topic, the calls come one after another, in log order. Each
	// durable message comes exactly once, with the Seq and Time under which it
	// was stored. Deliver may block while the hub is busy. Meanwhile a Broker
	// may hold up that topic, for other hubs too, but it must not drop
	// messages. Deliver may run on the goroutine of any Publish or Send, and
	// never calls the Broker.
	Attach(ctx context.Context, deliver func(Message)) (BrokerSession, error)
}

// BrokerSession is one hub's connection to a Broker. All methods may be called
// concurrently, and give up when ctx ends.
//
// A method that cannot do its work now returns [Unavailable], and has done
// nothing. If that cannot be known, it has done nothing that a repetition with
// the same Key would double. After Close, every other method returns
// Unavailable.
type BrokerSession interface {
	// Publish appends m to the log of its topic and returns once the log has
	// it. Delivery may come before or after that. Seq and Time of m are
	// ignored. If the topic still remembers a message with the same non-empty
	// Key, nothing is stored or delivered, and the receipt is the first
	// message's, with Duplicate set. If the two have different Sums, neither of
	// them 0, they are not the same message, and Publish returns an [Error]
	// with [CodeConflict] instead.
	//
	// A message with a Name takes the place of the newest one of that name; see
	// [Message.Name]. If m.Expect is set and is not the Seq of that message, or
	// not 0 if there is none, nothing is stored and the error is an [Error]
	// with CodeConflict. A repeated Key is looked at first. If the topic has
	// too many names, or their messages have too many bytes, a message with a
	// new name is refused with [CodeLimitExceeded]. So is one of an Owner who
	// has more than half of what the bound allows.
	Publish(ctx context.Context, m Message) (Receipt, error)

	// Send delivers m to the sessions that subscribe its topic now, without
	// keeping it. It arrives with Seq 0, at most once, in order per sender and
	// topic.
	Send(ctx context.Context, m Message) error

	// Subscribe starts delivery of a topic and returns its position. Every
	// message after that position is delivered, and none up to it. A topic
	// without a log gets one, except for a node, whose position is Position{}.
	// A log that never had a message need not outlive its subscriptions, but
	// the position stays good: a session that subscribes the topic later gets
	// the same epoch, unless a message may have been stored and dropped in
	// between. If the session subscribes the topic already, Subscribe only
	// returns its present head, and messages up to the head may still be on
	// their way.
	Subscribe(ctx context.Context, t Topic) (Position, error)

	// Unsubscribe ends delivery of a topic. Once it has returned nil, deliver
	// is not called for the topic, so it may have to wait for a running
	// deliver. It is not an error if the session does not subscribe the topic.
	Unsubscribe(ctx context.Context, t Topic) error

	// Read returns a stretch of a topic's log, oldest first. It needs no
	// subscription and creates no log. Of a named message, only the newest one
	// of its name is in the log.
	Read(ctx context.Context, t Topic, r Range) (Page, error)

	// ReadNamed returns the newest messages of names, for each query in order
	// of Seq. It needs no subscription and creates no log. Names that there are
	// not, or that were removed, have no message.
	ReadNamed(ctx context.Context, queries []NameQuery) ([][]Message, error)

	// Survey says of many topics at once where they stand. It needs no
	// subscriptions and creates no logs. A topic without a log has a zero
	// Standing, or one whose Head is the position of an empty log.
	Survey(ctx context.Context, queries []SurveyQuery) ([]Standing, error)

	// Close ends the session. Once it has returned nil, deliver is not called
	// and none is running. It waits for running ones, so a hub that closes must
	// let its deliver return. If ctx ends first, Close may be called again.
	// Closing twice is not an error.
	Close(ctx context.Context) error
}

// Topic names a log and its audience: a room, a user (the inbox), a node, or,
// if all fields are empty, every connection of every hub. At most one field is
// set. Topics are comparable.
//
// The names of rooms and users are UTF-8. They have no control characters,
// except for those of a tenant, which begin with its name of at most 64 bytes
// and a zero byte; see [Topic.Tenant].
//
// Durable messages go to rooms and users only. Topic{} and nodes have no log,
// so Publish refuses them and Read finds nothing. Every session hears Topic{},
// and Subscribe refuses it.
type Topic struct {
	Room string
	User string
	// Node is the address of one hub, for messages from other hubs to it alone.
	// The hub chooses a unique name of at most 64 ASCII letters, digits, '-'
	// and '_'. It subscribes the name right after Attach and keeps it until
	// Close.
	Node string
}

// Kept reports whether messages of the topic are kept in a log. It is true for
// rooms and users.
func (topic Topic) Kept() bool { return topic.Room != "" || topic.User != "" }

// Message is what hubs hand to each other through a Broker. It must not change
// once it is handed over, and neither must anything it points to.
type Message struct {
	Topic Topic
	// Key identifies a repeated message within its topic. Empty: it cannot be
	// repeated.
	Key string
	// Sum is a checksum of the content that makes two messages with the same
	// Key the same message. 0: unknown. It is for Publish: messages that a
	// Broker delivers or reads may lack it.
	Sum uint64
	// Owner is the user who is charged for the message if a store is full.
	// Empty: the application. An owner who has stored much must not cost others
	// their messages. Owner has no part in the identity of a message. Messages
	// that a Broker delivers may lack Owner and Notice. Those that it reads
	// may, too, but a hub needs them to choose a fair part of a large inbox.
	Owner string
	// Notice reports that the message may be dropped from a full inbox before
	// messages that are not notices. A full room makes no difference. In both,
	// [BrokerSession].Survey passes over it.
	Notice bool
	// Name makes this a named message. It has a Seq and is delivered like an
	// ordinary one, but the log keeps the newest message of each name only.
	// That one stays whatever its age, and does not count in the bound of the
	// topic's messages. A name is a kind of 1 to 16 lower-case letters, a
	// slash, and up to 256 bytes of UTF-8, such as "read/lobby". Empty: the
	// message is an ordinary one.
	Name string
	// Tied is the Seq of the ordinary message of the topic that the name
	// belongs to. The name goes when that message does, because of its age or
	// the bounds of the log, or soon after. If it has gone already, Publish may
	// refuse m with [CodeConflict]. 0: the name belongs to no message.
	Tied uint64
	// Erase erases the ordinary message that m is tied to. Once Publish has
	// returned nil, its Body is in no log, cache or file of the Broker. The log
	// has not dropped it: Page.Trimmed stays as it is, and so does the name
	// that is tied to it. If Publish fails after it has stored m, a repetition
	// of the call completes it. Sessions that have the topic subscribed have
	// forgotten the erased Body once m has been delivered to them.
	Erase bool
	// EraseReplaced erases, in the same way, what m replaces under its name. If
	// it is not set, that is dropped, and its Body may stay in a file until the
	// place is used again. It is for a tied name.
	EraseReplaced bool
	// Remove makes a named message the last one of its name. It is kept and
	// counted like an ordinary message, so that a client that was away hears of
	// it, and Read returns it with its Name and Remove. Afterwards there is no
	// such name: ReadNamed does not find it, and Expect must be 0.
	Remove bool
	// Expect is for Publish of a named message: the Seq that the newest message
	// of its name must have, or 0 if there must be none. Nil: any.
	Expect *uint64
	// Body is for the hubs alone. A Broker keeps it as it is.
	Body []byte
	// Seq is the position in the topic's log: from 1, below 2^53, increasing
	// but not necessarily dense. 0: the message is not kept.
	Seq uint64
	// Time is when the message was stored, in Unix milliseconds.
	Time int64
}

// Receipt says where a published message is stored. It is the result of a
// room-message or private-message, so middleware has it once next has returned,
// before the ack is sent. The receipt of a private-message is about the
// sender's inbox.
type Receipt struct {
	// Epoch names the log that Seq is a position in, as in [Position]. The ack
	// does not carry it, since a client has it from its join or welcome.
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
	Time  int64  `json:"ts"` // Unix milliseconds
	// Duplicate reports that the message was stored before, at this position.
	Duplicate bool `json:"dup,omitzero"`
}

// Position is a place in a topic's log: right after the message Seq, in the log
// that Epoch names. Positions of different epochs cannot be compared.
type Position struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Range selects messages of a log with After < Seq < Before. A Before of 0
// means no upper bound. If more than Limit messages match, the newest Limit are
// returned. With a Limit of 0 or less, a Page has Head and Trimmed, and neither
// messages nor More.
type Range struct {
	After  uint64
	Before uint64
	Limit  int
	// MaxBytes bounds the Bodies that are returned, together. The newest
	// messages that fit are returned, without gaps between them. If the newest
	// one does not fit, there are none. A Broker may return fewer than fit, but
	// never more, and sets More if it leaves any out. 0: no bound.
	MaxBytes int
	// Oldest turns the choice around: if not all messages fit, the oldest ones
	// are returned, and More is about newer ones.
	Oldest bool
	// Ordinary leaves named messages out, removals included.
	Ordinary bool
}

// NameQuery selects names of a topic.
type NameQuery struct {
	Topic Topic
	// Names are the names to look for, in any number.
	Names []string
	// Kind selects all names of one kind, which is what precedes the slash, if
	// Names is empty. From and To, if To is not 0, narrow that to names that
	// are tied to a message with From <= Seq <= To.
	Kind     string
	From, To uint64
}

// SurveyQuery asks where a topic stands for one of its readers.
type SurveyQuery struct {
	Topic Topic
	// Unread counts the messages with After < Seq < Before that have another
	// Owner than Reader. A Before of 0 means no upper bound. Most bounds the
	// count. 0: they are not counted.
	After  uint64
	Before uint64
	Reader string
	// From, if it is not empty, counts the messages of this Owner only.
	From string
	Most int
	// Last asks for the newest message.
	Last bool
}

// Standing is where a topic stands. Its counts are of ordinary messages that
// are not notices and have not been erased.
type Standing struct {
	Head   Position
	Unread int     // Most: that many or more
	Last   Message // Seq 0: there is none, or it was not asked for
}

// Page is a stretch of a log.
type Page struct {
	Messages []Message
	// Head is the position of the newest message of the whole log. Its Epoch is
	// empty if there is no log.
	Head Position
	// Trimmed is at or above the Seq of every message that the log has dropped,
	// so everything after it is still there. 0: nothing was dropped. It may be
	// higher than After, and higher than the Seq of returned messages, because
	// a log need not drop its oldest message first.
	Trimmed uint64
	// More reports whether the range has older messages than the returned ones,
	// or newer ones if Range.Oldest was set.
	More bool
}
