package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
)

const secret = "a secret of the tests, long enough for HS256"

// hubURL is the URL of a hub in memory, whose host does not matter.
const hubURL = "ws://hub.test/ws"

// newHub returns a hub for tokens that are signed with secret, unless cfg says
// otherwise.
func newHub(t *testing.T, cfg chathub.Config) *chathub.Hub {
	t.Helper()
	if cfg.Auth == nil {
		cfg.Auth = &chathub.JWT{Key: []byte(secret)}
	}
	return hubtest.New(t, cfg)
}

// output is a buffer for several goroutines.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed at the next write, if somebody waits
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return o.buf.Write(b)
}

// await waits until a text is written.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(10 * time.Minute)
	for {
		o.mu.Lock()
		found := strings.Contains(o.buf.String(), text)
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no %q in:\n%s", text, o)
		}
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// result is what a command has done.
type result struct {
	status   int
	out, err string
}

// ran runs a command against a handler, in memory.
func ran(t *testing.T, h http.Handler, args ...string) result {
	t.Helper()
	return ranWith(t.Context(), h, "", args...)
}

func ranWith(ctx context.Context, h http.Handler, in string, args ...string) result {
	var out, err output
	e := newEnv(h, strings.NewReader(in), &out, &err)
	status := run(ctx, args, e)
	return result{status, out.String(), err.String()}
}

func newEnv(h http.Handler, in io.Reader, out, err io.Writer) *env {
	e := &env{in: in, out: out, err: err, getenv: func(name string) string {
		if name == "TEST_SECRET" {
			return secret
		}
		return ""
	}}
	if h != nil {
		e.client = hubtest.HTTPClient(h)
	}
	return e
}

// want fails the test if a result has another status, or lacks a part.
func (r result) want(t *testing.T, status int, parts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d", r.status, status)
	}
	all := r.out + r.err
	for _, p := range parts {
		if !strings.Contains(all, p) {
			t.Errorf("no %q", p)
		}
	}
	if strings.Contains(all, secret) || strings.Contains(all, "eyJ") && !strings.Contains(strings.Join(parts, ""), "eyJ") {
		t.Error("a secret is shown")
	}
	if t.Failed() {
		t.Fatalf("output:\n%s\nerrors:\n%s", r.out, r.err)
	}
}

// decoded returns the output as JSON.
func decoded[T any](t *testing.T, r result) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatalf("%v in:\n%s\nerrors:\n%s", err, r.out, r.err)
	}
	return v
}

// service is a hub that can be replaced, as in a rollout.
type service struct {
	mu  sync.Mutex
	hub *chathub.Hub
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	hub := s.hub
	s.mu.Unlock()
	hub.ServeHTTP(w, r)
}

// replace puts another hub in the place of the present one, which it shuts
// down.
func (s *service) replace(hub *chathub.Hub) error {
	s.mu.Lock()
	old := s.hub
	s.hub = hub
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return old.Shutdown(ctx)
}

// spoiler is a proxy that spoils what a hub sends.
type spoiler struct {
	hub http.Handler
	// down returns what a client gets instead of a message of the hub. Up does
	// the same for what a client sends; nil passes everything on.
	down   func(f frame, raw string, send func(string))
	up     func(f frame, raw string, send, back func(string))
	header func(http.Header) // changes the header of the handshake
}

func (s *spoiler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	header := r.Header.Clone()
	if s.header != nil {
		s.header(header)
	}
	hub, _, err := websocket.Dial(ctx, "ws://hub.test"+r.URL.Path, &websocket.DialOptions{
		HTTPClient: hubtest.HTTPClient(s.hub), Subprotocols: []string{subprotocol},
		HTTPHeader: http.Header{"Authorization": header["Authorization"]},
	})
	if err != nil {
		http.Error(w, "Bad gateway", http.StatusBadGateway)
		return
	}
	defer hub.CloseNow()
	ws, err := websocket.Accept(&upgradeWriter{w}, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	write := func(c *websocket.Conn) func(string) {
		return func(raw string) { _ = c.Write(ctx, websocket.MessageText, []byte(raw)) }
	}
	go pump(ctx, cancel, hub, func(f frame, raw string) {
		if s.down == nil {
			write(ws)(raw)
		} else {
			s.down(f, raw, write(ws))
		}
	})
	go pump(ctx, cancel, ws, func(f frame, raw string) {
		if s.up == nil {
			write(hub)(raw)
		} else {
			s.up(f, raw, write(hub), write(ws))
		}
	})
	<-ctx.Done()
}

func pump(ctx context.Context, end func(), from *websocket.Conn, do func(frame, string)) {
	defer end()
	for {
		_, b, err := from.Read(ctx)
		if err != nil {
			return
		}
		var f frame
		if json.Unmarshal(b, &f) == nil {
			do(f, string(b))
		}
	}
}

// upgradeWriter writes the response to a handshake to the connection, since
// that of hubtest keeps it.
type upgradeWriter struct{ http.ResponseWriter }

func (w *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n")
		_ = w.Header().Write(conn)
		_, err = io.WriteString(conn, "\r\n")
	}
	return conn, rw, err
}

// dialHub connects package client to a handler in memory.
func dialHub(t *testing.T, h http.Handler, user string) *client.Client {
	t.Helper()
	s := &signer{key: []byte(secret), life: time.Hour}
	c, err := client.Dial(t.Context(), hubURL, client.Options{
		HTTPClient: hubtest.HTTPClient(h),
		Token: func(context.Context) (string, error) {
			token, _, err := s.sign(user, user, time.Now())
			return token, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
