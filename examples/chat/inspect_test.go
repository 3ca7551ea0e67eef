package main

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// TestInspect: with -inspect, operators see who is connected, at an address of
// their own, and can ban.
func TestInspect(t *testing.T) {
	s := start(t, nil, "-inspect", "127.0.0.1:0")
	m := regexp.MustCompile(`inspect=(http://\S+)`).FindStringSubmatch(s.logs.String())
	if m == nil {
		t.Fatalf("no address in %s", s.logs)
	}
	ben := s.connect(t, "Ben")
	ask := func(method, path, body string) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, m[1]+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
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
		return string(b)
	}
	list := ask("GET", "api/connections?search=ben", "")
	id := regexp.MustCompile(`"user":\{"id":"([^"]+)"`).FindStringSubmatch(list)
	if id == nil || !strings.Contains(list, `"address":"127.0.0.1"`) {
		t.Fatalf("the list is %s", list)
	}
	if got := ask("POST", "api/ban", `{"user":"`+id[1]+`","minutes":5,"reason":"spam"}`); !strings.Contains(got, `"done":true`) {
		t.Errorf("a ban was answered with %s", got)
	}
	var err error
	for err == nil { // what came before the end
		_, _, err = ben.conn.Read(t.Context())
	}
	if websocket.CloseStatus(err) != 4503 {
		t.Errorf("Ben's connection ended with %v", err)
	}
	// The address of the page for everyone has none of this.
	m[1] = s.url
	if got := ask("GET", "api/connections", ""); strings.Contains(got, `"connections"`) {
		t.Errorf("everyone sees %s", got)
	}
}
