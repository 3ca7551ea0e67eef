package client_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
)

// network is the way from a client to a handler. It can break.
type network struct {
	mu      sync.Mutex
	handler http.Handler // nil: nobody is there
	conns   []*link
	dials   []time.Time
	headers []http.Header
}

// link is a connection that the network has made.
type link struct {
	io.ReadWriteCloser
	messages atomic.Int64 // that the client has sent

	mu    sync.Mutex
	muted chan struct{} // not nil: nothing arrives any more, in either direction
}

func (l *link) Read(p []byte) (int, error) {
	n, err := l.ReadWriteCloser.Read(p)
	l.mu.Lock()
	muted := l.muted
	l.mu.Unlock()
	if muted != nil {
		<-muted
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func (l *link) Write(p []byte) (int, error) {
	l.mu.Lock()
	muted := l.muted
	l.mu.Unlock()
	if muted != nil {
		return len(p), nil
	}
	if p[0]&0xf == 1 { // opText; each write has one frame
		l.messages.Add(1)
	}
	return l.ReadWriteCloser.Write(p)
}

func (l *link) Close() error {
	l.mu.Lock()
	if l.muted != nil {
		close(l.muted)
		l.muted = nil
	}
	l.mu.Unlock()
	return l.ReadWriteCloser.Close()
}

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	h := n.handler
	n.dials = append(n.dials, time.Now())
	n.headers = append(n.headers, r.Header.Clone())
	n.mu.Unlock()
	if h == nil {
		return nil, errors.New("connection refused")
	}
	res, err := hubtest.HTTPClient(h).Transport.RoundTrip(r)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return res, err
	}
	l := &link{ReadWriteCloser: res.Body.(io.ReadWriteCloser)}
	res.Body = l
	n.mu.Lock()
	n.conns = append(n.conns, l)
	n.mu.Unlock()
	return res, nil
}

// serve changes who is at the other end of new connections.
func (n *network) serve(h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handler = h
}

func (n *network) last() *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conns[len(n.conns)-1]
}

// cut breaks the newest connection.
func (n *network) cut() { _ = n.last().Close() }

// mute lets nothing through the newest connection any more.
func (n *network) mute() {
	l := n.last()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.muted = make(chan struct{})
}

func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.dials)
}

// token is a Token function that always returns the same token.
func token(s string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s, nil }
}

// dial connects to a handler, and closes the client when the test ends. If o
// has no Token, the user is ana.
func dial(t *testing.T, h http.Handler, o client.Options) (*client.Client, *network) {
	t.Helper()
	n := &network{handler: h}
	return dialOver(t, n, o), n
}

func dialOver(t *testing.T, n *network, o client.Options) *client.Client {
	t.Helper()
	o.HTTPClient = &http.Client{Transport: n}
	if o.Token == nil {
		o.Token = token("ana")
	}
	c, err := client.Dial(t.Context(), "ws://hub.test/", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// join joins a room.
func join(t *testing.T, c *client.Client, room string, o client.JoinOptions) *client.Room {
	t.Helper()
	r, err := c.Join(t.Context(), room, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// source is what has events: a room, an inbox or a client.
type source interface {
	Events(ctx context.Context) iter.Seq[client.Event]
}

// next returns the next event of a type, and fails the test if none comes
// within a minute. Events before it are dropped.
func next(t *testing.T, s source, typ string) client.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for e := range s.Events(ctx) {
		if e.Type == typ {
			return e
		}
	}
	t.Fatalf("no %s within a minute", typ)
	return client.Event{}
}

// arrived returns the events of a type that have arrived.
func arrived(s source, types ...string) (all []client.Event) {
	synctest.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Nanosecond, cancel) // when everything else waits
	for e := range s.Events(ctx) {
		if slices.Contains(types, e.Type) {
			all = append(all, e)
		}
	}
	return all
}

// texts returns the data of events, as one string.
func texts(events []client.Event) string {
	var all []string
	for _, e := range events {
		if e.Type == client.TypeGap {
			all = append(all, "gap")
		} else {
			all = append(all, string(e.Data))
		}
	}
	return strings.Join(all, " ")
}

// until waits for a state.
func until(t *testing.T, c *client.Client, state client.State) client.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for s := range c.Statuses(ctx) {
		if s.State == state {
			return s
		}
	}
	t.Fatalf("not %v within a minute, but %v", state, c.Status())
	return client.Status{}
}
