package chathub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/chathub-go/chathub/internal/text"
	"github.com/go-json-experiment/json/jsontext"
)

// User is the person or program behind a connection. It is sent to other
// clients.
type User struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Identity is the answer of an [Authenticator]: the user, and for how long.
type Identity struct {
	// User.ID must be 1 to 128 bytes of UTF-8 without control characters.
	// Anything else is a fault of the Authenticator.
	//
	// User.Name is for display and may be empty. The hub cleans it: control
	// characters and bidirectional overrides are dropped, line breaks become
	// spaces, and the name is cut to 256 bytes of UTF-8.
	User User
	// Tenant is the world that the user lives in, closed to all others; see
	// [Tenant]. At most 64 bytes of UTF-8 without control characters. Empty:
	// that of users without a tenant.
	Tenant string
	// Expires is when the connection ends with close code 4003, unless the
	// client presents a new token in time. Zero: never.
	Expires time.Time
	// Claims is a JSON object that handlers read with [Client.Claims]. It is
	// never sent to anyone. May be nil.
	Claims jsontext.Value
}

// Authenticator finds out which user a connection belongs to. It is called
// concurrently.
type Authenticator interface {
	// Authenticate verifies a token of at most 8 KiB of visible ASCII. The
	// token is empty if the client sent none. r is the request of the
	// handshake, for client certificates and the like. It is nil when a
	// connected client presents a new token (refresh-token).
	//
	// To refuse the client, return an [Error] with [CodeUnauthenticated] or
	// [CodeTokenExpired]. If the token cannot be verified at the moment, return
	// one with [CodeUnavailable], so that the client comes back. Any other
	// error is logged, and the client is refused with [CodeInternal]. An error
	// must not contain the token.
	//
	// The client chooses what is in the request. Derive the user only from what
	// has been verified.
	Authenticate(ctx context.Context, token string, r *http.Request) (Identity, error)
}

// Anonymous is an [Authenticator] that lets everyone in. Each connection is a
// user of its own, with a random id and the name "Guest". Tokens are ignored,
// and a refresh-token is refused.
type Anonymous struct{}

// Authenticate implements [Authenticator].
func (Anonymous) Authenticate(_ context.Context, _ string, r *http.Request) (Identity, error) {
	if r == nil {
		return Identity{}, errorf(CodeUnauthenticated, "Guests have no token to refresh")
	}
	return Identity{User: User{ID: "anon_" + rand.Text(), Name: "Guest"}}, nil
}

// checkUserID returns what is wrong with the id of a user. The error does not
// quote the id.
func checkUserID(id string) error {
	switch {
	case id == "":
		return errors.New("user id is empty")
	case len(id) > text.MaxUser:
		return fmt.Errorf("user id has %d bytes, more than %d", len(id), text.MaxUser)
	case !utf8.ValidString(id):
		return errors.New("user id is not UTF-8")
	case !text.Valid(id, text.MaxUser):
		return errors.New("user id has control characters")
	}
	return nil
}

// invalidToken is what a client is told about any bad token. The cause, which
// is for the log, must not contain the token.
func invalidToken(cause error) *Error {
	return &Error{Code: CodeUnauthenticated, Message: "Invalid token", Err: cause}
}
