package chathub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/text"
	"github.com/chathub-go/chathub/internal/wire"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
)

// ServeHTTP upgrades a request to a WebSocket. It returns after the handshake
// and Config.OnConnect, so that the memory that net/http holds for the request
// is freed. The connection is then served on a goroutine of its own.
//
// A client that is refused gets a connect-error and a close code if it offers
// the protocol's subprotocol, and an HTTP status otherwise. A page whose origin
// is not allowed always gets status 403, and a request that is not a WebSocket
// handshake gets 426. Status 501 means that the connection cannot be taken
// over, because a middleware such as http.TimeoutHandler has wrapped the
// ResponseWriter.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isUpgrade(r) {
		h.reportNoUpgrade(r)
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		writeError(w, http.StatusUpgradeRequired, errorf(CodeBadRequest, "This is a WebSocket endpoint"))
		return
	}
	if err := h.origins.Check(r); err != nil {
		e := &Error{Code: CodeForbidden, Message: "Origin not allowed", Err: err}
		h.logRefused(r, e)
		h.refuseHTTP(w, e)
		return
	}
	right := h.rights.begin() // to connect: until the client is registered
	defer right.end()
	var id Identity
	place, err := h.admission.enter(handshake.ClientAddr(r, h.cfg.TrustedProxies))
	if err == nil {
		id, err = h.identify(r)
	}
	if err == nil {
		err = place.admit(world(id.Tenant), id.User.ID)
	}
	if err != nil {
		h.logRefused(r, err, userAttrs(id)...)
		h.refuse(w, r, err, place)
		return
	}
	extension := h.extension(r)
	ws, conn, failed := h.upgrade(w, r, extension)
	if failed != nil {
		h.countRefused(failed)
		place.release()
		return
	}
	c := newClient(h, id, place, ws, conn)
	c.takesCompressed = extension != ""
	h.infos.add(c, r)
	// connect needs r before ServeHTTP returns: routers and middleware reuse
	// what is in its context.
	refused := c.connect(r, right)
	if refused != nil {
		e, _ := publicError(refused)
		h.logRefused(r, e, userAttrs(id)...)
	}
	c.serve(refused)
}

// isUpgrade reports whether a request asks for a WebSocket. The handshake
// itself checks the rest (RFC 6455 section 4.2.1).
func isUpgrade(r *http.Request) bool {
	return r.Header.Get("Upgrade") != "" && r.Header.Get("Sec-WebSocket-Key") != ""
}

// identify finds the token of a handshake and authenticates it.
func (h *Hub) identify(r *http.Request) (id Identity, e *Error) {
	token, err := handshake.Token(r, handshake.TokenPlaces{Cookie: h.cfg.TokenCookie, Query: h.cfg.TokenQuery})
	if err != nil {
		return id, invalidToken(err)
	}
	return h.authenticate(r.Context(), token, r)
}

// authenticate asks the Authenticator and checks its answer. r is nil for a
// token that comes later than the handshake.
func (h *Hub) authenticate(ctx context.Context, token string, r *http.Request) (id Identity, e *Error) {
	err := h.guard("Authenticate", func() (err error) {
		id, err = h.cfg.Auth.Authenticate(ctx, token, r)
		return err
	})
	if err == nil {
		id.User.Name = text.Name(id.User.Name)
		err = checkUserID(id.User.ID)
	}
	if err == nil && world(id.Tenant).check() != nil {
		err = errors.New("Identity.Tenant is over 64 bytes, or has control characters")
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

// upgrade completes the handshake, and agrees to the extension if there is one.
// If it fails, that is logged and the client has been told.
func (h *Hub) upgrade(w http.ResponseWriter, r *http.Request, extension string) (*websocket.Conn, *wire.Conn, *Error) {
	if !wire.Hijackable(w) {
		e := &Error{Code: CodeInternal, Message: "The server cannot upgrade this connection", Err: errNotHijackable}
		h.logRefused(r, e, "writer", fmt.Sprintf("%T", w))
		writeError(w, http.StatusNotImplemented, e)
		return nil, nil, e
	}
	u := &wire.Upgrade{ResponseWriter: w, Poller: &h.poller, Extension: extension, Limits: wire.Limits{
		Message: h.cfg.MaxMessageBytes,
		Outbox:  h.cfg.MaxOutboxBytes,
		Grace:   h.cfg.WriteTimeout,
	}}
	ws, err := accept(u, r)
	if err != nil {
		return nil, nil, h.badHandshake(r, err)
	}
	h.admission.track(u.Conn)
	return ws, u.Conn, nil
}

// accept puts a websocket.Conn on the connection that w hands over.
func accept(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       []string{handshake.Subprotocol},
		InsecureSkipVerify: true, // origins were checked before, more strictly
	})
	if err != nil { // it quotes headers, which may be long
		return nil, errors.New(text.Excerpt(err.Error(), maxExcerpt))
	}
	ws.SetReadLimit(-1) // wire has its own limit, and decompresses itself
	return ws, nil
}

