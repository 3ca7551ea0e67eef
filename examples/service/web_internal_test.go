package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// TestWeb: a request that is repeated posts once, and the room hears it from
// the user who is signed in.
func TestWeb(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
	h := newPoster(hub)
	bob := hubtest.Dial(t, hub, "bob")
	bob.Must(hubtest.Frame{Type: "join-room", Room: "lobby"})
	ask := func(user, key, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/rooms/lobby/messages", strings.NewReader(body))
		if user != "" {
			r.Header.Set("Authorization", "Bearer "+user)
		}
		r.Header.Set("Idempotency-Key", key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for i := range 3 {
		w := ask("ana", "1", `"Hello"`)
		var r chathub.Receipt
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != http.StatusOK || r.Seq != 1 || r.Epoch == "" || r.Duplicate != (i > 0) {
			t.Errorf("answer %d is %d %s, %v", i, w.Code, w.Body, err)
		}
	}
	if f := bob.Next(); f.Type != "room-message" || string(f.Data) != `"Hello"` || f.From.ID != "ana" || f.ID != "1" {
		t.Errorf("bob got %+v", f)
	}
	for _, tc := range []struct {
		user, key, body string
		want            int
	}{
		{"", "2", `"Hello"`, http.StatusUnauthorized},
		{"ana", "", `"Hello"`, http.StatusBadRequest},
		{"ana", strings.Repeat("x", 65), `"Hello"`, http.StatusBadRequest},
		{"ana", "2", `Hello`, http.StatusBadRequest},
		{"ana", "2", ``, http.StatusBadRequest},
		{"ana", "1", `"Something else"`, http.StatusConflict},
		{"ana", "2", `"` + strings.Repeat("x", maxBody) + `"`, http.StatusRequestEntityTooLarge},
	} {
		if w := ask(tc.user, tc.key, tc.body); w.Code != tc.want {
			t.Errorf("%q %q %.20q: %d %s, want %d", tc.user, tc.key, tc.body, w.Code, w.Body, tc.want)
		}
	}
	if got := texts(t, hub); len(got) != 1 {
		t.Errorf("the room has %q", got)
	}
	_ = hub.Close()
	if w := ask("ana", "3", `"Hello"`); w.Code != http.StatusServiceUnavailable {
		t.Errorf("after Close: %d", w.Code)
	}
}
