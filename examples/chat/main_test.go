package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	secret   = "a secret of at least 32 bytes, for tests"
	patience = 30 * time.Second // how long a test waits before it fails
)

// logs collects the log of a server, and sends its URL once that is logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
	url  chan string // has room for one
}

var readyLine = regexp.MustCompile(`msg="chat is ready" url=(\S+)`)

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := readyLine.FindSubmatch(b); m != nil {
		l.url <- string(m[1])
	}
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// server is a running program.
type server struct {
	url  string
	logs *logs
	stop context.CancelFunc // like a signal
	done chan error         // the result of run
}

// start runs the program on a free port, with the tests' secret unless env has
// another.
func start(t *testing.T, env map[string]string, args ...string) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &server{logs: &logs{url: make(chan string, 1)}, stop: cancel, done: make(chan error, 1)}
	getenv := func(name string) string {
		if v, ok := env[name]; ok || name != "JWT_SECRET" {
			return v
		}
		return secret
	}
	go func() {
		s.done <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), getenv, s.logs)
		close(s.done)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-s.done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case s.url = <-s.logs.url:
	case err := <-s.done:
		t.Fatalf("run: %v", err)
	}
	return s
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (s *server) request(t *testing.T, method, path, body string, header http.Header) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

func (s *server) login(t *testing.T, name string) loginReply {
	t.Helper()
	a := s.request(t, http.MethodPost, "login", fmt.Sprintf(`{"name":%q}`, name), nil)
	var reply loginReply
	if err := json.Unmarshal([]byte(a.body), &reply); err != nil || a.status != http.StatusOK {
		t.Fatalf("log-in of %q: %d, %s, %v", name, a.status, a.body, err)
	}
	return reply
}

// client is a user's WebSocket connection.
type client struct {
	t    *testing.T
	conn *websocket.Conn
}

type envelope struct {
	Type string         `json:"type"`
	ID   string         `json:"id,omitzero"`
	Room string         `json:"room,omitzero"`
	To   string         `json:"to,omitzero"`
	From *chathub.User  `json:"from,omitzero"`
	Data jsontext.Value `json:"data,omitzero"`
}

// dial opens a WebSocket like the page does. It returns the HTTP status of the
// answer also if that is a refusal.
func (s *server) dial(t *testing.T, token, origin string) (conn *websocket.Conn, status int, err error) {
	t.Helper()
	conn, res, err := websocket.Dial(t.Context(), s.url+"ws", &websocket.DialOptions{
		Subprotocols: []string{"chathub.v1", "chathub.bearer." + token},
		HTTPHeader:   http.Header{"Origin": {origin}},
	})
	if res != nil {
		status = res.StatusCode
	}
	return conn, status, err
}