// dummyHandshake is the example of RFC 6455 section 1.3. Any valid handshake
// would do.
var dummyHandshake = &http.Request{Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
	"Connection":            {"Upgrade"},
	"Upgrade":               {"websocket"},
	"Sec-Websocket-Version": {"13"},
	"Sec-Websocket-Key":     {"dGhlIHNhbXBsZSBub25jZQ=="},
}}

// reattach returns a websocket.Conn for a connection whose earlier one was
// given up while the connection was parked. Nothing is lost: between two
// messages, a websocket.Conn has no state.
func reattach(conn *wire.Conn) (*websocket.Conn, error) {
	return accept(&wire.Reattach{Conn: conn}, dummyHandshake)
}

// closeLayer closes a websocket.Conn, unless it is nil. An open one is never
// collected, because it has a finalizer and refers to itself.
func closeLayer(ws *websocket.Conn) {
	if ws != nil {
		_ = ws.CloseNow()
	}
}

// refusal is how a client is told that it is refused: by HTTP, or on a
// WebSocket.
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
	switch {
	case e == errServerFull:
		return refusal{http.StatusServiceUnavailable, closeLimit}
	case e.Err == errWasDisconnected: //nolint:errorlint // made by errDisconnected alone
		return refusal{http.StatusForbidden, closeDisconnected}
	}
	if r, ok := refusals[e.Code]; ok {
		return r
	}
	return refusal{http.StatusForbidden, closeForbidden} // a code of the application's choice
}

// refuse refuses a handshake. A client that speaks the protocol gets an
// envelope and a close code, since a browser's script sees neither status nor
// body. Any other client gets an HTTP response. The place is released when the
// connection has gone.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, e *Error, p place) {
	if !handshake.OffersSubprotocol(r) || !h.admission.refuse(&p) {
		defer p.release()
		h.refuseHTTP(w, e)
		return
	}
	h.countRefused(e)
	ws, conn, failed := h.upgrade(w, r, "")
	if failed != nil {
		p.release()
		return
	}
	conn.Flush() // the response to the handshake
	go func() {
		defer p.release()
		h.turnAway(ws, conn, e)
		h.dispose(ws, conn)
	}()
}

// refusalTimeout bounds how long a refused client may take to accept the reason
// and to close.
const refusalTimeout = 2 * time.Second

// turnAway sends the reason and a close frame, and waits for the peer to close.
func (h *Hub) turnAway(ws *websocket.Conn, conn *wire.Conn, e *Error) {
	env := envelope{typ: eventConnectError, data: errorData(e)}
	ready := conn.Enqueue(env.frame(), wire.Durable) == wire.Ready
	grace := min(refusalTimeout, h.cfg.WriteTimeout)
	if conn.CloseWith(uint16(refusalOf(e).close), e.Message, false, grace) == wire.Ready || ready {
		conn.Flush()
	}
	for {
		_, r, err := ws.Reader(context.Background())
		if err == nil {
			_ = conn.Compressed() // asked for each message, or the answers would pile up
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return // the peer has closed, or was given up
		}
	}
}

// dispose closes a connection after its last reader has ended.
func (h *Hub) dispose(ws *websocket.Conn, conn *wire.Conn) {
	conn.CloseAfter(h.cfg.WriteTimeout)
	closeLayer(ws) // frames that wait are still sent: conn is closing already
	h.admission.untrack(conn)
}

// countRefused is to be called once for each refused handshake.
func (h *Hub) countRefused(e *Error) {
	h.counters.refused.Add(1)
	h.counters.refusedBy.add(codeOf(e))
	h.traceRefused(e)
}

func (h *Hub) refuseHTTP(w http.ResponseWriter, e *Error) {
	h.countRefused(e)
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
	_, _ = w.Write(errorData(e)) // the client may be gone
}

// errorData returns the data of an error or connect-error, which is also the
// body of a refusal over HTTP.
func errorData(e *Error) []byte {
	b, err := json.Marshal(struct {
		Code         Code   `json:"code"`
		Message      string `json:"message"`
		RetryAfterMs int64  `json:"retryAfterMs,omitzero"`
	}{e.Code, e.Message, note.CeilMillis(e.RetryAfter)})
	if err != nil { // an application's message that is not UTF-8
		return errorData(&Error{Code: e.Code, RetryAfter: e.RetryAfter})
	}
	return b
}

// extension returns the answer to the extensions that a client offers, or "" to
// accept none.
func (h *Hub) extension(r *http.Request) string {
	if h.cfg.CompressFrom < 0 {
		return ""
	}
	return wire.Negotiate(r.Header)
}
