package chathub

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/chathub-go/chathub/internal/text"
	"github.com/golang-jwt/jwt/v5"
)

// jwtKeys are keys that are made once for all tests.
var jwtKeys = sync.OnceValue(func() (k struct {
	secret  []byte
	rsa     *rsa.PrivateKey
	rsaWeak *rsa.PrivateKey
	rsaPEM  []byte // of the public key
	ec      *ecdsa.PrivateKey
	ec384   *ecdsa.PrivateKey
	ed      ed25519.PrivateKey
}) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	k.secret = []byte(rand.Text() + rand.Text() + rand.Text()) // long enough for HS512
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.rsaWeak, err = rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	der, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	must(err)
	k.rsaPEM = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	k.ec384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	return k
})

// signToken signs any header and claims, however wrong they are.
func signToken(t testing.TB, method jwt.SigningMethod, key any, header, claims string) string {
	t.Helper()
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(claims))
	sig, err := method.Sign(text, key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + enc.EncodeToString(sig)
}

// goodClaims returns claims that are valid for an hour.
func goodClaims() string {
	return fmt.Sprintf(`{"sub":"u1","name":"Ana","iss":"https://id.example","aud":"chat","exp":%d}`, time.Now().Add(time.Hour).Unix())
}

// checkRefusal checks what the client and the log are told.
func checkRefusal(t *testing.T, id Identity, err error, token string, code Code, message, cause string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != code || e.Message != message {
		t.Fatalf("got %v, want %s %q", err, code, message)
	}
	if e.Err == nil || !strings.Contains(e.Err.Error(), cause) {
		t.Errorf("the cause is %v, want one about %q", e.Err, cause)
	}
	if id.User != (User{}) || id.Claims != nil {
		t.Errorf("a refused token has the identity %+v", id)
	}
	if len(err.Error()) > 400 {
		t.Errorf("a client can fill the log: %.400s...", err)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 8 && strings.Contains(err.Error(), part) {
			t.Errorf("the error %v contains a part of the token", err)
		}
	}
}

