package chathub_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// welcomeData is the data of welcome.
type welcomeData struct {
	ClientID     string           `json:"clientId"`
	User         chathub.User     `json:"user"`
	Time         int64            `json:"time"`
	Inbox        chathub.Position `json:"inbox"`
	PingInterval int64            `json:"pingInterval"`
	MaxMessage   int              `json:"maxMessage"`
	Expires      int64            `json:"expires,omitzero"`
	Off          []string         `json:"off,omitzero"`
}

func TestWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{
			Auth:            &chathub.JWT{Key: secret},
			PingInterval:    7 * time.Second,
			MaxMessageBytes: 5000,
		})
		expires := time.Now().Add(time.Hour)
		c := hubtest.Dial(t, hub, tokenFor(t, "ana", expires))
		got := dataOf[welcomeData](t, c.Welcome)
		want := welcomeData{
			ClientID:     got.ClientID,
			User:         chathub.User{ID: "ana", Name: "ANA"},
			Time:         time.Now().UnixMilli(),
			Inbox:        chathub.Position{Epoch: got.Inbox.Epoch},
			PingInterval: 7000,
			MaxMessage:   5000,
			Expires:      expires.Unix() * 1000,
		}
		if !reflect.DeepEqual(got, want) || got.ClientID == "" || got.Inbox.Epoch == "" {
			t.Errorf("welcome is %s, want %+v", c.Welcome.Data, want)
		}
		if f := c.Next(); f.Type != "online-users" {
			t.Errorf("after the welcome came %s", f.Type)
		}
		if other := hubtest.Dial(t, hub, tokenFor(t, "ana", expires)); dataOf[welcomeData](t, other.Welcome).ClientID == got.ClientID {
			t.Error("two connections have one id")
		}
	})
}

// Every field is there, except for expires if nothing expires. If nothing is
// off, off is not there either.
func TestWelcomeFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hubtest.Dial(t, hubtest.New(t, chathub.Config{PresenceInterval: -1}), "ana")
		got := slices.Sorted(maps.Keys(dataOf[map[string]jsontext.Value](t, c.Welcome)))
		want := []string{"clientId", "inbox", "maxMessage", "off", "pingInterval", "time", "user"}
		if !slices.Equal(got, want) {
			t.Errorf("welcome has %v, want %v", got, want)
		}
		expectNothing(t, c) // presence is off
	})
}

func TestTokenPlaces(t *testing.T) {
	header := func(r *http.Request) { r.Header.Set("Authorization", "Bearer header") }
	protocol := func(r *http.Request) { r.Header.Add("Sec-WebSocket-Protocol", "chathub.bearer.protocol") }
	cookie := func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "session", Value: "cookie"}) }
	query := func(r *http.Request) { r.URL.RawQuery = "token=query" }
	everything := chathub.Config{TokenCookie: "session", TokenQuery: true}
	for _, tc := range []struct {
		name   string
		cfg    chathub.Config
		places []func(*http.Request)
		want   string // user; empty: refused
	}{
		{"header", chathub.Config{}, []func(*http.Request){header}, "header"},
		{"subprotocol", chathub.Config{}, []func(*http.Request){protocol}, "protocol"},
		{"cookie", chathub.Config{TokenCookie: "session"}, []func(*http.Request){cookie}, "cookie"},
		{"cookie of another name", chathub.Config{TokenCookie: "id"}, []func(*http.Request){cookie}, ""},
		{"query", chathub.Config{TokenQuery: true}, []func(*http.Request){query}, "query"},
		{"neither is turned on", chathub.Config{}, []func(*http.Request){cookie, query}, ""},
		{"all", everything, []func(*http.Request){query, cookie, protocol, header}, "header"},
		{"all but the header", everything, []func(*http.Request){query, cookie, protocol}, "protocol"},
		{"cookie and query", everything, []func(*http.Request){query, cookie}, "cookie"},
		{"none", everything, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := handshake(t, "chathub.v1")
				for _, put := range tc.places {
					put(r)
				}
				f := dialPeer(t, hubtest.New(t, tc.cfg), r).envelope()
				if tc.want == "" {
					if f.Code() != chathub.CodeUnauthenticated {
						t.Errorf("got %s %s", f.Type, f.Data)
					}
				} else if got := dataOf[welcomeData](t, f).User.ID; got != tc.want {
					t.Errorf("user is %q, want %q", got, tc.want)
				}
			})
		})
	}
}

