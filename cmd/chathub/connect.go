package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/chathub-go/chathub/client"
	"github.com/go-json-experiment/json"
)

// connectHelp is the part of a help about connecting.
const connectHelp = `
Tokens come from one of -token, -token-file, -login, -secret-env, -secret-file,
and else from the environment variable CHATHUB_TOKEN. No token is ever printed.
`

// connectFlags say how to connect.
type connectFlags struct {
	token, tokenFile string
	login            string
	sign             signFlags
	ca               string
	insecure         bool
}

func (f *connectFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.token, "token", "", "the `token`, which other users of this machine can see; better use CHATHUB_TOKEN")
	fs.StringVar(&f.tokenFile, "token-file", "", "read the token from this `file`, again for each new token")
	fs.StringVar(&f.login, "login", "", `log in at this `+"`URL`"+`: POST {"name":NAME}, answered with {"token":TOKEN}`)
	f.sign.register(fs)
	fs.StringVar(&f.ca, "ca", "", "trust the certificates in this PEM `file`, and no others")
	fs.BoolVar(&f.insecure, "insecure", false, "do not check the server's certificate")
}

// connector connects users to a hub.
type connector struct {
	url  *url.URL
	http *http.Client
	// distinct reports that each name is a user of its own. Without it, all
	// have the same token.
	distinct bool
	token    func(ctx context.Context, name string) (string, error) // nil: there are no tokens
}

// connector checks the flags.
func (f *connectFlags) connector(e *env, rawURL string) (*connector, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	c := &connector{url: u, http: e.client}
	if c.http == nil {
		if c.http, err = f.httpClient(e); err != nil {
			return nil, err
		}
	}
	sources := 0
	for _, set := range []bool{f.token != "", f.tokenFile != "", f.login != "", f.sign.isSet()} {
		if set {
			sources++
		}
	}
	switch {
	case sources > 1:
		return nil, usagef("-token, -token-file, -login and secrets exclude each other")
	case f.token != "":
		c.token = fixed(f.token)
	case f.tokenFile != "":
		c.token = func(context.Context, string) (string, error) {
			b, err := os.ReadFile(f.tokenFile)
			return string(bytes.TrimSpace(b)), err
		}
		if _, err := c.token(context.Background(), ""); err != nil {
			return nil, err
		}
	case f.login != "":
		at, err := url.Parse(f.login)
		if err != nil || at.Host == "" {
			return nil, usagef("-login must be like https://chat.example.com/login")
		}
		c.distinct = true
		c.token = func(ctx context.Context, name string) (string, error) { return logIn(ctx, c.http, at, name) }
	case f.sign.isSet():
		s, err := f.sign.signer(e)
		if err != nil {
			return nil, err
		}
		c.distinct = true
		c.token = func(_ context.Context, name string) (string, error) {
			token, _, err := s.sign(name, name, time.Now())
			return token, err
		}
	default:
		if t := strings.TrimSpace(e.getenv("CHATHUB_TOKEN")); t != "" {
			c.token = fixed(t)
		}
	}
	return c, nil
}

func fixed(token string) func(context.Context, string) (string, error) {
	return func(context.Context, string) (string, error) { return token, nil }
}

// httpClient returns a client that trusts what the flags say.
func (f *connectFlags) httpClient(e *env) (*http.Client, error) {
	config := &tls.Config{}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM form", f.ca)
		}
	}
	if f.insecure {
		e.say("warning: the server's certificate is not checked (-insecure)")
		config.InsecureSkipVerify = true
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // net/http documents its type
	transport.TLSClientConfig = config
	return &http.Client{Transport: transport}, nil
}

// logIn asks the application for a token.
func logIn(ctx context.Context, h *http.Client, at *url.URL, name string) (string, error) {
	body, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("log-in at %s is not possible", shown(at))
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := h.Do(r)
	if err != nil {
		return "", fmt.Errorf("log-in at %s: %w", shown(at), plain(err))
	}
	defer res.Body.Close()
	var answer struct {
		Token   string `json:"token"`
		Message string `json:"message"`
	}
	err = json.UnmarshalRead(io.LimitReader(res.Body, 1<<20), &answer)
	switch {
	case res.StatusCode != http.StatusOK && answer.Message != "":
		return "", fmt.Errorf("log-in at %s: HTTP status %d: %s", shown(at), res.StatusCode, printable(answer.Message))
	case res.StatusCode != http.StatusOK:
		return "", fmt.Errorf("log-in at %s: HTTP status %d", shown(at), res.StatusCode)
	case err != nil || answer.Token == "":
		return "", fmt.Errorf(`log-in at %s: the answer has no "token"`, shown(at))
	}
	return answer.Token, nil
}

// plain returns an error of net/http without the URL, which may hold a secret.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// dial connects a user. If no attempt succeeds within 15 s, it returns the
// error of the last one.
func (c *connector) dial(ctx context.Context, name string, o client.Options) (*client.Client, error) {
	o.HTTPClient = c.http
	if c.token != nil {
		o.Token = func(ctx context.Context) (string, error) { return c.token(ctx, name) }
	}
	ctx, cancel := context.WithTimeoutCause(ctx, connectPatience, errNotReached)
	defer cancel()
	cl, err := client.Dial(ctx, c.url.String(), o)
	if err != nil && errors.Is(context.Cause(ctx), errNotReached) {
		return nil, fmt.Errorf("%s cannot be reached within %v: %w", shown(c.url), connectPatience, err)
	}
	return cl, err
}

const connectPatience = 15 * time.Second

var errNotReached = errors.New("not reached")
