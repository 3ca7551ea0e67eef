package chathub

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/chathub-go/chathub/internal/text"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

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
	if !jsontext.Value(b).IsValid() {
		b = mendName(b)
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
	claims.user.Name = cmp.Or(text.Name(w.Name), text.Name(claims.user.ID))
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

// mendName returns claims with a well-formed name. A name that was cut within a
// surrogate pair, which happens easily in JavaScript, is not valid JSON, and
// would lock its owner out. So would one that is not UTF-8. All other claims
// stay as they are.
func mendName(claims []byte) []byte {
	dec := jsontext.NewDecoder(bytes.NewReader(claims), jsontext.AllowInvalidUTF8(true))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != jsontext.KindBeginObject {
		return claims
	}
	for dec.PeekKind() == jsontext.KindString {
		key, err := dec.ReadToken()
		if err != nil {
			return claims
		}
		isName := key.String() == "name"
		value, err := dec.ReadValue()
		if err != nil {
			return claims
		}
		if isName && value.Kind() == jsontext.KindString {
			end := int(dec.InputOffset())
			name, _ := jsontext.AppendUnquote(nil, value) // with U+FFFD in it
			mended, _ := jsontext.AppendQuote(nil, name)
			return slices.Concat(claims[:end-len(value)], mended, claims[end:])
		}
	}
	return claims
}

// Validate is called by the validator after its own checks.
func (claims *jwtClaims) Validate() error { return checkUserID(claims.user.ID) }

// tenant returns the claim that names the tenant.
func (claims *jwtClaims) tenant(claim string) (string, error) {
	if claim == "" {
		return "", nil
	}
	var all map[string]jsontext.Value
	if err := json.Unmarshal(claims.raw, &all); err != nil {
		return "", err
	}
	name, ok := stringOf(all[claim])
	if !ok || name == "" || world(name).check() != nil {
		return "", fmt.Errorf("the claim %s is not the name of a tenant", claim)
	}
	return name, nil
}

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
