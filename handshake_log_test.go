package chathub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/golang-jwt/jwt/v5"
)

// logRecorder keeps the lines of a log. It may be used concurrently.
type logRecorder struct {
	mu    sync.Mutex
	lines []logLine
}

type logLine struct {
	level slog.Level
	msg   string
	attrs map[string]string
}

func (r *logRecorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *logRecorder) WithAttrs([]slog.Attr) slog.Handler       { panic("not used") }
func (r *logRecorder) WithGroup(string) slog.Handler            { panic("not used") }

func (r *logRecorder) Handle(_ context.Context, rec slog.Record) error {
	l := logLine{rec.Level, rec.Message, make(map[string]string)}
	rec.Attrs(func(a slog.Attr) bool {
		l.attrs[a.Key] = a.Value.String()
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, l)
	return nil
}

// take returns the lines about refusals since the last call.
func (r *logRecorder) take() (lines []logLine) {
	for _, l := range r.takeAll() {
		if l.msg == "chathub: handshake refused" || l.msg == "chathub: token refused" {
			lines = append(lines, l)
		}
	}
	return lines
}

// takeAll returns all lines since the last call.
func (r *logRecorder) takeAll() []logLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// TestRefusalsAreLogged checks that the operator can see from one line why a
// handshake was refused, and what to do.
func TestRefusalsAreLogged(t *testing.T) {
	type attrs = map[string]string // parts of the line's values
	sign := func(header, claims jwt.MapClaims) string {
		t.Helper()
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
		for k, v := range header {
			token.Header[k] = v
		}
		s, err := token.SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// claims returns good claims with others instead; nil removes one.
	claims := func(change jwt.MapClaims) func() string {
		return func() string { // within the bubble of synctest, for its clock
			c := jwt.MapClaims{"sub": "ana", "iss": "https://id.test", "aud": "chat", "exp": time.Now().Add(time.Hour).Unix()}
			for k, v := range change {
				if c[k] = v; v == nil {
					delete(c, k)
				}
			}
			return sign(nil, c)
		}
	}
	in := func(d time.Duration) func(string) func() string {
		return func(claim string) func() string {
			return func() string { return claims(jwt.MapClaims{claim: time.Now().Add(d).Unix()})() }
		}
	}
	text := func(s string) func() string { return func() string { return s } }
	auth := func(err error, id chathub.Identity) chathub.Authenticator {
		return authFunc(func(string, *http.Request) (chathub.Identity, error) { return id, err })
	}
	ana := chathub.Identity{User: chathub.User{ID: "ana"}}
	for _, tc := range []struct {
		name   string
		cfg    chathub.Config
		others []string // who is connected already
		token  func() string
		change func(*http.Request)
		level  slog.Level
		want   attrs
		not    []string // attributes that the line must not have
	}{
		{name: "origin of another site", level: slog.LevelWarn,
			change: func(r *http.Request) { r.Header.Set("Origin", "http://other.test") },
			want: attrs{"reason": "Origin not allowed", "origin": "http://other.test", "own": "http://hub.test",
				"allow": "Config.Origins", "hint": "ProxyPreserveHost On (Apache), proxy_set_header Host", "address": "192.0.2.1"}},
		{name: "origin behind a proxy that ends TLS", level: slog.LevelWarn,
			change: func(r *http.Request) { r.Header.Set("Origin", "https://hub.test") },
			want:   attrs{"origin": "https://hub.test", "own": "http://hub.test", "hint": "X-Forwarded-Proto"}},
		{name: "origin null", level: slog.LevelWarn,
			change: func(r *http.Request) { r.Header.Set("Origin", "null") },
			want:   attrs{"origin": "null", "err": "sandboxed"}, not: []string{"allow", "hint"}},
		{name: "origin that fills the log", level: slog.LevelWarn,
			change: func(r *http.Request) { r.Header.Set("Origin", "http://"+strings.Repeat("\x80\"", 50_000)) },
			want:   attrs{"origin": `http://\x80\"`, "own": "http://hub.test"}},
		{name: "Host that fills the log", level: slog.LevelWarn,
			change: func(r *http.Request) {
				r.Host = strings.Repeat("h", 100_000)
				r.Header.Set("Origin", "http://other.test")
			},
			want: attrs{"origin": "http://other.test", "own": "http://hhhh"}},
		{name: "no origin", cfg: chathub.Config{RequireOrigin: true}, level: slog.LevelWarn,
			want: attrs{"reason": "Origin not allowed", "err": "no Origin"}},

		{name: "Upgrade lost in a proxy", level: slog.LevelWarn,
			change: func(r *http.Request) { r.Header.Del("Upgrade"); r.Header.Set("Connection", "close") },
			want:   attrs{"reason": "Bad handshake", "err": "no Upgrade header", "hint": "proxy_set_header Upgrade"}},
		{name: "Connection lost in a proxy", level: slog.LevelWarn, token: text("ana"), cfg: chathub.Config{Auth: hubtest.Auth{}},
			change: func(r *http.Request) { r.Header.Set("Connection", "close") },
			want:   attrs{"reason": "Bad handshake", "err": "Connection", "hint": "upgrade=websocket"}},

		{name: "no token", level: slog.LevelInfo, want: attrs{"reason": "Authentication required", "address": "192.0.2.1"}},
		{name: "opaque token", token: text("0123456789abcdef"), level: slog.LevelInfo, want: attrs{"reason": "Invalid token", "err": "header"}},
		{name: "two tokens", token: text("ana"), change: func(r *http.Request) { r.Header.Add("Authorization", "Bearer ben") },
			level: slog.LevelInfo, want: attrs{"reason": "Invalid token", "err": "several different tokens"}},
		{name: "not base64url", change: func(r *http.Request) { r.Header.Add("Sec-WebSocket-Protocol", "chathub.bearer64.a=") },
			level: slog.LevelInfo, want: attrs{"reason": "Invalid token", "err": "base64url"}},
		{name: "algorithm", token: func() string { return sign(jwt.MapClaims{"alg": "HS512"}, nil) },
			level: slog.LevelInfo, want: attrs{"reason": "Invalid token", "err": `alg "HS512", no kid; allowed: HS256`}},
		{name: "unknown algorithm", token: func() string { return sign(jwt.MapClaims{"alg": "none\n"}, nil) },
			level: slog.LevelInfo, want: attrs{"err": `alg "none\n"`}},
		{name: "unknown kid", token: func() string { return sign(jwt.MapClaims{"kid": "2020"}, nil) },
			cfg:   chathub.Config{Auth: &chathub.JWT{Keys: map[string]any{"2026": secret}}},
			level: slog.LevelInfo, want: attrs{"reason": "Invalid token", "err": `no key has this kid (alg "HS256", kid "2020"`}},
		{name: "kid that fills the log", token: func() string { return sign(jwt.MapClaims{"kid": strings.Repeat("\x01", 400)}, nil) },
			cfg:   chathub.Config{Auth: &chathub.JWT{Keys: map[string]any{"2026": secret}}},
			level: slog.LevelInfo, want: attrs{"err": `\x01...`}},
		{name: "signature", token: func() string { return claims(nil)() + "AAAA" }, level: slog.LevelInfo,
			want: attrs{"reason": "Invalid token", "err": "signature is invalid"}},
		{name: "expired", token: in(-26 * time.Hour)("exp"), level: slog.LevelInfo,
			want: attrs{"reason": "Token expired", "err": "exp was 26h0m0s ago"}},
		{name: "not valid yet", token: in(time.Minute)("nbf"), level: slog.LevelInfo,
			want: attrs{"reason": "Invalid token", "err": "nbf is in 1m0s"}},
		{name: "no exp", token: claims(jwt.MapClaims{"exp": nil}), level: slog.LevelInfo,
			want: attrs{"reason": "Invalid token", "err": "exp claim is required"}},
		{name: "issuer", token: claims(jwt.MapClaims{"iss": "https://other.test"}), level: slog.LevelInfo,
			want: attrs{"reason": "Invalid token", "err": `iss is "https://other.test", not "https://id.test"`}},
		{name: "audience", token: claims(jwt.MapClaims{"aud": []string{"mail", "shop"}}), level: slog.LevelInfo,
			want: attrs{"reason": "Invalid token", "err": `aud is "mail shop", not "chat"`}},
		{name: "no audience", token: claims(jwt.MapClaims{"aud": nil}), level: slog.LevelInfo,
			want: attrs{"reason": "Invalid token", "err": "aud claim is required"}},
		{name: "bad id", token: claims(jwt.MapClaims{"sub": "ana\n"}), level: slog.LevelInfo,
			want: attrs{"reason": "Invalid token", "err": "user id has control characters"}},
		{name: "identity that has expired", level: slog.LevelInfo,
			cfg:  chathub.Config{Auth: auth(nil, chathub.Identity{User: ana.User, Expires: time.Unix(1, 0)})},
			want: attrs{"reason": "Token expired", "err": "ago"}},
		{name: "the application's refusal", level: slog.LevelInfo,
			cfg:  chathub.Config{Auth: auth(&chathub.Error{Code: "banned", Message: "Go away", Err: errors.New("spam")}, ana)},
			want: attrs{"reason": "Go away", "err": "spam"}},

		{name: "bad id of an Authenticator", level: slog.LevelError, cfg: chathub.Config{Auth: auth(nil, chathub.Identity{})},
			want: attrs{"reason": "Internal error", "err": "user id is empty"}},
		{name: "fault of an Authenticator", level: slog.LevelError, cfg: chathub.Config{Auth: auth(errors.New("no such table"), ana)},
			want: attrs{"reason": "Internal error", "err": "no such table"}},
		{name: "nobody can tell", level: slog.LevelWarn,
			cfg: chathub.Config{Auth: &chathub.JWT{Methods: []string{"HS256"}, Keyfunc: func(*jwt.Token) (any, error) {
				return nil, &net.DNSError{Name: "keys.test", Err: "no such host"}
			}}},
			token: claims(nil), want: attrs{"reason": "Try again", "err": "keys.test"}},
		{name: "OnConnect", level: slog.LevelInfo, token: text("ana"),
			cfg: chathub.Config{Auth: hubtest.Auth{}, OnConnect: func(context.Context, *chathub.Client, *http.Request) error {
				return &chathub.Error{Code: chathub.CodeForbidden, Message: "Maintenance"}
			}},
			want: attrs{"reason": "Maintenance", "user": "ana"}},

		{name: "connections in all", cfg: chathub.Config{Auth: hubtest.Auth{}, MaxConns: 1}, others: []string{"ben"}, token: text("ana"),
			level: slog.LevelWarn, want: attrs{"reason": "Too many connections", "address": "192.0.2.1"}},
		{name: "connections of the address", cfg: chathub.Config{Auth: hubtest.Auth{}, MaxConnsPerAddress: 1}, others: []string{"ben"}, token: text("ana"),
			level: slog.LevelWarn, want: attrs{"reason": "Too many connections from this address", "address": "192.0.2.1"}},
		{name: "connections of the user", cfg: chathub.Config{Auth: hubtest.Auth{}, MaxConnsPerUser: 1}, others: []string{"ana"}, token: text("ana"),
			level: slog.LevelWarn, want: attrs{"reason": "Too many connections of this user", "user": "ana"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &logRecorder{}
				tc.cfg.Logger = slog.New(log)
				if tc.cfg.Auth == nil {
					tc.cfg.Auth = &chathub.JWT{Key: secret, Issuer: "https://id.test", Audience: "chat"}
				}
				hub := hubtest.New(t, tc.cfg)
				for _, other := range tc.others {
					hubtest.Dial(t, hub, other)
				}
				r := handshake(t, "chathub.v1")
				token := ""
				if tc.token != nil {
					token = tc.token()
					r.Header.Set("Authorization", "Bearer "+token)
				}
				if tc.change != nil {
					tc.change(r)
				}
				w := &hijackable{ResponseRecorder: httptest.NewRecorder()}
				hub.ServeHTTP(w, r)
				if w.peer != nil {
					newRawPeer(t, w.peer, r).closed()
				}
				lines := log.take()
				if len(lines) != 1 {
					t.Fatalf("%d lines: %+v", len(lines), lines)
				}
				l := lines[0]
				if l.level != tc.level || l.msg != "chathub: handshake refused" {
					t.Errorf("got %v %q, want %v", l.level, l.msg, tc.level)
				}
				for k, want := range tc.want {
					if got, ok := l.attrs[k]; !ok || !strings.Contains(got, want) {
						t.Errorf("%s is %q, want %q in it", k, got, want)
					}
				}
				for _, k := range append(tc.not, "unlogged") {
					if v, ok := l.attrs[k]; ok {
						t.Errorf("%s is %q, want none", k, v)
					}
				}
				all := fmt.Sprint(l)
				if len(all) > 2500 {
					t.Errorf("the line has %d bytes: %.2500s", len(all), all)
				}
				for part := range strings.SplitSeq(token, ".") {
					if len(part) > 8 && strings.Contains(all, part) {
						t.Errorf("a part of the token is in %s", all)
					}
				}
			})
		})
	}
}

