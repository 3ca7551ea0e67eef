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
		if err := checkUserID(id.User.ID); err != nil {
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

func TestCheckUserID(t *testing.T) {
	const secret = "do-not-quote"
	tests := []struct {
		name string
		id   string
		want string // the error; empty: valid
	}{
		{"plain", "u1", ""},
		{"other scripts", "użytkownik 🙂", ""},
		{"longest", strings.Repeat("i", text.MaxUser), ""},
		{"empty", "", "user id is empty"},
		{"long", strings.Repeat("i", text.MaxUser+1), "user id has 129 bytes, more than 128"},
		{"long in bytes, not in runes", strings.Repeat("é", text.MaxUser/2+1), "user id has 130 bytes, more than 128"},
		{"not UTF-8", secret + "\xff", "user id is not UTF-8"},
		{"with NUL", secret + "\x00", "user id has control characters"},
		{"with line break", secret + "\n", "user id has control characters"},
		{"with C1 control", secret + "\u0085", "user id has control characters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := checkUserID(tt.id); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
