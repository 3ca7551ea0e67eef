package integration

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	chatclient "github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
)

// prefixed starts each of the proxies in front of two servers, with the hub at
// /chat/ws instead of /ws.
var prefixed = map[string]func(t *testing.T, servers []*httptest.Server) *front{
	"nginx": func(t *testing.T, servers []*httptest.Server) *front {
		n := startNginxEdited(t, func(conf string) string {
			conf = strings.Replace(conf, "location /ws {", "location /chat/ws {", 1)
			return strings.Replace(conf, "proxy_pass http://chathub;", "proxy_pass http://chathub/ws;", 1)
		}, servers...)
		return &front{url: strings.TrimSuffix(n.url, "/ws"), from: n.from, reload: n.reload}
	},
	"Apache": func(t *testing.T, servers []*httptest.Server) *front {
		a := balanceApache(t, servers, "ProxyPass /ws balancer://chathub/ws", "ProxyPass /chat/ws balancer://chathub/ws")
		return &front{url: a.url, from: a.from, reload: a.reload}
	},
	"HAProxy": func(t *testing.T, servers []*httptest.Server) *front { return haproxy(t, servers, haproxyPrefixed...) },
	"Caddy":   func(t *testing.T, servers []*httptest.Server) *front { return caddy(t, servers, caddyPrefixed...) },
}

// TestProxies checks each proxy with 100 connections at once under a path with
// a prefix that the servers do not know, and reloads it while they talk.
func TestProxies(t *testing.T) {
	for name, start := range prefixed {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &logBuffer{}
			cfg := behindProxy()
			cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
			cfg.Rate, cfg.UserRate = -1, -1
			hubs, servers := pairReady(t, cfg)
			f := start(t, servers)
			url := f.url + "/chat/ws"
			t.Run("crowd", func(t *testing.T) { checkCrowd(t, hubs, f.from("127.0.0.1"), url) })
			t.Run("reload", func(t *testing.T) { checkTalk(t, f.from("127.0.0.1"), url, f.reload) })
			t.Run("address", func(t *testing.T) {
				c := dial(t, f.from("127.0.0.7"), url, http.Header{"X-Forwarded-For": {"192.0.2.7"}})
				if code, _ := c.closed(); code != 4500 {
					t.Errorf("a client without a token was closed with %d", code)
				}
				if s := log.String(); !regexp.MustCompile(`reason="Authentication required" address=127\.0\.0\.7\b`).MatchString(s) {
					t.Errorf("the hub's log does not have the client's address:\n%s", s)
				}
			})
		})
	}
}

// checkCrowd lets 100 connections hear each other through a proxy, which
// spreads them over two servers.
func checkCrowd(t *testing.T, hubs [2]*chathub.Hub, hc *http.Client, url string) {
	t.Helper()
	const people = 100
	all := make([]*client, people)
	for i := range all {
		all[i] = connect(t, hc, url, fmt.Sprint("user", i%20))
		all[i].must(hubtest.Frame{Type: "join-room", Room: "crowd"})
	}
	a, b := hubs[0].Stats().Connections, hubs[1].Stats().Connections
	if a+b != people || min(a, b) < people/3 {
		t.Errorf("the servers have %d and %d connections", a, b)
	}
	for _, from := range []*client{all[0], all[people-1]} {
		text := hubtest.Data(string(from.welcome.Data))
		from.send(hubtest.Frame{Type: "room-message", Room: "crowd", Data: text})
		for i, to := range all {
			if m := to.wait("room-message"); string(m.Data) != string(text) {
				t.Errorf("connection %d got %s, want %s", i, m.Data, text)
			}
		}
	}
	for _, c := range all {
		_ = c.ws.CloseNow()
	}
}

// checkTalk reloads a proxy while people talk, and checks that everyone got
// every message once, and those of one sender in order. A proxy may cut them
// off.
func checkTalk(t *testing.T, hc *http.Client, url string, reload func()) {
	t.Helper()
	const people, before, during, after = 10, 5, 10, 5
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var sending, listening sync.WaitGroup
	var warm sync.WaitGroup
	warm.Add(people)
	reloaded := make(chan struct{})
	names, rooms := make([]string, people), make([]*chatclient.Room, people)
	for i := range people {
		name := fmt.Sprint("talker", i)
		c, err := chatclient.Dial(ctx, "ws"+strings.TrimPrefix(url, "http"), chatclient.Options{
			Token:      func(context.Context) (string, error) { return name, nil },
			HTTPClient: hc,
			BackoffMin: time.Millisecond,
			BackoffMax: 50 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if rooms[i], err = c.Join(ctx, "talk", chatclient.JoinOptions{}); err != nil {
			t.Fatal(err)
		}
		names[i] = name
	}
	for i, room := range rooms {
		name := names[i]
		sending.Go(func() {
			for n := range before + during + after {
				if n == before {
					warm.Done()
				}
				if n == before+during {
					<-reloaded
				}
				if _, err := room.Send(ctx, fmt.Sprint(name, " ", n)); err != nil {
					t.Errorf("%s: message %d: %v", name, n, err)
				}
			}
		})
		listening.Go(func() {
			next := make(map[string]int)
			got := 0
			for e := range room.Events(ctx) {
				switch e.Type {
				case chatclient.TypeGap:
					t.Errorf("%s: messages may be missing after %d", name, got)
				case chatclient.TypeRoomMessage:
					var text string
					if want := fmt.Sprint(e.From.ID, " ", next[e.From.ID]); e.Decode(&text) != nil || text != want {
						t.Errorf("%s got %s, want %q", name, e.Data, want)
					}
					next[e.From.ID]++
					got++
				}
				if got == people*(before+during+after) {
					return
				}
			}
			t.Errorf("%s got %d messages", name, got)
		})
	}
	warm.Wait()
	reload()
	close(reloaded)
	sending.Wait()
	listening.Wait()
}
