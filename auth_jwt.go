package chathub

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// JWT is an [Authenticator] for signed JSON Web Tokens (RFC 7519). Set exactly
// one of Key, Keys and Keyfunc, and change nothing once the JWT is in use. Its
// methods may be called concurrently.
//
// A token must have an exp claim and the user's id, a string or an integer. The
// id is the claim userId or, without one, sub. The user's name is the claim
// name or, without one, the id. A claim that is null counts as absent.
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
	// Leeway is how much the clocks may differ when exp and nbf are checked.
	// Default none, at most 30s.
	Leeway time.Duration

	// These are set by prepare and only read from then on.
	once      sync.Once
	err       error
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
	if err := checkHeader(token); err != nil {
		return Identity{}, invalidToken(err)
	}
	var claims jwtClaims
	if _, err := j.parser.ParseWithClaims(token, &claims, j.keyOf); err != nil {
		return Identity{}, parseRefusal(err)
	}
	// The claims are checked only now that the signature is known to be good,
	// so that a forged token reveals nothing about its claims.
	if err := j.validator.Validate(&claims); err != nil {
		if onlyExpired(err) {
			return Identity{}, &Error{Code: CodeTokenExpired, Message: "Token expired", Err: err}
		}
		return Identity{}, invalidToken(err)
	}
	return Identity{
		User:    claims.user,
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
		return &Error{Code: CodeUnavailable, Message: "Try again", Err: err}
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
	methods := slices.Collect(maps.Keys(j.byMethod))
	if j.Keyfunc != nil {
		sources++
		methods = j.Methods
		if methods == nil {
			methods = []string{"RS256", "ES256", "EdDSA"}
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
		jwt.WithValidMethods(methods),
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

// checkHeader reads a token's header before the parser does. The parser takes
// the last of duplicate names, and its errors quote what it cannot read.
// checkHeader refuses
//   - duplicate names (RFC 7515 section 4);
//   - any crit, since no extension is supported (RFC 7515 section 4.1.11);
//   - any typ but JWT (RFC 8725 section 3.11) and at+jwt (RFC 9068 section
//     2.1), which "application/" may precede (RFC 7515 section 4.1.9).
func checkHeader(token string) error {
	segment, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	var header map[string]any
	if err := json.Unmarshal(b, &header); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if _, ok := header["crit"]; ok {
		return errors.New("header: crit names extensions that are not understood")
	}
	switch typ := header["typ"].(type) {
	case nil:
	case string:
		switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
		case "jwt", "at+jwt":
		default:
			return errors.New("header: typ is neither JWT nor at+jwt")
		}
	default:
		return errors.New("header: typ is not a string")
	}
	switch header["kid"].(type) {
	case nil, string:
		return nil
	}
	return errors.New("header: kid is not a string")
}

// jwtClaims are the claims of a token. Anyone may have written them until the
// signature is verified.
type jwtClaims struct {
	jwt.RegisteredClaims // for the validator; Subject stays empty
	user                 User
	raw                  []byte
}

// maxDate is the end of the year 9999 in Unix seconds. Much later dates would
// overflow when they are converted.
const maxDate = 253_402_300_799

// UnmarshalJSON is called by the parser. The parser's own decoding would take
// the last of duplicate names, names in any case, and dates that are strings.
func (claims *jwtClaims) UnmarshalJSON(b []byte) error {
	if deeper(b, maxDepth) {
		return fmt.Errorf("claims nest deeper than %d", maxDepth)
	}
	var w struct {
		UserID    jsontext.Value `json:"userId"`
		Subject   jsontext.Value `json:"sub"`
		Name      string         `json:"name"`
		Issuer    string         `json:"iss"`
		Audience  jsontext.Value `json:"aud"`
		ExpiresAt *float64       `json:"exp"`
		NotBefore *float64       `json:"nbf"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	id := w.UserID
	if k := id.Kind(); k == jsontext.KindInvalid || k == jsontext.KindNull {
		id = w.Subject
	}
	var err error
	if claims.user.ID, err = claimID(id); err != nil {
		return err
	}
	claims.user.Name = cmp.Or(w.Name, claims.user.ID)
	claims.Issuer = w.Issuer
	if claims.Audience, err = claimStrings(w.Audience); err != nil {
		return err
	}
	if claims.ExpiresAt, err = claimDate(w.ExpiresAt); err != nil {
		return err
	}
	if claims.NotBefore, err = claimDate(w.NotBefore); err != nil {
		return err
	}
	claims.raw = bytes.Clone(b)
	return nil
}

// Validate is called by the validator after its own checks.
func (claims *jwtClaims) Validate() error { return validUser(claims.user) }

// claimID returns a user's id, which is a string, or an integer as it is
// written.
func claimID(v jsontext.Value) (string, error) {
	switch v.Kind() {
	case jsontext.KindString:
		s, _ := stringOf(v)
		return s, nil
	case jsontext.KindNumber:
		if !bytes.ContainsAny(v, ".eE") {
			return string(v), nil
		}
	case jsontext.KindInvalid, jsontext.KindNull:
		return "", nil // which Validate refuses
	}
	return "", errors.New("the user's id is neither a string nor an integer")
}

// claimStrings returns an aud claim, which is a string or a list (RFC 7519
// section 4.1.3).
func claimStrings(v jsontext.Value) (jwt.ClaimStrings, error) {
	switch v.Kind() {
	case jsontext.KindInvalid, jsontext.KindNull:
		return nil, nil
	case jsontext.KindString:
		s, _ := stringOf(v)
		return jwt.ClaimStrings{s}, nil
	}
	var list []string
	err := json.Unmarshal(v, &list)
	return list, err
}

// claimDate returns a NumericDate (RFC 7519 section 2), to the millisecond.
func claimDate(seconds *float64) (*jwt.NumericDate, error) {
	if seconds == nil {
		return nil, nil
	}
	if math.Abs(*seconds) > maxDate {
		return nil, errors.New("a date is out of range; dates are in seconds")
	}
	return &jwt.NumericDate{Time: time.UnixMilli(int64(*seconds * 1000))}, nil
}
