package natsbroker

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Option changes a default of [Embedded] and [Connect]. Where a duration or number
// bounds something, 0 is refused and negative means no bound, unless it says otherwise.
type Option func(*config)

type config struct {
	name        string
	domain      string
	replicas    int
	maxMessages int
	maxAge      time.Duration
	maxBytes    int64 // 0: the default
	window      time.Duration
	memory      bool
	existing    bool
	syncEvery   time.Duration
	syncAlways  bool
	timeout     time.Duration
	sweep       time.Duration
	cache       int
	nats        []nats.Option
	log         *slog.Logger
	clock       func() time.Time // another one in tests

	embedded bool
	errs     []error
}

func newConfig(embedded bool, options []Option) (config, error) {
	c := config{
		name:        "chathub",
		replicas:    1,
		maxMessages: 1000,
		maxAge:      30 * 24 * time.Hour,
		window:      5 * time.Minute,
		syncEvery:   10 * time.Second,
		timeout:     5 * time.Second,
		sweep:       30 * time.Second,
		cache:       64 << 20,
		log:         slog.Default(),
		clock:       time.Now,
		embedded:    embedded,
	}
	for _, o := range options {
		o(&c)
	}
	if c.maxAge > 0 {
		c.window = min(c.window, c.maxAge) // JetStream insists
	}
	return c, errors.Join(c.errs...)
}

func (c *config) check(ok bool, format string, args ...any) {
	if !ok {
		c.errs = append(c.errs, fmt.Errorf("natsbroker: "+format, args...))
	}
}

// only notes that an option does not go with the other mode.
func (c *config) only(embedded bool, option, why string) {
	mode := "Connect"
	if embedded {
		mode = "Embedded"
	}
	c.check(c.embedded == embedded, "%s is for %s: %s", option, mode, why)
}

// Name names the stream and is the first token of all subjects: letters, digits, - and
// _. Applications that share a NATS account need different names. Default "chathub".
func Name(name string) Option {
	return func(c *config) {
		c.check(plain(name) && len(name) <= 64, "Name %q is not 1 to 64 letters, digits, - and _", name)
		c.name = name
	}
}

// Replicas is on how many servers of a cluster the stream is kept: 1, 3 or 5. With 1,
// the server that has it being away means that nothing durable works until it is back, and
// its disk being lost that all history is. With 3, one of them may be away or lost at any
// time; an ack means that two have the message. It counts when the stream is created. Default 1.
func Replicas(n int) Option {
	return func(c *config) {
		c.only(false, "Replicas", "one process has one copy")
		c.check(n == 1 || n == 3 || n == 5, "Replicas is %d, must be 1, 3 or 5", n)
		c.replicas = n
	}
}

// MaxMessages bounds the number of messages in the log of a topic; beyond it the oldest
// go. JetStream has no bound in bytes for a topic: it is MaxMessages times
// chathub.Config.MaxMessage, and MaxBytes bounds all together. Default 1000.
func MaxMessages(n int) Option {
	return func(c *config) {
		c.check(n != 0, "MaxMessages is 0")
		c.maxMessages = max(n, -1)
	}
}

// MaxAge is how long a message is kept. Default 30 days.
func MaxAge(d time.Duration) Option {
	return func(c *config) {
		c.check(d < 0 || d >= time.Second, "MaxAge %v is less than a second", d)
		c.maxAge = max(d, 0)
	}
}

// MaxBytes bounds the whole stream on each server that keeps it. Beyond it the
// oldest messages of all topics go, so a full stream does not stop the chat. A
// full disk does, which no bound, or one larger than the disk, leads to.
//
// Default 1 GiB. If less is free, the default of [Embedded] is three quarters of
// it. A stream is not created with a bound that is larger than what is free, or,
// with [Connect], than what its server may store.
func MaxBytes(n int64) Option {
	return func(c *config) {
		c.check(n < 0 || n >= 1<<20, "MaxBytes %d is less than a MiB", n)
		c.maxBytes = max(n, -1)
	}
}