func TestJWT(t *testing.T) {
	k := jwtKeys()
	later := time.Now().Add(time.Hour).Unix()
	claims := func(format string, args ...any) string {
		return fmt.Sprintf(`{"exp":%d,%s}`, later, fmt.Sprintf(format, args...))
	}
	tests := []struct {
		name   string
		header string // default {"alg":"HS256"}
		claims string
		want   User
	}{
		{"sub and name", "", claims(`"sub":"u1","name":"Ana"`), User{"u1", "Ana"}},
		{"userId goes before sub", "", claims(`"sub":"u1","userId":"u2"`), User{"u2", "u2"}},
		{"userId null", "", claims(`"sub":"u1","userId":null`), User{"u1", "u1"}},
		{"name empty", "", claims(`"sub":"u1","name":""`), User{"u1", "u1"}},
		{"name null", "", claims(`"sub":"u1","name":null`), User{"u1", "u1"}},
		{"integer", "", claims(`"userId":42`), User{"42", "42"}},
		{"integer beyond 2^53", "", claims(`"userId":9007199254740993`), User{"9007199254740993", "9007199254740993"}},
		{"negative integer", "", claims(`"sub":-7`), User{"-7", "-7"}},
		{"escapes", "", claims(`"sub":"\u00e9\"","name":"\ud83d\ude42"`), User{`é"`, "🙂"}},
		{"escaped name of a claim", "", claims(`"\u0073ub":"u1"`), User{"u1", "u1"}},
		{"longest", "", claims(`"sub":%q,"name":%q`, strings.Repeat("i", text.MaxUser), strings.Repeat("n", text.MaxName)),
			User{strings.Repeat("i", text.MaxUser), strings.Repeat("n", text.MaxName)}},
		{"typ JWT", `{"alg":"HS256","typ":"JWT"}`, claims(`"sub":"u1"`), User{"u1", "u1"}},
		{"typ jwt", `{"typ":"jwt","alg":"HS256"}`, claims(`"sub":"u1"`), User{"u1", "u1"}},
		{"typ at+jwt", `{"alg":"HS256","typ":"AT+JWT"}`, claims(`"sub":"u1"`), User{"u1", "u1"}},
		{"typ application/at+jwt", `{"alg":"HS256","typ":"application/at+jwt"}`, claims(`"sub":"u1"`), User{"u1", "u1"}},
		{"kid, but only one key", `{"alg":"HS256","kid":"any"}`, claims(`"sub":"u1"`), User{"u1", "u1"}},
		{"unknown header parameters", `{"alg":"HS256","jku":"https://evil.example","x":{"y":[1]}}`, claims(`"sub":"u1"`), User{"u1", "u1"}},
		{"unknown claims", "", claims(`"sub":"u1","Sub":"u2","roles":["a"],"exp2":"x"`), User{"u1", "u1"}},
		{"nbf past", "", claims(`"sub":"u1","nbf":1`), User{"u1", "u1"}},
		{"aud and iss, not asked for", "", claims(`"sub":"u1","aud":["x","y"],"iss":"z"`), User{"u1", "u1"}},
		{"white space", "", "  " + claims(`"sub" : "u1"`) + "\n", User{"u1", "u1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header := tt.header
			if header == "" {
				header = `{"alg":"HS256"}`
			}
			token := signToken(t, jwt.SigningMethodHS256, k.secret, header, tt.claims)
			id, err := (&JWT{Key: k.secret}).Authenticate(t.Context(), token, nil)
			if err != nil {
				t.Fatal(err)
			}
			if id.User != tt.want {
				t.Errorf("got %+v, want %+v", id.User, tt.want)
			}
			if id.Expires.Unix() != later {
				t.Errorf("expires %v, want %v", id.Expires.Unix(), later)
			}
			if got, want := string(id.Claims), strings.TrimSpace(tt.claims); got != want {
				t.Errorf("claims %s, want %s", got, want)
			}
		})
	}
}

func TestJWTWithoutToken(t *testing.T) {
	_, err := (&JWT{Key: jwtKeys().secret}).Authenticate(t.Context(), "", nil)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != CodeUnauthenticated || e.Message != "Authentication required" {
		t.Errorf("got %v, want Authentication required", err)
	}
}