func TestSubprotocol(t *testing.T) {
	for _, tc := range []struct {
		name    string
		offered []string
		want    string
	}{
		{"token last", []string{"chathub.v1, chathub.bearer.S3CRET"}, "chathub.v1"},
		{"token first", []string{"chathub.bearer.S3CRET, chathub.v1"}, "chathub.v1"},
		{"two headers", []string{"chathub.bearer.S3CRET", "chathub.v1"}, "chathub.v1"},
		{"others besides", []string{"chathub.v2, graphql-ws, chathub.v1, chathub.bearer.S3CRET"}, "chathub.v1"},
		{"encoded token", []string{"chathub.bearer64.UzNDUkVU, chathub.v1"}, "chathub.v1"},
		{"encoded token alone", []string{"chathub.bearer64.UzNDUkVU"}, ""},
		{"token alone", []string{"chathub.bearer.S3CRET"}, ""},
		{"token and others", []string{"chathub.v2, chathub.bearer.S3CRET"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := handshake(t, tc.offered...)
				r.Header.Set("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
				p := dialPeer(t, hubtest.New(t, chathub.Config{}), r)
				if f := p.envelope(); f.Type != "welcome" {
					t.Fatalf("got %s %s", f.Type, f.Data)
				}
				if got := p.response.Get("Sec-WebSocket-Protocol"); got != tc.want {
					t.Errorf("selected %q, want %q", got, tc.want)
				}
				if got := p.response.Get("Sec-WebSocket-Extensions"); got != "" {
					t.Errorf("the extension is %q", got)
				}
			})
		})
	}
	t.Run("none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := handshake(t)
			r.Header.Set("Authorization", "Bearer ana")
			p := dialPeer(t, hubtest.New(t, chathub.Config{}), r)
			if f := p.envelope(); f.Type != "welcome" || p.response.Values("Sec-WebSocket-Protocol") != nil {
				t.Errorf("got %s, selected %q", f.Type, p.response.Values("Sec-WebSocket-Protocol"))
			}
		})
	})
}

// Neither the client nor the log sees a token, good or bad.
func TestTokenNeverShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		hub := hubtest.New(t, chathub.Config{
			Auth:        &chathub.JWT{Key: secret},
			TokenCookie: "session",
			TokenQuery:  true,
			Logger:      slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		good := tokenFor(t, "ana", time.Now().Add(time.Hour))
		encode := func(token string) string { return base64.RawURLEncoding.EncodeToString([]byte(token)) }
		for _, token := range []string{
			good,
			tokenFor(t, "ana", time.Now().Add(-time.Hour)),
			good[:len(good)-4] + "AAAA",
			"nonsense",
		} {
			for _, place := range []func(*http.Request){
				func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) },
				func(r *http.Request) { r.Header.Add("Sec-WebSocket-Protocol", "chathub.bearer."+token) },
				func(r *http.Request) { r.Header.Add("Sec-WebSocket-Protocol", "chathub.bearer64."+encode(token)) },
				func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "session", Value: token}) },
				func(r *http.Request) { r.URL.RawQuery = "token=" + token },
			} {
				r := handshake(t, "chathub.v1")
				place(r)
				p := dialPeer(t, hub, r)
				said := fmt.Sprint(p.response, string(p.next(opText).data))
				p.send(`{"type":"refresh-token","id":"r","data":{"token":"` + token + `"}}`)
				synctest.Wait()
				_ = p.conn.Close()
				for f := range p.frames {
					said += string(f.data)
				}
				if strings.Contains(said, token) || strings.Contains(said, encode(token)) {
					t.Errorf("the client saw the token %s", token)
				}
			}
		}
		if err := hub.Close(); err != nil { // from now on, nobody logs
			t.Fatal(err)
		}
		for _, part := range append(strings.Split(good, ".")[1:], encode(good), encode("nonsense")) {
			if strings.Contains(log.String(), part) {
				t.Error("the log contains a token")
			}
		}
		if strings.Contains(log.String(), "nonsense") {
			t.Error("the log contains a bad token")
		}
	})
}

