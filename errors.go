package chathub

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Code is an error code of the wire protocol. The set is closed, so clients may
// switch over it.
type Code string

// The codes that a client can see in an error, a connect-error or an HTTP
// refusal.
const (
	CodeBadRequest      Code = "bad_request"     // the envelope or its data is malformed
	CodeUnknownType     Code = "unknown_type"    // no handler for this event name
	CodeUnauthenticated Code = "unauthenticated" // no token, or not a valid one
	CodeTokenExpired    Code = "token_expired"   // the token was valid, but has expired
	CodeForbidden       Code = "forbidden"       // the application refused
	CodeNotInRoom       Code = "not_in_room"     // the event needs membership of its room
	CodeTooLarge        Code = "too_large"       // a field or the payload is over its limit
	CodeRateLimited     Code = "rate_limited"    // too many events; see RetryAfter
	CodeLimitExceeded   Code = "limit_exceeded"  // too many rooms, connections or names
	CodeConflict        Code = "conflict"        // it contradicts an earlier message or state
	CodeUnavailable     Code = "unavailable"     // the server cannot do it now; try again
	CodeInternal        Code = "internal"        // a fault of the server; its log has the details
)

var codes = []Code{
	CodeBadRequest, CodeUnknownType, CodeUnauthenticated, CodeTokenExpired, CodeForbidden, CodeNotInRoom,
	CodeTooLarge, CodeRateLimited, CodeLimitExceeded, CodeConflict, CodeUnavailable, CodeInternal,
}

// Error is an error that a client may see. A handler, middleware or callback
// returns one, wrapped or not, to decide what the client is told. A context's
// error, [ErrClosed] and [ErrClientGone] reach the client as [CodeUnavailable].
// Any other error is logged, and reaches the client as [CodeInternal] without
// its text. An Error must not change once it is returned.
type Error struct {
	Code    Code
	Message string
	// RetryAfter tells the client how long to wait before it tries again, if
	// positive. It is sent in milliseconds.
	RetryAfter time.Duration
	// Err is the cause. It is logged and unwrapped, never sent.
	Err error

	answered      bool // by a client: not for other clients to see
	ofApplication bool // about what it emits: not for a client to see
}

// Error implements error.
func (e *Error) Error() string {
	if e == nil { // a nil *Error in an error interface is not nil
		return "chathub: nil *Error"
	}
	s := "chathub: " + string(e.Code)
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

var (
	// ErrClosed is returned by every call on a Hub that has been shut down.
	ErrClosed = errors.New("chathub: hub is closed")
	// ErrClientGone is returned by calls that need a connection, after it has
	// ended.
	ErrClientGone = errors.New("chathub: client is gone")
)

func errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Unavailable returns an [Error] with [CodeUnavailable], which asks the client
// to try again. The methods of a [BrokerSession] return it if they cannot do
// their work now. The cause is logged and unwrapped, never sent.
func Unavailable(cause error) *Error {
	return &Error{Code: CodeUnavailable, Message: "Try again", Err: cause}
}

// publicError maps any error to one that a client may see. Known reports
// whether the error was meant for the client; if it is false, the caller logs
// it.
func publicError(err error) (e *Error, known bool) {
	switch e = ownError(err); {
	case e == nil:
	case e.Code == "":
		return &Error{Code: CodeInternal, Message: e.Message, RetryAfter: e.RetryAfter, Err: e.Err}, true
	default:
		return e, true
	}
	for _, passing := range []error{ErrClosed, ErrClientGone, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, passing) {
			return Unavailable(err), true
		}
	}
	return &Error{Code: CodeInternal, Message: "Internal error", Err: err}, false
}

// ownError returns the Error that err is or wraps. It returns nil if there is
// none, if it is not for a client to see, or if a nil *Error became an error by
// mistake.
func ownError(err error) *Error {
	e, _ := errors.AsType[*Error](err)
	if e != nil && (e.answered || e.ofApplication) {
		return nil
	}
	return e
}

// closeCode is a WebSocket close code. 4000 to 4499 ask the client to come
// back, 4500 to 4999 ask it to stay away.
type closeCode uint16

const (
	closeProtocolError   closeCode = 1002 // RFC 6455 section 7.4.1
	closeInvalidPayload  closeCode = 1007
	closeMessageTooBig   closeCode = 1009
	closeShutdown        closeCode = 4000
	closeSlowConsumer    closeCode = 4001
	closeHeartbeat       closeCode = 4002
	closeTokenExpired    closeCode = 4003
	closeRateLimited     closeCode = 4005
	closeUnauthenticated closeCode = 4500
	closeViolations      closeCode = 4501
	closeDisconnected    closeCode = 4503
	closeLimit           closeCode = 4504
	closeForbidden       closeCode = 4505
)

// hasCode reports whether err is an [Error] with the given code.
func hasCode(err error, code Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}
