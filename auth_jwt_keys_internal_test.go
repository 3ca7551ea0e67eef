package chathub

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestJWTKeyPinsMethod(t *testing.T) {
	k := jwtKeys()
	signers := []struct {
		method jwt.SigningMethod
		key    any
	}{
		{jwt.SigningMethodHS256, k.secret},
		{jwt.SigningMethodRS256, k.rsa},
		{jwt.SigningMethodES256, k.ec},
		{jwt.SigningMethodEdDSA, k.ed},
		{jwt.SigningMethodHS384, k.secret},
		{jwt.SigningMethodRS384, k.rsa},
		{jwt.SigningMethodPS256, k.rsa},
		{jwt.SigningMethodES384, k.ec384},
		{jwt.SigningMethodHS256, k.rsaPEM}, // the public key as a secret that everybody knows
		{jwt.SigningMethodHS256, []byte(k.ed.Public().(ed25519.PublicKey))},
		{jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType},
	}
	keys := []any{k.secret, &k.rsa.PublicKey, &k.ec.PublicKey, k.ed.Public()}
	for i, key := range keys {
		for n, s := range signers {
			token := signToken(t, s.method, s.key, `{"alg":"`+s.method.Alg()+`"}`, goodClaims())
			id, err := (&JWT{Key: key}).Authenticate(t.Context(), token, nil)
			if i == n {
				if err != nil {
					t.Errorf("%T: its own %s: %v", key, s.method.Alg(), err)
				}
				continue
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.Message != "Invalid token" || id.User.ID != "" {
				t.Errorf("%T lets %s of a %T in: %v", key, s.method.Alg(), s.key, err)
			}
		}
	}
}

func TestJWTKeys(t *testing.T) {
	k := jwtKeys()
	other := []byte(rand.Text() + rand.Text())
	j := &JWT{Keys: map[string]any{
		"hmac": k.secret, "old": other, "rsa": &k.rsa.PublicKey, "ec": &k.ec.PublicKey, "ed": k.ed.Public(),
	}}
	tests := []struct {
		name   string
		method jwt.SigningMethod
		key    any
		kid    string // as JSON; empty: none
		cause  string // empty: let in
	}{
		{"kid", jwt.SigningMethodHS256, k.secret, `"hmac"`, ""},
		{"another kid", jwt.SigningMethodHS256, other, `"old"`, ""},
		{"kid of an RSA key", jwt.SigningMethodRS256, k.rsa, `"rsa"`, ""},
		{"kid of an ECDSA key", jwt.SigningMethodES256, k.ec, `"ec"`, ""},
		{"kid of an Ed25519 key", jwt.SigningMethodEdDSA, k.ed, `"ed"`, ""},
		{"no kid", jwt.SigningMethodHS256, k.secret, "", ""},
		{"no kid, the other secret", jwt.SigningMethodHS256, other, "", ""},
		{"no kid, RSA", jwt.SigningMethodRS256, k.rsa, "", ""},
		{"kid null", jwt.SigningMethodHS256, k.secret, "null", ""},
		{"kid of another key", jwt.SigningMethodHS256, k.secret, `"old"`, "signature is invalid"},
		{"unknown kid", jwt.SigningMethodHS256, k.secret, `"new"`, "no key has this kid"},
		{"empty kid", jwt.SigningMethodHS256, k.secret, `""`, "no key has this kid"},
		{"kid that is a path", jwt.SigningMethodHS256, []byte{}, `"../../dev/null"`, "no key has this kid"},
		{"no kid, unknown key", jwt.SigningMethodHS256, k.secret[1:], "", "signature is invalid"},
		{"kid of an RSA key, its PEM as the secret", jwt.SigningMethodHS256, k.rsaPEM, `"rsa"`, "another alg"},
		{"no kid, a PEM as the secret", jwt.SigningMethodHS256, k.rsaPEM, "", "signature is invalid"},
		{"alg of no key", jwt.SigningMethodHS384, k.secret, `"hmac"`, "method HS384 is invalid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header := `{"alg":"` + tt.method.Alg() + `"}`
			if tt.kid != "" {
				header = `{"alg":"` + tt.method.Alg() + `","kid":` + tt.kid + `}`
			}
			token := signToken(t, tt.method, tt.key, header, goodClaims())
			id, err := j.Authenticate(t.Context(), token, nil)
			if tt.cause != "" {
				checkRefusal(t, id, err, token, CodeUnauthenticated, "Invalid token", tt.cause)
			} else if err != nil || id.User.ID != "u1" {
				t.Errorf("got %+v, %v", id, err)
			}
		})
	}
}

