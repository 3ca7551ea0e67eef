package chathub_test

import (
	"bufio"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// hijacker hands out connections that report when they are garbage collected.
type hijacker struct {
	http.ResponseWriter
	collected chan struct{}
}

// watchedConn is a connection of its own size, so that nothing shares its
// memory.
type watchedConn struct{ net.Conn }

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w := &watchedConn{conn}
	runtime.AddCleanup(w, func(c chan struct{}) { close(c) }, h.collected)
	return w, rw, nil
}

// However a connection ends, its memory is freed afterwards, while the hub goes
// on.
func TestConnectionsAreCollected(t *testing.T) {
	for name, tc := range map[string]struct {
		token string
		end   func(c *hubtest.Client)
	}{
		"closed":           {"ana", (*hubtest.Client).Close},
		"broken off":       {"ana", (*hubtest.Client).Drop},
		"closed by us":     {"ana", func(c *hubtest.Client) { c.SendText(strings.Repeat(" ", 70<<10)); c.Closed() }},
		"refused":          {"", func(c *hubtest.Client) { c.Closed() }},
		"refused, dropped": {"", (*hubtest.Client).Drop},
	} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.New(t, chathub.Config{})
			collected := make(chan struct{})
			c, err := hubtest.DialHeader(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				hub.ServeHTTP(hijacker{w, collected}, r)
			}), http.Header{"Authorization": {"Bearer " + tc.token}})
			if err != nil {
				t.Fatal(err)
			}
			c.Next()
			tc.end(c)
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
				runtime.GC()
				select {
				case <-collected:
					return
				default:
				}
			}
			t.Error("the connection is still in memory")
		})
	}
}
