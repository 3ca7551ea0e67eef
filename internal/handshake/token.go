package handshake

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// MaxToken is how long a token may be, in bytes.
const MaxToken = 8 << 10

// These precede a token among the offered subprotocols, the only part of a
// handshake that a browser's script can choose freely. Such a subprotocol is
// never selected.
const (
	// The token follows as it is, so it can only have the characters of a
	// subprotocol, which are those of an HTTP token (RFC 6455 section 4.1).
	bearerPrefix = "chathub.bearer."
	// The token follows in base64url without padding (RFC 4648 section 5).
	bearer64Prefix = "chathub.bearer64."
)

// TokenPlaces says where a token may be besides the Authorization header and
// the offered subprotocols.
type TokenPlaces struct {
	Cookie string // the name of a cookie; empty: none
	Query  bool   // the query parameter "token"
}

// Token returns the token of a handshake, or "" if it has none. The first place
// that holds one decides: the Authorization header, the offered subprotocols,
// the cookie, the query parameter.
//
// An empty token counts as none, since a cookie is empty after logout. So does
// an Authorization of another scheme, which may be meant for a proxy. A place
// with several different tokens is refused, since an attacker may have put one
// of them there, as a neighbouring subdomain can do with a cookie.
//
// The error does not contain the token.
func Token(r *http.Request, places TokenPlaces) (string, error) {
	tokens := headerTokens(r)
	if len(tokens) == 0 {
		var err error
		if tokens, err = protocolTokens(r); err != nil {
			return "", err
		}
	}
	if len(tokens) == 0 && places.Cookie != "" {
		for _, c := range r.CookiesNamed(places.Cookie) {
			tokens = appendToken(tokens, c.Value)
		}
	}
	if len(tokens) == 0 && places.Query {
		for _, t := range r.URL.Query()["token"] {
			tokens = appendToken(tokens, t)
		}
	}
	switch len(tokens) {
	case 0:
		return "", nil
	case 1:
		if err := CheckToken(tokens[0]); err != nil {
			return "", err
		}
		return tokens[0], nil
	default:
		return "", errors.New("several different tokens")
	}
}

// CheckToken refuses a token that no Authenticator has to read: one that is
// longer than [MaxToken], or that has characters other than visible ASCII.
// Base64 decoding would skip line breaks, for example.
//
// The error does not contain the token.
func CheckToken(token string) error {
	if len(token) > MaxToken {
		return errTooLong
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' {
			return errors.New("token has characters other than visible ASCII")
		}
	}
	return nil
}

var errTooLong = errors.New("token is over 8 KiB")

// headerTokens returns the bearer tokens of RFC 6750 section 2.1. The scheme
// may be in any case (RFC 9110 section 11.1).
func headerTokens(r *http.Request) (tokens []string) {
	for _, line := range r.Header.Values("Authorization") {
		if scheme, token, _ := strings.Cut(line, " "); strings.EqualFold(scheme, "Bearer") {
			tokens = appendToken(tokens, strings.Trim(token, " "))
		}
	}
	return tokens
}

func protocolTokens(r *http.Request) (tokens []string, err error) {
	for p := range offeredProtocols(r) {
		token, ok := strings.CutPrefix(p, bearerPrefix)
		if encoded, is64 := strings.CutPrefix(p, bearer64Prefix); is64 {
			if token, err = decodeToken(encoded); err != nil {
				return nil, err
			}
			ok = true
		}
		if ok {
			tokens = appendToken(tokens, token)
		}
	}
	return tokens, nil
}

// decodeToken decodes base64url without padding. Every token has exactly one
// encoded form.
func decodeToken(encoded string) (string, error) {
	encoding := base64.RawURLEncoding.Strict() // which checks the last bits
	if len(encoded) > encoding.EncodedLen(MaxToken) {
		return "", errTooLong
	}
	b, err := encoding.DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") { // which Go skips
		return "", errors.New("token is not in base64url without padding")
	}
	return string(b), nil
}

func appendToken(tokens []string, token string) []string {
	if token == "" || slices.Contains(tokens, token) {
		return tokens
	}
	return append(tokens, token)
}
