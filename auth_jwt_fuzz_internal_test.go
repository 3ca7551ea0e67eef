package chathub

import (
	"errors"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// FuzzJWT checks that a token is let in only if this key has signed exactly
// these bytes. There must be no second form of a good token.
func FuzzJWT(f *testing.F) {
	secret := []byte("0123456789abcdef0123456789abcdef") // the same in all of the fuzzer's processes
	const header, claims = `{"alg":"HS256","typ":"JWT"}`, `{"sub":"u1","name":"Ana","exp":4102444800}`
	good := signToken(f, jwt.SigningMethodHS256, secret, header, claims)
	f.Add(good)
	for _, bad := range []string{
		"", ".", "..", "...", good + ".", good + "=", " " + good, strings.ToUpper(good), good[:len(good)-1], good[1:],
		signToken(f, jwt.SigningMethodHS384, secret, `{"alg":"HS384"}`, claims),
		signToken(f, jwt.SigningMethodHS256, secret, `{"alg":"none"}`, claims),
		signToken(f, jwt.SigningMethodHS256, secret, header, `{"sub":"u1"}`),
		signToken(f, jwt.SigningMethodHS256, secret, header, `{"sub":"u1","exp":1}`),
		signToken(f, jwt.SigningMethodHS256, secret, header, `{"sub":[],"exp":4102444800}`),
		signToken(f, jwt.SigningMethodHS256, secret, `[]`, claims),
		signToken(f, jwt.SigningMethodHS256, []byte(strings.Repeat("k", 32)), header, claims),
		"eyJhbGciOiJub25lIn0." + strings.Split(good, ".")[1] + ".",
	} {
		f.Add(bad)
	}
	auth := &JWT{Key: secret}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := auth.Authenticate(t.Context(), token, nil)
		if token == good {
			if err != nil || id.User != (User{ID: "u1", Name: "Ana"}) {
				t.Fatalf("got %+v, %v", id, err)
			}
			return
		}
		if e, ok := errors.AsType[*Error](err); !ok || id.User != (User{}) || id.Claims != nil {
			t.Fatalf("%q: %+v, %v", token, id, err)
		} else if len(token) > 20 && strings.Contains(e.Message, token) {
			t.Errorf("the message %q contains the token", e.Message)
		}
	})
}
