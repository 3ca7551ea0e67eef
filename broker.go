package chathub

import "context"

// Broker carries messages between the hubs of one application and keeps the
// durable ones in a log per topic. [MemoryBroker] is the default; an adapter
// puts a hub on something that several machines share. One Broker may serve
// several hubs, which then act as the nodes of one cluster.
//
// Implementations pass the conformance suite hubtest.TestBroker.
type Broker interface {
	// Attach connects a hub. From then on deliver is called for every message
	// of every topic that the session subscribes, and for all of Topic{}.
	//
	// For one topic, the calls come one after another in log order, each
	// durable message exactly once, each with the Seq and Time it was stored
	// under. Deliver may block while the hub is busy; a Broker may hold up that
	// topic meanwhile, for other hubs too, and must not drop. Deliver may run on the
	// goroutine of anyone's Publish or Send, and never calls the Broker.
	Attach(ctx context.Context, deliver func(Message)) (BrokerSession, error)
}

// BrokerSession is one hub's connection to a Broker. All methods may be called
// concurrently, and give up when ctx ends. A method that cannot do its work
// now returns an [Error] with [CodeUnavailable], having done nothing, or, where
// that cannot be known, nothing that a repetition with the same Key would double.
// After Close that is what every other method returns.
type BrokerSession interface {
	// Publish appends m to the log of its topic and returns once the log has
	// it; delivery follows, or has happened already. Seq and Time of m are
	// ignored. If m.Key is not empty and a message with that key is still remembered
	// in the topic, nothing is stored or delivered, and the receipt is the first
	// one's with Duplicate set. If the two have different Sums, neither of them 0,
	// they are not the same message: instead of a receipt there is an [Error] with
	// [CodeConflict].
	Publish(ctx context.Context, m Message) (Receipt, error)

	// Send delivers m to the sessions that have its topic now, without keeping
	// it: Seq is 0 on arrival. At most once; in order per sender and topic.
	Send(ctx context.Context, m Message) error

	// Subscribe starts delivery of a topic and returns its position: every
	// message after it is delivered, none up to it. A topic without a log gets one,
	// except for a node, which never has one: its position is Position{}.
	// Subscribing a topic that the session has already only returns its present
	// head, and messages up to that may still be on their way.
	Subscribe(ctx context.Context, t Topic) (Position, error)

	// Unsubscribe ends delivery of a topic: deliver is not called for it once it
	// has returned nil. It may have to wait for a deliver that is running. It is not an
	// error to end one that the session does not have.
	Unsubscribe(ctx context.Context, t Topic) error

	// Read returns a stretch of a topic's log, oldest first. It does not need a
	// subscription and does not create a log.
	Read(ctx context.Context, t Topic, r Range) (Page, error)

	// Close ends the session: once it has returned nil, deliver is not called and
	// none is running. It waits for those that are, so a hub that closes lets its deliver
	// return. Where ctx ends first, Close may be called again. Closing twice is not
	// an error.
	Close(ctx context.Context) error
}

// Topic names a log and those who hear it: a room, a user (the inbox), a node,
// or, where all fields are empty, every connection of every hub. At most one field is
// set. It is comparable.
//
// Durable messages go to rooms and users only. Topic{} and nodes have no log: Publish
// refuses them, Read finds nothing. Every session hears Topic{}, and Subscribe
// refuses it.
type Topic struct {
	Room string
	User string
	// Node is the address of one hub, for what other hubs tell it alone: the hub
	// chooses a name of at most 64 ASCII letters, digits, '-' and '_', different from all
	// others, subscribes it right after Attach, and keeps it until Close.
	Node string
}

// kept reports whether a topic has a log.
func (t Topic) kept() bool { return t.Room != "" || t.User != "" }

// Message is what hubs hand to each other through a Broker. It and what it
// points to are immutable once handed over.
type Message struct {
	Topic Topic
	// Key identifies a repeated message within its topic; empty: none.
	Key string
	// Sum is a checksum of what two messages with the same Key have in common if one
	// repeats the other; 0: unknown. It is for Publish. What a Broker delivers and
	// reads may be without it.
	Sum uint64
	// Body is for the hubs alone; a Broker keeps it as it is.
	Body []byte
	// Seq is the position in the topic's log, from 1, below 2^53; increasing,
	// not necessarily dense. 0: not kept.
	Seq uint64
	// Time is when it was stored, in Unix milliseconds.
	Time int64
}

// Receipt says where a published message is. It is what a room-message or a
// private-message results in, so middleware has it once next has returned, before the ack is sent;
// that of a private-message is about the sender's inbox.
type Receipt struct {
	// Epoch names the log that Seq is a position in, as in [Position]. It is not in
	// the ack: a client has it from its join or welcome.
	Epoch string `json:"-"`
	Seq   uint64 `json:"seq"`
	Time  int64  `json:"ts"` // Unix milliseconds
	// Duplicate: the message was there already, at this position.
	Duplicate bool `json:"dup,omitzero"`
}

// Position is a place in a topic's log: after the message Seq, in the life of
// the log that Epoch names. Positions of different epochs do not compare.
type Position struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Range selects messages of a log with After < Seq < Before. Before 0 means no
// upper bound. Where more than Limit match, the newest Limit are returned. With a
// Limit of 0 or less, a Page has Head and Trimmed, and neither messages nor More.
type Range struct {
	After  uint64
	Before uint64
	Limit  int
}

// Page is a stretch of a log.
type Page struct {
	Messages []Message
	// Head is the position of the newest message of the whole log. Its Epoch is
	// empty where there is no log.
	Head Position
	// Trimmed is at or above the Seq of every message that the log has dropped:
	// what came after it is all there. 0: nothing was dropped. It need not be lower
	// than After, nor, where there are More, than the messages returned.
	Trimmed uint64
	// More reports whether the log has older messages in the range than those
	// returned.
	More bool
}