// TestRefusals goes through the table in protocol/README.md, section 2, over
// WebSocket and over HTTP.
func TestRefusals(t *testing.T) {
	jwtAuth := &chathub.JWT{Key: secret}
	one := func(c *chathub.Config) { c.Auth = hubtest.Auth{} }
	for _, tc := range []struct {
		name    string
		cfg     func(*chathub.Config)
		token   string
		others  []string // tokens of clients that are connected already
		code    chathub.Code
		message string // empty: any
		close   int
		status  int // 0: refused on the WebSocket even then
	}{
		{name: "no token", code: "unauthenticated", message: "Authentication required", close: 4500, status: 401},
		{name: "bad token", token: "x.y.z", code: "unauthenticated", message: "Invalid token", close: 4500, status: 401},
		{name: "token over 8 KiB", token: strings.Repeat("x", 8<<10+1), code: "unauthenticated", message: "Invalid token", close: 4500, status: 401},
		{name: "expired token", token: "expired", code: "token_expired", close: 4003, status: 401},
		{
			name: "identity that has expired", token: "ana", code: "token_expired", close: 4003, status: 401,
			cfg: func(c *chathub.Config) {
				c.Auth = authFunc(func(string, *http.Request) (chathub.Identity, error) {
					return chathub.Identity{User: chathub.User{ID: "ana"}, Expires: time.Now()}, nil
				})
			},
		},
		{
			name: "OnConnect with a message", token: "ana", code: "forbidden", message: "Maintenance", close: 4505,
			cfg: func(c *chathub.Config) {
				one(c)
				c.OnConnect = func(context.Context, *chathub.Client, *http.Request) error {
					return &chathub.Error{Code: chathub.CodeForbidden, Message: "Maintenance"}
				}
			},
		},
		{
			name: "OnConnect with an error of its own", token: "ana", code: "internal", close: 4000,
			cfg: func(c *chathub.Config) {
				one(c)
				c.OnConnect = func(context.Context, *chathub.Client, *http.Request) error {
					return errors.New("hush: dial tcp 10.1.2.3")
				}
			},
		},
		{
			name: "connections of the user", token: "ana", others: []string{"ana", "bob"}, code: "limit_exceeded", close: 4504, status: 429,
			cfg: func(c *chathub.Config) { one(c); c.MaxConnsPerUser = 1 },
		},
		{
			name: "connections of the address", token: "ana", others: []string{"bob"}, code: "limit_exceeded", close: 4504, status: 429,
			cfg: func(c *chathub.Config) { one(c); c.MaxConnsPerAddress = 1 },
		},
		{
			name: "connections in all", token: "ana", others: []string{"bob"}, code: "limit_exceeded", close: 4504, status: 503,
			cfg: func(c *chathub.Config) { one(c); c.MaxConns = 1 },
		},
		{
			name: "fault of the authenticator", token: "ana", code: "internal", close: 4000, status: 500,
			cfg: func(c *chathub.Config) {
				c.Auth = authFunc(func(string, *http.Request) (chathub.Identity, error) {
					return chathub.Identity{}, errors.New("hush: no such table")
				})
			},
		},
		{
			name: "user without an id", token: "ana", code: "internal", close: 4000, status: 500,
			cfg: func(c *chathub.Config) {
				c.Auth = authFunc(func(string, *http.Request) (chathub.Identity, error) { return chathub.Identity{}, nil })
			},
		},
	} {
		cfg := func() chathub.Config {
			c := chathub.Config{Auth: jwtAuth, Logger: slog.New(slog.DiscardHandler)}
			if tc.cfg != nil {
				tc.cfg(&c)
			}
			return c
		}
		request := func(t *testing.T, protocols ...string) *http.Request {
			r := handshake(t, protocols...)
			switch tc.token {
			case "":
			case "expired":
				r.Header.Set("Authorization", "Bearer "+tokenFor(t, "ana", time.Now().Add(-time.Second)))
			default:
				r.Header.Set("Authorization", "Bearer "+tc.token)
			}
			return r
		}
		check := func(t *testing.T, data []byte) {
			var e struct {
				Code    chathub.Code `json:"code"`
				Message string       `json:"message"`
			}
			if err := json.Unmarshal(data, &e, json.RejectUnknownMembers(true)); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			if e.Code != tc.code || e.Message == "" || tc.message != "" && e.Message != tc.message || strings.Contains(e.Message, "hush") {
				t.Errorf("refused with %s, want %q %q", data, tc.code, tc.message)
			}
		}
		byWebSocket := func(t *testing.T, protocols ...string) {
			hub := hubtest.New(t, cfg())
			for _, other := range tc.others {
				hubtest.Dial(t, hub, other)
			}
			p := dialPeer(t, hub, request(t, protocols...))
			f := p.envelope()
			if f.Type != "connect-error" {
				t.Fatalf("got %s %s", f.Type, f.Data)
			}
			check(t, f.Data)
			if code, _ := p.closed(); code != tc.close {
				t.Errorf("closed with %d, want %d", code, tc.close)
			}
			if got := len(onlineUsers(t, hub)); got != len(tc.others) {
				t.Errorf("%d users online, want %d", got, len(tc.others))
			}
		}
		t.Run(tc.name+"/websocket", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { byWebSocket(t, "chathub.v1") })
		})
		t.Run(tc.name+"/http", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if tc.status == 0 {
					byWebSocket(t)
					return
				}
				hub := hubtest.New(t, cfg())
				for _, other := range tc.others {
					hubtest.Dial(t, hub, other)
				}
				w := httptest.NewRecorder()
				hub.ServeHTTP(w, request(t))
				checkHTTP(t, w, tc.status)
				check(t, w.Body.Bytes())
				if got, want := w.Header().Get("WWW-Authenticate"), tc.status == http.StatusUnauthorized; (got == "Bearer") != want {
					t.Errorf("WWW-Authenticate is %q", got)
				}
			})
		})
	}
}

