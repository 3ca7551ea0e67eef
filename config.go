package chathub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"time"

	"github.com/chathub-go/chathub/internal/handshake"
)

// Config says how a Hub behaves. Only Auth is required. In every number and
// duration, zero means the default and a negative value means off (no limit, no
// heartbeat, ...). A Config is read once, by [New].
//
// The callbacks run on the goroutine of the client concerned: they may block,
// which makes only that client wait. A panic in one is logged with its stack and
// is that client's [CodeInternal].
type Config struct {
	// Auth says who a connection is. Required: [JWT], an [Authenticator] of
	// your own, or [Anonymous].
	Auth Authenticator

	// Origins lists the web origins (scheme://host[:port], exact) whose pages
	// may connect, besides those of the origin that the hub is served from: the request's
	// Host, with the scheme of the connection or of X-Forwarded-Proto. A reverse proxy must pass both on.
	// Requests without an Origin header come from programs, not from pages, and are let in.
	Origins []string
	// DangerouslyAllowAnyOrigin lets any web page connect. With TokenCookie,
	// it lets any web page act as its visitor.
	DangerouslyAllowAnyOrigin bool
	// RequireOrigin refuses requests without an Origin header.
	RequireOrigin bool

	// TokenCookie names a cookie to take the token from, where neither the
	// Authorization header nor the subprotocol carries one. Empty: none.
	TokenCookie string
	// TokenQuery takes the token from the query parameter "token" as the last
	// resort. URLs end up in logs; prefer the subprotocol.
	TokenQuery bool

	// TrustedProxies lists the networks of the reverse proxies whose
	// X-Forwarded-For header says which address a client has.
	TrustedProxies []netip.Prefix

	// OnConnect runs once a client is authenticated, before its welcome, within
	// ServeHTTP. An error turns it away: an [Error] with its message, and a close by its
	// code (4505 for [CodeForbidden]); any other error is a fault, and the client may come back (4000). The client may be joined to rooms and
	// emitted to; it gets all that after its welcome. Until OnConnect returns nothing is read from
	// the client, so ctx does not end when it goes: what may take long needs a deadline.
	OnConnect func(ctx context.Context, c *Client, r *http.Request) error
	// OnDisconnect runs when a client that was welcomed has gone.
	OnDisconnect func(c *Client, d Disconnect)
	// Authorize may refuse an action that a client asks for, before anything
	// else of it happens. It runs on every join, resume, history request and send.
	// Nil allows everything that the protocol allows.
	Authorize func(ctx context.Context, c *Client, a Action) error

	// Broker carries and keeps messages. Nil: a [MemoryBroker] of the hub's own.
	Broker Broker
	// Logger gets what an operator should know. Nil: slog.Default().
	Logger *slog.Logger
	// Trace observes. Nil: nothing.
	Trace *Trace

	// MaxMessageBytes bounds one message from a client; a larger one closes
	// with 1009. Default 64 KiB.
	MaxMessageBytes int
	// MaxOutboxBytes bounds what waits for one client. Volatile events are
	// dropped beyond half of it; a client beyond all of it is closed with 4001. It cannot
	// be off. Default 1 MiB.
	MaxOutboxBytes int
	// CompressFrom offers clients compression (permessage-deflate, RFC 7692), and is
	// how many bytes of JSON a message must have to be compressed for those that accept: 128 is
	// a good value, since shorter ones gain little. Default off.
	//
	// It costs about 10 µs of CPU for each message that is sent, however many get
	// it, as much for each compressed one that comes, and 1.2 MB of buffers for each core; nothing for a connection
	// that is idle. Context takeover, compression across messages, is not offered: it would keep a window of 32 KiB
	// for each connection, every recipient would need a compression of its own,
	// and what one message says could be guessed from the length of others.
	// Do not turn it on where clients see the length of messages in which secrets stand beside text
	// that others can choose; see docs/security.md. MaxMessageBytes bounds a message once
	// decompressed, and cannot be off.
	CompressFrom int

	// MaxRooms bounds the rooms of one client. Default 128.
	MaxRooms int
	// MaxConns, MaxConnsPerUser and MaxConnsPerAddress bound connections to
	// this hub. Defaults 100,000, 32, and off (behind a proxy that is not in TrustedProxies
	// everyone has one address). IPv6 addresses count by their /64, which is what one
	// customer gets. A client over a limit is refused with 4504.
	MaxConns, MaxConnsPerUser, MaxConnsPerAddress int

	// Rate is how many events a second a client may send on average, Burst how
	// many at once. What exceeds it gets [CodeRateLimited]; a client that goes on is closed
	// with 4005. Defaults 50 and twice the Rate, at least 1.
	Rate  float64
	Burst int
	// UserRate and UserBurst bound all connections of one user together.
	// Defaults: twice Rate, and the larger of twice Burst and twice UserRate.
	UserRate  float64
	UserBurst int

	// PingInterval is how long a client may be silent before it is pinged,
	// PongTimeout how long after that it is given up (close 4002). Defaults 25 s
	// (proxies cut at 60 s) and 10 s.
	PingInterval, PongTimeout time.Duration
	// MessageTimeout bounds how long one message, or one frame, may take to
	// arrive once it has begun. Default 30 s.
	MessageTimeout time.Duration
	// WriteTimeout bounds how long a client may take nothing of what waits for
	// it, and how long a close handshake may take. It cannot be off. Default 10 s.
	WriteTimeout time.Duration

	// Linger is how long what goes to rooms and users may wait for more to share
	// its writes with, which are what costs most in large and busy rooms. What waits already leaves
	// together anyway; answers never wait. Default none.
	Linger time.Duration
	// PresenceInterval is how long changes of presence are gathered before
	// they are sent; ten times as long where only counts are, and longer beyond 5,000
	// connections, so that no more than so many counts are sent a second. Those are sent one
	// after the other over that time. Default 100 ms.
	// Negative: no presence events and lists at all.
	PresenceInterval time.Duration
	// PresenceGrace is how long a user whose last connection has gone still
	// counts as there. Default 5 s.
	PresenceGrace time.Duration
	// PresenceListLimit is the number of users (of the hub, of a room) above
	// which only their count is sent. Default 256.
	PresenceListLimit int
	// NodeLease is how long after the last sign of life of another hub on the
	// Broker its users count as there; they have their PresenceGrace from that sign on. The same for
	// all hubs of a cluster. It is looked at, and signs of life are given, once a second at most: at
	// least 3 s, and it cannot be off. Default 5 s.
	NodeLease time.Duration
	// TypingTimeout ends a typing that its client did not repeat. Default 10 s. One of a
	// client of another hub, of which nothing is heard any more, ends some 6 s after that.
	// Negative: a typing ends only when its client says so, or goes.
	TypingTimeout time.Duration

	// ReplayLimit bounds how many missed messages of one room a client may
	// recover, and how many it may ask for at once. Default 256.
	ReplayLimit int
	// DrainWindow is the time over which clients are told to come back when the
	// hub shuts down. Default 5 s.
	DrainWindow time.Duration
}

