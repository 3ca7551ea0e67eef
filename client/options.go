package client

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Options are the settings of a [Client]. The zero value has defaults for all
// of them.
type Options struct {
	// Token returns the token for the handshake, at most 8 KiB of visible
	// ASCII. The client keeps it for reconnects until it expires. It calls
	// Token again when a tenth of the token's life is left, or a minute if that
	// is less, and after the server has said that the token has expired. ctx
	// ends after ConnectTimeout, and Token must return then.
	//
	// After an error the client tries again later. An [*Error] with
	// [CodeUnauthenticated] or [CodeForbidden] ends the client instead. Nil
	// connects without a token.
	Token func(ctx context.Context) (string, error)

	// Answers has the functions that answer questions of the server
	// (EmitWithAck), by event. Other questions are answered with unknown_type.
	// It must not change after Dial.
	Answers map[string]Answerer

	// Logger gets what happens to the connection: lost and restored at level
	// Info, gaps and slow reading at Warn. Nil: nothing is logged.
	Logger *slog.Logger

	// Header is sent with each handshake.
	Header http.Header
	// HTTPClient makes the handshakes. Its Timeout is not used for more than
	// that. Default http.DefaultClient.
	HTTPClient *http.Client

	// MaxOutbox is how many durable messages may wait for the server, and
	// separately how many other calls. Default 256.
	MaxOutbox int
	// QueueBytes bounds the events of one room, of the inbox or of the
	// connection that wait for the program, with 256 bytes for each event
	// beside its data. Default 1 MiB.
	QueueBytes int

	// BackoffMin and BackoffMax bound the wait before another attempt to
	// connect. It is random, between 0 and a bound that starts at BackoffMin
	// and doubles with each attempt up to BackoffMax. Default 500ms and 20s.
	BackoffMin, BackoffMax time.Duration
	// ConnectTimeout bounds an attempt: asking for a token, the handshake, and
	// then the time until the server has resumed the rooms. Default 10s.
	ConnectTimeout time.Duration
	// PingAfter is how long the server may be silent before the client pings
	// it. Default: a quarter more than the interval at which the server itself
	// pings.
	PingAfter time.Duration
	// PongTimeout is how long the server may take to answer a ping. Default
	// 10s.
	PongTimeout time.Duration
}

// Answerer answers a question of the server. Its result is sent as JSON. An
// [*Error] is sent as it is, any other error as [CodeInternal] without its
// text, and is logged. Each question has a goroutine of its own, and at most 16
// are answered at a time; the server gets [CodeUnavailable] for the others. ctx
// ends with the client.
type Answerer func(ctx context.Context, question Event) (any, error)

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	def(&o.MaxOutbox, 256)
	def(&o.QueueBytes, 1<<20)
	def(&o.BackoffMin, 500*time.Millisecond)
	def(&o.BackoffMax, 20*time.Second)
	def(&o.ConnectTimeout, 10*time.Second)
	def(&o.PongTimeout, 10*time.Second)
	o.BackoffMax = max(o.BackoffMax, o.BackoffMin)
	return o
}

func def[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// checkURL returns an error that does not quote the URL, which may hold a
// secret.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("chathub client: the URL cannot be parsed")
	}
	switch u.Scheme {
	case "ws", "wss", "http", "https":
	default:
		return errors.New("chathub client: the scheme of the URL must be ws, wss, http or https")
	}
	if u.Host == "" {
		return errors.New("chathub client: the URL has no host")
	}
	return nil
}
