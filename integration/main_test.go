package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub/hubtest"
	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
)

// TestMain fails the run if a goroutine with our code outlives the tests.
func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	code := m.Run()
	if code == 0 {
		if left := leaked(); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines left behind:\n\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked returns the stacks of other goroutines with code of chathub or of
// these tests. Goroutines that are ending get some time to do so.
func leaked() (left string) {
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		buf := make([]byte, 1<<20)
		stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		left = ""
		for _, s := range stacks[1:] {
			if strings.Contains(s, "chathub-go/chathub") {
				left += s + "\n\n"
			}
		}
		if left == "" {
			break
		}
	}
	return left
}

// patience is the longest wait for anything.
const patience = 10 * time.Second

// newServer serves a handler on a port of 127.0.0.1.
func newServer(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// client is a connection to a hub over a network.
type client struct {
	t       *testing.T
	ws      *websocket.Conn
	frames  chan hubtest.Frame
	end     error // why frames was closed
	welcome hubtest.Frame
}

// bearer returns the header of a handshake with a token.
func bearer(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

// connect dials url (http or https) as a user of hubtest.Auth, and waits for
// the welcome.
func connect(t *testing.T, hc *http.Client, url, token string) *client {
	t.Helper()
	c := dial(t, hc, url, bearer(token))
	if c.welcome = c.next(); c.welcome.Type != "welcome" {
		t.Fatalf("first frame is %q (%s), not welcome", c.welcome.Type, c.welcome.Data)
	}
	return c
}

// dial makes a handshake that offers chathub.v1 and more protocols. If the
// header has extensions, it offers compression.
func dial(t *testing.T, hc *http.Client, url string, header http.Header, protocols ...string) *client {
	t.Helper()
	c, err := tryDial(t, hc, url, header, protocols...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryDial(t *testing.T, hc *http.Client, url string, header http.Header, protocols ...string) (*client, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	compression := websocket.CompressionDisabled
	if header.Get("Sec-Websocket-Extensions") != "" {
		compression = websocket.CompressionNoContextTakeover
	}
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient:           hc,
		HTTPHeader:           header,
		Subprotocols:         append([]string{"chathub.v1"}, protocols...),
		CompressionMode:      compression,
		CompressionThreshold: 1,
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	// No test leaves so many frames unread.
	c := &client{t: t, ws: ws, frames: make(chan hubtest.Frame, 1024)}
	go c.read()
	t.Cleanup(func() { _ = ws.CloseNow() })
	return c, nil
}

func (c *client) read() {
	defer close(c.frames)
	for {
		_, b, err := c.ws.Read(context.Background())
		if err != nil {
			c.end = err
			return
		}
		var f hubtest.Frame
		if err := json.Unmarshal(b, &f); err != nil {
			c.end = err
			return
		}
		c.frames <- f
	}
}

// next returns the next frame.
func (c *client) next() hubtest.Frame {
	c.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case f, ok := <-c.frames:
		if !ok {
			c.t.Fatalf("connection has ended: %v", c.end)
		}
		return f
	case <-timeout.C:
		c.t.Fatalf("no frame within %v", patience)
	}
	panic("unreachable")
}

// wait returns the next frame of a type. Frames before it are dropped.
func (c *client) wait(typ string) hubtest.Frame {
	c.t.Helper()
	for {
		if f := c.next(); f.Type == typ {
			return f
		}
	}
}

// send sends a frame.
func (c *client) send(f hubtest.Frame) {
	c.t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if err := c.ws.Write(ctx, websocket.MessageText, b); err != nil {
		c.t.Fatal(err)
	}
}

// must sends a frame and waits for its ack.
func (c *client) must(f hubtest.Frame) hubtest.Frame {
	c.t.Helper()
	f.ID = rand.Text() // new for each message, or it would be a repetition
	c.send(f)
	for {
		switch r := c.next(); {
		case r.ID != f.ID || r.Type != "ack" && r.Type != "error":
		case r.Type == "error":
			c.t.Fatalf("%s: %s", f.Type, r.Data)
		default:
			return r
		}
	}
}

// closed waits for the end of the connection, and returns the close code and
// reason. Frames before it are dropped.
func (c *client) closed() (int, string) {
	c.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case _, ok := <-c.frames:
			if ok {
				continue
			}
		case <-timeout.C:
			c.t.Fatalf("connection is still open after %v", patience)
		}
		if ce := (websocket.CloseError{}); errors.As(c.end, &ce) {
			return int(ce.Code), ce.Reason
		}
		return -1, c.end.Error()
	}
}
