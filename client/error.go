package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

var (
	// ErrClosed is returned after [Client.Close] or [Client.Shutdown].
	ErrClosed = errors.New("chathub client: closed")
	// ErrDisconnected is returned if the connection was lost before the answer
	// came, and the request is not one to repeat. The server may have done the
	// work.
	ErrDisconnected = errors.New("chathub client: connection lost before the answer")
	// ErrFull is returned if [Options.MaxOutbox] messages, or as many other
	// calls, are waiting. Nothing was sent.
	ErrFull = errors.New("chathub client: too many messages or calls are waiting")
	// ErrJoined is returned if a room is joined already.
	ErrJoined = errors.New("chathub client: the room is joined already")
	// ErrLeft is the error of a room after [Room.Leave].
	ErrLeft = errors.New("chathub client: the room was left")
)

// Code is an error code of the wire protocol. The set is closed.
type Code string

// The codes of the protocol, section 3.
const (
	CodeBadRequest      Code = "bad_request"     // malformed, or about something that is not there
	CodeUnknownType     Code = "unknown_type"    // the server has no such event
	CodeUnauthenticated Code = "unauthenticated" // no token, or not a valid one
	CodeTokenExpired    Code = "token_expired"   // the token has expired
	CodeForbidden       Code = "forbidden"       // the application refused
	CodeNotInRoom       Code = "not_in_room"     // the event is for members of its room
	CodeTooLarge        Code = "too_large"       // the data is over a limit
	CodeRateLimited     Code = "rate_limited"    // too much in too short a time; see RetryAfter
	CodeLimitExceeded   Code = "limit_exceeded"  // too many rooms, connections or reactions
	CodeConflict        Code = "conflict"        // contradicts what is there already
	CodeUnavailable     Code = "unavailable"     // cannot be done now
	CodeInternal        Code = "internal"        // a fault of the server
)

// Error is an answer of the server. The client makes some itself, if it knows
// the answer beforehand. A [Options.Token] or an [Answerer] may return one.
type Error struct {
	Code    Code
	Message string // for people; may change
	// RetryAfter is how long the server asks to wait, or 0.
	RetryAfter time.Duration
}

// Error implements error.
func (e *Error) Error() string {
	s := "chathub client: " + string(e.Code)
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// temporary reports whether the same event may succeed later. Nothing was
// stored.
func (e *Error) temporary() bool {
	return e.Code == CodeRateLimited || e.Code == CodeUnavailable
}

// RefusedError is the end of a client that the server does not want back.
type RefusedError struct {
	// CloseCode is that of the WebSocket: 4500 to 4999. It is 0 if there was
	// none, as with a refusal in plain HTTP or by [Options.Token].
	CloseCode int
	Err       error // the reason, an [*Error] if the server gave it
}

// Error implements error.
func (e *RefusedError) Error() string {
	if e.CloseCode == 0 {
		return fmt.Sprintf("chathub client: refused: %v", e.Err)
	}
	return fmt.Sprintf("chathub client: refused (%d): %v", e.CloseCode, e.Err)
}

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// temporary reports whether err is an answer that asks to try again later, and
// after how long.
func temporary(err error) (time.Duration, bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok || !e.temporary() {
		return 0, false
	}
	return e.RetryAfter, true
}

// hasCode reports whether err is an answer with that code.
func hasCode(err error, code Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// maxWait bounds what a server may ask to wait.
const maxWait = 24 * time.Hour

// errorOf decodes the data of an error or connect-error.
func errorOf(data jsontext.Value) *Error {
	var d struct {
		Code         Code    `json:"code"`
		Message      string  `json:"message"`
		RetryAfterMs float64 `json:"retryAfterMs"`
	}
	if json.Unmarshal(data, &d) != nil || d.Code == "" {
		return &Error{Code: CodeInternal, Message: "The server sent an invalid error"}
	}
	return &Error{Code: d.Code, Message: d.Message, RetryAfter: millis(d.RetryAfterMs)}
}

// millis returns a duration that a server asks for, within bounds.
func millis(ms float64) time.Duration {
	if !(ms > 0) { // not a number counts as 0
		return 0
	}
	return time.Duration(min(ms, float64(maxWait.Milliseconds()))) * time.Millisecond
}

// errInvalid is about an answer that is not what the protocol says.
var errInvalid = &Error{Code: CodeInternal, Message: "The server sent an invalid answer"}

// asError returns what the server is told about err, and whether that is err
// itself.
func asError(err error) (*Error, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e, true
	}
	return &Error{Code: CodeInternal, Message: "Internal error"}, false
}