func checkHTTP(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		t.Errorf("HTTP %d of type %q, want %d and JSON: %s", w.Code, w.Header().Get("Content-Type"), status, w.Body)
	}
}

// A client that was refused gives its place back.
func TestRefusedAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{MaxConns: 1, MaxConnsPerUser: 1})
		for range 3 {
			if code, _ := dialRefused(t, hub, "chathub.v1").Closed(); code != 4500 {
				t.Errorf("closed with %d", code)
			}
			synctest.Wait()
			w := httptest.NewRecorder()
			hub.ServeHTTP(w, handshake(t))
			checkHTTP(t, w, http.StatusUnauthorized)
		}
		for range 3 {
			hubtest.Dial(t, hub, "ana").Drop()
			synctest.Wait()
		}
		hubtest.Dial(t, hub, "ana")
	})
}

// dialRefused connects without a token and waits for the connect-error.
func dialRefused(t *testing.T, h http.Handler, protocols ...string) *hubtest.Client {
	t.Helper()
	c, err := hubtest.DialHeader(t, h, http.Header{"Sec-Websocket-Protocol": protocols})
	if err != nil {
		t.Fatal(err)
	}
	c.Wait("connect-error")
	return c
}

func TestNotAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		for _, r := range []*http.Request{
			httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ws?token=ana", nil),
			httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/ws", strings.NewReader("{}")),
		} {
			w := httptest.NewRecorder()
			hub.ServeHTTP(w, r)
			checkHTTP(t, w, http.StatusUpgradeRequired)
			if got := w.Header().Get("Upgrade"); got != "websocket" {
				t.Errorf("Upgrade is %q", got)
			}
		}
	})
}

// A stranger cannot fill the log with what a bad handshake has in its headers.
func TestBadHandshakeInLog(t *testing.T) {
	for _, header := range []string{
		"Connection", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Origin", "X-Forwarded-For",
	} {
		t.Run(header, func(t *testing.T) {
			var log logBuffer
			hub := hubtest.New(t, chathub.Config{Logger: log.logger()})
			r := handshake(t)
			r.Header.Set("Authorization", "Bearer ana")
			r.Header.Set(header, strings.Repeat("x", 100_000))
			hub.ServeHTTP(&hijackable{ResponseRecorder: httptest.NewRecorder()}, r)
			if got := log.take(); len(got) > 2000 {
				t.Errorf("logged %d bytes: %.300s", len(got), got)
			}
		})
	}
}

func TestOriginRefused(t *testing.T) {
	for _, tc := range []struct {
		origin  string
		cfg     chathub.Config
		allowed bool
	}{
		{"", chathub.Config{}, true},
		{"", chathub.Config{RequireOrigin: true}, false},
		{"http://hub.test", chathub.Config{}, true},
		{"https://hub.test", chathub.Config{}, false},
		{"http://hub.test:8080", chathub.Config{}, false},
		{"http://hub.test.evil.test", chathub.Config{}, false},
		{"null", chathub.Config{}, false},
		{"https://app.test", chathub.Config{Origins: []string{"https://app.test"}}, true},
		{"https://app.test:443", chathub.Config{Origins: []string{"https://app.test"}}, true},
		{"http://app.test", chathub.Config{Origins: []string{"https://app.test"}}, false},
		{"https://evilapp.test", chathub.Config{Origins: []string{"https://app.test"}}, false},
		{"null", chathub.Config{Origins: []string{"https://app.test"}}, false},
		{"https://evil.test", chathub.Config{DangerouslyAllowAnyOrigin: true}, true},
	} {
		for _, protocols := range [][]string{{"chathub.v1"}, nil} {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, tc.cfg)
				r := handshake(t, protocols...)
				r.Header.Set("Authorization", "Bearer ana")
				if tc.origin != "" {
					r.Header.Set("Origin", tc.origin)
				}
				if tc.allowed {
					if f := dialPeer(t, hub, r).envelope(); f.Type != "welcome" {
						t.Errorf("origin %q: %s", tc.origin, f.Data)
					}
					return
				}
				w := httptest.NewRecorder()
				hub.ServeHTTP(w, r)
				checkHTTP(t, w, http.StatusForbidden)
				if !strings.Contains(w.Body.String(), `"code":"forbidden"`) {
					t.Errorf("origin %q: %s", tc.origin, w.Body)
				}
			})
		}
	}
}