func TestJWTKeyfunc(t *testing.T) {
	k := jwtKeys()
	hs256, rs256 := jwt.SigningMethodHS256, jwt.SigningMethodRS256
	unusable := jwt.VerificationKeySet{Keys: []jwt.VerificationKey{&k.rsaWeak.PublicKey, "x"}}
	tests := []struct {
		name    string
		methods []string
		found   any // what the Keyfunc returns
		method  jwt.SigningMethod
		key     any
		cause   string // empty: let in
	}{
		{"RS256", nil, &k.rsa.PublicKey, rs256, k.rsa, ""},
		{"ES256", nil, &k.ec.PublicKey, jwt.SigningMethodES256, k.ec, ""},
		{"EdDSA", nil, k.ed.Public(), jwt.SigningMethodEdDSA, k.ed, ""},
		{"ES384 named", []string{"ES384"}, &k.ec384.PublicKey, jwt.SigningMethodES384, k.ec384, ""},
		{"PS256 named", []string{"RS256", "PS256"}, &k.rsa.PublicKey, jwt.SigningMethodPS256, k.rsa, ""},
		{"HS256 named", []string{"HS256"}, k.secret, hs256, k.secret, ""},
		{"HS512 named", []string{"HS512"}, k.secret, jwt.SigningMethodHS512, k.secret, ""},
		{"a set", nil, jwt.VerificationKeySet{Keys: []jwt.VerificationKey{"x", &k.rsaWeak.PublicKey, k.secret, &k.ec.PublicKey, &k.rsa.PublicKey}}, rs256, k.rsa, ""},

		{"HS256 not named", nil, k.secret, hs256, k.secret, "method HS256 is invalid"},
		{"ES384 not named", nil, &k.ec384.PublicKey, jwt.SigningMethodES384, k.ec384, "method ES384 is invalid"},
		{"none", nil, jwt.UnsafeAllowNoneSignatureType, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "method none is invalid"},
		{"a public key's PEM as the secret", []string{"HS256", "RS256"}, &k.rsa.PublicKey, hs256, k.rsaPEM, "no key for HS256"},
		{"a public key's PEM instead of the key", []string{"HS256", "RS256"}, k.rsaPEM, hs256, k.rsaPEM, "encoded key"},
		{"short secret", []string{"HS256"}, k.secret[:31], hs256, k.secret[:31], "31 bytes"},
		{"secret short for HS512", []string{"HS512"}, k.secret[:63], jwt.SigningMethodHS512, k.secret[:63], "no key for HS512"},
		{"empty secret", []string{"HS256"}, []byte{}, hs256, []byte{}, "0 bytes"},
		{"weak RSA key", nil, &k.rsaWeak.PublicKey, rs256, k.rsaWeak, "1024 bits"},
		{"set of unusable keys", nil, unusable, rs256, k.rsaWeak, "1024 bits"},
		{"empty set", nil, jwt.VerificationKeySet{}, rs256, k.rsa, "no key for RS256"},
		{"another key", nil, &k.ec.PublicKey, rs256, k.rsa, "no key for RS256"},
		{"private key", nil, k.rsa, rs256, k.rsa, "private key"},
		{"nil", nil, nil, rs256, k.rsa, "<nil>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := &JWT{Methods: tt.methods, Keyfunc: func(*jwt.Token) (any, error) { return tt.found, nil }}
			token := signToken(t, tt.method, tt.key, `{"alg":"`+tt.method.Alg()+`","kid":"k"}`, goodClaims())
			id, err := j.Authenticate(t.Context(), token, nil)
			if tt.cause != "" {
				checkRefusal(t, id, err, token, CodeUnauthenticated, "Invalid token", tt.cause)
			} else if err != nil || id.User.ID != "u1" {
				t.Errorf("got %+v, %v", id, err)
			}
		})
	}
}

