package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const handshake = "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// ginWriter holds the status back until it is told not to, like Gin's writer.
type ginWriter struct {
	http.ResponseWriter
	status  int
	written bool
}

func (w *ginWriter) WriteHeader(status int) { w.status = status }

func (w *ginWriter) WriteHeaderNow() {
	if !w.written {
		w.written = true
		w.ResponseWriter.WriteHeader(w.status)
	}
}

func (w *ginWriter) Write(p []byte) (int, error) {
	w.WriteHeaderNow()
	return w.ResponseWriter.Write(p)
}

func (w *ginWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.ResponseWriter.(http.Hijacker).Hijack()
}

// wrapper is a middleware's writer that can only be unwrapped.
type wrapper struct{ under http.ResponseWriter }

func (w wrapper) Header() http.Header         { return w.under.Header() }
func (w wrapper) WriteHeader(status int)      { w.under.WriteHeader(status) }
func (w wrapper) Write(p []byte) (int, error) { return w.under.Write(p) }
func (w wrapper) Unwrap() http.ResponseWriter { return w.under }

func gin(w http.ResponseWriter) http.ResponseWriter { return &ginWriter{ResponseWriter: w} }

// stacks are ways to get a ResponseWriter.
var stacks = []struct {
	name string
	wrap func(http.ResponseWriter) http.ResponseWriter
}{
	{"plain", func(w http.ResponseWriter) http.ResponseWriter { return w }},
	{"gin", gin},
	{"middleware", func(w http.ResponseWriter) http.ResponseWriter { return wrapper{wrapper{w}} }},
	{"middleware in gin", func(w http.ResponseWriter) http.ResponseWriter { return wrapper{gin(w)} }},
}

// echo returns each message to its sender, through the outbox, on a goroutine
// that outlives the handler.
func echo(t *testing.T, wrap func(http.ResponseWriter) http.ResponseWriter, ended chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := &Upgrade{ResponseWriter: wrap(w), Limits: Limits{Outbox: 1 << 20, Grace: closeGrace}}
		ws, err := websocket.Accept(u, r, nil)
		if err != nil {
			ended <- err
			return
		}
		u.Conn.Flush()
		ws.SetReadLimit(-1)
		go func() {
			for {
				_, b, err := ws.Read(context.WithoutCancel(t.Context()))
				if err != nil {
					ended <- err
					return
				}
				send(u.Conn, sealed(b))
			}
		}()
	})
}

// A client may send its first frames together with the handshake.
func TestUpgradeEarlyBytes(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, st := range stacks {
			for _, size := range []int{0, 10, 1000, 3000, 5000, 100_000} {
				t.Run(fmt.Sprintf("tls=%t/%s/%d", secure, st.name, size), func(t *testing.T) {
					ended := make(chan error, 1)
					srv := httptest.NewUnstartedServer(echo(t, st.wrap, ended))
					if secure {
						srv.StartTLS()
					} else {
						srv.Start()
					}
					defer srv.Close()
					client := dial(t, srv)
					first, second := strings.Repeat("x", size), "second"
					early := handshake + string(text(first)) + string(text(second)) + string(text("cut off")[:3])
					if _, err := io.WriteString(client, early); err != nil {
						t.Fatal(err)
					}
					r := bufio.NewReader(client)
					checkHandshake(t, r)
					for _, want := range []string{first, second} {
						if f, err := readFrame(r); err != nil || string(f.payload) != want {
							t.Fatalf("%d bytes came back, want %d; %v", len(f.payload), len(want), err)
						}
					}
					rest := string(text("cut off")[3:]) + string(clientFrame(opClose, true, []byte{0x03, 0xe8}))
					if _, err := io.WriteString(client, rest); err != nil {
						t.Fatal(err)
					}
					if frames, err := readToClose(r, 1000); err != nil || len(frames) != 1 || string(frames[0].payload) != "cut off" {
						t.Errorf("after the rest: %d frames, %v", len(frames), err)
					}
					if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
						t.Errorf("after the close frame: %v", err)
					}
					if err := <-ended; websocket.CloseStatus(err) != websocket.StatusNormalClosure {
						t.Error(err)
					}
				})
			}
		}
	}
}

func dial(t *testing.T, srv *httptest.Server) net.Conn {
	t.Helper()
	var dialer interface {
		DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	} = new(net.Dialer)
	if srv.TLS != nil {
		// The certificate is the test's own.
		dialer = &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	}
	c, err := dialer.DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	// A test that would wait forever fails then.
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

func checkHandshake(t *testing.T, r *bufio.Reader) http.Header {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	// The example of RFC 6455 section 1.3.
	if a := res.Header.Get("Sec-WebSocket-Accept"); res.StatusCode != http.StatusSwitchingProtocols || a != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%s, Sec-WebSocket-Accept: %s", res.Status, a)
	}
	return res.Header
}

