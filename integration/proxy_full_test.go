package integration

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/coder/websocket"
)

// TestNginxFull: a server that is full refuses a client that offers chathub.v1
// on a WebSocket, so nginx does not try the next one. A client without the
// subprotocol gets HTTP 503, and nginx does.
func TestNginxFull(t *testing.T) {
	var servers []*httptest.Server
	for _, most := range []int{1, 100} {
		cfg := behindProxy()
		cfg.MaxConns = most
		servers = append(servers, newServer(t, onServeMux(hubtest.New(t, cfg))))
	}
	connect(t, servers[0].Client(), servers[0].URL+"/ws", "first") // and it is full
	n := startNginx(t, servers...)
	hc := n.from("127.0.0.1")

	refused := 0
	for range 4 { // to each of the servers, since no connection stays
		c := dial(t, hc, n.url, bearer("ana"))
		switch f := c.next(); {
		case f.Type == "connect-error" && f.Code() == chathub.CodeLimitExceeded:
			refused++
			if code, _ := c.closed(); code != 4504 {
				t.Errorf("closed with %d, want 4504", code)
			}
		case f.Type != "welcome":
			t.Errorf("got %s %s", f.Type, f.Data)
		default:
			_ = c.ws.Close(websocket.StatusNormalClosure, "")
		}
	}
	if refused == 0 {
		t.Error("no client that offers the subprotocol came to the full server")
	}

	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		ws, res, err := websocket.Dial(ctx, n.url, &websocket.DialOptions{HTTPClient: hc, HTTPHeader: bearer("ana")})
		cancel()
		if err != nil {
			t.Errorf("a client without the subprotocol: %v", err)
			continue
		}
		if res.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("answered with %s", res.Status)
		}
		_ = ws.Close(websocket.StatusNormalClosure, "")
	}
}
