// Package natsbroker is a [chathub.Broker] on NATS JetStream. Messages are on
// disk, and any number of hubs form one chat. Use either a server inside the
// process, which keeps everything in a directory, or NATS servers that all hubs
// connect to:
//
//	broker, err := natsbroker.Embedded("data")                  // one process
//	broker, err := natsbroker.Connect("nats://10.0.0.1:4222")   // several
//	hub, err := chathub.New(chathub.Config{Broker: broker, Auth: auth})
//
// Close the broker after the hub. The README has the guarantees, the behaviour
// in failures, and how to run it. The reasons for the design are in
// docs/design.md.
package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats.go"
)

var _ chathub.Broker = (*Broker)(nil)

// Broker is a [chathub.Broker]. Its methods may be called concurrently. Each
// hub that attaches gets its own connection to the server.
type Broker struct {
	cfg    config
	url    string
	server *localServer // nil with Connect
	recent recent

	counters counters

	mu       sync.Mutex
	closed   bool
	opened   bool                  // the stream exists and has been checked
	sessions map[*session]struct{} // that are open
}

// Embedded starts a NATS server inside this process that keeps the stream in
// dir. It creates dir if necessary, and listens on no port. Only one process at
// a time can use dir. Close stops the server.
//
// If the process is killed, nothing that was acked is lost. If the machine
// loses power, see [SyncEvery].
func Embedded(dir string, options ...Option) (*Broker, error) {
	cfg, err := newConfig(true, options)
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, errors.New("natsbroker: Embedded needs a directory")
	}
	server, err := startServer(dir, &cfg)
	if err != nil {
		return nil, err
	}
	return &Broker{cfg: cfg, server: server}, nil
}

// Connect uses NATS servers with JetStream, version 2.11 or later. url is the
// URL of one server, or of several servers of a cluster, separated by commas.
// The connection is made when a hub attaches.
//
// The stream is created if it does not exist. The limits of an existing stream
// are left as they are; a warning is logged if the options ask for others. A
// stream of an earlier version is taken over; see the README.
func Connect(url string, options ...Option) (*Broker, error) {
	cfg, err := newConfig(false, options)
	if err != nil {
		return nil, err
	}
	if url == "" {
		return nil, errors.New("natsbroker: Connect needs a URL")
	}
	return &Broker{cfg: cfg, url: url}, nil
}

// Attach implements [chathub.Broker]. It fails with [chathub.CodeUnavailable]
// if the servers cannot be reached within [Timeout]. Once attached, a session
// survives any outage of the servers.
func (b *Broker) Attach(ctx context.Context, deliver func(chathub.Message)) (chathub.BrokerSession, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.timeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, unavailable(err)
	}
	if b.isClosed() {
		return nil, unavailable(chathub.ErrClosed)
	}
	s := newSession(b, deliver)
	if err := s.open(ctx); err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.timeout)
		defer cancel()
		_ = s.Close(closing) // nothing can delay it yet
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sessions == nil {
		b.sessions = make(map[*session]struct{})
	}
	b.sessions[s] = struct{}{}
	return s, nil
}

// Close refuses further sessions. It also stops the embedded server, after
// everything has been written to disk. Close the hubs first, because sessions
// that are still open lose their server.
func (b *Broker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if b.server != nil {
		return b.server.stop()
	}
	return nil
}

func (b *Broker) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// connectOptions returns the options of a session's connection. They include
// the application's, and override them.
func (b *Broker) connectOptions(ctx context.Context, s *session) []nats.Option {
	patience := b.cfg.timeout
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, max(time.Until(end), time.Millisecond))
	}
	options := append([]nats.Option{nats.Name("chathub")}, b.cfg.nats...)
	options = append(options,
		nats.Timeout(patience),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		// Without a connection, sending fails at once instead of arriving late.
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(writeTimeout),
		nats.ReconnectHandler(s.reconnected),
		nats.DisconnectErrHandler(s.disconnected),
		nats.ErrorHandler(s.failed),
	)
	if b.server != nil {
		options = append(options, nats.InProcessServer(b.server))
	}
	return options
}

func unavailable(cause error) error {
	return chathub.Unavailable(fmt.Errorf("natsbroker: %w", cause))
}