// A ping is answered with a single Write, and so with a single frame, whatever
// its length.
func TestUpgradeAnswersPings(t *testing.T) {
	ended := make(chan error, 1)
	srv := httptest.NewServer(echo(t, stacks[0].wrap, ended))
	defer srv.Close()
	client := dial(t, srv)
	lengths := []int{0, 1, 124, 125}
	early := handshake
	for _, n := range lengths {
		// A second Write would look like a close frame.
		early += string(clientFrame(opPing, true, bytes.Repeat([]byte{finBit | opClose}, n)))
	}
	if _, err := io.WriteString(client, early); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(client)
	checkHandshake(t, r)
	for _, n := range lengths {
		if f, err := readFrame(r); err != nil || f.op != opPong || len(f.payload) != n {
			t.Errorf("ping of %d bytes: opcode %#x, %d bytes, %v", n, f.op, len(f.payload), err)
		}
	}
	client.Close()
	if err := <-ended; err == nil {
		t.Error("the server still reads")
	}
}

// cannotHijack fails only when Hijack is called.
type cannotHijack struct{ http.ResponseWriter }

func (cannotHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errTest }

func TestHijackable(t *testing.T) {
	rec := httptest.NewRecorder()
	for _, tt := range []struct {
		name string
		w    http.ResponseWriter
		want bool
	}{
		{"has Hijack", cannotHijack{rec}, true},
		{"unwraps to one that has", wrapper{wrapper{cannotHijack{rec}}}, true},
		{"has not", rec, false},
		{"unwraps to one that has not", wrapper{wrapper{rec}}, false},
		{"has Hijack, and unwraps to one that has not", struct {
			wrapper
			http.Hijacker
		}{wrapper{rec}, cannotHijack{rec}}, false},
	} {
		if got := Hijackable(tt.w); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

// If hijacking fails, the client has not been told that it succeeded.
func TestUpgradeFails(t *testing.T) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake)))
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"no Hijack": func(w http.ResponseWriter) http.ResponseWriter { return w },
		"an error":  func(w http.ResponseWriter) http.ResponseWriter { return cannotHijack{w} },
	} {
		rec := httptest.NewRecorder()
		u := &Upgrade{ResponseWriter: w(rec)}
		if _, err := websocket.Accept(u, r, nil); err == nil || u.Conn != nil {
			t.Errorf("%s: Accept: %v", name, err)
		}
		if rec.Code != http.StatusInternalServerError {
			t.Errorf("%s: status %d, want %d", name, rec.Code, http.StatusInternalServerError)
		}
	}
}

// Whatever the bound of the outbox, the response is complete. It has the header
// fields that middleware has set, except those about a body.
func TestUpgradeResponse(t *testing.T) {
	ended := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Set-Cookie", "a=b")
		h.Set("X-Split", "a\r\nX-Other: b")
		h.Set("Content-Type", "text/html")
		h.Set("Content-Length", "5")
		h.Set("Content-Encoding", "gzip")
		u := &Upgrade{ResponseWriter: w, Limits: Limits{Outbox: 1, Grace: closeGrace}}
		ws, err := websocket.Accept(u, r, &websocket.AcceptOptions{Subprotocols: []string{"other", "chat"}})
		if err != nil {
			ended <- err
			return
		}
		u.Conn.Flush()
		_, _, err = ws.Read(t.Context())
		ended <- err
	}))
	defer srv.Close()
	client := dial(t, srv)
	if _, err := io.WriteString(client, strings.Replace(handshake, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n", 1)); err != nil {
		t.Fatal(err)
	}
	header := checkHandshake(t, bufio.NewReader(client))
	for key, want := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Protocol": "chat",
		"Set-Cookie": "a=b", "X-Split": "a  X-Other: b", "X-Other": "",
		"Content-Type": "", "Content-Length": "", "Content-Encoding": "", "Transfer-Encoding": "",
	} {
		if got := header.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	client.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// hijacked is an http.ResponseWriter whose connection is one end of a pipe.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// A client that is closed at once still gets the whole response before the
// close frame. Otherwise it would read one as the other.
func TestUpgradeResponseIsNotDiscarded(t *testing.T) {
	server, client := pipe(t)
	u := &Upgrade{ResponseWriter: hijacked{httptest.NewRecorder(), server}, Limits: Limits{Outbox: 1 << 10, Grace: closeGrace}}
	if _, _, err := u.Hijack(); err != nil {
		t.Fatal(err)
	}
	u.Conn.Enqueue(sealed("never said"), Durable)
	u.Conn.CloseWith(4001, "slow consumer", true, closeGrace)
	u.Conn.Flush()
	r := bufio.NewReader(client)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("status %d", res.StatusCode)
	}
	if _, err := readToClose(r, 4001); err != nil {
		t.Error(err)
	}
}