func TestJWTKeyfuncErrors(t *testing.T) {
	down := &url.Error{Op: "Get", URL: "https://id.example/jwks", Err: errors.New("connection refused")}
	tests := []struct {
		name    string
		err     error
		code    Code
		message string
	}{
		{"key not found", errors.New("key not found"), CodeUnauthenticated, "Invalid token"},
		{"a sentinel of golang-jwt", jwt.ErrTokenUnverifiable, CodeUnauthenticated, "Invalid token"},
		{"expired, it says", jwt.ErrTokenExpired, CodeUnauthenticated, "Invalid token"},
		{"endpoint down", fmt.Errorf("refresh: %w", down), CodeUnavailable, "Try again"},
		{"endpoint slow", fmt.Errorf("refresh: %w", context.DeadlineExceeded), CodeUnavailable, "Try again"},
		{"canceled", errors.Join(errors.New("key not found"), context.Canceled), CodeUnavailable, "Try again"},
		{"its own Error", fmt.Errorf("wrapped: %w", &Error{Code: CodeUnavailable, Message: "Later", Err: down}), CodeUnavailable, "Later"},
	}
	token := signToken(t, jwt.SigningMethodES256, jwtKeys().ec, `{"alg":"ES256"}`, goodClaims())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := &JWT{Keyfunc: func(*jwt.Token) (any, error) { return nil, tt.err }}
			id, err := j.Authenticate(t.Context(), token, nil)
			checkRefusal(t, id, err, token, tt.code, tt.message, "")
		})
	}
}

func TestJWTKeyfuncSeesOnlyGoodHeaders(t *testing.T) {
	k := jwtKeys()
	j := &JWT{Keyfunc: func(*jwt.Token) (any, error) {
		t.Error("the Keyfunc was called")
		return &k.ec.PublicKey, nil
	}}
	for _, header := range []string{
		`{"alg":"HS256"}`, `{"alg":"none"}`, `{"alg":"ES256","crit":["x"]}`,
		`{"alg":"ES256","typ":"x"}`, `{"alg":"ES256","kid":"a","kid":"b"}`,
	} {
		token := signToken(t, jwt.SigningMethodES256, k.ec, header, goodClaims())
		if _, err := j.Authenticate(t.Context(), token, nil); err == nil {
			t.Errorf("%s was let in", header)
		}
	}
}

