package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const tokenHelp = `Usage: chathub token -secret-env NAME -user ID [flags]

Signs a token (a JWT with HS256) for tests, and prints it. The hub must have the
same key, as in chathub.JWT{Key: secret}.

FLAGS
Exit status:
  0  the token is printed
` + exits + `
Examples:
  JWT_SECRET=... chathub token -secret-env JWT_SECRET -user u1 -name Ana
  chathub token -secret-file key -user ci -for 10m -tenant acme
  export CHATHUB_TOKEN=$(chathub token -secret-file key -user u1)
`

// minSecret is the least length of a key for HS256 in bytes (RFC 7518 section
// 3.2).
const minSecret = 32

// signFlags say how to sign tokens.
type signFlags struct {
	secretEnv, secretFile string
	tenant, claim         string
	life                  time.Duration
}

func (f *signFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.secretEnv, "secret-env", "", "sign tokens with the secret in this environment `variable`")
	fs.StringVar(&f.secretFile, "secret-file", "", "sign tokens with the secret in this `file`")
	fs.StringVar(&f.tenant, "tenant", "", "the `tenant` in signed tokens")
	fs.StringVar(&f.claim, "tenant-claim", "tenant", "the `claim` that has the tenant")
	fs.DurationVar(&f.life, "for", time.Hour, "how long a signed token is valid")
}

func (f *signFlags) isSet() bool { return f.secretEnv != "" || f.secretFile != "" }

// signer signs tokens.
type signer struct {
	key           []byte
	tenant, claim string
	life          time.Duration
}

// signer reads the secret.
func (f *signFlags) signer(e *env) (*signer, error) {
	var key []byte
	switch {
	case f.secretEnv != "" && f.secretFile != "":
		return nil, usagef("-secret-env and -secret-file exclude each other")
	case f.secretEnv != "":
		if key = []byte(e.getenv(f.secretEnv)); len(key) == 0 {
			return nil, usagef("the environment variable %s is not set", f.secretEnv)
		}
	default:
		b, err := os.ReadFile(f.secretFile)
		if err != nil {
			return nil, err
		}
		key = bytes.TrimRight(b, "\r\n")
	}
	return f.with(key)
}

func (f *signFlags) with(key []byte) (*signer, error) {
	if len(key) < minSecret {
		return nil, usagef("the secret has %d bytes and needs at least %d", len(key), minSecret)
	}
	if f.life <= 0 {
		return nil, usagef("-for must be positive")
	}
	return &signer{key, f.tenant, f.claim, f.life}, nil
}

// sign returns a token of a user, and when it expires.
func (s *signer) sign(user, name string, now time.Time) (string, time.Time, error) {
	expires := now.Add(s.life).Truncate(time.Second)
	claims := jwt.MapClaims{"sub": user, "name": name, "iat": now.Unix(), "exp": expires.Unix()}
	if s.tenant != "" {
		claims[s.claim] = s.tenant
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(s.key)
	return token, expires, err
}

func runToken(_ context.Context, e *env, args []string) error {
	var f signFlags
	fs := newFlags("token")
	f.register(fs)
	user := fs.String("user", "", "the `id` of the user")
	name := fs.String("name", "", "the `name` that others see (default: the id)")
	secret := fs.String("secret", "", "the `secret` itself, which other users of this machine can see; better use -secret-env")
	asJSON := fs.Bool("json", false, "print the token and its expiry as JSON")
	arguments, rest, err := parse(e, fs, tokenHelp, args)
	if err != nil {
		return err
	}
	if len(arguments)+len(rest) > 0 {
		return usagef("it takes no arguments")
	}
	if *user == "" {
		return usagef("-user is missing")
	}
	var s *signer
	switch {
	case *secret != "" && f.isSet():
		return usagef("-secret excludes -secret-env and -secret-file")
	case *secret != "":
		e.say("warning: other users of this machine can see -secret; better use -secret-env or -secret-file")
		s, err = f.with([]byte(*secret))
	case f.isSet():
		s, err = f.signer(e)
	default:
		err = usagef("-secret-env or -secret-file is missing")
	}
	if err != nil {
		return err
	}
	if *name == "" {
		*name = *user
	}
	token, expires, err := s.sign(*user, *name, time.Now())
	if err != nil {
		return err
	}
	if *asJSON {
		return e.printJSON(struct {
			Token   string    `json:"token"`
			User    string    `json:"user"`
			Expires time.Time `json:"expires"`
		}{token, *user, expires}, false)
	}
	_, err = fmt.Fprintln(e.out, token)
	return err
}
