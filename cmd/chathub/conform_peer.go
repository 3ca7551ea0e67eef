package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub/client"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxMessage is what the welcome allows the client to send, in bytes.
const maxMessage = 64 << 10

// peer is a connection of the client under test.
type peer struct {
	*trial
	ws     *websocket.Conn
	gate   *gate
	token  string
	frames chan frame // closed when the connection has ended
	// early are frames that came while the scenario waited for something else.
	early []frame
}

// checkHandshake checks how a client offers its token, and returns that.
func (t *trial) checkHandshake(r *http.Request) string {
	var offered []string
	for _, v := range r.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			offered = append(offered, strings.TrimSpace(p))
		}
	}
	if !slices.Contains(offered, subprotocol) {
		t.wrong(secConnecting, "the client does not offer the subprotocol %s", subprotocol)
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	for _, p := range offered {
		if own, ok := strings.CutPrefix(p, "chathub.bearer."); ok {
			token = own
		}
		if own, ok := strings.CutPrefix(p, "chathub.bearer64."); ok {
			b, err := base64.RawURLEncoding.Strict().DecodeString(own)
			if err != nil {
				t.wrong(secConnecting, "chathub.bearer64. is not followed by base64url without padding")
			}
			token = string(b)
		}
	}
	if token == "" {
		token = r.URL.Query().Get("token")
	}
	if !t.manual && !slices.Contains(t.tokens, token) {
		t.wrong(secConnecting, "the client does not send the token that it was given")
	}
	return token
}

// read checks and collects what the client sends.
func (p *peer) read() {
	defer close(p.frames)
	for {
		typ, b, err := p.ws.Read(context.Background())
		if err != nil {
			return
		}
		f, fault := decode(typ, b)
		if fault != "" {
			p.wrong(secEnvelope, "the client sends %s: %.200q", fault, b)
			continue
		}
		p.checkID(f)
		select {
		case p.frames <- f:
		default: // far too many; the scenario fails anyway
		}
	}
}

// decode decodes what a client has sent, and says what is wrong with it.
func decode(typ websocket.MessageType, b []byte) (f frame, fault string) {
	switch {
	case typ != websocket.MessageText:
		return f, "a binary message"
	case len(b) > maxMessage:
		return f, fmt.Sprintf("more than maxMessage, %d bytes", maxMessage)
	case jsontext.Value(b).Kind() != jsontext.KindBeginObject:
		return f, "what is not an object"
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, "an envelope that is not valid: " + err.Error()
	}
	switch {
	case !isType(f.Type):
		return f, "an envelope whose type is not valid"
	case len(f.ID) > 64:
		return f, "an id of more than 64 bytes"
	case len(f.Room) > 128 || len(f.To) > 128:
		return f, "a room or to of more than 128 bytes"
	}
	return f, ""
}

