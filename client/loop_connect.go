package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
)

const (
	protocol = "chathub.v1"

	codeRestart      = 4000
	codeTokenExpired = 4003
	codeStop         = 4500 // up to codeLast: do not come back
	codeLast         = 4999

	defaultPing = 25 * time.Second // if the server does not say how often it pings
	minPing     = time.Second
	minRefresh  = time.Second
	maxLife     = 100 * 365 * 24 * time.Hour // of a token
)

var (
	errSlow   = errors.New("chathub client: connecting took too long")
	errSilent = errors.New("chathub client: the server stopped responding")
)

// welcome is the data of the first frame.
type welcome struct {
	ClientID     string   `json:"clientId"`
	User         User     `json:"user"`
	Time         int64    `json:"time"`
	Inbox        Position `json:"inbox"`
	PingInterval int64    `json:"pingInterval"`
	MaxMessage   int64    `json:"maxMessage"`
	Expires      int64    `json:"expires"`
}

func (w *welcome) valid() bool {
	return w.ClientID != "" && w.User.ID != "" && w.Inbox.Epoch != "" && w.Inbox.Seq <= maxSeq && w.Time > 0
}

// attempt is the goroutine that asks for a token and makes a handshake.
type attempt struct {
	cancel context.CancelFunc
	result chan attemptResult // taken by the loop, unless canceled
}

type attemptResult struct {
	ws    *websocket.Conn
	token string
	err   error
}

type tokenResult struct {
	token string
	err   error
}

// connect starts an attempt.
func (l *loop) connect() {
	l.attempts++
	l.restartAt = time.Time{}
	l.refusal, l.welcome = nil, nil
	l.status.set(Status{State: Connecting, Attempt: l.attempts, CloseCode: l.closeCode, Err: l.failure})
	if l.hasToken && !l.tokenExpires.IsZero() && !time.Now().Before(l.tokenExpires) {
		l.forgetToken()
	}
	token, known := l.token, l.hasToken
	ctx, cancel := context.WithCancel(l.ctx)
	a := &attempt{cancel: cancel, result: make(chan attemptResult)}
	l.attempt = a
	l.running.Go(func() {
		r := l.dial(ctx, token, known)
		select {
		case a.result <- r:
		case <-ctx.Done():
			if r.ws != nil {
				r.ws.CloseNow()
			}
		}
	})
}

// dial asks for a token unless it is known, and makes a handshake. It runs on a
// goroutine of its own.
func (l *loop) dial(ctx context.Context, token string, known bool) (r attemptResult) {
	if !known {
		if r.token, r.err = l.askToken(ctx); r.err != nil {
			return r
		}
		token = r.token
	} else {
		r.token = token
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.ConnectTimeout)
	defer cancel()
	header := l.opts.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	ws, res, err := websocket.Dial(ctx, l.url, &websocket.DialOptions{
		HTTPClient:   l.opts.HTTPClient,
		HTTPHeader:   header,
		Subprotocols: []string{protocol},
		OnPingReceived: func(context.Context, []byte) bool {
			l.heard.Store(time.Now().UnixNano())
			return true
		},
	})
	switch {
	case err != nil:
		r.err = handshakeError(err, res)
	case ws.Subprotocol() != protocol:
		ws.CloseNow()
		r.err = errors.New("chathub client: the server does not speak " + protocol)
	default:
		r.ws = ws
	}
	return r
}

// handshakeError returns the reason of a failed handshake, without the URL,
// which may hold a secret.
func handshakeError(err error, res *http.Response) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if res == nil {
		return fmt.Errorf("chathub client: handshake: %w", err)
	}
	var data struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
	}
	if res.Body != nil && json.UnmarshalRead(res.Body, &data) == nil && data.Code != "" {
		err = &Error{Code: data.Code, Message: data.Message}
	}
	return &statusError{res.StatusCode, err}
}

// statusError is a refusal in plain HTTP.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string {
	return fmt.Sprintf("chathub client: HTTP status %d: %v", e.status, e.err)
}

func (e *statusError) Unwrap() error { return e.err }

// askToken runs on a goroutine of its own.
func (l *loop) askToken(ctx context.Context) (string, error) {
	if l.opts.Token == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.ConnectTimeout)
	defer cancel()
	token, err := l.opts.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("chathub client: Options.Token: %w", err)
	}
	if len(token) > 8<<10 {
		return "", errors.New("chathub client: Options.Token: the token is longer than 8 KiB")
	}
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return "", errors.New("chathub client: Options.Token: the token has characters other than visible ASCII")
		}
	}
	return token, nil
}

