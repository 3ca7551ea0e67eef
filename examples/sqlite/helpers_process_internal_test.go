package main

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub/hubtest"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
)

// asServer is an environment variable. If it is set, the binary of the test
// runs the program itself.
const asServer = "CHATHUB_SQLITE_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is the program in a separate process, which listens on a TCP port.
type process struct {
	*exec.Cmd
	url string
}

func start(t *testing.T, file string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), os.Args[0], "-addr", "127.0.0.1:0", "-db", file)}
	p.Env = append(os.Environ(), asServer+"=1")
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), "url="); ok {
			p.url = url
			go func() {
				for lines.Scan() { // so that the process does not block
				}
			}()
			return p
		}
		t.Log(lines.Text())
	}
	t.Fatalf("the server does not serve: %v", p.Wait())
	return nil
}

// patience bounds every wait for a frame.
const patience = 20 * time.Second

// client is a connection over TCP.
type client struct {
	*websocket.Conn
	t *testing.T
}

func dial(t *testing.T, url, name string) client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + name}},
		Subprotocols: []string{"chathub.v1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return client{ws, t}
}

func (c client) send(f hubtest.Frame) {
	c.t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		c.t.Fatal(err)
	}
	// If the server is gone, next finds out.
	_ = c.Write(c.t.Context(), websocket.MessageText, b)
}

// next returns the next frame. ok is false if the connection has ended.
func (c client) next() (f hubtest.Frame, ok bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	_, b, err := c.Read(ctx)
	if ctx.Err() != nil {
		c.t.Fatalf("nothing within %v", patience)
	}
	if err != nil {
		return f, false
	}
	if err := json.Unmarshal(b, &f); err != nil {
		c.t.Fatal(err)
	}
	return f, true
}

func (c client) must(f hubtest.Frame) hubtest.Frame {
	c.t.Helper()
	f.ID = "must"
	c.send(f)
	for {
		r, ok := c.next()
		if !ok || r.ID == f.ID && r.Type == "error" {
			c.t.Fatalf("%s: %s", f.Type, r.Data)
		}
		if r.ID == f.ID {
			return r
		}
	}
}