func TestJWTRefusesHeaders(t *testing.T) {
	k := jwtKeys()
	hs256 := jwt.SigningMethodHS256
	tests := []struct {
		name   string
		method jwt.SigningMethod
		key    any
		header string
		cause  string
	}{
		{"alg none", jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, `{"alg":"none"}`, "method none is invalid"},
		{"alg None", hs256, k.secret, `{"alg":"None"}`, "alg"},
		{"alg missing", hs256, k.secret, `{"typ":"JWT"}`, "alg"},
		{"alg null", hs256, k.secret, `{"alg":null}`, "alg"},
		{"alg not a string", hs256, k.secret, `{"alg":["HS256"]}`, "alg"},
		{"alg in another case", hs256, k.secret, `{"alg":"hs256"}`, "alg"},
		{"alg under another name", hs256, k.secret, `{"Alg":"HS256"}`, "alg"},
		{"HS384 of the same secret", jwt.SigningMethodHS384, k.secret, `{"alg":"HS384"}`, "method HS384 is invalid"},
		{"HS512 of the same secret", jwt.SigningMethodHS512, k.secret, `{"alg":"HS512"}`, "method HS512 is invalid"},
		{"HS256 announced, HS384 signed", jwt.SigningMethodHS384, k.secret, `{"alg":"HS256"}`, "signature is invalid"},
		{"RS256", jwt.SigningMethodRS256, k.rsa, `{"alg":"RS256"}`, "method RS256 is invalid"},
		{"empty key", hs256, []byte{}, `{"alg":"HS256"}`, "signature is invalid"},
		{"another key", hs256, k.secret[1:], `{"alg":"HS256"}`, "signature is invalid"},
		{"crit", hs256, k.secret, `{"alg":"HS256","crit":["exp"],"exp":1}`, "crit"},
		{"crit of an unencoded payload", hs256, k.secret, `{"alg":"HS256","crit":["b64"],"b64":true}`, "crit"},
		{"crit empty", hs256, k.secret, `{"alg":"HS256","crit":[]}`, "crit"},
		{"crit null", hs256, k.secret, `{"alg":"HS256","crit":null}`, "crit"},
		{"typ of another token", hs256, k.secret, `{"alg":"HS256","typ":"secevent+jwt"}`, "typ"},
		{"typ JWE", hs256, k.secret, `{"alg":"HS256","typ":"JOSE"}`, "typ"},
		{"typ empty", hs256, k.secret, `{"alg":"HS256","typ":""}`, "typ"},
		{"typ not a string", hs256, k.secret, `{"alg":"HS256","typ":1}`, "typ"},
		{"kid not a string", hs256, k.secret, `{"alg":"HS256","kid":7}`, "kid"},
		{"duplicate alg", hs256, k.secret, `{"alg":"none","alg":"HS256"}`, "duplicate"},
		{"duplicate name, escaped", hs256, k.secret, `{"alg":"none","\u0061lg":"HS256"}`, "duplicate"},
		{"duplicate unknown name", hs256, k.secret, `{"alg":"HS256","x":1,"x":2}`, "duplicate"},
		{"not UTF-8", hs256, k.secret, `{"alg":"HS256","x":"` + "\xff" + `"}`, "UTF-8"},
		{"header null", hs256, k.secret, `null`, "alg"},
		{"header a list", hs256, k.secret, `["HS256"]`, "header: "},
		{"header not JSON", hs256, k.secret, `alg=HS256`, "header: "},
		{"header empty", hs256, k.secret, ``, "header: "},
		{"text after the header", hs256, k.secret, `{"alg":"HS256"}{}`, "header: "},
		{"number that would be quoted", hs256, k.secret, `{"alg":"HS256","x":` + strings.Repeat("9", 5000) + `}`, "out of range"},
		{"number as the alg", hs256, k.secret, `{"alg":` + strings.Repeat("9", 5000) + `}`, "out of range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := signToken(t, tt.method, tt.key, tt.header, goodClaims())
			id, err := (&JWT{Key: k.secret}).Authenticate(t.Context(), token, nil)
			checkRefusal(t, id, err, token, CodeUnauthenticated, "Invalid token", tt.cause)
		})
	}
}

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
		{"name too long", with(`"sub":"u1","name":%q`, strings.Repeat("n", text.MaxName+1)), "user name"},
		{"name with a control character", with(`"sub":"u1","name":"A\nB"`), "user name"},
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

func TestJWTIssuerAndAudience(t *testing.T) {
	k := jwtKeys()
	later := time.Now().Add(time.Hour).Unix()
	for _, aud := range []string{`"chat"`, `["chat"]`, `["mail","chat"]`} {
		token := signToken(t, jwt.SigningMethodHS256, k.secret, `{"alg":"HS256"}`,
			fmt.Sprintf(`{"sub":"u1","iss":"https://id.example","aud":%s,"exp":%d}`, aud, later))
		j := &JWT{Key: k.secret, Issuer: "https://id.example", Audience: "chat"}
		if _, err := j.Authenticate(t.Context(), token, nil); err != nil {
			t.Errorf("aud %s: %v", aud, err)
		}
	}
}