// connected takes the result of an attempt.
func (l *loop) connected(r attemptResult) {
	l.attempt.cancel()
	l.attempt = nil
	if r.err == nil || r.token != "" {
		l.token, l.hasToken = r.token, true
	}
	if r.err == nil {
		l.connectBy = time.Now().Add(l.opts.ConnectTimeout)
		l.conn = newConn(r.ws, &l.heard, &l.running)
		return
	}
	var e *Error
	if errors.As(r.err, &e) {
		switch e.Code {
		case CodeUnauthenticated, CodeForbidden, CodeLimitExceeded:
			l.refuse(0, r.err)
			return
		case CodeTokenExpired:
			l.forgetToken()
		}
	}
	l.wait(r.err)
}

func (l *loop) forgetToken() {
	l.token, l.hasToken, l.tokenExpires = "", false, time.Time{}
}

// restart notes when the server wants the client back after its restart.
func (l *loop) restart(f frame) {
	var d struct {
		AfterMs float64 `json:"afterMs"`
	}
	if json.Unmarshal(f.Data, &d) == nil && d.AfterMs >= 0 {
		l.restartAt = time.Now().Add(millis(d.AfterMs))
	}
}

// closed handles the end of a connection that the client did not ask for.
func (l *loop) closed(err error) {
	code := max(int(websocket.CloseStatus(err)), 0)
	reason := "the connection broke"
	var ce websocket.CloseError
	if errors.As(err, &ce) {
		reason = "closed by the server"
		if ce.Reason != "" {
			reason = ce.Reason
		}
	}
	cause := l.refusal
	if cause == nil {
		cause = closeError(code, reason)
	}
	tooBig := code == int(websocket.StatusMessageTooBig) || code == int(websocket.StatusInvalidFramePayloadData)
	if tooBig { // the same message would end the next connection too
		l.outbox.fail(func(e *entry) bool { return e.inFlight }, errTooLarge)
	}
	l.disconnected()
	l.closeCode = code
	switch {
	case code >= codeStop && code <= codeLast:
		l.refuse(code, cause)
		return
	case code == codeTokenExpired:
		l.forgetToken()
	}
	l.wait(cause)
}

// closeError returns the error for a close code without a connect-error.
func closeError(code int, reason string) error {
	switch code {
	case 4500:
		return &Error{Code: CodeUnauthenticated, Message: reason}
	case codeTokenExpired:
		return &Error{Code: CodeTokenExpired, Message: reason}
	case 4503, 4505:
		return &Error{Code: CodeForbidden, Message: reason}
	case 4504:
		return &Error{Code: CodeLimitExceeded, Message: reason}
	case 0:
		return errors.New("chathub client: " + reason)
	}
	return fmt.Errorf("chathub client: %s (%d)", reason, code)
}

// lost gives this connection up. Another attempt follows.
func (l *loop) lost(err error) {
	if l.attempt != nil {
		l.attempt.cancel()
		l.attempt = nil
	}
	l.disconnected()
	l.closeCode = 0
	l.wait(err)
}

// disconnected ends the connection, and all that belongs to it.
func (l *loop) disconnected() {
	l.connectBy, l.pingAt, l.pongBy, l.refreshAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	l.refreshed = nil // its room for one takes a late result
	if l.conn == nil {
		return
	}
	l.conn.drop()
	l.conn = nil
	l.ready, l.resuming = false, 0
	for _, f := range l.feeds() {
		f.disconnected()
	}
	clear(l.leaving)
	l.outbox.dropped()
	l.requests.dropped()
}

// wait plans the next attempt.
func (l *loop) wait(err error) {
	now := time.Now()
	// The bound starts again only after a connection that lasted, so that a
	// server that fails right after the welcome gets no more attempts than a
	// dead one.
	if !l.readySince.IsZero() && now.Sub(l.readySince) > l.opts.BackoffMax {
		l.attempts = 0
	}
	l.readySince = time.Time{}
	bound := l.opts.BackoffMin
	for range max(l.attempts-1, 0) {
		if bound >= l.opts.BackoffMax {
			break
		}
		bound *= 2
	}
	delay := rand.N(min(bound, l.opts.BackoffMax) + 1)
	if !l.restartAt.IsZero() {
		delay = max(l.restartAt.Sub(now), 0)
	}
	var e *Error
	if errors.As(err, &e) { // the server is full
		delay += e.RetryAfter
	}
	l.failure = err
	l.retryAt = now.Add(delay)
	l.opts.Logger.Info("chathub client: not connected", "err", err, "attempt", l.attempts, "retry", delay)
	l.status.set(Status{
		State: Waiting, Attempt: l.attempts, RetryAt: l.retryAt, CloseCode: l.closeCode, Err: err,
	})
}

// refuse ends the client.
func (l *loop) refuse(code int, err error) {
	l.finished = &RefusedError{CloseCode: code, Err: err}
	l.opts.Logger.Warn("chathub client: refused", "code", code, "err", err)
}