// TestRefusedRefreshIsLogged checks the log about tokens of those who are
// connected.
func TestRefusedRefreshIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logRecorder{}
		hub := hubtest.New(t, chathub.Config{Auth: &chathub.JWT{Key: secret}, Logger: slog.New(log)})
		in := func(d time.Duration) time.Time { return time.Now().Add(d) }
		c := hubtest.Dial(t, hub, tokenFor(t, "ana", in(time.Hour)))
		for token, want := range map[string]string{
			tokenFor(t, "ana", in(-time.Hour)): "exp was 1h0m0s ago",
			tokenFor(t, "ben", in(time.Hour)):  "another user",
			"a b":                              "visible ASCII",
		} {
			c.Send(hubtest.Frame{Type: "refresh-token", ID: "r", Data: hubtest.Data(map[string]string{"token": token})})
			c.Wait("error")
			lines := log.take()
			if len(lines) != 1 {
				t.Fatalf("%d lines: %+v", len(lines), lines)
			}
			l := lines[0]
			if l.level != slog.LevelInfo || l.msg != "chathub: token refused" || l.attrs["user"] != "ana" || l.attrs["client"] == "" {
				t.Errorf("got %+v", l)
			}
			if got := l.attrs["reason"] + l.attrs["err"]; !strings.Contains(got, want) {
				t.Errorf("the reason is %q, want %q", got, want)
			}
		}
	})
}

