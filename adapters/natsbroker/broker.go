// Package natsbroker is a [chathub.Broker] on NATS JetStream: durable, and for
// as many hubs as there are. Either a server inside the process keeps everything in a
// directory, or the hubs meet at NATS servers:
//
//	broker, err := natsbroker.Embedded("data")                  // one process
//	broker, err := natsbroker.Connect("nats://10.0.0.1:4222")   // several
//	hub, err := chathub.New(chathub.Config{Broker: broker, Auth: auth})
//
// Close the broker after the hub. The README says what is promised, how it
// behaves in failures, and how to run it; docs/design.md why it is made like this.
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

// Broker is a [chathub.Broker]. Each hub that attaches gets a connection of its own.
// Its methods may be called concurrently.
type Broker struct {
	cfg    config
	url    string
	server *embedded // nil: elsewhere

	mu     sync.Mutex
	closed bool
	opened bool // the stream has been looked at
}

// Embedded starts a NATS server inside this process that keeps the stream in
// dir, which it creates. It listens on no port. One process at a time may have dir. Close
// ends it. A process that is killed loses nothing that was acked; see [SyncEvery] for
// a machine that is.
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

// Connect uses NATS servers with JetStream, of version 2.11 or later: url is one, or several of
// a cluster, comma separated. It connects when a hub attaches. The stream is created where it is
// not there. One that is there stays as it is: options that ask for something else are
// logged.
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

// Attach implements [chathub.Broker]. Once attached, a session survives any outage of
// the servers; where they cannot be reached now, Attach fails with
// [chathub.CodeUnavailable].
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
		_ = s.Close(closing) // which nothing can hold up yet
		return nil, err
	}
	return s, nil
}

// Close stops the embedded server, once everything is on disk; otherwise it does nothing
// but to refuse further sessions. Sessions that are still open find their server gone: close the
// hubs first.
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

// connectOptions are those of a session's connection, in addition to the
// application's, over which they win.
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
		// What is sent while there is no connection fails, instead of coming late.
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
	return &chathub.Error{Code: chathub.CodeUnavailable, Message: "Try again", Err: fmt.Errorf("natsbroker: %w", cause)}
}
