package chathub

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chathub-go/chathub/internal/text"
	"github.com/golang-jwt/jwt/v5"
)

// maxClaim is how many bytes of a header parameter or claim the log gets.
const maxClaim = 64

// explainHeader says for the log how a token that cannot be verified was to be
// verified.
func (j *JWT) explainHeader(h jwtHeader) string {
	kid := "no kid"
	if h.kid != "" {
		kid = "kid " + quoteClaim(h.kid)
	}
	return fmt.Sprintf("alg %s, %s; allowed: %s", quoteClaim(h.alg), kid, strings.Join(j.methods, " "))
}

// explainClaims says for the log how verified claims differ from what they
// should be. It is empty if there is nothing to add to the error.
func (j *JWT) explainClaims(err error, c *jwtClaims) string {
	var why []string
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if errors.Is(err, jwt.ErrTokenExpired) {
		add("exp was %v ago", time.Since(c.ExpiresAt.Time).Round(time.Second))
	}
	if errors.Is(err, jwt.ErrTokenNotValidYet) {
		add("nbf is in %v", time.Until(c.NotBefore.Time).Round(time.Second))
	}
	if errors.Is(err, jwt.ErrTokenInvalidIssuer) {
		add("iss is %s, not %s", quoteClaim(c.Issuer), quoteClaim(j.Issuer))
	}
	if errors.Is(err, jwt.ErrTokenInvalidAudience) {
		add("aud is %s, not %s", quoteClaim(strings.Join(c.Audience, " ")), quoteClaim(j.Audience))
	}
	return strings.Join(why, ", ")
}

func quoteClaim(s string) string { return `"` + text.Excerpt(s, maxClaim) + `"` }
