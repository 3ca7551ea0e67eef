package chathub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/golang-jwt/jwt/v5"
)

// JWT is an [Authenticator] for signed JSON Web Tokens (RFC 7519). Set exactly
// one of Key, Keys and Keyfunc, and change nothing once the JWT is in use. Its
// methods may be called concurrently.
//
// A token must have an exp claim and the user's id, a string or an integer. The
// id is the claim userId or, without one, sub. The user's name is the claim
// name or, without one, the id. A claim that is null counts as absent. A bad id
// makes the token invalid, whereas a bad name is cleaned (see [Identity]).
//
// The type of a key decides which algorithm its tokens are signed with, and the
// token's alg must agree.
type JWT struct {
	// Key verifies every token:
	//   - []byte of at least 32 bytes: HS256
	//   - *rsa.PublicKey of at least 2048 bits: RS256
	//   - *ecdsa.PublicKey on the curve P-256: ES256
	//   - ed25519.PublicKey: EdDSA
	Key any
	// Keys holds several such keys by their kid. A token without a kid may be
	// signed with any of them; one with a kid that is not here is refused.
	Keys map[string]any
	// Keyfunc returns the key of a token or a jwt.VerificationKeySet, as the
	// libraries for JWKS endpoints do. RSA keys and secrets must be as long as
	// for Key. It is called concurrently, with a token that is not verified
	// yet. It may block, and only the client concerned waits. Its errors must
	// not contain the token.
	//
	// If Keyfunc returns an error, the token is invalid and the client stays
	// away. There are two exceptions: an error of a network or a context
	// becomes [CodeUnavailable], so that the client comes back, and an [Error]
	// is passed on as it is. So return the errors of fetching keys as they are.
	// An endpoint that is down must not look like an unknown key.
	Keyfunc jwt.Keyfunc
	// Methods names the algorithms (RFC 7518 section 3.1) that the tokens of
	// Keyfunc may be signed with. Default RS256, ES256 and EdDSA. Name the HMAC
	// ones (HS256, ...) only if Keyfunc returns secrets.
	Methods []string

	// Issuer must be the token's iss claim. Empty: not checked.
	Issuer string
	// Audience must be one of the token's aud claim. Empty: not checked, which
	// suits an issuer whose tokens are all for this service.
	Audience string
	// TenantClaim names the claim, a string, that becomes [Identity].Tenant. A
	// token without it is refused. Empty: there are no tenants.
	TenantClaim string
	// Leeway is how much the clocks may differ when exp and nbf are checked.
	// Default none, at most 30s.
	Leeway time.Duration

	// These are set by prepare and only read from then on.
	once      sync.Once
	err       error
	methods   []string
	parser    *jwt.Parser
	validator *jwt.Validator
	byKid     map[string]pinnedKey
	byMethod  map[string]jwt.VerificationKeySet
}

// pinnedKey is a key and the one method that it may be used with.
type pinnedKey struct {
	method string
	key    any
}

const maxLeeway = 30 * time.Second

// Authenticate implements [Authenticator]. It ignores the request.
func (j *JWT) Authenticate(_ context.Context, token string, _ *http.Request) (Identity, error) {
	if err := j.validate(); err != nil {
		return Identity{}, fmt.Errorf("chathub: %w", err)
	}
	if token == "" {
		return Identity{}, errorf(CodeUnauthenticated, "Authentication required")
	}
	if err := handshake.CheckToken(token); err != nil {
		return Identity{}, invalidToken(err)
	}
	header, err := readHeader(token)
	if err != nil {
		return Identity{}, invalidToken(err)
	}
	var claims jwtClaims
	if _, err := j.parser.ParseWithClaims(token, &claims, j.keyOf); err != nil {
		if !errors.Is(err, jwt.ErrTokenMalformed) {
			err = fmt.Errorf("%w (%s)", err, j.explainHeader(header))
		}
		return Identity{}, parseRefusal(err)
	}
	// The claims are checked only now that the signature is known to be good,
	// so that a forged token reveals nothing about its claims.
	if err := j.validator.Validate(&claims); err != nil {
		expired := onlyExpired(err)
		if why := j.explainClaims(err, &claims); why != "" {
			err = fmt.Errorf("%w (%s)", err, why)
		}
		if expired {
			return Identity{}, &Error{Code: CodeTokenExpired, Message: "Token expired", Err: err}
		}
		return Identity{}, invalidToken(err)
	}
	tenant, err := claims.tenant(j.TenantClaim)
	if err != nil {
		return Identity{}, invalidToken(err)
	}
	return Identity{
		User:    claims.user,
		Tenant:  tenant,
		Expires: claims.ExpiresAt.Add(j.Leeway),
		Claims:  claims.raw,
	}, nil
}