// connect logs in, connects, and reads the welcome.
func (s *server) connect(t *testing.T, name string) *client {
	t.Helper()
	conn, _, err := s.dial(t, s.login(t, name).Token, strings.TrimSuffix(s.url, "/"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	c := &client{t: t, conn: conn}
	c.await("welcome")
	return c
}

func (c *client) send(e envelope) {
	c.t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.conn.Write(c.t.Context(), websocket.MessageText, b); err != nil {
		c.t.Fatal(err)
	}
}

// await reads up to the next envelope of a type. An error envelope fails the
// test.
func (c *client) await(typ string) envelope {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for {
		_, b, err := c.conn.Read(ctx)
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", typ, err)
		}
		var e envelope
		if err := json.Unmarshal(b, &e); err != nil {
			c.t.Fatalf("%s: %v", b, err)
		}
		if e.Type == typ {
			return e
		}
		if e.Type == "error" {
			c.t.Fatalf("waiting for %s: %s", typ, b)
		}
	}
}

// TestChat: chatting works the same on every broker.
func TestChat(t *testing.T) {
	for name, args := range map[string][]string{
		"memory": nil,
		"data":   {"-data", t.TempDir()},
		"nats":   {"-nats", natsServer(t)},
	} {
		t.Run(name, func(t *testing.T) { chat(t, start(t, nil, args...)) })
	}
}

func chat(t *testing.T, s *server) {
	ana, ben := s.connect(t, "Ana"), s.connect(t, "Ben")
	for _, c := range []*client{ana, ben} {
		c.send(envelope{Type: "join-room", ID: "j", Room: "lobby"})
		c.await("ack")
	}
	ana.send(envelope{Type: "room-message", ID: "m1", Room: "lobby", Data: []byte(`{"text":"hello"}`)})
	e := ben.await("room-message")
	if e.Room != "lobby" || e.From.Name != "Ana" || string(e.Data) != `{"text":"hello"}` {
		t.Errorf("Ben got %+v", e)
	}
	ben.send(envelope{Type: "private-message", ID: "m1", To: e.From.ID, Data: []byte(`{"text":"for you alone"}`)})
	ben.await("ack")
	if e := ana.await("private-message"); e.From.Name != "Ben" || string(e.Data) != `{"text":"for you alone"}` {
		t.Errorf("Ana got %+v", e)
	}

	body := s.request(t, http.MethodGet, "healthz", "", nil).body
	var stats struct{ Connections, Users, Rooms int }
	if err := json.Unmarshal([]byte(body), &stats, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if stats.Connections != 2 || stats.Users != 2 || stats.Rooms != 1 {
		t.Errorf("healthz says %s", body)
	}
}

// A client without a token is refused, and so is one with a forged token.
func TestChatRefuses(t *testing.T) {
	s := start(t, nil)
	forged, err := (&login{key: []byte("another key, of 32 bytes and more")}).sign(s.login(t, "Ana").User, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", forged} {
		conn, _, err := s.dial(t, token, strings.TrimSuffix(s.url, "/"))
		if err != nil {
			t.Fatal(err)
		}
		c := &client{t: t, conn: conn}
		c.await("connect-error")
		if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != 4500 {
			t.Errorf("with token %q: %v", token, err)
		}
	}
}

func TestShutdown(t *testing.T) {
	s := start(t, nil)
	ana := s.connect(t, "Ana")
	s.stop()
	ana.await("reconnect")
	if _, _, err := ana.conn.Read(t.Context()); websocket.CloseStatus(err) != 4000 {
		t.Errorf("the connection ended with %v", err)
	}
	if err := <-s.done; err != nil {
		t.Errorf("run returned %v", err)
	}
	if conn, _, err := s.dial(t, "", ""); err == nil {
		_ = conn.CloseNow()
		t.Error("the server still listens")
	}
}

// A request that hangs keeps the server waiting, but not the hub: every client
// is told to come back before the request has ended.
func TestShutdownWhileRequestHangs(t *testing.T) {
	s := start(t, nil)
	clients := []*client{s.connect(t, "Ana"), s.connect(t, "Ben"), s.connect(t, "Chris")}
	finish := s.hang(t)
	s.stop()
	for _, c := range clients {
		c.await("reconnect")
		if _, _, err := c.conn.Read(t.Context()); websocket.CloseStatus(err) != 4000 {
			t.Errorf("the connection ended with %v", err)
		}
	}
	if status := finish(); status != http.StatusOK {
		t.Errorf("the request that hung was answered with %d", status)
	}
	if err := <-s.done; err != nil {
		t.Errorf("run returned %v", err)
	}
	if strings.Contains(s.logs.String(), "did not finish") {
		t.Errorf("the shutdown was cut short: %s", s.logs)
	}
}

// hang begins a request and returns once its handler waits for the rest. Finish
// sends that, and returns the status of the answer.
func (s *server) hang(t *testing.T) (finish func() int) {
	t.Helper()
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	const body = `{"name":"Dana"}`
	// The server says "100 Continue" when the handler reads the body.
	_, err = fmt.Fprintf(conn, "POST /login HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", u.Host, len(body))
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	next := func() int {
		t.Helper()
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if status := next(); status != http.StatusContinue {
		t.Fatalf("the request was answered with %d before its body was sent", status)
	}
	return func() int {
		t.Helper()
		if _, err := io.WriteString(conn, body); err != nil {
			t.Fatal(err)
		}
		return next()
	}
}

// Tokens stay valid over a restart with the same secret. Without a secret they
// do not, and the log says so.
func TestSecret(t *testing.T) {
	first := start(t, nil)
	token := first.login(t, "Ana").Token
	if strings.Contains(first.logs.String(), "JWT_SECRET") {
		t.Errorf("a needless warning: %s", first.logs)
	}
	random := start(t, map[string]string{"JWT_SECRET": ""})
	if !strings.Contains(random.logs.String(), "JWT_SECRET is not set") {
		t.Errorf("no warning: %s", random.logs)
	}
	for s, want := range map[*server]string{start(t, nil): "welcome", random: "connect-error"} {
		conn, _, err := s.dial(t, token, strings.TrimSuffix(s.url, "/"))
		if err != nil {
			t.Fatal(err)
		}
		(&client{t: t, conn: conn}).await(want)
		_ = conn.CloseNow()
	}
	for _, s := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
		if strings.Contains(first.logs.String(), s) {
			t.Error("the secret is in the log")
		}
	}
}

func TestURL(t *testing.T) {
	for addr, want := range map[string]string{
		"[::]:5000":      "http://localhost:5000/",
		"0.0.0.0:80":     "http://localhost:80/",
		"127.0.0.1:5000": "http://127.0.0.1:5000/",
		"[::1]:5000":     "http://[::1]:5000/",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := urlOf(tcp); got != want {
			t.Errorf("urlOf(%s) = %s, want %s", addr, got, want)
		}
	}
}
