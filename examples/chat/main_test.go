package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

const (
	secret   = "a secret of at least 32 bytes, for tests"
	patience = 30 * time.Second // with what is certain to come; reached only where a test fails
)

// logs collects what a server logs, and hands over its URL once that is there.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
	url  chan string // holds one
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
	stop context.CancelFunc // as a signal does
	done chan error         // what run returned
}

// start runs the program on a free port, with a secret unless env has another.
func start(t *testing.T, env map[string]string) *server {
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
		s.done <- run(ctx, []string{"-addr", "127.0.0.1:0"}, getenv, s.logs)
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

// dial opens a WebSocket as a page does, or returns the HTTP status of the refusal.
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

// connect logs in and returns the connection with its welcome read.
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

// await reads up to the next envelope of a type. An error is never passed over.
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

func TestLogin(t *testing.T) {
	s := start(t, nil)
	ana := s.login(t, "  Ana María ")
	if ana.User.Name != "Ana María" || ana.User.ID == "" {
		t.Errorf("user %+v", ana.User)
	}
	if again := s.login(t, "ana maría"); again.User.ID != ana.User.ID {
		t.Errorf("ids %q and %q for the same name", again.User.ID, ana.User.ID)
	}
	if ben := s.login(t, "Ben"); ben.User.ID == ana.User.ID {
		t.Errorf("id %q for two names", ben.User.ID)
	}
	s.login(t, strings.Repeat("é", maxName))

	var c claims
	_, err := jwt.ParseWithClaims(ana.Token, &c, func(*jwt.Token) (any, error) { return []byte(secret), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
	if err != nil {
		t.Fatal(err)
	}
	if c.UserID != ana.User.ID || c.Subject != ana.User.ID || c.Name != "Ana María" {
		t.Errorf("claims %+v", c)
	}
	if life := c.ExpiresAt.Sub(c.IssuedAt.Time); life != time.Hour {
		t.Errorf("the token lives for %s", life)
	}
	if strings.Contains(s.logs.String(), ana.Token) {
		t.Error("a token is in the log")
	}
}

func TestLoginRefuses(t *testing.T) {
	s := start(t, nil)
	for name, tt := range map[string]struct {
		body   string
		status int
		code   chathub.Code
	}{
		"nothing":           {``, http.StatusBadRequest, "bad_request"},
		"not JSON":          {`name=Ana`, http.StatusBadRequest, "bad_request"},
		"not an object":     {`["Ana"]`, http.StatusBadRequest, "bad_request"},
		"not a string":      {`{"name":7}`, http.StatusBadRequest, "bad_request"},
		"two names":         {`{"name":"Ana","name":"Ben"}`, http.StatusBadRequest, "bad_request"},
		"text after it":     {`{"name":"Ana"} {}`, http.StatusBadRequest, "bad_request"},
		"not UTF-8":         {"{\"name\":\"\xff\"}", http.StatusBadRequest, "bad_request"},
		"no name":           {`{}`, http.StatusBadRequest, "bad_request"},
		"spaces":            {`{"name":" \t "}`, http.StatusBadRequest, "bad_request"},
		"long name":         {`{"name":"` + strings.Repeat("é", maxName+1) + `"}`, http.StatusBadRequest, "bad_request"},
		"control character": {`{"name":"A\u0007na"}`, http.StatusBadRequest, "bad_request"},
		"nothing to see":    {`{"name":"\u200b\u200d"}`, http.StatusBadRequest, "bad_request"},
		"large body":        {`{"name":"Ana","x":"` + strings.Repeat("x", maxLoginBody) + `"}`, http.StatusRequestEntityTooLarge, "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.request(t, http.MethodPost, "login", tt.body, nil)
			var e refusal
			if err := json.Unmarshal([]byte(a.body), &e); err != nil {
				t.Fatalf("%s: %v", a.body, err)
			}
			if a.status != tt.status || e.Code != tt.code || e.Message == "" {
				t.Errorf("%d, %s; want %d and %s", a.status, a.body, tt.status, tt.code)
			}
			if got := a.header.Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
}

// A page of a listed origin can log in and connect; one of another cannot read
// the answer, and is not let in.
func TestOrigins(t *testing.T) {
	const listed, other = "https://chat.example.com", "https://evil.example.com"
	s := start(t, map[string]string{"CLIENT_URL": " http://localhost:5173 , " + listed + "/"})
	token := s.login(t, "Ana").Token
	for origin, allowed := range map[string]bool{listed: true, other: false} {
		header := http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}}
		for _, method := range []string{http.MethodOptions, http.MethodPost} {
			a := s.request(t, method, "login", `{"name":"Ana"}`, header)
			if got := a.header.Get("Access-Control-Allow-Origin") == origin; got != allowed {
				t.Errorf("%s from %s: allowed is %v", method, origin, got)
			}
		}
		want := http.StatusForbidden
		if allowed {
			want = http.StatusSwitchingProtocols
		}
		conn, status, err := s.dial(t, token, origin)
		if err == nil {
			_ = conn.CloseNow()
		}
		if status != want {
			t.Errorf("connecting from %s: %d, want %d", origin, status, want)
		}
	}
}

var reference = regexp.MustCompile(`(?:src|href|from)(?:=| )["']([^"'#]+)["']`)

// Every file of the page is there, with its type, under a policy that lets
// nothing in from elsewhere; and the page asks for nothing else.
func TestPage(t *testing.T) {
	s := start(t, nil)
	types := map[string]string{
		".html": "text/html; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".css":  "text/css; charset=utf-8",
		".svg":  "image/svg+xml",
	}
	files, err := fs.Glob(embedded, "page/*")
	if err != nil || len(files) < len(types) {
		t.Fatal(files, err)
	}
	have := map[string]bool{}
	for _, name := range files {
		have[path.Base(name)] = true
	}
	for name := range have {
		url := strings.TrimSuffix(name, "index.html")
		a := s.request(t, http.MethodGet, url, "", nil)
		if a.status != http.StatusOK {
			t.Errorf("%s: %d", name, a.status)
		}
		if got, want := a.header.Get("Content-Type"), types[path.Ext(name)]; got != want {
			t.Errorf("%s has the type %q, want %q", name, got, want)
		}
		for _, m := range reference.FindAllStringSubmatch(a.body, -1) {
			if !have[path.Base(m[1])] {
				t.Errorf("%s refers to %s", name, m[1])
			}
		}
	}
	for _, p := range []string{"", "style.css", "nowhere", "healthz"} {
		header := s.request(t, http.MethodGet, p, "", nil).header
		csp := header.Get("Content-Security-Policy")
		for _, directive := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(csp, directive) {
				t.Errorf("/%s: policy %q has no %s", p, csp, directive)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("/%s: policy %q", p, csp)
		}
		if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Referrer-Policy") == "" {
			t.Errorf("/%s: headers %v", p, header)
		}
	}
}

func TestChat(t *testing.T) {
	s := start(t, nil)
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

// Without a token, and with one that somebody has made up.
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
		t.Errorf("connection ended with %v", err)
	}
	if err := <-s.done; err != nil {
		t.Errorf("run returned %v", err)
	}
	if conn, _, err := s.dial(t, "", ""); err == nil {
		_ = conn.CloseNow()
		t.Error("still listening")
	}
}

// Tokens of a server with a secret are good for the next one; without, they are
// not, and the log says so.
func TestSecret(t *testing.T) {
	first := start(t, nil)
	token := first.login(t, "Ana").Token
	if strings.Contains(first.logs.String(), "JWT_SECRET") {
		t.Errorf("a warning without need: %s", first.logs)
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

func TestRunFails(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tt := range map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"port in use":       {args: []string{"-addr", taken.Addr().String()}, want: "address already in use"},
		"port from PORT":    {env: map[string]string{"PORT": "notaport"}, want: "notaport"},
		"short secret":      {env: map[string]string{"JWT_SECRET": "hush"}, want: "JWT_SECRET has 4 bytes, it needs at least 32"},
		"origin":            {env: map[string]string{"CLIENT_URL": "chat.example.com"}, want: "chat.example.com"},
		"unknown flag":      {args: []string{"-port", "1"}, want: "-port"},
		"unknown level":     {args: []string{"-log-level", "loud"}, want: "loud"},
		"rate not a number": {args: []string{"-rate", "fast"}, want: "fast"},
		"argument":          {args: []string{"serve"}, want: `unexpected argument "serve"`},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience) // where it does not fail, it serves
			defer cancel()
			var out strings.Builder
			err := run(ctx, tt.args, func(name string) string { return tt.env[name] }, &out)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that says %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), []string{"-help"}, func(string) string { return "" }, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-addr", "-rate", "-log-level", "PORT", "JWT_SECRET", "CLIENT_URL", ":5000"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help without %s:\n%s", want, &out)
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
