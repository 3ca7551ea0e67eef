package chathub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"time"

	"github.com/chathub-go/chathub/internal/handshake"
)

// Config says how a Hub behaves. Only Auth is required. For every number and
// duration, zero means the default and a negative value means off (no limit, no
// heartbeat, and so on). [New] reads a Config once.
//
// Callbacks run on the goroutine of the client concerned. They may block, and
// only that client waits. OnAway and Members, which concern none, have
// goroutines of their own. A panic in a callback is logged with its stack, and
// the client gets [CodeInternal].
type Config struct {
	// Auth says which user a connection belongs to. Required: [JWT], an
	// [Authenticator] of your own, or [Anonymous].
	Auth Authenticator

	// Origins lists further web origins whose pages may connect, as exact
	// scheme://host[:port]. Pages of the hub's own origin always may. That is
	// the request's Host, with the scheme of the connection or of
	// X-Forwarded-Proto, so a reverse proxy must pass both on. Requests without
	// an Origin header come from programs, not from pages, and are accepted.
	Origins []string
	// DangerouslyAllowAnyOrigin lets any web page connect. With TokenCookie, it
	// lets any web page act as its visitor.
	DangerouslyAllowAnyOrigin bool
	// RequireOrigin refuses requests without an Origin header.
	RequireOrigin bool

	// TokenCookie names a cookie that holds the token. It is read if neither
	// the Authorization header nor the subprotocol carries a token. Default: no
	// cookie.
	TokenCookie string
	// TokenQuery accepts the token in the query parameter "token", as the last
	// resort. URLs end up in logs, so prefer the subprotocol.
	TokenQuery bool

	// TrustedProxies lists the networks of reverse proxies whose
	// X-Forwarded-For header is believed. It says which address a client has.
	TrustedProxies []netip.Prefix

	// OnConnect runs within ServeHTTP, after the client is authenticated and
	// before its welcome. It may join the client to rooms and emit to it, which
	// takes effect after the welcome.
	//
	// A Leave or Disconnect of the user by another goroutine, or another node,
	// is for this client too, although it has no welcome yet. One that
	// OnConnect calls with its ctx is not, so that it can end the user's other
	// connections:
	//
	//	hub.ToUser(c.User().ID).Disconnect(ctx, "signed in elsewhere")
	//
	// An error refuses the client. If it is an [Error], the client gets its
	// message and the close code of its Code (4505 for [CodeForbidden]). Any
	// other error is logged as a fault and closes with 4000, so that the client
	// comes back.
	//
	// Nothing is read from the client until OnConnect returns. So ctx does not
	// end when the client goes: set a deadline for anything slow.
	OnConnect func(ctx context.Context, c *Client, r *http.Request) error
	// OnDisconnect runs after a client that was welcomed has gone.
	OnDisconnect func(c *Client, d Disconnect)
	// OnPresence is told of each user of the cluster who comes online or goes
	// for good, which is after PresenceGrace. One node calls it for all: a user
	// whose connections are on three nodes comes once. For one user, the calls
	// come one after another, and each says the opposite of the one before. So
	// a change that is over before it could be told is left out. If a call
	// returns an error, it is repeated after some seconds, unless the change is
	// over by then. A call is also repeated if the node that made it is killed
	// before the others know. A hub that ends tells nothing of its users.
	//
	// Calls run on their own goroutines, eight at a time, and delay nothing
	// else. Their ctx ends after 30s. All hubs of a cluster must set it, or
	// none. Default: nobody is told.
	OnPresence func(ctx context.Context, change PresenceChange) error
	// Authorize may refuse an action that a client asks for, before any part of
	// it happens. It runs on every join, resume, history request and send, and
	// on every event of the application. List what is allowed and refuse the
	// rest. Nil allows everything that the protocol allows.
	Authorize func(ctx context.Context, c *Client, a Action) error

	// Moderator reports whether a client may delete a message of another user,
	// which the action describes. Authorize is asked as well. Default: nobody
	// may.
	Moderator func(ctx context.Context, c *Client, a Action) bool
	// Visible returns those of rooms that the client's user may see in an
	// overview: their newest message, and how many are unread. The other ones
	// look as if they did not exist. It must not change rooms. An error refuses
	// the whole overview, as one of Authorize does. Default: Authorize is asked
	// about each room, with the type "overview".
	Visible func(ctx context.Context, c *Client, rooms []string) ([]string, error)
	// ReadReceipts tells the members of a room how far the others have read.
	// Receipts are gathered for PresenceInterval (100ms if that is off). There
	// are none while a room has more than PresenceListLimit users. They name
	// those who have read, even if HideRoomUsers is set. Default: only a user's
	// own connections are told.
	ReadReceipts bool

	// OnAway is called for a message that a user has not read and who is away,
	// so that the application can send a push notification. That is so for each
	// private-message and notification, and for each room-message if there are
	// Members. It does not matter whether a client has sent it or Post or Emit.
	// It is called for each recipient but the sender, AwayDelay after the
	// message was stored, if at that moment the user has no connection to any
	// node and is not in the PresenceGrace, the user's marker is before the
	// message, and the message is not deleted. A repetition changes nothing.
	//
	// One node calls it, once for each user and message. If a node is killed,
	// another one makes its calls, and some of them may be made twice. Only
	// calls for what was stored in its last 100 ms are lost then. A hub that
	// ends and is alone on its Broker makes none any more. Up to 8 calls run at
	// a time, on goroutines of their own, and never hold up a message. ctx ends
	// after 10 s, or when the hub ends. A call that ignores this counts as
	// failed. So do an error and a panic: the call is made again after 1, 4 and
	// 16 s, and then given up. At most 65,536 messages wait, and further ones
	// are dropped. [Stats] counts both.
	//
	// All hubs on a Broker must have OnAway and Members, or none. See
	// docs/push.md.
	OnAway func(ctx context.Context, a Away) error
	// Members yields the ids of the users who belong to a room, whether they
	// are connected or not. Only the application knows. OnAway needs it for
	// room-messages. It is called once for each of them, as OnAway is: for 10 s
	// at most, and again after an error. The first 50,000 users are looked at.
	// Default: OnAway is not called for room-messages.
	Members func(ctx context.Context, tenant, room string) iter.Seq2[string, error]

	// ClientState reports whether a client may set a key of the state of a room
	// that it is in, such as a pinned message or the topic. Authorize is asked
	// before, about a "set-state". Default: only the application sets states.
	ClientState func(ctx context.Context, c *Client, room, key string) bool

	// Broker carries and stores messages. Default: a [MemoryBroker] for this
	// hub alone.
	Broker Broker
	// KeepConnectionInfo keeps the address, the User-Agent and the time of each
	// connection, some 200 bytes, for [Hub.Connections]. Default: they are not
	// kept.
	KeepConnectionInfo bool
	// Logger gets what an operator should know. Default: slog.Default().
	Logger *slog.Logger
	// Trace observes the hub. Default: nothing is observed.
	Trace *Trace

	// MaxMessageBytes bounds one message from a client. A larger one closes the
	// connection with 1009. Default 64 KiB.
	MaxMessageBytes int
	// MaxOutboxBytes bounds the bytes that wait for one client. Beyond half of
	// it, volatile events are dropped. Beyond all of it, the client is closed
	// with 4001. Default 1 MiB; it cannot be off.
	MaxOutboxBytes int
	// CompressFrom offers compression (permessage-deflate, RFC 7692) to
	// clients. It is the number of bytes of JSON from which a message is
	// compressed for the clients that accept. Shorter messages gain little; 128
	// is a good value. Default off.
	//
	// Each message sent costs about 10 µs of CPU, however many clients get it.
	// Each compressed message received costs as much. Buffers take 1.2 MB per
	// core, and an idle connection takes nothing. Context takeover (compression
	// across messages) is not offered. It would keep a window of 32 KiB per
	// connection and compress once per recipient, and the length of one message
	// would reveal the content of others.
	//
	// Leave it off if an attacker can see the length of messages that hold
	// secrets next to text of the attacker's choice; see docs/security.md.
	// MaxMessageBytes bounds a message after decompression and cannot be off.
	CompressFrom int

	// MaxRooms bounds the rooms that one client is in. Default 128.
	MaxRooms int
	// MaxHandshakes bounds the handshakes of this hub that are under way, from
	// the request until the client is authenticated. Further ones are refused
	// with 4000, so that clients come back. Strangers thus take no place of
	// MaxConns. Default 1000.
	MaxHandshakes int
	// MaxConns, MaxConnsPerUser and MaxConnsPerAddress bound the connections of
	// this hub. A client over a limit is refused with 4504. IPv6 addresses
	// count by their /64, which is what one customer gets. Defaults 100,000,
	// 32, and off: behind a proxy that is not in TrustedProxies, everyone has
	// the same address.
	MaxConns, MaxConnsPerUser, MaxConnsPerAddress int
	// MaxConnsPerTenant bounds the connections of each tenant to this hub in
	// the same way, so that one tenant cannot take all of MaxConns. Those
	// without a tenant do not count. Default half of MaxConns.
	MaxConnsPerTenant int

	// Rate is how many events per second a client may send on average, and
	// Burst how many at once. Further events get [CodeRateLimited], and a
	// client that goes on is closed with 4005. Defaults 50 and twice the Rate;
	// a Burst is at least 1.
	Rate  float64
	Burst int
	// UserRate and UserBurst bound all connections of one user together.
	// Defaults: twice Rate, and the larger of twice Burst and twice UserRate.
	UserRate  float64
	UserBurst int

	// ByteRate is how many bytes of events per second a client may send on
	// average, and ByteBurst how many at once. Further events get
	// [CodeRateLimited]. Defaults 64 KiB and 1 MiB; off if Rate is off. A burst
	// must be at least MaxMessageBytes.
	ByteRate  float64
	ByteBurst int
	// UserByteRate and UserByteBurst bound all connections of one user
	// together. Defaults: twice ByteRate and twice ByteBurst; off if UserRate
	// is off.
	UserByteRate  float64
	UserByteBurst int

	// BroadcastRate is how many messages to everyone (message) a user may send
	// per second on average, and BroadcastBurst how many at once. Further ones
	// get [CodeRateLimited]. MaxBroadcastBytes bounds the data of one of them;
	// a larger one gets [CodeTooLarge]. Each message reaches every client of
	// every node, so a user could otherwise make the server send a thousand
	// times what they send. Defaults 1 (off if UserRate is off), 10 and 4 KiB.
	// See RefuseBroadcasts to turn these messages off.
	BroadcastRate                     float64
	BroadcastBurst, MaxBroadcastBytes int

	// PingInterval is how long a client may be silent before it is pinged.
	// PongTimeout is how long it then has to answer before it is closed with
	// 4002. Defaults 25s (proxies cut idle connections at 60s) and 10s.
	PingInterval, PongTimeout time.Duration
	// MessageTimeout bounds how long one message, or one frame, may take to
	// arrive after its first byte. Default 30s.
	MessageTimeout time.Duration
	// WriteTimeout bounds how long a client may accept nothing of what waits
	// for it, and how long a close handshake may take. Default 10s; it cannot
	// be off.
	WriteTimeout time.Duration

	// Linger is how long messages to rooms and users may wait for others to
	// share a write with. Writes are the main cost of large, busy rooms.
	// Messages that wait already leave together in any case, and answers never
	// linger. Default: no waiting.
	Linger time.Duration
	// PresenceInterval is how long changes of presence are batched before they
	// are sent. If only counts are sent, the interval is ten times as long. For
	// more than 5,000 connections it grows further, so that at most 5,000
	// counts are sent per second, spread evenly over the interval. Default
	// 100ms. Negative: clients get no presence events and no lists of users,
	// online-users is [CodeUnknownType], and answers to joins have no users.
	// [Hub.OnlineUsers] and [Hub.RoomUsers] still answer the application.
	PresenceInterval time.Duration
	// HideOnlineUsers and HideRoomUsers turn off what clients are told about
	// the users of the whole hub, and about the users of rooms: the lists, the
	// counts and their changes. A service whose customers must not see each
	// other hides the first. [Hub.OnlineUsers] and [Hub.RoomUsers] still answer
	// the application. The welcome tells clients.
	HideOnlineUsers, HideRoomUsers bool
	// RefuseBroadcasts refuses every message of a client to everyone, with
	// [CodeForbidden]. The welcome tells clients.
	RefuseBroadcasts bool
	// PresenceGrace is how long a user still counts as present after the last
	// connection has gone. Default 5s.
	PresenceGrace time.Duration
	// PresenceListLimit is the number of users, in the hub or in a room, above
	// which only their count is sent. Default 256.
	PresenceListLimit int
	// AwayDelay is how long after a message was stored it is decided whether
	// OnAway is called. A connection that broke without a sign counts as one
	// until a ping is not answered (PingInterval and PongTimeout). Default:
	// PresenceGrace. Negative: no delay.
	AwayDelay time.Duration
	// NodeLease is how long another node may be silent before its users count
	// as gone. Their PresenceGrace runs from its last sign of life. All hubs on
	// a Broker must use the same value. Minimum 3s, since nodes announce
	// themselves about once a second. Default 5s; it cannot be disabled.
	NodeLease time.Duration
	// TypingTimeout ends a user's typing if the client does not repeat it.
	// Typing on another node ends about 6s later if that node goes silent.
	// Default 10s. Negative: typing ends only when the client says so, or goes.
	TypingTimeout time.Duration

	// ReplayLimit bounds how many missed messages of one room a client may
	// recover, and how many it may ask for at once. All connections of a user
	// together may have half of MaxOutboxBytes per second, of what is read from
	// logs and of lists of users, and 16 times as much at once. A request over
	// that waits for a few seconds, or gets [CodeRateLimited]. That is off if
	// UserRate is off. Default 256.
	ReplayLimit int
	// DrainWindow bounds the time over which clients are told to come back when
	// the hub shuts down. If there are few, the time is shorter: 2ms for each
	// client. Default 5s.
	DrainWindow time.Duration
}