func TestJWTRefusesEncodings(t *testing.T) {
	k := jwtKeys()
	good := signToken(t, jwt.SigningMethodHS256, k.secret, `{"alg":"HS256"}`, goodClaims())
	j := &JWT{Key: k.secret}
	if _, err := j.Authenticate(t.Context(), good, nil); err != nil {
		t.Fatal(err)
	}
	part := strings.Split(good, ".")
	header, claims, sig := part[0], part[1], part[2]

	// The last character of a 32-byte signature has two bits without a meaning.
	// A lax decoder reads the next character of the alphabet as the same bytes.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, sig[len(sig)-1])
	trailing := sig[:len(sig)-1] + alphabet[last+1:last+2]
	lax, _ := base64.RawURLEncoding.DecodeString(trailing)
	if want, _ := base64.RawURLEncoding.DecodeString(sig); string(lax) != string(want) {
		t.Fatal("the signature with trailing bits has other bytes")
	}

	tests := []struct {
		name, token, cause string
	}{
		{"padding", good + "=", "malformed"},
		{"padded header", header + "==." + claims + "." + sig, "header: "},
		{"trailing bits", header + "." + claims + "." + trailing, "malformed"},
		{"line break in the signature", header + "." + claims + "." + sig[:9] + "\n" + sig[9:], "visible ASCII"},
		{"line break at the end", good + "\r\n", "visible ASCII"},
		{"space at the end", good + " ", "visible ASCII"},
		{"the other base64 alphabet", header + "." + claims + ".++" + sig[2:], "malformed"},
		{"signature cut short", good[:len(good)-3], "signature is invalid"},
		{"no signature", header + "." + claims + ".", "signature is invalid"},
		{"two parts", header + "." + claims, "segments"},
		{"one part", header, "segments"},
		{"four parts", good + "." + sig, "segments"},
		{"five parts, as a JWE", good + ".." + sig, "segments"},
		{"only dots", "..", "header: "},
		{"a Bearer in front", "Bearer " + good, "visible ASCII"},
		{"claims exchanged", header + "." + base64.RawURLEncoding.EncodeToString([]byte(
			strings.Replace(goodClaims(), "u1", "u2", 1))) + "." + sig, "signature is invalid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := j.Authenticate(t.Context(), tt.token, nil)
			checkRefusal(t, id, err, tt.token, CodeUnauthenticated, "Invalid token", tt.cause)
		})
	}
}

func TestJWTHugeTokenIsNotRead(t *testing.T) {
	k := jwtKeys()
	asked := 0
	j := &JWT{Methods: []string{"HS256"}, Keyfunc: func(*jwt.Token) (any, error) {
		asked++
		return k.secret, nil
	}}
	sized := func(padding int) string {
		claims := strings.TrimSuffix(goodClaims(), "}") + `,"x":"` + strings.Repeat("x", padding) + `"}`
		return signToken(t, jwt.SigningMethodHS256, k.secret, `{"alg":"HS256"}`, claims)
	}
	padding := 1
	for len(sized(padding)) <= handshake.MaxToken {
		padding++
	}
	if _, err := j.Authenticate(t.Context(), sized(padding-1), nil); err != nil || asked != 1 {
		t.Errorf("the longest token: %v, keys requested: %d", err, asked)
	}
	token := sized(padding)
	id, err := j.Authenticate(t.Context(), token, nil)
	checkRefusal(t, id, err, token, CodeUnauthenticated, "Invalid token", "8 KiB")
	if asked != 1 {
		t.Error("a token over the limit was read")
	}
}

