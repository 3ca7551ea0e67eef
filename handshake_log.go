package chathub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/chathub-go/chathub/internal/text"
)

// maxExcerpt is how many bytes of a header the log gets.
const maxExcerpt = 200

// Kinds of refusals that are told in plain HTTP only.
var (
	badOrigin   = refusal{status: http.StatusForbidden}
	noHandshake = refusal{status: http.StatusBadRequest}
)

// errBadHandshake is the cause when a request is almost a handshake.
var errBadHandshake = errors.New("not a handshake of RFC 6455")

var errNotHijackable = errors.New("a ResponseWriter in between has neither Hijack nor Unwrap, as under http.TimeoutHandler")

// upgradeHint is what a proxy has to be told about handshakes.
const upgradeHint = "a proxy may have changed the request: ProxyPass ... upgrade=websocket (Apache), " +
	`proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade, proxy_set_header Connection "upgrade" (nginx)`

// reportNoUpgrade logs and counts a handshake without its Upgrade header, which
// proxies drop unless they are told otherwise. Other requests without one are
// no handshakes.
func (h *Hub) reportNoUpgrade(r *http.Request) {
	if r.Header.Get("Upgrade") == "" && r.Header.Get("Sec-WebSocket-Key") != "" {
		h.countRefused(h.badHandshake(r, errors.New("there is no Upgrade header")))
	}
}

// badHandshake logs a request that is almost a handshake, and returns the
// reason.
func (h *Hub) badHandshake(r *http.Request, cause error) *Error {
	e := &Error{Code: CodeBadRequest, Message: "Bad handshake", Err: fmt.Errorf("%w: %w", errBadHandshake, cause)}
	h.logRefused(r, e, "hint", upgradeHint)
	return e
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
		kind, level = noHandshake, slog.LevelWarn
	}
	what := "chathub: token refused"
	if r != nil {
		what = "chathub: handshake refused"
	}
	h.logLimited(kind, level, what, func() []any {
		attrs := []any{"reason", e.Message}
		if e.Err != nil {
			attrs = append(attrs, "err", e.Err)
		}
		if isOrigin {
			attrs = append(attrs, originAttrs(origin)...)
		}
		if r != nil {
			if addr := handshake.ClientAddr(r, h.cfg.TrustedProxies); addr.IsValid() {
				attrs = append(attrs, "address", addr)
			}
		}
		return append(attrs, args...)
	})
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