// DuplicateWindow is how long the key of a message is remembered, at least 100 ms. Each
// costs the memory of every server that has the stream about 200 bytes: at 1,000 messages a
// second, 5 minutes are 60 MB. MaxAge bounds it. It cannot be off: repeating a publish that got no answer depends on it.
// Default 5 min.
func DuplicateWindow(d time.Duration) Option {
	return func(c *config) {
		c.check(d >= 100*time.Millisecond, "DuplicateWindow %v is less than 100 ms", d)
		c.window = d
	}
}

// MemoryStorage keeps the stream in the memory of its servers: history ends with the
// last of them. It is an error where the stream exists on disk.
func MemoryStorage() Option {
	return func(c *config) { c.memory = true }
}

// ExistingStream leaves the stream to the operator: it is an error where there is none
// or it lacks what the broker needs. The other options about it have no effect. The
// README has the command that creates it, and the permissions that are enough then.
func ExistingStream() Option {
	return func(c *config) {
		c.only(false, "ExistingStream", "nobody else could create it")
		c.existing = true
	}
}

// SyncEvery is how often an embedded server makes the disk write what the operating
// system holds: what was acked since then is lost when power fails or the system crashes, and
// positions of clients may name other messages after that. A process that crashes or is
// killed loses nothing. Of a server that you connect to, this is sync_interval in its
// configuration, 2 minutes where it is not set. Default 10 s.
func SyncEvery(d time.Duration) Option {
	return func(c *config) {
		c.only(true, "SyncEvery", "it is in the server's configuration")
		c.check(d >= time.Millisecond, "SyncEvery %v is less than a millisecond", d)
		c.syncEvery = d
	}
}

// SyncAlways has an embedded server write every message to disk before its ack, so that
// nothing acked is lost when power fails. What that costs depends on the disk; see the README.
func SyncAlways() Option {
	return func(c *config) {
		c.only(true, "SyncAlways", "it is in the server's configuration")
		c.syncAlways = true
	}
}

// Timeout bounds how long a call tries while the server is away, where its ctx does not end
// sooner. Calls in between wait for the server to come back. Default 5 s.
func Timeout(d time.Duration) Option {
	return func(c *config) {
		c.check(d >= 10*time.Millisecond, "Timeout %v is less than 10 ms", d)
		c.timeout = d
	}
}

// SweepEvery is how often every topic of a node is compared with the stream, where
// several servers form a cluster: a connection between two of them that breaks and is
// back within a second can lose the newest message of a topic on its way, and neither node nor
// client would notice before the next one. It costs the stream's server one small
// request for each topic of each node in that time. Default 30 s.
func SweepEvery(d time.Duration) Option {
	return func(c *config) {
		c.check(d >= time.Second, "SweepEvery %v is less than a second", d)
		c.sweep = d
	}
}

// CacheBytes bounds what each node keeps in memory of the newest messages of its topics, up
// to 64 KiB and 256 messages of each, to serve those who come back without asking the
// stream. Negative: nothing is kept. Default 64 MiB.
func CacheBytes(n int) Option {
	return func(c *config) {
		c.check(n != 0, "CacheBytes is 0")
		c.cache = n
	}
}

// Domain is the JetStream domain of the stream, where it is not that of the server.
func Domain(name string) Option {
	return func(c *config) {
		c.only(false, "Domain", "it has none")
		c.domain = name
	}
}

// NATS adds options of the connections to the server: TLS, credentials, a name. The
// broker itself decides about reconnecting, pings and handlers of errors.
func NATS(options ...nats.Option) Option {
	return func(c *config) { c.nats = append(c.nats, options...) }
}

// Logger is told about connections, catching up, and what cannot be read. Default
// slog.Default().
func Logger(l *slog.Logger) Option {
	return func(c *config) {
		c.check(l != nil, "Logger is nil")
		c.log = l
	}
}
