package natsbroker

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Option changes a default of [Embedded] or [Connect]. In an option that sets a
// bound, 0 is an error and a negative value means no bound, unless its
// documentation says otherwise.
type Option func(*config)

type config struct {
	name        string
	domain      string
	replicas    int
	maxMessages int
	maxAge      time.Duration
	maxNames    int
	maxBytes    int64 // 0: the default
	window      time.Duration
	memory      bool
	existing    bool
	restored    string // empty: it was not
	syncEvery   time.Duration
	syncAlways  bool
	timeout     time.Duration
	sweep       time.Duration
	cache       int
	nats        []nats.Option
	log         *slog.Logger
	// For tests: clock replaces that of the node, indirect hides that the
	// stream's only server is the one that a session is connected to, and
	// between is called before the second step of an erasure.
	clock    func() time.Time
	indirect bool
	between  func()

	embedded bool
	errs     []error
}

func newConfig(embedded bool, options []Option) (config, error) {
	c := config{
		name:        "chathub",
		replicas:    1,
		maxMessages: 1000,
		maxAge:      30 * 24 * time.Hour,
		maxNames:    10_000,
		window:      5 * time.Minute,
		syncEvery:   10 * time.Second,
		timeout:     5 * time.Second,
		sweep:       30 * time.Second,
		cache:       64 << 20,
		log:         slog.Default(),
		clock:       time.Now,
		between:     func() {},
		embedded:    embedded,
	}
	for _, o := range options {
		o(&c)
	}
	if c.maxAge > 0 {
		c.window = min(c.window, c.maxAge) // required by JetStream
	}
	return c, errors.Join(c.errs...)
}

func (c *config) check(ok bool, format string, args ...any) {
	if !ok {
		c.errs = append(c.errs, fmt.Errorf("natsbroker: "+format, args...))
	}
}

// only reports an error unless an option is used with the right constructor.
func (c *config) only(embedded bool, option, why string) {
	mode := "Connect"
	if embedded {
		mode = "Embedded"
	}
	c.check(c.embedded == embedded, "%s is for %s: %s", option, mode, why)
}

// Name sets the name of the stream, which is also the first token of all
// subjects. It consists of 1 to 64 ASCII letters, digits, '-' and '_'.
// Applications that share a NATS account need different names. Default
// "chathub".
func Name(name string) Option {
	return func(c *config) {
		c.check(plain(name) && len(name) <= 64, "Name %q is not 1 to 64 letters, digits, - and _", name)
		c.name = name
	}
}

// Replicas sets how many servers of a cluster store the stream: 1, 3 or 5. It
// is only used when the stream is created. Default 1.
//
// With 1, nothing durable works while that server is away, and all history is
// lost if its disk is lost. With 3, one server may be away or lost at any time.
// An ack then means that two servers have the message.
func Replicas(n int) Option {
	return func(c *config) {
		c.only(false, "Replicas", "one process has one copy")
		c.check(n == 1 || n == 3 || n == 5, "Replicas is %d, must be 1, 3 or 5", n)
		c.replicas = n
	}
}

// MaxMessages bounds the number of ordinary messages in the log of each room,
// and in each share of an inbox. Each sender has a share of its own, except
// that two have the same one with a probability of 1 in 1024, and another one
// for notices. Beyond the bound, the oldest messages are dropped. JetStream
// cannot bound the bytes of a log, and [MaxBytes] bounds all of them together.
// Default 1000.
func MaxMessages(n int) Option {
	return func(c *config) {
		c.check(n != 0, "MaxMessages is 0")
		c.maxMessages = max(n, -1)
	}
}

// MaxAge sets how long an ordinary message is kept, at least 1 s. Default 30
// days.
func MaxAge(d time.Duration) Option {
	return func(c *config) {
		c.check(d < 0 || d >= time.Second, "MaxAge %v is less than a second", d)
		c.maxAge = max(d, 0)
	}
}

// MaxNames bounds the number of named messages of each room and inbox. Their
// bytes are bounded to 2 KiB times as much. One owner may have half of it. A
// message with a new name that exceeds a bound is refused with
// [chathub.CodeLimitExceeded]. Each node counts for itself, so several nodes
// may exceed a bound by what they store within 5 s. Default 10,000.
func MaxNames(n int) Option {
	return func(c *config) {
		c.check(n != 0, "MaxNames is 0")
		c.maxNames = max(n, -1)
	}
}

// MaxBytes bounds the size of the whole stream on each server that stores it,
// at least 1 MiB. Beyond it, the oldest messages of all topics are dropped. So
// a full stream does not stop the chat, but a full disk does. Without a bound,
// or with one that is larger than the disk, the disk may become full.
//
// When more than half of it is in use, Publish refuses the Owner of a message
// who has too much of it, with [chathub.CodeLimitExceeded]. The README says who
// that is.
//
// Default 1 GiB. If the disk has too little room for that, the default of
// [Embedded] is three quarters of the free space; it does not shrink later. A
// stream is not created if MaxBytes is more than the free space, or, with
// [Connect], more than its server may store.
func MaxBytes(n int64) Option {
	return func(c *config) {
		c.check(n < 0 || n >= 1<<20, "MaxBytes %d is less than a MiB", n)
		c.maxBytes = max(n, -1)
	}
}