// TestJWTTimes checks both sides of every limit, on a clock that stands still.
func TestJWTTimes(t *testing.T) {
	k := jwtKeys()
	tests := []struct {
		name     string
		exp, nbf string // relative to now, in seconds
		leeway   time.Duration
		want     Code // empty: valid
		expires  time.Duration
	}{
		{"exp ahead", "+1", "", 0, "", time.Second},
		{"exp a fraction ahead", "+0.25", "", 0, "", 250 * time.Millisecond},
		{"exp now", "+0", "", 0, CodeTokenExpired, 0},
		{"exp past", "-1", "", 0, CodeTokenExpired, 0},
		{"exp past within the leeway", "-29", "", 30 * time.Second, "", time.Second},
		{"exp past by the leeway", "-30", "", 30 * time.Second, CodeTokenExpired, 0},
		{"nbf now", "+9", "+0", 0, "", 9 * time.Second},
		{"nbf ahead", "+9", "+1", 0, CodeUnauthenticated, 0},
		{"nbf ahead by the leeway", "+9", "+30", 30 * time.Second, "", 39 * time.Second},
		{"nbf ahead of the leeway", "+9", "+31", 30 * time.Second, CodeUnauthenticated, 0},
		{"expired before it began", "-1", "+1", 0, CodeUnauthenticated, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now()
				at := func(offset string) string {
					d, err := time.ParseDuration(offset + "s")
					if err != nil {
						t.Fatal(err)
					}
					return fmt.Sprintf("%.3f", float64(now.Add(d).UnixMilli())/1000)
				}
				claims := `{"sub":"u1","exp":` + at(tt.exp)
				if tt.nbf != "" {
					claims += `,"nbf":` + at(tt.nbf)
				}
				token := signToken(t, jwt.SigningMethodHS256, k.secret, `{"alg":"HS256"}`, claims+"}")
				id, err := (&JWT{Key: k.secret, Leeway: tt.leeway}).Authenticate(t.Context(), token, nil)
				switch tt.want {
				case "":
					if err != nil {
						t.Fatal(err)
					}
					if got := id.Expires.Sub(now); got != tt.expires {
						t.Errorf("expires in %v, want %v", got, tt.expires)
					}
				case CodeTokenExpired:
					checkRefusal(t, id, err, token, tt.want, "Token expired", "expired")
				default:
					checkRefusal(t, id, err, token, tt.want, "Invalid token", "not valid yet")
				}
			})
		})
	}
}

func TestJWTExpiredWithBadSignatureIsInvalid(t *testing.T) {
	k := jwtKeys()
	claims := fmt.Sprintf(`{"sub":"u1","exp":%d}`, time.Now().Add(-time.Hour).Unix())
	token := signToken(t, jwt.SigningMethodHS256, k.secret[1:], `{"alg":"HS256"}`, claims)
	id, err := (&JWT{Key: k.secret}).Authenticate(t.Context(), token, nil)
	checkRefusal(t, id, err, token, CodeUnauthenticated, "Invalid token", "signature is invalid")
}

func TestConfigReportsJWT(t *testing.T) {
	err := Config{Auth: &JWT{Key: "secret"}, Origins: []string{"*"}}.withDefaults().validate()
	if err == nil || !strings.Contains(err.Error(), "JWT.Key is a string") || !strings.Contains(err.Error(), "wildcards") {
		t.Errorf("got %v, want both mistakes", err)
	}
}

// TestJWTConcurrently is for the race detector: the first calls prepare.
func TestJWTConcurrently(t *testing.T) {
	k := jwtKeys()
	j := &JWT{Keys: map[string]any{"a": k.secret, "b": k.ed.Public()}}
	var wg sync.WaitGroup
	for i := range 16 {
		token := signToken(t, jwt.SigningMethodEdDSA, k.ed, `{"alg":"EdDSA"}`,
			fmt.Sprintf(`{"sub":%d,"exp":%d}`, i, time.Now().Add(time.Hour).Unix()))
		wg.Go(func() {
			for range 10 {
				id, err := j.Authenticate(t.Context(), token, nil)
				if err != nil || id.User.ID != fmt.Sprint(i) {
					t.Errorf("client %d got %+v, %v", i, id, err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkJWT(b *testing.B) {
	k := jwtKeys()
	for _, s := range []struct {
		method          jwt.SigningMethod
		private, public any
	}{
		{jwt.SigningMethodHS256, k.secret, k.secret},
		{jwt.SigningMethodRS256, k.rsa, &k.rsa.PublicKey},
		{jwt.SigningMethodES256, k.ec, &k.ec.PublicKey},
		{jwt.SigningMethodEdDSA, k.ed, k.ed.Public()},
	} {
		b.Run(s.method.Alg(), func(b *testing.B) {
			token := signToken(b, s.method, s.private, `{"alg":"`+s.method.Alg()+`","typ":"JWT"}`, goodClaims())
			j := &JWT{Key: s.public}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := j.Authenticate(b.Context(), token, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