// isType reports whether s matches [a-z0-9][a-z0-9:._-]{0,63}.
func isType(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && strings.IndexByte(":._-", c) >= 0:
		default:
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// checkID checks that an id is not used for two messages.
func (p *peer) checkID(f frame) {
	if f.ID == "" || f.Type == "ack" || f.Type == "error" {
		return
	}
	content := f.Type + " " + f.Room + " " + f.To + " " + string(f.Re) + " " + string(f.Data)
	p.mu.Lock()
	old, used := p.contents[f.ID]
	p.contents[f.ID] = content
	p.mu.Unlock()
	if used && old != content {
		p.wrong(secAnswers, "the id %q is used for %.200q and for %.200q", f.ID, old, content)
	}
}

// send sends a frame to the client. If the client has gone, the scenario
// notices when it waits for something.
func (p *peer) send(f frame) { p.raw(string(encode(f))) }

func (p *peer) raw(text string) {
	ctx, cancel := context.WithTimeout(context.Background(), p.patience)
	defer cancel()
	_ = p.ws.Write(ctx, websocket.MessageText, []byte(text)) // see send
}

// welcome welcomes the client. ping is how often the server pings it.
func (p *peer) welcome(ping time.Duration) {
	p.raw(fmt.Sprintf(`{"type":"welcome","data":{"clientId":"c_1","user":{"id":"u1","name":"Ana"},"time":%d,`+
		`"inbox":{"epoch":"a1","seq":4},"pingInterval":%d,"maxMessage":%d,"off":["something-new"]}}`,
		time.Now().UnixMilli(), ping.Milliseconds(), maxMessage))
	p.raw(`{"type":"online-users","data":{"users":[{"id":"u1","name":"Ana"}],"count":1}}`)
}

// next returns the next frame of one of the types. It answers others that
// clients send by themselves.
func (p *peer) next(s section, types ...string) frame {
	f, _ := p.nextOr(s, 0, types...)
	return f
}

// nextOr is next, but reports false if an order has ended before.
func (p *peer) nextOr(s section, n int, types ...string) (frame, bool) {
	timer := time.NewTimer(p.patience)
	defer timer.Stop()
	for {
		for len(p.early) > 0 {
			f := p.early[0]
			p.early = p.early[1:]
			if slices.Contains(types, f.Type) {
				return f, true
			}
			p.answer(f)
		}
		p.trial.mu.Lock()
		_, ended := p.finished[n]
		wake := p.wake
		p.trial.mu.Unlock()
		if ended {
			return frame{}, false
		}
		select {
		case f, ok := <-p.frames:
			if !ok {
				p.stop(s, "the client has closed the connection, without %s", strings.Join(types, " or "))
			}
			p.early = append(p.early, f)
		case <-wake:
		case <-timer.C:
			p.stop(s, "the client does not send %s within %v", strings.Join(types, " or "), p.patience)
		case <-p.ctx.Done():
			panic(abandoned{})
		}
	}
}

// meanwhile handles a frame that comes while the scenario waits for the driver.
func (p *peer) meanwhile(f frame) {
	switch f.Type {
	case "ping", "overview", "history", "mark-read", "online-users", "refresh-token":
		p.answer(f)
	case "resume":
		if _, rooms := p.positions(f); len(rooms) == 0 {
			p.answer(f)
			return
		}
		p.early = append(p.early, f)
	default:
		p.early = append(p.early, f)
	}
}

// positions returns what a resume asks for.
func (p *peer) positions(f frame) (inbox *client.Position, rooms map[string]client.Position) {
	var asked struct {
		Rooms map[string]client.Position `json:"rooms"`
		Inbox *client.Position           `json:"inbox"`
	}
	if err := json.Unmarshal(f.Data, &asked); err != nil {
		p.stop(secLogs, "the data of resume is not valid: %s", f.Data)
	}
	return asked.Inbox, asked.Rooms
}

// answer answers what a scenario is not about.
func (p *peer) answer(f frame) {
	switch f.Type {
	case "ack", "error", "typing", "stop-typing":
		return
	case "ping":
		p.raw(`{"type":"pong"}`)
	case "resume":
		if _, rooms := p.positions(f); len(rooms) > 0 {
			p.stop(secLogs, "the client resumes rooms that it is not in: %s", f.Data)
		}
		p.ack(f, `{"rooms":{},"inbox":{"epoch":"a1","seq":4,"recovered":true}}`)
		return
	case "overview":
		p.ack(f, `{"rooms":{}}`)
		return
	case "history":
		p.ack(f, `{"messages":[],"more":false}`)
		return
	case "mark-read":
		p.ack(f, `{"seq":1,"unread":0,"head":1}`)
		return
	case "online-users":
		p.raw(`{"type":"online-users","data":{"users":[{"id":"u1","name":"Ana"}],"count":1}}`)
	case "leave-room", "refresh-token", "message":
	default:
		p.send(frame{Type: "error", ID: f.ID, Data: encode(faultData{Code: "unknown_type", Message: "Unknown"})})
		return
	}
	if f.ID != "" {
		p.send(frame{Type: "ack", ID: f.ID})
	}
}

// ack answers a frame with an ack.
func (p *peer) ack(f frame, data string) {
	p.send(frame{Type: "ack", ID: f.ID, Data: jsontext.Value(data)})
}

// message sends a room-message.
func (p *peer) message(room string, seq uint64, data string) {
	p.send(frame{
		Type: "room-message", ID: fmt.Sprintf("s%d", seq), Room: room, Seq: seq, TS: time.Now().UnixMilli(),
		From: &client.User{ID: "u2", Name: "Ben"}, Data: jsontext.Value(data),
	})
}

// private sends a private-message.
func (p *peer) private(seq uint64, data string) {
	p.send(frame{
		Type: "private-message", ID: fmt.Sprintf("p%d", seq), To: "u1", Seq: seq, TS: time.Now().UnixMilli(),
		From: &client.User{ID: "u2", Name: "Ben"}, Data: jsontext.Value(data),
	})
}

// part is the answer to a join, or a part of the answer to resume.
func part(epoch string, seq uint64, recovered bool) string {
	return fmt.Sprintf(`{"epoch":%q,"seq":%d,"users":[{"id":"u1","name":"Ana"}],"count":1,"recovered":%v,"read":0,"unread":0}`, epoch, seq, recovered)
}

// joins takes a join-room, and answers it.
func (p *peer) joins(room, epoch string, seq uint64) (asked frame) {
	f := p.next(secSends, "join-room")
	switch {
	case f.Room != room:
		p.stop(secSends, "the client joins %q, and not %q", f.Room, room)
	case f.ID == "":
		p.stop(secAnswers, "join-room has no id, so it gets no answer")
	}
	p.ack(f, part(epoch, seq, false))
	return f
}

// close closes the connection with a code.
func (p *peer) close(code int, reason string) {
	_ = p.ws.Close(websocket.StatusCode(code), reason) // it may be closed already
	p.ws.CloseNow()
}

// cut breaks the connection, once the client has everything that was sent.
func (p *peer) cut() {
	p.ping()
	p.ws.CloseNow()
}

// ping pings the client, and reports whether it answers in time.
func (p *peer) ping() bool {
	ctx, cancel := context.WithTimeout(p.ctx, p.patience)
	defer cancel()
	return p.ws.Ping(ctx) == nil
}

// mute lets nothing through in either direction any more, as a network that has
// vanished.
func (p *peer) mute() { p.gate.mute() }

// gate is a network connection that can go mute.
type gate struct {
	net.Conn
	mu     sync.Mutex
	muted  bool
	once   sync.Once
	closed chan struct{}
}

func (g *gate) isMuted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.muted
}

func (g *gate) mute() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.muted = true
}

// Read implements net.Conn.
func (g *gate) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if err == nil && g.isMuted() {
		<-g.closed
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// Write implements net.Conn.
func (g *gate) Write(b []byte) (int, error) {
	if g.isMuted() {
		return len(b), nil
	}
	return g.Conn.Write(b)
}

// Close implements net.Conn.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Conn.Close()
}

// gateWriter puts a gate in front of the connection that a handler takes over.
type gateWriter struct {
	http.ResponseWriter
	conn *gate
}

// Hijack implements http.Hijacker.
func (w *gateWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.conn = &gate{Conn: conn, closed: make(chan struct{})}
	return w.conn, rw, nil
}
