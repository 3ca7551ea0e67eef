package client_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const welcomeFrame = `{"type":"welcome","data":{"clientId":"c_1","user":{"id":"ana","name":"Ana"},"time":946684800000,"inbox":{"epoch":"a1","seq":4},"pingInterval":25000,"maxMessage":65536}}`

// fake is a server that does what the test says. Each connection is handed over
// to the test.
type fake struct {
	peers chan *peer
}

func newFake() *fake { return &fake{make(chan *peer, 100)} }

// peer is a connection of a fake. Its methods are called by the test.
type peer struct {
	ws     *websocket.Conn
	frames chan received // closed when the client has gone
}

// received is an envelope from the client.
type received struct {
	Type string         `json:"type"`
	ID   string         `json:"id"`
	Room string         `json:"room"`
	Data jsontext.Value `json:"data"`
}

func (s *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(&upgradeWriter{ResponseWriter: w}, r, &websocket.AcceptOptions{Subprotocols: []string{"chathub.v1"}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	p := &peer{ws: ws, frames: make(chan received, 1000)}
	defer close(p.frames)
	s.peers <- p
	for {
		_, b, err := ws.Read(context.Background())
		if err != nil {
			return
		}
		var f received
		if json.Unmarshal(b, &f) == nil {
			p.frames <- f
		}
	}
}

// upgradeWriter writes the response to a handshake to the connection, since
// that of hubtest keeps it.
type upgradeWriter struct{ http.ResponseWriter }

func (w *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := w.ResponseWriter.(http.Hijacker).Hijack()
	if err == nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n")
		_ = w.Header().Write(conn)
		_, err = io.WriteString(conn, "\r\n")
	}
	return conn, rw, err
}

// accept waits for the next connection, and welcomes it.
func (s *fake) accept(t *testing.T) *peer {
	t.Helper()
	select {
	case p := <-s.peers:
		p.send(welcomeFrame)
		return p
	case <-time.After(10 * time.Minute):
		t.Fatal("nobody connected")
		return nil
	}
}

// send sends a frame, unless the client has gone.
func (p *peer) send(frame string) {
	_ = p.ws.Write(context.Background(), websocket.MessageText, []byte(frame))
}

// next returns the next frame of a type. Others before it are dropped.
func (p *peer) next(t *testing.T, typ string) received {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case f, ok := <-p.frames:
			if !ok {
				t.Fatalf("the client has gone, without %s", typ)
			}
			if f.Type == typ {
				return f
			}
		case <-timeout:
			t.Fatalf("no %s within a minute", typ)
		}
	}
}

// answer sends an ack, or with "error" as typ an error.
func (p *peer) answer(f received, typ, data string) {
	id, _ := json.Marshal(f.ID)
	p.send(strings.NewReplacer("TYPE", typ, "ID", string(id), "DATA", data).Replace(`{"type":"TYPE","id":ID,"data":DATA}`))
}