func TestJWTValidate(t *testing.T) {
	k := jwtKeys()
	keyfunc := func(*jwt.Token) (any, error) { return nil, nil }
	der, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey)
	jwk := []byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`)
	tests := []struct {
		name string
		jwt  *JWT
		want []string // parts of the error, all of them; none: valid
	}{
		{"secret", &JWT{Key: k.secret[:32]}, nil},
		{"RSA", &JWT{Key: &k.rsa.PublicKey}, nil},
		{"ECDSA", &JWT{Key: &k.ec.PublicKey}, nil},
		{"Ed25519", &JWT{Key: k.ed.Public()}, nil},
		{"several", &JWT{Keys: map[string]any{"a": k.secret, "b": k.ed.Public()}, Leeway: 30 * time.Second}, nil},
		{"Keyfunc", &JWT{Keyfunc: keyfunc, Methods: []string{"HS256", "ES384"}, Issuer: "i", Audience: "a"}, nil},

		{"nil", nil, []string{"nil pointer"}},
		{"nothing", &JWT{}, []string{"exactly one"}},
		{"Key and Keys", &JWT{Key: k.secret, Keys: map[string]any{"a": k.secret}}, []string{"exactly one"}},
		{"Key and Keyfunc", &JWT{Key: k.secret, Keyfunc: keyfunc}, []string{"exactly one"}},
		{"empty secret", &JWT{Key: []byte{}}, []string{"JWT.Key is a secret of 0 bytes"}},
		{"nil secret", &JWT{Key: []byte(nil)}, []string{"JWT.Key is a secret of 0 bytes"}},
		{"short secret", &JWT{Key: k.secret[:31]}, []string{"JWT.Key is a secret of 31 bytes", "32"}},
		{"string", &JWT{Key: string(k.secret)}, []string{"JWT.Key is a string", "[]byte"}},
		{"PEM as a secret", &JWT{Key: k.rsaPEM}, []string{"JWT.Key is an encoded key"}},
		{"DER as a secret", &JWT{Key: der}, []string{"JWT.Key is an encoded key"}},
		{"PKCS #1 as a secret", &JWT{Key: pkcs1}, []string{"JWT.Key is an encoded key"}},
		{"JWK as a secret", &JWT{Key: jwk}, []string{"JWT.Key is an encoded key"}},
		{"private RSA key", &JWT{Key: k.rsa}, []string{"private key (*rsa.PrivateKey)"}},
		{"private ECDSA key", &JWT{Key: k.ec}, []string{"private key (*ecdsa.PrivateKey)"}},
		{"private Ed25519 key", &JWT{Key: k.ed}, []string{"private key (ed25519.PrivateKey)"}},
		{"RSA key by value", &JWT{Key: k.rsa.PublicKey}, []string{"type rsa.PublicKey", "*rsa.PublicKey"}},
		{"weak RSA key", &JWT{Key: &k.rsaWeak.PublicKey}, []string{"1024 bits", "2048"}},
		{"nil RSA key", &JWT{Key: (*rsa.PublicKey)(nil)}, []string{"nil RSA key"}},
		{"zero RSA key", &JWT{Key: &rsa.PublicKey{}}, []string{"nil RSA key"}},
		{"nil ECDSA key", &JWT{Key: (*ecdsa.PublicKey)(nil)}, []string{"nil ECDSA key"}},
		{"zero ECDSA key", &JWT{Key: &ecdsa.PublicKey{}}, []string{"nil ECDSA key"}},
		{"ECDSA key on P-224", &JWT{Key: &ecdsa.PublicKey{Curve: elliptic.P224()}}, []string{"curve"}},
		{"ECDSA key on P-384", &JWT{Key: &k.ec384.PublicKey}, []string{"ES384", "Keyfunc"}},
		{"ECDSA key on P-521", &JWT{Key: &ecdsa.PublicKey{Curve: elliptic.P521()}}, []string{"ES512", "Keyfunc"}},
		{"short Ed25519 key", &JWT{Key: ed25519.PublicKey{1}}, []string{"Ed25519 key of 1 bytes"}},
		{"set of keys", &JWT{Key: jwt.VerificationKeySet{}}, []string{"VerificationKeySet"}},
		{"number", &JWT{Key: 7}, []string{"type int"}},
		{"no Keys", &JWT{Keys: map[string]any{}}, []string{"no keys"}},
		{"nil among Keys", &JWT{Keys: map[string]any{"a": nil}}, []string{`JWT.Keys["a"]`, "<nil>"}},
		{"Methods without Keyfunc", &JWT{Key: k.secret, Methods: []string{"HS256"}}, []string{"Methods is for Keyfunc"}},
		{"no Methods", &JWT{Keyfunc: keyfunc, Methods: []string{}}, []string{"Methods is empty"}},
		{"Methods with none", &JWT{Keyfunc: keyfunc, Methods: []string{"RS256", "none"}}, []string{`"none"`}},
		{"Methods in another case", &JWT{Keyfunc: keyfunc, Methods: []string{"rs256"}}, []string{`"rs256"`}},
		{"Leeway negative", &JWT{Key: k.secret, Leeway: -1}, []string{"Leeway"}},
		{"Leeway too long", &JWT{Key: k.secret, Leeway: 30*time.Second + 1}, []string{"Leeway", "30s"}},
		{"everything at once", &JWT{
			Key: "x", Keys: map[string]any{"a": k.rsa, "b": []byte("short")}, Methods: []string{"no"}, Leeway: time.Hour,
		}, []string{"exactly one", "JWT.Key is", `JWT.Keys["a"]`, `JWT.Keys["b"]`, "Methods is for", `"no"`, "Leeway"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.jwt.validate()
			if len(tt.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("want an error")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v: does not mention %q", err, part)
				}
			}
			if strings.Contains(err.Error(), string(k.secret[:31])) {
				t.Errorf("%v: quotes the secret", err)
			}
			if again := tt.jwt.validate(); again == nil || again.Error() != err.Error() {
				t.Errorf("the second time it says %v", again)
			}
			// A mistake that New has not seen is a fault of the server, and
			// lets nobody in.
			token := signToken(t, jwt.SigningMethodHS256, k.secret, `{"alg":"HS256"}`, goodClaims())
			_, err = tt.jwt.Authenticate(t.Context(), token, nil)
			if e, known := publicError(err); known || e.Code != CodeInternal {
				t.Errorf("Authenticate: got %v, want an error that is logged", err)
			}
		})
	}
}
