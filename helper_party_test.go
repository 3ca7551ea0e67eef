package chathub_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// party is a hub without presence and rate limits, so that its guests hear only
// what a test causes. It knows both ends of each connection.
type party struct {
	t   *testing.T
	hub *chathub.Hub

	mu  sync.Mutex
	srv map[string]*chathub.Client // by connection id
}

// guest is both ends of a connection.
type guest struct {
	*hubtest.Client
	server *chathub.Client
}

func newParty(t *testing.T, cfg chathub.Config) *party {
	t.Helper()
	p := &party{t: t, srv: make(map[string]*chathub.Client)}
	cfg.PresenceInterval = -1
	if cfg.Rate == 0 {
		cfg.Rate = -1
	}
	onConnect := cfg.OnConnect
	cfg.OnConnect = func(ctx context.Context, c *chathub.Client, r *http.Request) error {
		p.mu.Lock()
		p.srv[c.ID()] = c
		p.mu.Unlock()
		if onConnect == nil {
			return nil
		}
		return onConnect(ctx, c, r)
	}
	p.hub = hubtest.New(t, cfg)
	return p
}

// dial connects a user, and lets it join rooms.
func (p *party) dial(user string, rooms ...string) guest {
	p.t.Helper()
	c := hubtest.Dial(p.t, p.hub, user)
	var welcome struct {
		ClientID string `json:"clientId"`
	}
	unmarshal(p.t, c.Welcome.Data, &welcome)
	p.mu.Lock()
	g := guest{c, p.srv[welcome.ClientID]}
	p.mu.Unlock()
	if err := g.server.Join(p.t.Context(), rooms...); err != nil {
		p.t.Fatal(err)
	}
	return g
}

func unmarshal(t testing.TB, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
}

// heard returns what has come since the last call, in short: type, @room, data.
func (g guest) heard() []string { return heard(g.Client) }

func heard(c *hubtest.Client) []string {
	synctest.Wait()
	var all []string
	for _, f := range c.Pending() {
		s := f.Type
		if f.Room != "" {
			s += "@" + f.Room
		}
		if f.Data != nil {
			s += " " + string(f.Data)
		}
		all = append(all, s)
	}
	return all
}

// wantHeard checks everything that a client has heard.
func wantHeard(t *testing.T, who string, c *hubtest.Client, want ...string) {
	t.Helper()
	if got := heard(c); !slices.Equal(got, want) {
		t.Errorf("%s heard %q, want %q", who, got, want)
	}
}

// knock connects, and returns the client without reading its first frame.
func knock(t *testing.T, h http.Handler, user string) *hubtest.Client {
	t.Helper()
	c, err := hubtest.DialHeader(t, h, http.Header{"Authorization": {"Bearer " + user}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// raw returns JSON as the data of a frame. If s is empty, there is none.
func raw(s string) jsontext.Value {
	if s == "" {
		return nil
	}
	return jsontext.Value(s)
}

// record is a list that callbacks append to.
type record struct {
	mu  sync.Mutex
	all []string
}

func (r *record) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf(format, args...))
}

// take returns what was added since the last call.
func (r *record) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

func (r *record) want(t *testing.T, when string, want ...string) {
	t.Helper()
	if got := r.take(); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", when, got, want)
	}
}

// logBuffer keeps what a hub logs.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// take returns what was logged since the last call.
func (b *logBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.buf.String()
	b.buf.Reset()
	return s
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// second returns the error of a call with two results.
func second[T any](_ T, err error) error { return err }
