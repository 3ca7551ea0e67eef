package chathub

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/text"
	"github.com/golang-jwt/jwt/v5"
)

func TestJWTRefusesClaims(t *testing.T) {
	k := jwtKeys()
	later := time.Now().Add(time.Hour).Unix()
	past := time.Now().Add(-time.Hour).Unix()
	// with returns good claims and the given ones.
	with := func(format string, args ...any) string {
		return fmt.Sprintf(`{"exp":%d,"iss":"https://id.example","aud":"chat",%s}`, later, fmt.Sprintf(format, args...))
	}
	tests := []struct {
		name, claims, cause string
	}{
		{"no exp", `{"sub":"u1","iss":"https://id.example","aud":"chat"}`, "exp claim is required"},
		{"exp null", `{"sub":"u1","iss":"https://id.example","aud":"chat","exp":null}`, "exp claim is required"},
		{"exp as a string", fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","aud":"chat","exp":"%d"}`, later), "exp"},
		{"exp under another name", fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","aud":"chat","EXP":%d}`, later), "exp claim is required"},
		{"exp that overflows", `{"sub":"u1","iss":"https://id.example","aud":"chat","exp":1e19}`, "out of range"},
		{"number that would be quoted", with(`"sub":"u1","nbf":%s`, strings.Repeat("9", 5000)), "out of range"},
		{"exp over float64", `{"sub":"u1","iss":"https://id.example","aud":"chat","exp":1e999}`, "exp"},
		{"exp in milliseconds", fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","aud":"chat","exp":%d000}`, later), "out of range"},
		{"nbf in the future", with(`"sub":"u1","nbf":%d`, later-60), "not valid yet"},
		{"nbf as a string", with(`"sub":"u1","nbf":"1"`), "nbf"},
		{"nbf that overflows", with(`"sub":"u1","nbf":-1e300`), "out of range"},

		{"no sub", with(`"name":"Ana"`), "user id"},
		{"sub empty", with(`"sub":""`), "user id"},
		{"sub null", with(`"sub":null`), "user id"},
		{"userId empty, sub not", with(`"userId":"","sub":"u1"`), "user id"},
		{"sub under another name", with(`"Sub":"u1"`), "user id"},
		{"sub too long", with(`"sub":%q`, strings.Repeat("i", text.MaxUser+1)), "user id"},
		{"sub with a control character", with(`"sub":"u\u0000"`), "user id"},
		{"sub a fraction", with(`"sub":1.0`), "neither a string nor an integer"},
		{"sub with an exponent", with(`"sub":1e3`), "neither a string nor an integer"},
		{"sub true", with(`"sub":true`), "neither a string nor an integer"},
		{"userId a list, sub good", with(`"userId":["u2"],"sub":"u1"`), "neither a string nor an integer"},
		{"sub an object", with(`"sub":{"id":"u1"}`), "neither a string nor an integer"},
		{"sub and name with unpaired surrogates", with(`"sub":"u\ud800","name":"\ud800"`), "surrogate"},
		{"duplicate name", with(`"sub":"u1","name":"\ud800","name":"A"`), "duplicate"},
		{"name a number", with(`"sub":"u1","name":7`), "name"},

		{"iss wrong", fmt.Sprintf(`{"sub":"u1","iss":"https://evil.example","aud":"chat","exp":%d}`, later), "invalid issuer"},
		{"iss missing", fmt.Sprintf(`{"sub":"u1","aud":"chat","exp":%d}`, later), "iss claim is required"},
		{"iss a list", fmt.Sprintf(`{"sub":"u1","iss":["https://id.example"],"aud":"chat","exp":%d}`, later), "iss"},
		{"aud wrong", fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","aud":"chats","exp":%d}`, later), "invalid audience"},
		{"aud missing", fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","exp":%d}`, later), "aud claim is required"},
		{"aud null", fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","aud":null,"exp":%d}`, later), "aud claim is required"},
		{"aud list without it", fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","aud":["a","b"],"exp":%d}`, later), "invalid audience"},
		{"aud list empty", fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","aud":[],"exp":%d}`, later), "aud claim is required"},
		{"aud list of other things", fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","aud":["chat",7],"exp":%d}`, later), "malformed"},
		{"aud an object", fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","aud":{"chat":1},"exp":%d}`, later), "malformed"},
		{"expired, and iss wrong", fmt.Sprintf(`{"sub":"u1","iss":"https://evil.example","aud":"chat","exp":%d}`, past), "expired"},
		{"expired, and no sub", fmt.Sprintf(`{"iss":"https://id.example","aud":"chat","exp":%d}`, past), "expired"},

		{"duplicate sub", with(`"sub":"u1","sub":"admin"`), "duplicate"},
		{"duplicate sub, escaped", with(`"sub":"u1","\u0073ub":"admin"`), "duplicate"},
		{"duplicate exp", with(`"sub":"u1","exp":%d`, later+1), "duplicate"},
		{"duplicate name further in", with(`"sub":"u1","x":{"y":1,"y":2}`), "duplicate"},
		{"not UTF-8", with(`"sub":"u1","x":"%s"`, "\xff"), "UTF-8"},
		{"unpaired surrogate", with(`"sub":"u1","x":"\ud800"`), "surrogate"},
		{"nested deeply", with(`"sub":"u1","x":%s%s`, strings.Repeat("[", maxDepth), strings.Repeat("]", maxDepth)), "deeper"},
		{"claims null", "null", "exp claim is required"},
		{"claims a list", "[" + goodClaims() + "]", "malformed"},
		{"claims a string", `"u1"`, "malformed"},
		{"claims not JSON", "sub=u1", "malformed"},
		{"claims empty", "", "malformed"},
		{"text after the claims", goodClaims() + goodClaims(), "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := signToken(t, jwt.SigningMethodHS256, k.secret, `{"alg":"HS256"}`, tt.claims)
			j := &JWT{Key: k.secret, Issuer: "https://id.example", Audience: "chat"}
			id, err := j.Authenticate(t.Context(), token, nil)
			checkRefusal(t, id, err, token, CodeUnauthenticated, "Invalid token", tt.cause)
		})
	}
}

// TestJWTMendsName checks that a name that makes the claims malformed JSON does
// not lock its owner out.
func TestJWTMendsName(t *testing.T) {
	k := jwtKeys()
	for _, tt := range []struct{ name, in, want, claim string }{
		{"half an emoji", `"ab\ud83d"`, "ab\uFFFD", "\"ab\uFFFD\""},
		{"the other half", `"\ude00 Ana"`, "\uFFFD Ana", "\"\uFFFD Ana\""},
		{"Latin-1", "\"Jos\xe9\"", "Jos\uFFFD", "\"Jos\uFFFD\""},
		{"with escapes", `"\ud83d\n\"\u0041"`, "\uFFFD \"A", "\"\uFFFD\\n\\\"A\""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const format = `{"x":{"name":"y"}, "n\u0061me" : %s ,"sub":"u1","exp":%d}`
			exp := time.Now().Add(time.Hour).Unix()
			token := signToken(t, jwt.SigningMethodHS256, k.secret, `{"alg":"HS256"}`, fmt.Sprintf(format, tt.in, exp))
			id, err := (&JWT{Key: k.secret}).Authenticate(t.Context(), token, nil)
			if err != nil {
				t.Fatal(err)
			}
			if id.User != (User{"u1", tt.want}) {
				t.Errorf("got %+v, want the name %q", id.User, tt.want)
			}
			if got, want := string(id.Claims), fmt.Sprintf(format, tt.claim, exp); got != want {
				t.Errorf("claims %s, want %s", got, want)
			}
		})
	}
}

func TestJWTTenant(t *testing.T) {
	k := jwtKeys()
	for claims, want := range map[string]string{
		`"tenant":"acme"`:       "acme",
		`"tenant":"Bäckerei 7"`: "Bäckerei 7",
		`"tenant":""`:           "",
		`"tenant":7`:            "",
		`"tenant":null`:         "",
		`"other":"acme"`:        "",
		`"tenant":"a\u0000b"`:   "",
		`"tenant":"` + strings.Repeat("x", 65) + `"`: "",
	} {
		token := signToken(t, jwt.SigningMethodHS256, k.secret, `{"alg":"HS256"}`,
			fmt.Sprintf(`{"sub":"u1","exp":%d,%s}`, time.Now().Add(time.Hour).Unix(), claims))
		j := &JWT{Key: k.secret, TenantClaim: "tenant"}
		id, err := j.Authenticate(t.Context(), token, nil)
		if want == "" {
			checkRefusal(t, id, err, token, CodeUnauthenticated, "Invalid token", "the claim tenant")
		} else if err != nil || id.Tenant != want {
			t.Errorf("%s: tenant %q, %v", claims, id.Tenant, err)
		}
	}
}
