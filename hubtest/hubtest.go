// Package hubtest runs a hub and its clients in memory, for tests of
// applications that embed chathub. It needs no port, and works inside
// testing/synctest, where timeouts take no time:
//
//	synctest.Test(t, func(t *testing.T) {
//		hub := hubtest.New(t, chathub.Config{})
//		ana := hubtest.Dial(t, hub, "ana")
//		ana.Request(hubtest.Frame{Type: "join-room", Room: "lobby"})
//	})
package hubtest

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/chathub-go/chathub"
)

// Auth is a [chathub.Authenticator] for tests. The token is the user's id, or
// "id/name", or "id/name/tenant". An empty token is refused.
type Auth struct{}

// Authenticate implements [chathub.Authenticator].
func (Auth) Authenticate(_ context.Context, token string, _ *http.Request) (chathub.Identity, error) {
	id, name, _ := strings.Cut(token, "/")
	name, tenant, _ := strings.Cut(name, "/")
	if id == "" {
		return chathub.Identity{}, &chathub.Error{Code: chathub.CodeUnauthenticated, Message: "Authentication required"}
	}
	if name == "" {
		name = id
	}
	return chathub.Identity{User: chathub.User{ID: id, Name: name}, Tenant: tenant}, nil
}

// New returns a running hub, which is closed when the test ends. If cfg has no
// Auth, the hub uses [Auth]. If cfg has no Logger, the hub logs to the output
// of the test. New fails the test if cfg is not valid.
func New(t testing.TB, cfg chathub.Config) *chathub.Hub {
	t.Helper()
	if cfg.Auth == nil {
		cfg.Auth = Auth{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	hub, err := chathub.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
	})
	return hub
}

// HTTPClient returns a client whose requests are served by h, in memory. It is
// for code under test that makes WebSocket handshakes itself, such as package
// client (as its Options.HTTPClient). The host of the URL does not matter.
func HTTPClient(h http.Handler) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return (&transport{handler: h}).RoundTrip(r)
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (rt roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return rt(r) }

// transport is an http.RoundTripper that calls a handler. If the handler takes
// over the connection, the body of the response is the other end of a pipe.
type transport struct {
	handler http.Handler
	valve   *valve // of the last connection that was taken over
}

func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.RequestURI = r.URL.RequestURI()
	r.RemoteAddr = "192.0.2.1:1234" // RFC 5737
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := &responseWriter{header: make(http.Header), status: http.StatusOK, hijacked: make(chan net.Conn, 1)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		tr.handler.ServeHTTP(w, r)
	}()
	select {
	case conn := <-w.hijacked:
		return tr.readResponse(conn, r)
	case <-served:
	}
	select {
	case conn := <-w.hijacked:
		return tr.readResponse(conn, r)
	default:
	}
	return &http.Response{
		StatusCode: w.status,
		Status:     http.StatusText(w.status),
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     w.header,
		Request:    r,
		Body:       io.NopCloser(strings.NewReader(w.body.String())),
	}, nil
}

// readResponse reads the response from a connection that the handler has taken
// over.
func (tr *transport) readResponse(conn net.Conn, r *http.Request) (*http.Response, error) {
	v := newValve(conn)
	res, err := http.ReadResponse(v.br, r)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	tr.valve, res.Body = v, v
	return res, nil
}

// responseWriter is an http.ResponseWriter and http.Hijacker over a pipe.
type responseWriter struct {
	header   http.Header
	status   int
	body     strings.Builder
	hijacked chan net.Conn // gets the client's end; has room for it
}

func (w *responseWriter) Header() http.Header         { return w.header }
func (w *responseWriter) WriteHeader(status int)      { w.status = status }
func (w *responseWriter) Write(p []byte) (int, error) { return w.body.Write(p) }

func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	server, client := net.Pipe()
	w.hijacked <- client
	return server, bufio.NewReadWriter(bufio.NewReader(server), bufio.NewWriter(server)), nil
}

// valve is a connection that can stop reading.
type valve struct {
	net.Conn
	br     *bufio.Reader
	mu     sync.Mutex
	open   chan struct{} // closed while reading is allowed
	closed chan struct{}
	once   sync.Once
}

func newValve(c net.Conn) *valve {
	v := &valve{Conn: c, br: bufio.NewReader(c), open: make(chan struct{}), closed: make(chan struct{})}
	close(v.open)
	return v
}

func (v *valve) Read(p []byte) (int, error) {
	v.mu.Lock()
	open := v.open
	v.mu.Unlock()
	select {
	case <-open:
		return v.br.Read(p)
	case <-v.closed:
		return 0, net.ErrClosed
	}
}

func (v *valve) Close() error {
	v.once.Do(func() { close(v.closed) })
	return v.Conn.Close()
}

func (v *valve) pause() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open = make(chan struct{})
}

func (v *valve) resume() {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.open:
	default:
		close(v.open)
	}
}