// TestRefusalFlood checks that a flood of refusals is a few lines, which say
// how many there were.
func TestRefusalFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const flood = 10_000
		log := &logRecorder{}
		hub := hubtest.New(t, chathub.Config{Logger: slog.New(log)})
		refused := func(origin string) {
			r := handshake(t) // refused in plain HTTP
			if origin != "" {
				r.Header.Set("Origin", origin)
			}
			hub.ServeHTTP(httptest.NewRecorder(), r)
		}
		var wg sync.WaitGroup
		for _, origin := range []string{"http://evil.test", ""} {
			for range 4 {
				wg.Go(func() {
					for range flood / 4 {
						refused(origin)
					}
				})
			}
		}
		wg.Wait()
		check := func(lines []logLine, most int) (counts map[string]int) {
			t.Helper()
			counts = make(map[string]int)
			if len(lines) > most {
				t.Errorf("%d lines, want at most %d", len(lines), most)
			}
			for _, l := range lines {
				n := 0
				if s, ok := l.attrs["unlogged"]; ok {
					if _, err := fmt.Sscan(s, &n); err != nil || n == 0 {
						t.Errorf("unlogged is %q", s)
					}
				}
				counts[l.attrs["reason"]] += 1 + n
			}
			return counts
		}
		first := check(log.take(), 2*10)
		for reason, n := range first {
			if n != 10 {
				t.Errorf("%d lines of %q at once, want 10", n, reason)
			}
		}
		time.Sleep(time.Minute)
		refused("http://evil.test")
		refused("")
		for reason, n := range check(log.take(), 2) {
			if all := n + first[reason]; all != flood+1 {
				t.Errorf("the lines about %q speak of %d refusals, want %d", reason, all, flood+1)
			}
		}
		if len(first) != 2 {
			t.Errorf("got %v, want two kinds", first)
		}
		// A second is enough for one more line, of each kind.
		time.Sleep(time.Hour)
		for range 100 {
			refused("")
			time.Sleep(time.Second / 10)
		}
		if n := check(log.take(), 20)["Authentication required"]; n < 90 {
			t.Errorf("the lines speak of %d refusals in ten seconds, want almost 100", n)
		}
		if got := hub.Stats().Refused; got != 2*flood+102 {
			t.Errorf("Stats says %d refusals, want %d", got, 2*flood+102)
		}
	})
}

