package chathub

import (
	"context"
	"net/http"
	"time"
)

// User is who is behind a connection. It is sent to other clients.
type User struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Identity is what an [Authenticator] found out.
type Identity struct {
	// User.ID must be 1 to 128 bytes of UTF-8 without control characters.
	User User
	// Expires, where not zero, ends the connection (close 4003).
	Expires time.Time
	// Claims is a JSON object that handlers read with [Client.Claims]. It is
	// never sent to anyone. May be nil.
	Claims []byte
}

// Authenticator says who a connection is. It is called concurrently.
type Authenticator interface {
	// Authenticate verifies a token, which is empty where the client sent none.
	// r is the handshake request, for cookies and the like; it is nil when a
	// connected client presents a new token (refresh-token). To refuse, return an [Error]
	// with [CodeUnauthenticated] or [CodeTokenExpired]; any other error is logged
	// and refuses as [CodeInternal]. The request's own fields are the client's claims, not
	// facts: derive the user only from what is verified.
	Authenticate(ctx context.Context, token string, r *http.Request) (Identity, error)
}
