package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// TestCompression lets members with and without compression hear the same in a
// room, over TCP and over TLS, where frames are written in another way.
func TestCompression(t *testing.T) {
	for name, serve := range map[string]func(http.Handler) *httptest.Server{
		"TCP": httptest.NewServer,
		"TLS": httptest.NewTLSServer,
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(hubtest.New(t, chathub.Config{CompressFrom: 100, Rate: -1, UserRate: -1}))
			t.Cleanup(srv.Close)
			var members []*client
			for i := range 4 {
				header := bearer(fmt.Sprint("user", i))
				if i%2 == 1 {
					header.Set("Sec-Websocket-Extensions", "permessage-deflate")
				}
				c := dial(t, srv.Client(), srv.URL, header)
				c.must(hubtest.Frame{Type: "join-room", Room: "lobby"})
				members = append(members, c)
			}
			const each = 30
			for n := range each {
				for i, c := range members {
					text := fmt.Sprint(i, " ") + strings.Repeat("the same again ", n*n)
					c.send(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data(text)})
				}
			}
			var heard []string
			for i, c := range members {
				for n := range each * len(members) {
					var text string
					if err := json.Unmarshal(c.wait("room-message").Data, &text); err != nil {
						t.Fatal(err)
					}
					if i == 0 {
						heard = append(heard, text)
					} else if heard[n] != text {
						t.Fatalf("message %d of member %d is %.20q, and %.20q for the first", n, i, text, heard[n])
					}
				}
			}
		})
	}
}
