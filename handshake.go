package chathub

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/chathub-go/chathub/internal/text"
	"github.com/chathub-go/chathub/internal/wire"
)

// ServeHTTP upgrades a request to a WebSocket, which is served beside: it returns
// after the handshake and Config.OnConnect, so that what net/http holds for the request is
// freed.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isUpgrade(r) {
		h.logNoUpgrade(r)
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		writeError(w, http.StatusUpgradeRequired, errorf(CodeBadRequest, "This is a WebSocket endpoint"))
		return
	}
	if err := h.cfg.origins().Check(r); err != nil {
		e := &Error{Code: CodeForbidden, Message: "Origin not allowed", Err: err}
		h.logRefused(r, e)
		h.refuseHTTP(w, e)
		return
	}
	addr := handshake.ClientAddr(r, h.cfg.TrustedProxies)
	if err := h.entrance.enter(addr); err != nil {
		h.logRefused(r, err)
		if h.entrance.enterRefused() {
			h.refuse(w, r, err, h.entrance.leaveRefused)
		} else {
			h.refuseHTTP(w, err)
		}
		return
	}
	leave := func() { h.entrance.leave(addr) }
	id, err := h.identify(r)
	if err != nil {
		h.logRefused(r, err)
		h.refuse(w, r, err, leave)
		return
	}
	visitor, err := h.entrance.enterUser(id.User.ID)
	if err != nil {
		h.logRefused(r, err, "user", id.User.ID)
		h.refuse(w, r, err, leave)
		return
	}
	extension := h.extension(r)
	ws, conn, ok := h.upgrade(w, r, extension)
	if !ok {
		h.entrance.leaveUser(id.User.ID)
		leave()
		return
	}
	c := newClient(h, id, addr, ws, conn)
	c.visitor = visitor
	c.deflates = extension != ""
	// Here, while r is good: routers and middleware reuse what is in its context.
	connectErr := c.greet(r)
	if connectErr != nil {
		if e, known := publicError(connectErr); known {
			h.logRefused(r, e, "user", id.User.ID)
		}
	}
	c.serve(connectErr)
}

// isUpgrade reports whether a request asks for a WebSocket; what else is wrong
// with it, the handshake says (RFC 6455 section 4.2.1).
func isUpgrade(r *http.Request) bool {
	return r.Header.Get("Upgrade") != "" && r.Header.Get("Sec-WebSocket-Key") != ""
}

// identify authenticates a handshake.
func (h *Hub) identify(r *http.Request) (id Identity, e *Error) {
	token, err := handshake.Token(r, handshake.TokenPlaces{Cookie: h.cfg.TokenCookie, Query: h.cfg.TokenQuery})
	if err != nil {
		return id, invalidToken(err)
	}
	return h.authenticate(r.Context(), token, r)
}

// authenticate asks the Authenticator and checks what it says.
func (h *Hub) authenticate(ctx context.Context, token string, r *http.Request) (id Identity, e *Error) {
	err := h.guard("Authenticate", func() (err error) {
		id, err = h.cfg.Auth.Authenticate(ctx, token, r)
		return err
	})
	if err == nil {
		id.User.Name = text.Name(id.User.Name)
		err = checkUserID(id.User.ID)
	}
	if err == nil && !id.Expires.IsZero() && !time.Now().Before(id.Expires) {
		ago := time.Since(id.Expires).Round(time.Second)
		err = &Error{Code: CodeTokenExpired, Message: "Token expired", Err: fmt.Errorf("Identity.Expires was %v ago", ago)}
	}
	if err == nil {
		return id, nil
	}
	e, _ = publicError(err)
	return id, e
}

// upgrade makes the handshake, with the extension agreed to, if any. Where it fails, the
// client has been told.
func (h *Hub) upgrade(w http.ResponseWriter, r *http.Request, extension string) (*websocket.Conn, *wire.Conn, bool) {
	if !wire.Hijackable(w) {
		e := &Error{Code: CodeInternal, Message: "The server cannot upgrade this connection", Err: errNotHijackable}
		h.logRefused(r, e, "writer", fmt.Sprintf("%T", w))
		writeError(w, http.StatusNotImplemented, e)
		return nil, nil, false
	}
	u := &wire.Upgrade{ResponseWriter: w, Poller: &h.poller, Extension: extension, Limits: wire.Limits{
		Message: h.cfg.MaxMessageBytes,
		Outbox:  h.cfg.MaxOutboxBytes,
		Grace:   h.cfg.WriteTimeout,
	}}
	ws, err := accept(u, r)
	if err != nil {
		h.logRefused(r, &Error{Message: "Bad handshake", Err: fmt.Errorf("%w: %w", errBadHandshake, err)}, "hint", upgradeHint)
		return nil, nil, false
	}
	h.entrance.hold(u.Conn)
	return ws, u.Conn, true
}

// accept puts a websocket.Conn on what w hands out.
func accept(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       []string{handshake.Subprotocol},
		InsecureSkipVerify: true, // of origins, which were checked more strictly
	})
	if err == nil {
		ws.SetReadLimit(-1) // wire has counted already, and decompresses itself
	}
	return ws, err
}