// parseRefusal maps an error of the parser, which may come from a Keyfunc, to
// what the client is told.
func parseRefusal(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, context.Canceled) {
		return Unavailable(err)
	}
	return invalidToken(err)
}

// onlyExpired reports whether the validator, which joins all the faults of a
// token, found no other fault than its age.
func onlyExpired(err error) bool {
	all, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err)
	return ok && len(all.Unwrap()) == 1 && errors.Is(err, jwt.ErrTokenExpired)
}

// validate returns every mistake in the fields. The first call prepares j.
func (j *JWT) validate() error {
	if j == nil {
		return errors.New("JWT is a nil pointer")
	}
	j.once.Do(func() { j.err = j.prepare() })
	return j.err
}

func (j *JWT) prepare() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("JWT."+format, args...)) }

	j.byKid = make(map[string]pinnedKey)
	j.byMethod = make(map[string]jwt.VerificationKeySet)
	pin := func(key any) (pinnedKey, error) {
		method, err := pinnedMethod(key)
		if err == nil {
			set := j.byMethod[method]
			set.Keys = append(set.Keys, key)
			j.byMethod[method] = set
		}
		return pinnedKey{method, key}, err
	}
	sources := 0
	if j.Key != nil {
		sources++
		if _, err := pin(j.Key); err != nil {
			bad("Key %w", err)
		}
	}
	if j.Keys != nil {
		sources++
		if len(j.Keys) == 0 {
			bad("Keys has no keys")
		}
		for _, kid := range slices.Sorted(maps.Keys(j.Keys)) {
			k, err := pin(j.Keys[kid])
			if err != nil {
				bad("Keys[%q] %w", kid, err)
			}
			j.byKid[kid] = k
		}
	}
	j.methods = slices.Sorted(maps.Keys(j.byMethod))
	if j.Keyfunc != nil {
		sources++
		j.methods = j.Methods
		if j.methods == nil {
			j.methods = []string{"RS256", "ES256", "EdDSA"}
		}
	}
	if sources != 1 {
		bad("Key, Keys, Keyfunc: set exactly one of them")
	}

	if j.Methods != nil && j.Keyfunc == nil {
		bad("Methods is for Keyfunc: a Key has one method only")
	}
	if j.Methods != nil && len(j.Methods) == 0 {
		bad("Methods is empty: no token could be valid")
	}
	for _, m := range j.Methods {
		if !slices.Contains(knownMethods, m) {
			bad("Methods: %q is not one of %s", m, strings.Join(knownMethods, ", "))
		}
	}
	if j.Leeway < 0 || j.Leeway > maxLeeway {
		bad("Leeway must be 0 to %v", maxLeeway)
	}

	options := []jwt.ParserOption{
		jwt.WithValidMethods(j.methods),
		jwt.WithStrictDecoding(),
		jwt.WithoutClaimsValidation(), // that comes after the signature
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(j.Leeway),
	}
	if j.Issuer != "" {
		options = append(options, jwt.WithIssuer(j.Issuer))
	}
	if j.Audience != "" {
		options = append(options, jwt.WithAudience(j.Audience))
	}
	j.parser = jwt.NewParser(options...)
	j.validator = jwt.NewValidator(options...)
	return errors.Join(errs...)
}

// keyOf returns the key of a token to the parser, which has checked that the
// token's method is one of the valid ones.
func (j *JWT) keyOf(t *jwt.Token) (any, error) {
	method := t.Method.Alg()
	if j.Keyfunc != nil {
		key, err := j.Keyfunc(t)
		if err != nil {
			return nil, err
		}
		return fittingKeys(key, method)
	}
	kid, ok := t.Header["kid"].(string)
	if !ok || len(j.byKid) == 0 {
		return j.byMethod[method], nil
	}
	k, ok := j.byKid[kid]
	if !ok {
		return nil, errors.New("no key has this kid")
	}
	if k.method != method {
		return nil, errors.New("the key of this kid is for another alg")
	}
	return k.key, nil
}
