package integration

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lxzan/gws"
)

// hint says what to do if these tests lack a program. They do not skip: a
// client that is not tested is not supported.
const hint = "run scripts/install-test-deps"

// TestClients lets WebSocket clients by other authors meet in a room: the npm
// package ws, Python's websockets, and gws. Each of them logs in with a token,
// sends a long message (the first two in fragments), receives the messages of
// the others, gets the pong to its ping, and sees why it is closed.
func TestClients(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testClients(t, "") })
	t.Run("compressed", func(t *testing.T) { testClients(t, "permessage-deflate") })
}

// testClients requires all clients to agree on the extension.
func testClients(t *testing.T, extension string) {
	secret := []byte(rand.Text() + rand.Text())
	cfg := chathub.Config{
		Auth:            &chathub.JWT{Key: secret},
		MaxMessageBytes: 256 << 10,
	}
	if extension != "" {
		cfg.CompressFrom = 100
	}
	hub := hubtest.New(t, cfg)
	url := "ws" + strings.TrimPrefix(newServer(t, onServeMux(hub)).URL, "http") + "/ws"
	sign := func(user string) string {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"userId": user,
			"name":   strings.ToUpper(user),
			"exp":    time.Now().Add(time.Minute).Unix(),
		}).SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}

	ended := make(chan error, 2)
	run := func(program, script, name, others string) {
		cmd := exec.CommandContext(t.Context(), program, filepath.Join("testdata", script), url, name, sign(name), others, extension)
		go func() {
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%s: %w\n%s", script, err, out)
			}
			ended <- err
		}()
	}
	run(node(t), "client.mjs", "node", "python,gws")
	run(python(t), "client.py", "python", "node,gws")

	stranger := dialGWS(t, url, "not-a-token", "") // a client that is refused needs none
	if got := stranger.wait(ended, "connect-error").Code(); got != chathub.CodeUnauthenticated {
		t.Errorf("connect-error is %q", got)
	}
	expect(t, "gws", stranger.closed(), "4500 Invalid token")

	c := dialGWS(t, url, sign("gws"), extension)
	c.wait(ended, "welcome")
	expect(t, "gws", c.conn.SubProtocol(), "chathub.v1")
	if err := c.conn.WritePing([]byte("are you there?")); err != nil {
		t.Fatal(err)
	}
	c.send(`{"type":"join-room","id":"join","room":"lobby","data":{"history":100}}`)
	c.wait(ended, "ack")
	expect(t, "gws", <-c.pongs, "are you there?") // it came before the ack

	text := strings.Repeat("🌍", 30_000)
	c.send(`{"type":"room-message","id":"hello","room":"lobby","data":{"hello":"gws","text":"` + text + `"}}`)
	greeted, done := map[string]bool{}, map[string]bool{}
	for len(greeted) < 3 || len(done) < 2 {
		f := c.wait(ended, "room-message")
		var data struct {
			Hello string `json:"hello"`
			Done  string `json:"done"`
			Text  string `json:"text"`
		}
		if err := json.Unmarshal(f.Data, &data); err != nil {
			t.Fatal(err)
		}
		if data.Done != "" {
			done[data.Done] = true
			continue
		}
		if greeted[data.Hello] {
			t.Errorf("the greeting of %s came twice", data.Hello)
		}
		greeted[data.Hello] = true
		if data.Text != text || f.From.ID != data.Hello || f.From.Name != strings.ToUpper(data.Hello) {
			t.Errorf("the greeting of %s is from %v and has %d bytes of text", data.Hello, f.From, len(data.Text))
		}
	}

	if err := hub.ToUser("node", "python", "gws").Disconnect(t.Context(), "thanks 🌍"); err != nil {
		t.Fatal(err)
	}
	expect(t, "gws", c.closed(), "4503 thanks 🌍")
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// gwsClient is a client on gws.
type gwsClient struct {
	gws.BuiltinEventHandler
	t      *testing.T
	conn   *gws.Conn
	frames chan hubtest.Frame
	pongs  chan string
	end    chan string // how the connection was closed
}

// dialGWS connects with a token among the subprotocols, and offers compression.
// The server must agree on extension.
func dialGWS(t *testing.T, url, token, extension string) *gwsClient {
	t.Helper()
	c := &gwsClient{
		t:      t,
		frames: make(chan hubtest.Frame, 100), // more than will come
		pongs:  make(chan string, 1),
		end:    make(chan string, 1),
	}
	conn, res, err := gws.NewClient(c, &gws.ClientOption{
		Addr:              url,
		CheckUtf8Enabled:  true,
		PermessageDeflate: gws.PermessageDeflate{Enabled: true, Threshold: 1},
		RequestHeader:     http.Header{"Sec-Websocket-Protocol": {"chathub.v1, chathub.bearer." + token}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	t.Cleanup(func() { _ = conn.NetConn().Close() })
	agreed, _, _ := strings.Cut(res.Header.Get("Sec-WebSocket-Extensions"), ";")
	expect(t, "gws", agreed, extension)
	c.conn = conn
	go conn.ReadLoop()
	return c
}

func (c *gwsClient) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer func() { _ = m.Close() }()
	var f hubtest.Frame
	if err := json.Unmarshal(m.Bytes(), &f); err != nil || m.Opcode != gws.OpcodeText {
		c.t.Errorf("gws got %q of type %d: %v", m.Bytes(), m.Opcode, err)
	}
	c.frames <- f
}

func (c *gwsClient) OnPong(_ *gws.Conn, payload []byte) { c.pongs <- string(payload) }

func (c *gwsClient) OnClose(_ *gws.Conn, err error) {
	if ce := (*gws.CloseError)(nil); errors.As(err, &ce) {
		c.end <- fmt.Sprintf("%d %s", ce.Code, ce.Reason)
		return
	}
	c.end <- err.Error()
}

func (c *gwsClient) send(envelope string) {
	c.t.Helper()
	if err := c.conn.WriteString(envelope); err != nil {
		c.t.Fatal(err)
	}
}

// wait returns the next frame of a type. It gives up when one of the other
// clients ends.
func (c *gwsClient) wait(ended <-chan error, typ string) hubtest.Frame {
	c.t.Helper()
	timeout := time.NewTimer(2 * patience) // starting the other clients takes time
	defer timeout.Stop()
	for {
		select {
		case f := <-c.frames:
			if f.Type == typ {
				return f
			}
			if f.Type == "error" {
				c.t.Fatalf("gws got %s", f.Data)
			}
		case err := <-ended:
			c.t.Fatalf("another client has ended too early: %v", err)
		case <-timeout.C:
			c.t.Fatalf("gws waits in vain for %s", typ)
		}
	}
}

// closed waits for the end of the connection.
func (c *gwsClient) closed() string {
	c.t.Helper()
	select {
	case end := <-c.end:
		return end
	case <-time.After(patience):
		c.t.Fatal("gws was not closed")
		return ""
	}
}

// node returns the program node. It requires that the package ws is installed.
func node(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("%v: %s", err, hint)
	}
	if found, _ := filepath.Glob("testdata/node_modules/ws/package.json"); len(found) == 0 {
		t.Fatalf("the npm package ws is not in integration/testdata/node_modules: %s", hint)
	}
	return path
}

// python returns a Python with the package websockets: the first one in PATH,
// or the system's, for which the package is installed.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), name, "-c", "import websockets").Run() == nil {
			return name
		}
	}
	t.Fatalf("no python3 with the package websockets: %s", hint)
	return ""
}