// reattached is a handshake (RFC 6455 section 1.3) as good as any.
var reattached = &http.Request{Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
	"Connection":            {"Upgrade"},
	"Upgrade":               {"websocket"},
	"Sec-Websocket-Version": {"13"},
	"Sec-Websocket-Key":     {"dGhlIHNhbXBsZSBub25jZQ=="},
}}

// reattach returns a websocket.Conn for a connection that had one, which was given up while
// nothing came: between two messages it has no state.
func reattach(conn *wire.Conn) (*websocket.Conn, error) {
	return accept(&wire.Reattach{Conn: conn}, reattached)
}

// closeLayer ends a websocket.Conn. It has a finalizer until then, and refers to itself: so it
// would never be collected.
func closeLayer(ws *websocket.Conn) {
	if ws != nil {
		_ = ws.CloseNow()
	}
}

// refusal is how a refused handshake is told.
type refusal struct {
	status int
	close  closeCode
}

var refusals = map[Code]refusal{
	CodeUnauthenticated: {http.StatusUnauthorized, closeUnauthenticated},
	CodeTokenExpired:    {http.StatusUnauthorized, closeTokenExpired},
	CodeForbidden:       {http.StatusForbidden, closeForbidden},
	CodeLimitExceeded:   {http.StatusTooManyRequests, closeLimit},
	CodeRateLimited:     {http.StatusTooManyRequests, closeRateLimited},
	CodeUnavailable:     {http.StatusServiceUnavailable, closeShutdown},
	CodeInternal:        {http.StatusInternalServerError, closeShutdown},
}

func refusalOf(e *Error) refusal {
	if e == errFull {
		return refusal{http.StatusServiceUnavailable, closeLimit}
	}
	if r, ok := refusals[e.Code]; ok {
		return r
	}
	return refusal{http.StatusForbidden, closeForbidden} // the application's, for whatever reason
}

// refuse turns a handshake away: by an envelope and a close code where the client
// speaks the protocol, since a browser's script sees neither status nor body; by HTTP
// otherwise. It calls done when the connection has gone.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, e *Error, done func()) {
	if !handshake.OffersSubprotocol(r) {
		defer done()
		h.refuseHTTP(w, e)
		return
	}
	h.figures.refused.Add(1)
	h.traceRefused(e)
	ws, conn, ok := h.upgrade(w, r, "")
	if !ok {
		done()
		return
	}
	conn.Flush() // the response to the handshake
	go func() {
		defer done()
		h.turnAway(ws, conn, e)
		h.dispose(ws, conn)
	}()
}

// turnAway says why, closes, and waits for the peer to do so.
func (h *Hub) turnAway(ws *websocket.Conn, conn *wire.Conn, e *Error) {
	env := envelope{typ: "connect-error", data: errorData(e)}
	ready := conn.Enqueue(env.frame(), false) == wire.Ready
	if conn.CloseWith(uint16(refusalOf(e).close), e.Message, false, h.cfg.WriteTimeout) == wire.Ready || ready {
		conn.Flush()
	}
	for {
		_, r, err := ws.Reader(context.Background())
		if err == nil {
			_ = conn.Compressed() // or the answers would gather
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return // it has closed, or been given up
		}
	}
}

// dispose ends a connection from which nobody reads any more.
func (h *Hub) dispose(ws *websocket.Conn, conn *wire.Conn) {
	conn.CloseAfter(h.cfg.WriteTimeout)
	closeLayer(ws) // what waits is sent all the same: conn is closing already
	h.entrance.drop(conn)
}

func (h *Hub) refuseHTTP(w http.ResponseWriter, e *Error) {
	h.figures.refused.Add(1)
	h.traceRefused(e)
	status := refusalOf(e).status
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110 section 11.6.1
	}
	writeError(w, status, e)
}

func writeError(w http.ResponseWriter, status int, e *Error) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(errorData(e)) // a client that is gone is no fault of ours
}

// errorData is the data of error and connect-error, and the body of a refusal.
func errorData(e *Error) []byte {
	b, err := json.Marshal(struct {
		Code         Code   `json:"code"`
		Message      string `json:"message"`
		RetryAfterMs int64  `json:"retryAfterMs,omitzero"`
	}{e.Code, e.Message, ceilMillis(e.RetryAfter)})
	if err != nil { // a message of an application that is not UTF-8
		return errorData(&Error{Code: e.Code, RetryAfter: e.RetryAfter})
	}
	return b
}

// ceilMillis rounds up: who waits that long must not come too early.
func ceilMillis(d time.Duration) int64 {
	return (d + time.Millisecond - 1).Milliseconds()
}

// extension returns the answer to the extensions that a client offers, "" for none.
func (h *Hub) extension(r *http.Request) string {
	if h.cfg.CompressFrom < 0 {
		return ""
	}
	return wire.Negotiate(r.Header)
}
