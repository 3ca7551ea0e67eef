package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

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
		t.Errorf("the token is valid for %s", life)
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

// A page of a listed origin can log in and connect. A page of another origin
// can neither read the answer nor connect.
func TestOrigins(t *testing.T) {
	const listed, other = "https://chat.example.com", "https://evil.example.com"
	s := start(t, map[string]string{"CLIENT_URL": " http://localhost:5173 , " + listed + "/"})
	token := s.login(t, "Ana").Token
	for origin, allowed := range map[string]bool{listed: true, other: false} {
		header := http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}}
		for _, method := range []string{http.MethodOptions, http.MethodPost} {
			a := s.request(t, method, "login", `{"name":"Ana"}`, header)
			if got := a.header.Get("Access-Control-Allow-Origin") == origin; got != allowed {
				t.Errorf("%s from %s: allowed %v, want %v", method, origin, got, allowed)
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
