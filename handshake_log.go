package chathub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/chathub-go/chathub/internal/text"
	"golang.org/x/time/rate"
)

// How many refusals of one kind are logged: so many at once, and so many a
// second. A flood of them must not be a flood of lines.
const (
	refusalBurst = 10
	refusalRate  = 1
)

// maxExcerpt is how many bytes of a header the log gets.
const maxExcerpt = 200

// refusalLog bounds what is logged about refusals. The zero value is ready. It
// may be used by any goroutine.
type refusalLog struct {
	mu    sync.Mutex
	kinds map[refusal]*refusalCount
}

// refusalCount is about the refusals of one kind.
type refusalCount struct {
	limiter  *rate.Limiter
	unlogged uint64 // since the last line
}

// take reports whether a refusal may be logged, and how many of its kind have
// not been since the last line.
func (rl *refusalLog) take(kind refusal) (unlogged uint64, ok bool) {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	k := rl.kinds[kind]
	if k == nil {
		if rl.kinds == nil {
			rl.kinds = make(map[refusal]*refusalCount)
		}
		k = &refusalCount{limiter: rate.NewLimiter(refusalRate, refusalBurst)}
		rl.kinds[kind] = k
	}
	if !k.limiter.Allow() {
		k.unlogged++
		return 0, false
	}
	unlogged, k.unlogged = k.unlogged, 0
	return unlogged, true
}

// Kinds of refusals that are told in plain HTTP only.
var (
	badOrigin    = refusal{status: http.StatusForbidden}
	badHandshake = refusal{status: http.StatusBadRequest}
)

// errBadHandshake is the cause when a request is almost a handshake.
var errBadHandshake = errors.New("not a handshake of RFC 6455")

var errNotHijackable = errors.New("a ResponseWriter in between has neither Hijack nor Unwrap, as under http.TimeoutHandler")

// upgradeHint is what a proxy has to be told about handshakes.
const upgradeHint = "a proxy may have changed the request: ProxyPass ... upgrade=websocket (Apache), " +
	`proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade, proxy_set_header Connection "upgrade" (nginx)`

// logNoUpgrade logs a handshake without its Upgrade header, which proxies drop
// unless they are told otherwise. Other requests without one are no handshakes.
func (h *Hub) logNoUpgrade(r *http.Request) {
	if r.Header.Get("Upgrade") == "" && r.Header.Get("Sec-WebSocket-Key") != "" {
		cause := fmt.Errorf("%w: there is no Upgrade header", errBadHandshake)
		h.logRefused(r, &Error{Message: "Bad handshake", Err: cause}, "hint", upgradeHint)
	}
}

// userAttrs are what the log is told of the user, if there is one already.
func userAttrs(id Identity) []any {
	if id.User.ID == "" {
		return nil
	}
	return []any{"user", id.User.ID}
}

// logRefused logs why a handshake was refused, or the token of a client that is
// connected already, in which case r is nil. The cause in e must not contain
// the token, and neither must args.
func (h *Hub) logRefused(r *http.Request, e *Error, args ...any) {
	kind, level := refusalOf(e), refusalLevel(e)
	origin, isOrigin := errors.AsType[*handshake.OriginError](e.Err)
	switch {
	case isOrigin:
		kind, level = badOrigin, slog.LevelWarn
	case errors.Is(e.Err, errBadHandshake):
		kind, level = badHandshake, slog.LevelWarn
	}
	if !h.log.Enabled(context.Background(), level) {
		return
	}
	unlogged, ok := h.refusals.take(kind)
	if !ok {
		return
	}
	attrs := []any{"reason", e.Message}
	if e.Err != nil {
		attrs = append(attrs, "err", e.Err)
	}
	if isOrigin {
		attrs = append(attrs, originAttrs(origin)...)
	}
	what := "chathub: token refused"
	if r != nil {
		what = "chathub: handshake refused"
		if addr := handshake.ClientAddr(r, h.cfg.TrustedProxies); addr.IsValid() {
			attrs = append(attrs, "address", addr)
		}
	}
	attrs = append(attrs, args...)
	if unlogged > 0 {
		attrs = append(attrs, "unlogged", unlogged)
	}
	h.log.Log(context.Background(), level, what, attrs...)
}

// refusalLevel returns the level that a refusal is logged at. Operators see
// limits and faults. Bad tokens are one level below, since they are the
// client's fault.
func refusalLevel(e *Error) slog.Level {
	gone := errors.Is(e.Err, context.Canceled) // the client, in the meantime
	switch {
	case e == errShuttingDown, gone:
		return slog.LevelInfo
	case e.Code == CodeInternal:
		return slog.LevelError
	case e.Code == CodeLimitExceeded, e.Code == CodeRateLimited, e.Code == CodeUnavailable:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// originAttrs says what would let a page in.
func originAttrs(e *handshake.OriginError) []any {
	attrs := []any{
		"origin", text.Excerpt(e.Origin, maxExcerpt),
		"own", text.Excerpt(e.Own, maxExcerpt),
	}
	if e.CanBeAdded {
		attrs = append(attrs, "allow", "add the origin to Config.Origins")
	}
	if e.Hint != "" {
		attrs = append(attrs, "hint", e.Hint)
	}
	return attrs
}