const (
	maxDepth        = 64
	sweepInterval   = time.Second
	badPerMinute    = 50  // protocol/README.md, section 1
	limitsPerMinute = 200 // of rate_limited errors, before 4005
)

// withDefaults returns cfg with every zero number replaced by its default.
func (cfg Config) withDefaults() Config {
	def(&cfg.MaxMessageBytes, 64<<10)
	def(&cfg.MaxOutboxBytes, 1<<20)
	def(&cfg.CompressFrom, -1)
	def(&cfg.MaxRooms, 128)
	def(&cfg.MaxHandshakes, 1000)
	def(&cfg.MaxConns, 100_000)
	def(&cfg.MaxConnsPerUser, 32)
	def(&cfg.MaxConnsPerTenant, halfOf(cfg.MaxConns))
	def(&cfg.MaxConnsPerAddress, -1)
	def(&cfg.Rate, 50)
	def(&cfg.Burst, max(1, int(2*cfg.Rate)))
	def(&cfg.UserRate, 2*cfg.Rate)
	def(&cfg.UserBurst, max(1, 2*cfg.Burst, int(2*cfg.UserRate)))
	def(&cfg.ByteRate, offWith(cfg.Rate, 64<<10))
	def(&cfg.ByteBurst, max(1<<20, cfg.MaxMessageBytes))
	def(&cfg.UserByteRate, offWith(cfg.UserRate, 2*cfg.ByteRate))
	def(&cfg.UserByteBurst, 2*cfg.ByteBurst)
	def(&cfg.BroadcastRate, offWith(cfg.UserRate, 1))
	def(&cfg.BroadcastBurst, 10)
	def(&cfg.MaxBroadcastBytes, 4<<10)
	def(&cfg.PingInterval, 25*time.Second)
	def(&cfg.PongTimeout, 10*time.Second)
	def(&cfg.MessageTimeout, 30*time.Second)
	def(&cfg.WriteTimeout, 10*time.Second)
	def(&cfg.PresenceInterval, 100*time.Millisecond)
	def(&cfg.PresenceGrace, 5*time.Second)
	def(&cfg.AwayDelay, cfg.PresenceGrace)
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

// answerBytes bounds what one answer has from logs, and so the data of an emit.
// The other half of an outbox is for what comes meanwhile.
func (cfg *Config) answerBytes() int { return cfg.MaxOutboxBytes / 2 }

// halfOf returns half of a limit, which is off if that is.
func halfOf(limit int) int {
	if limit < 0 {
		return -1
	}
	return (limit + 1) / 2
}

// offWith returns a default that is off if another limit is off.
func offWith(other, byDefault float64) float64 {
	if other < 0 {
		return -1
	}
	return byDefault
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func def[T int | float64 | time.Duration](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

// validate returns every mistake of a Config whose defaults are filled in.
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
	for _, rate := range []float64{cfg.Rate, cfg.UserRate, cfg.ByteRate, cfg.UserByteRate, cfg.BroadcastRate} {
		if !finite(rate) {
			bad("Rate, UserRate, ByteRate, UserByteRate and BroadcastRate must be numbers")
			break
		}
	}
	for _, burst := range []struct {
		name  string
		rate  float64
		value int
	}{{"ByteBurst", cfg.ByteRate, cfg.ByteBurst}, {"UserByteBurst", cfg.UserByteRate, cfg.UserByteBurst}} {
		if burst.rate >= 0 && 0 <= burst.value && burst.value < cfg.MaxMessageBytes {
			bad("%s (%d) must be at least MaxMessageBytes (%d)", burst.name, burst.value, cfg.MaxMessageBytes)
		}
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
	if cfg.Members != nil && cfg.OnAway == nil {
		bad("Members is for OnAway, which is nil")
	}
	if cfg.WriteTimeout < 0 {
		bad("WriteTimeout cannot be off: a stuck client must be given up at some time")
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("chathub: invalid Config: %w", errors.Join(errs...))
}
