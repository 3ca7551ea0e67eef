package chathub

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chathub-go/chathub/internal/text"
)

func TestAnonymous(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/ws", nil)
	seen := make(map[string]bool)
	for _, token := range []string{"", "ignored", "ignored"} {
		id, err := Anonymous{}.Authenticate(t.Context(), token, r)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(id.User.ID, "anon_") || seen[id.User.ID] || strings.Contains(id.User.ID, "ignored") {
			t.Errorf("id %q is not a fresh one", id.User.ID)
		}
		seen[id.User.ID] = true
		if err := validUser(id.User); err != nil {
			t.Error(err)
		}
		if id.User.Name != "Guest" || !id.Expires.IsZero() || id.Claims != nil {
			t.Errorf("identity %+v has more than an id and the name Guest", id)
		}
	}
}

func TestAnonymousHasNothingToRefresh(t *testing.T) {
	_, err := Anonymous{}.Authenticate(t.Context(), "a-token", nil)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != CodeUnauthenticated {
		t.Errorf("got %v, want %s", err, CodeUnauthenticated)
	}
}

func TestValidUser(t *testing.T) {
	const secret = "do-not-quote"
	tests := []struct {
		name string
		user User
		want string // part of the error; empty: valid
	}{
		{"plain", User{"u1", "Ana"}, ""},
		{"no name", User{"u1", ""}, ""},
		{"other scripts", User{"użytkownik", "名前 🙂"}, ""},
		{"longest", User{strings.Repeat("i", text.MaxUser), strings.Repeat("n", text.MaxName)}, ""},
		{"no id", User{"", "Ana"}, "user id"},
		{"long id", User{strings.Repeat("i", text.MaxUser+1), ""}, "user id"},
		{"long id in bytes, not in runes", User{strings.Repeat("é", text.MaxUser/2+1), ""}, "user id"},
		{"id not UTF-8", User{secret + "\xff", ""}, "user id"},
		{"id with NUL", User{secret + "\x00", ""}, "user id"},
		{"id with line break", User{secret + "\n", ""}, "user id"},
		{"id with C1 control", User{secret + "\u0085", ""}, "user id"},
		{"long name", User{"u1", strings.Repeat("n", text.MaxName+1)}, "user name"},
		{"name not UTF-8", User{"u1", secret + "\xc3"}, "user name"},
		{"name with escape", User{"u1", secret + "\x1b[2J"}, "user name"},
		{"name with DEL", User{"u1", secret + "\x7f"}, "user name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := validUser(tt.user)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want an error about the %s", err, tt.want)
			case err != nil && strings.Contains(err.Error(), secret):
				t.Errorf("the error quotes the value: %v", err)
			}
		})
	}
}
