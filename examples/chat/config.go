package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const minSecret = 32 // bytes; what HS256 needs (RFC 7518 section 3.2)

type config struct {
	addr           string
	rate           float64
	logLevel       slog.Level
	secret         []byte
	secretIsRandom bool
	origins        []string
	dataDir        string
	natsURL        string
}

const usage = `Usage: chat [flags]

A chat service with a page, to try chathub with. Its log-in is for demonstrations:
anyone may take any name.

Flags:
`

const environment = `
Environment:
  PORT        port to listen on where -addr is not given
  JWT_SECRET  key that tokens are signed with (HS256), at least 32 bytes. Unset: a
              random one, so that tokens do not survive a restart.
  CLIENT_URL  origins of other sites whose pages may log in and connect, comma
              separated: https://chat.example.com,http://localhost:5173
`

// parseConfig returns flag.ErrHelp once it has written the help that was asked for.
func parseConfig(args []string, getenv func(string) string, help io.Writer) (config, error) {
	var cfg config
	port := getenv("PORT")
	if port == "" {
		port = "5000"
	}
	fs := flag.NewFlagSet("chat", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // one line for an error; the caller writes it
	fs.Usage = func() {}
	fs.StringVar(&cfg.addr, "addr", ":"+port, "`address` to listen on")
	fs.Float64Var(&cfg.rate, "rate", 0, "`events` per second that a client may send; 0: the hub's default, negative: no limit")
	fs.TextVar(&cfg.logLevel, "log-level", slog.LevelInfo, "least `level` to log: debug, info, warn or error")
	fs.StringVar(&cfg.dataDir, "data", "", "keep messages in this `directory`; without it and -nats, in memory")
	fs.StringVar(&cfg.natsURL, "nats", "", "share messages with other instances over NATS servers with JetStream at this `URL`")
	switch err := fs.Parse(args); {
	case err == flag.ErrHelp: //nolint:errorlint // the flag package returns it as it is
		fs.SetOutput(help)
		_, _ = io.WriteString(help, usage)
		fs.PrintDefaults()
		_, _ = io.WriteString(help, environment)
		return cfg, err
	case err != nil:
		return cfg, fmt.Errorf("%w (see chat -help)", err)
	case fs.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q (see chat -help)", fs.Arg(0))
	}

	if cfg.dataDir != "" && cfg.natsURL != "" {
		return cfg, errors.New("-data and -nats: it can be one of them (see chat -help)")
	}

	cfg.secret = []byte(getenv("JWT_SECRET"))
	switch n := len(cfg.secret); {
	case n == 0 && cfg.natsURL != "":
		return cfg, errors.New("with -nats, JWT_SECRET must be set, to the same on all instances: clients move between them")
	case n == 0:
		cfg.secret = make([]byte, minSecret)
		rand.Read(cfg.secret) // never fails
		cfg.secretIsRandom = true
	case n < minSecret:
		return cfg, fmt.Errorf("JWT_SECRET has %d bytes, it needs at least %d", n, minSecret)
	}

	for origin := range strings.SplitSeq(getenv("CLIENT_URL"), ",") {
		if origin = strings.TrimSuffix(strings.TrimSpace(origin), "/"); origin != "" {
			cfg.origins = append(cfg.origins, origin)
		}
	}
	return cfg, nil
}