// DuplicateWindow sets how long the key of a message is remembered, at least
// 100 ms and at most [MaxAge]. Default 5 min.
//
// A key takes about 250 bytes of memory on every server that stores the stream.
// At 1,000 messages a second, 5 minutes take 75 MB. There is no other bound, so
// keys do not displace each other. The window cannot be disabled, because a
// publish without an answer is repeated.
//
// If a log drops a message within the window, its key is still remembered, but
// not the Sum. A node that has stored the message itself remembers that, for
// its last 8,192 messages. Any other node stores a repetition again.
func DuplicateWindow(d time.Duration) Option {
	return func(c *config) {
		c.check(d >= 100*time.Millisecond, "DuplicateWindow %v is less than 100 ms", d)
		c.window = d
	}
}

// MemoryStorage stores the stream in memory. Its history is lost when the last
// of its servers stops. It is an error if the stream exists on disk.
func MemoryStorage() Option {
	return func(c *config) { c.memory = true }
}

// ExistingStream requires that the operator has created the stream. Attach
// fails if the stream does not exist, or lacks something that the broker needs.
// Other options about the stream have no effect. The README has the command
// that creates the stream, and the permissions that the broker then needs.
func ExistingStream() Option {
	return func(c *config) {
		c.only(false, "ExistingStream", "only this process can create its stream")
		c.existing = true
	}
}

// Restored says that dir has been restored from a backup, which has a name of 1
// to 32 ASCII letters, digits, '-' and '_', such as its date. Clients may know
// positions of messages that are gone. With a name that is new to the stream,
// none of those positions is valid any more, and each client is told that it
// may have missed something. Otherwise a client would take later messages for
// those that it knows, and miss them. The option may stay set until the next
// restore.
//
// With [Connect], set it in the metadata of the stream while no process uses
// it: nats stream edit chathub --metadata chathub-restored=NAME.
func Restored(name string) Option {
	return func(c *config) {
		c.only(true, "Restored", "set chathub-restored in the stream's metadata")
		c.check(plain(name) && len(name) <= 32, "Restored %q is not 1 to 32 letters, digits, - and _", name)
		c.restored = name
	}
}

// SyncEvery sets how often an embedded server flushes its data to the disk. If
// power fails or the operating system crashes, messages that were acked since
// the last flush are lost, and the positions of clients may then stand for
// other messages. Nothing is lost if only the process crashes or is killed.
// Default 10 s.
//
// With [Connect], this is sync_interval in the configuration of the server, 2
// minutes by default.
func SyncEvery(d time.Duration) Option {
	return func(c *config) {
		c.only(true, "SyncEvery", "set it in the server's configuration")
		c.check(d >= time.Millisecond, "SyncEvery %v is less than a millisecond", d)
		c.syncEvery = d
	}
}

// SyncAlways makes an embedded server flush every message to the disk before it
// is acked. Nothing that was acked is lost if power fails. The cost depends on
// the disk; see the README.
func SyncAlways() Option {
	return func(c *config) {
		c.only(true, "SyncAlways", "set it in the server's configuration")
		c.syncAlways = true
	}
}

// Timeout bounds how long a call waits for a server that is away, at least
// 10 ms. The ctx of the call may end it sooner. Default 5 s.
func Timeout(d time.Duration) Option {
	return func(c *config) {
		c.check(d >= 10*time.Millisecond, "Timeout %v is less than 10 ms", d)
		c.timeout = d
	}
}

// SweepEvery sets how often every topic of a node is compared with the stream,
// at least 1 s. It is only used with a cluster of servers. If the connection
// between two servers breaks for less than a second, the newest message of a
// topic may be lost on its way. Nobody would notice before the next message of
// that topic. A sweep costs the stream's server one small request for each
// topic of each node. Default 30 s.
func SweepEvery(d time.Duration) Option {
	return func(c *config) {
		c.check(d >= time.Second, "SweepEvery %v is less than a second", d)
		c.sweep = d
	}
}

// CacheBytes bounds the cache that each node has in memory of the newest
// messages, up to 64 KiB and 256 messages of each of its topics, and of their
// names. Clients that
// reconnect are served from the cache, without a request to the stream.
// Negative: no cache. Default 64 MiB.
func CacheBytes(n int) Option {
	return func(c *config) {
		c.check(n != 0, "CacheBytes is 0")
		c.cache = n
	}
}

// Domain sets the JetStream domain of the stream, if it differs from that of
// the server.
func Domain(name string) Option {
	return func(c *config) {
		c.only(false, "Domain", "the server in this process has no domain")
		c.domain = name
	}
}

// NATS adds options for the connections to the servers, such as TLS,
// credentials or a name. Options about reconnecting, pings and error handlers
// have no effect, because the broker sets these itself.
func NATS(options ...nats.Option) Option {
	return func(c *config) { c.nats = append(c.nats, options...) }
}

// Logger sets the logger for events of the connections, missing messages, and
// messages that cannot be read. Default slog.Default().
func Logger(l *slog.Logger) Option {
	return func(c *config) {
		c.check(l != nil, "Logger is nil")
		c.log = l
	}
}