// TestRefusalsBelowTheLevel checks that refusals that nobody wants to read are
// not counted as unlogged.
func TestRefusalsBelowTheLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		level := new(slog.LevelVar)
		level.Set(slog.LevelWarn)
		hub := hubtest.New(t, chathub.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))})
		for range 100 {
			hub.ServeHTTP(httptest.NewRecorder(), handshake(t))
		}
		if log.Len() > 0 {
			t.Errorf("logged %s", &log)
		}
		level.Set(slog.LevelInfo)
		hub.ServeHTTP(httptest.NewRecorder(), handshake(t))
		if got := log.String(); strings.Count(got, "\n") != 1 || strings.Contains(got, "unlogged") {
			t.Errorf("logged %s", got)
		}
	})
}

// TestRefusalsInHTTPAreTraced checks that Trace and Stats know of handshakes
// that are refused without a WebSocket, each once.
func TestRefusalsInHTTPAreTraced(t *testing.T) {
	for _, tc := range []struct {
		name   string
		token  string
		change func(*http.Request)
		plain  bool // the ResponseWriter cannot be hijacked
		want   string
	}{
		{name: "origin", token: "ana", change: func(r *http.Request) { r.Header.Set("Origin", "http://evil.test") }, want: "forbidden: Origin not allowed"},
		{name: "Upgrade lost in a proxy", token: "ana", change: func(r *http.Request) { r.Header.Del("Upgrade") }, want: "bad_request: Bad handshake"},
		{name: "Connection lost in a proxy", token: "ana", change: func(r *http.Request) { r.Header.Del("Connection") }, want: "bad_request: Bad handshake"},
		{name: "version", token: "ana", change: func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") }, want: "bad_request: Bad handshake"},
		{name: "middleware without Hijack", token: "ana", plain: true, want: "internal: The server cannot upgrade this connection"},
		{name: "no token, and no Connection", change: func(r *http.Request) { r.Header.Del("Connection") }, want: "unauthenticated: Authentication required"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var traced []string
				hub := hubtest.New(t, chathub.Config{Auth: hubtest.Auth{}, Trace: &chathub.Trace{Refused: func(err *chathub.Error) {
					traced = append(traced, fmt.Sprintf("%s: %s", err.Code, err.Message))
				}}})
				r := handshake(t, "chathub.v1")
				if tc.token != "" {
					r.Header.Set("Authorization", "Bearer "+tc.token)
				}
				if tc.change != nil {
					tc.change(r)
				}
				var w http.ResponseWriter = &hijackable{ResponseRecorder: httptest.NewRecorder()}
				if tc.plain {
					w = httptest.NewRecorder()
				}
				hub.ServeHTTP(w, r)
				synctest.Wait()
				if len(traced) != 1 || traced[0] != tc.want || hub.Stats().Refused != 1 {
					t.Errorf("traced %q, counted %d, want %q once", traced, hub.Stats().Refused, tc.want)
				}
				if s := hub.Stats(); s.Accepted != 0 || s.Connections != 0 {
					t.Errorf("accepted %d, connected %d", s.Accepted, s.Connections)
				}
			})
		})
	}
}

// A request that is no handshake is not a refused one.
func TestPlainRequestIsNotARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		hub.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://hub.test/ws", nil))
		if n := hub.Stats().Refused; n != 0 {
			t.Errorf("counted %d", n)
		}
	})
}