const (
	maxDepth        = 64
	sweepInterval   = time.Second
	badPerMinute    = 50  // protocol/README.md, section 1
	limitsPerMinute = 200 // rate_limited errors before 4005
)

// withDefaults returns c with every zero number replaced by its default.
func (cfg Config) withDefaults() Config {
	def(&cfg.MaxMessageBytes, 64<<10)
	def(&cfg.MaxOutboxBytes, 1<<20)
	def(&cfg.CompressFrom, -1)
	def(&cfg.MaxRooms, 128)
	def(&cfg.MaxConns, 100_000)
	def(&cfg.MaxConnsPerUser, 32)
	def(&cfg.MaxConnsPerAddress, -1)
	def(&cfg.Rate, 50)
	def(&cfg.Burst, max(1, int(2*cfg.Rate)))
	def(&cfg.UserRate, 2*cfg.Rate)
	def(&cfg.UserBurst, max(1, 2*cfg.Burst, int(2*cfg.UserRate)))
	def(&cfg.PingInterval, 25*time.Second)
	def(&cfg.PongTimeout, 10*time.Second)
	def(&cfg.MessageTimeout, 30*time.Second)
	def(&cfg.WriteTimeout, 10*time.Second)
	def(&cfg.PresenceInterval, 100*time.Millisecond)
	def(&cfg.PresenceGrace, 5*time.Second)
	def(&cfg.PresenceListLimit, 256)
	def(&cfg.NodeLease, 5*time.Second)
	def(&cfg.TypingTimeout, 10*time.Second)
	def(&cfg.ReplayLimit, 256)
	def(&cfg.DrainWindow, 5*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Trace == nil {
		cfg.Trace = &Trace{}
	}
	return cfg
}

// origins returns the pages that may connect.
func (cfg *Config) origins() *handshake.Origins {
	return &handshake.Origins{Allowed: cfg.Origins, Any: cfg.DangerouslyAllowAnyOrigin, Required: cfg.RequireOrigin}
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func def[T int | float64 | time.Duration](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

// validate returns every mistake of a Config with its defaults filled in.
func (cfg Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if cfg.Auth == nil {
		bad("Auth is nil: use &JWT{...}, an Authenticator of your own, or Anonymous{}")
	}
	for _, part := range []any{cfg.Auth, cfg.Broker} {
		if v, ok := part.(interface{ validate() error }); ok {
			if err := v.validate(); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, o := range cfg.Origins {
		if _, err := handshake.ParseOrigin(o); err != nil {
			bad("Origins: %w", err)
		}
	}
	if !finite(cfg.Rate) || !finite(cfg.UserRate) {
		bad("Rate and UserRate must be numbers")
	}
	if cfg.DangerouslyAllowAnyOrigin && len(cfg.Origins) > 0 {
		bad("Origins and DangerouslyAllowAnyOrigin contradict each other")
	}
	if cfg.MaxOutboxBytes < 0 {
		bad("MaxOutboxBytes cannot be off: what waits for a client must be bounded")
	} else if cfg.MaxMessageBytes > 0 && cfg.MaxOutboxBytes < 4*cfg.MaxMessageBytes {
		bad("MaxOutboxBytes (%d) must be at least four times MaxMessageBytes (%d)", cfg.MaxOutboxBytes, cfg.MaxMessageBytes)
	}
	if cfg.NodeLease < 3*sweepInterval {
		bad("NodeLease (%v) must be at least %v", cfg.NodeLease, 3*sweepInterval)
	}
	if cfg.CompressFrom > 0 && cfg.MaxMessageBytes < 0 {
		bad("MaxMessageBytes cannot be off with CompressFrom: what a message is decompressed to must be bounded")
	}
	if cfg.WriteTimeout < 0 {
		bad("WriteTimeout cannot be off: a stuck client must be given up at some time")
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("chathub: invalid Config: %w", errors.Join(errs...))
}