// welcomed begins to use a connection.
func (l *loop) welcomed(f frame) {
	if l.welcome != nil {
		return // only the first one counts
	}
	var w welcome
	if json.Unmarshal(f.Data, &w) != nil || !w.valid() {
		l.lost(errInvalid)
		return
	}
	if first := l.me.Load(); first != nil && first.ID != w.User.ID {
		l.refuse(0, errors.New("the token is of another user now"))
		return
	}
	l.me.Store(&w.User)
	l.welcome = &w
	l.welcomedAt = time.Now()
	l.maxMessage = int(min(max(w.MaxMessage, 0), maxFrame))
	if l.firstInbox == nil {
		l.firstInbox = &w.Inbox
	}
	l.planRefresh(w.Expires)
	l.catchUp()
	l.settleReady()
}

// settleReady makes the connection ready once everything is resumed.
func (l *loop) settleReady() {
	if l.ready || l.resuming > 0 || l.conn == nil {
		return
	}
	now := time.Now()
	l.ready, l.readySince, l.connectBy = true, now, time.Time{}
	l.closeCode, l.failure = 0, nil
	l.pingAt = now.Add(l.pingAfter())
	l.opts.Logger.Info("chathub client: connected", "client", l.welcome.ClientID, "attempt", l.attempts)
	l.status.set(Status{State: Connected, Attempt: l.attempts, ClientID: l.welcome.ClientID})
	l.catchUp()
	l.outbox.flush(now)
	l.requests.flush(now)
}

// postpone gives connecting more time, since the server asked to wait.
func (l *loop) postpone(d time.Duration) {
	if !l.connectBy.IsZero() {
		l.connectBy = time.Now().Add(l.opts.ConnectTimeout + d)
	}
}

// pingAfter returns how long the server may be silent. It pings a client that
// is silent itself, and these pings count, so a client that only listens sends
// none of its own.
func (l *loop) pingAfter() time.Duration {
	if l.opts.PingAfter > 0 {
		return l.opts.PingAfter
	}
	interval := defaultPing
	if ms := l.welcome.PingInterval; ms > 0 {
		interval = max(millis(float64(ms)), minPing)
	}
	return interval + interval/4
}

// heartbeat pings the server if it has been silent.
func (l *loop) heartbeat(now time.Time) {
	if silent := now.Sub(time.Unix(0, l.heard.Load())); silent < l.pingAfter() {
		l.pingAt = now.Add(l.pingAfter() - silent)
		return
	}
	l.pinged = now
	l.pongBy = now.Add(l.opts.PongTimeout)
	l.writeEvent(request{Type: "ping"})
}

// awaitPong gives the connection up if nothing came since the ping.
func (l *loop) awaitPong(now time.Time) {
	if l.heard.Load() < l.pinged.UnixNano() {
		l.lost(errSilent)
		return
	}
	l.heartbeat(now)
}

// planRefresh plans to renew the token before it expires, at a Unix time of the
// server in milliseconds. 0: it does not expire.
func (l *loop) planRefresh(expires int64) {
	l.refreshAt, l.tokenExpires = time.Time{}, time.Time{}
	if expires <= 0 {
		return
	}
	life := min(max(expires-l.welcome.Time, 0), maxLife.Milliseconds())
	l.tokenExpires = l.welcomedAt.Add(time.Duration(life) * time.Millisecond)
	if l.opts.Token == nil {
		return
	}
	left := time.Until(l.tokenExpires)
	l.refreshAt = time.Now().Add(max(left-min(left/10, time.Minute), minRefresh))
}

// refreshToken asks for a new token while the old one is valid.
func (l *loop) refreshToken() {
	result := make(chan tokenResult, 1) // nobody may be there to take it
	l.refreshed = result
	l.running.Go(func() {
		token, err := l.askToken(l.ctx)
		result <- tokenResult{token, err}
	})
}

// tokenRefreshed sends the new token to the server.
func (l *loop) tokenRefreshed(r tokenResult) {
	l.refreshed = nil
	if r.err != nil || r.token == "" {
		l.refreshLater(r.err)
		return
	}
	data, err := encodeData(map[string]string{"token": r.token})
	if err != nil {
		return
	}
	l.requests.ask(request{Type: "refresh-token", Data: data}, now, func(f frame, err error) {
		if err != nil {
			l.refreshLater(err)
			return
		}
		var d struct {
			Expires int64 `json:"expires"`
		}
		_ = json.Unmarshal(f.Data, &d) // without it, the token does not expire
		l.token, l.hasToken = r.token, true
		l.planRefresh(d.Expires)
	})
}

// refreshLater tries again in half of the time that is left. After that the
// server closes with 4003.
func (l *loop) refreshLater(err error) {
	if errors.Is(err, ErrDisconnected) || l.conn == nil {
		return
	}
	l.opts.Logger.Warn("chathub client: cannot renew the token", "err", err)
	if left := time.Until(l.tokenExpires) / 2; left > minRefresh {
		l.refreshAt = time.Now().Add(left)
	}
}
