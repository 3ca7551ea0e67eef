package inspect_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/inspect"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// operator is a request of one, if it has this header.
func operator(r *http.Request) bool { return r.Header.Get("Operator") == "yes" }

func serve(t *testing.T, hub *chathub.Hub, o inspect.Options) *httptest.Server {
	t.Helper()
	page, err := inspect.New(hub, o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/inspect/", http.StripPrefix("/inspect", page))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func request(t *testing.T, s *httptest.Server, method, path, body string, header ...string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/inspect/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Operator", "yes")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestAllow(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{})
	if _, err := inspect.New(hub, inspect.Options{}); err == nil {
		t.Error("a page for everyone is made")
	}
	s := serve(t, hub, inspect.Options{Allow: operator})
	for _, path := range []string{"", "page.js", "page.css", "api/stats", "api/connections", "api/rooms", "api/tail?room=r", "api/disconnect"} {
		if status, body := request(t, s, "GET", path, "", "Operator", "no"); status != http.StatusForbidden {
			t.Errorf("%s for a stranger: %d %s", path, status, body)
		}
	}
	for _, path := range []string{"", "page.js", "page.css", "api/stats"} {
		if status, body := request(t, s, "GET", path, ""); status != http.StatusOK || body == "" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		if status, body := request(t, s, "POST", "api/disconnect", `{"user":"ana"}`, header...); status != http.StatusForbidden {
			t.Errorf("from another site: %d %s", status, body)
		}
	}
}

func TestLookAndDisconnect(t *testing.T) {
	type banned struct {
		tenant, user string
		lasting      time.Duration
		reason       string
	}
	bans := make(chan banned, 1)
	hub := hubtest.New(t, chathub.Config{KeepConnectionInfo: true})
	s := serve(t, hub, inspect.Options{Allow: operator, Ban: func(_ context.Context, tenant, user string, lasting time.Duration, reason string) error {
		bans <- banned{tenant, user, lasting, reason}
		return nil
	}})
	ana := hubtest.Dial(t, hub, "ana/Ana")
	ana.Must(hubtest.Frame{Type: "join-room", Room: "red"})
	bob := hubtest.Dial(t, hub, "bob/Bob/acme")
	bob.Must(hubtest.Frame{Type: "join-room", Room: "red"})

	for path, want := range map[string]string{
		"api/connections":                 `"id":"ana"`,
		"api/connections?tenant=acme":     `"rooms":["red"]`,
		"api/connections?search=BO":       `"tenant":"acme"`,
		"api/connections?user=nobody":     `"connections":[]`,
		"api/connections?limit=1":         `"next":"\u0000ana`,
		"api/rooms?tenant=acme":           `"connections":1`,
		"api/rooms":                       `"name":"red"`,
		"api/stats":                       `"ban":true`,
		"api/connections?search=%ff":      `"error":`,
		"api/connections?limit=nonsense1": `"id":"bob"`,
	} {
		if _, got := request(t, s, "GET", path, ""); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for _, bad := range []string{"", "{}", `{"user":7}`, `{"user":"ana","minutes":-1}`, "[" + strings.Repeat("1,", 4000) + "1]"} {
		if status, got := request(t, s, "POST", "api/disconnect", bad); status != http.StatusBadRequest {
			t.Errorf("%.20q: %d %s", bad, status, got)
		}
	}
	if status, got := request(t, s, "POST", "api/ban", `{"tenant":"acme","user":"bob","minutes":5,"reason":"spam"}`); status != http.StatusOK {
		t.Errorf("%d %s", status, got)
	}
	if b := <-bans; b != (banned{"acme", "bob", 5 * time.Minute, "spam"}) {
		t.Errorf("banned %+v", b)
	}
	if status, got := request(t, s, "POST", "api/disconnect", `{"user":"ana","reason":"bye"}`); status != http.StatusOK {
		t.Errorf("%d %s", status, got)
	}
	if code, reason := ana.Closed(); code != 4503 || reason != "bye" {
		t.Errorf("closed with %d %q", code, reason)
	}
	var page struct {
		Connections []chathub.ConnectionInfo `json:"connections"`
	}
	_, got := request(t, s, "GET", "api/connections", "")
	if err := json.Unmarshal([]byte(got), &page); err != nil || len(page.Connections) != 1 {
		t.Fatalf("%s, %v", got, err)
	}
	// A connection of a tenant is out of reach without its name.
	one := page.Connections[0].ID
	_, _ = request(t, s, "POST", "api/disconnect", fmt.Sprintf(`{"client":%q}`, one))
	bob.Must(hubtest.Frame{Type: "ping"})
	_, _ = request(t, s, "POST", "api/disconnect", fmt.Sprintf(`{"client":%q,"tenant":"acme"}`, one))
	if code, _ := bob.Closed(); code != 4503 {
		t.Errorf("closed with %d", code)
	}
}

func TestTail(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{Rate: -1, UserRate: -1})
	s := serve(t, hub, inspect.Options{Allow: operator})
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/inspect/api/tail?room=red", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Operator", "yes")
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() || lines.Text() != ": following" {
		t.Fatalf("first line %q", lines.Text())
	}
	ana := hubtest.Dial(t, hub, "ana")
	ana.Must(hubtest.Frame{Type: "join-room", Room: "red"})
	var e struct {
		Type string       `json:"type"`
		From chathub.User `json:"from"`
		Data string       `json:"data"`
	}
	for e.Type == "" { // it may have begun a moment later
		ana.Must(hubtest.Frame{Type: "room-message", Room: "red", Data: hubtest.Data("line\n\nbreak")})
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), &e); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
	if e.Type != "room-message" || e.From.ID != "ana" || e.Data != "line\n\nbreak" {
		t.Errorf("got %+v", e)
	}
	if status, body := request(t, s, "GET", "api/tail", ""); status != http.StatusOK || !strings.Contains(body, "event: end") {
		t.Errorf("a tail of nothing: %d %s", status, body)
	}
}
