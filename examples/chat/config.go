package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
)

const minSecret = 32 // bytes, the minimum for HS256 (RFC 7518 section 3.2)

type config struct {
	addr           string
	rate           float64
	logLevel       slog.Level
	secret         []byte
	secretIsRandom bool
	origins        []string
	dataDir        string
	natsURL        string
	moderators     moderators
	restored       string
	proxies        []netip.Prefix
	inspect        string
	version        bool   // print it and end
	probe          string // ask this URL and end
}

const usage = `Usage: chat [flags]

A chat service with a page, to try chathub. Its log-in has no passwords and is
for demonstration only: anyone can take any name.

Flags:
`

const environment = `
Environment:
  PORT        port to listen on if -addr is not given
  JWT_SECRET  key that signs the tokens (HS256), at least 32 bytes. Without it,
              the key is random, and tokens end with the process.
  CLIENT_URL  origins of other sites whose pages may log in and connect, separated
              by commas: https://chat.example.com,http://localhost:5173
`

// parseConfig reads the flags and the environment. If args ask for help, it
// writes that to help and returns flag.ErrHelp.
func parseConfig(args []string, getenv func(string) string, help io.Writer) (config, error) {
	var cfg config
	port := getenv("PORT")
	if port == "" {
		port = "5000"
	}
	fs := flag.NewFlagSet("chat", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the caller prints the error, in one line
	fs.Usage = func() {}
	fs.StringVar(&cfg.addr, "addr", ":"+port, "`address` to listen on")
	fs.Float64Var(&cfg.rate, "rate", 0, "`events` per second that a client may send: 0 for the hub's default, negative for no limit")
	fs.TextVar(&cfg.logLevel, "log-level", slog.LevelInfo, "lowest `level` to log: debug, info, warn or error")
	fs.StringVar(&cfg.dataDir, "data", "", "keep messages in this `directory`; without it and -nats they are in memory only")
	fs.StringVar(&cfg.restored, "restored", "", "`name` of the backup that the directory of -data was restored from; new for each restore")
	fs.StringVar(&cfg.natsURL, "nats", "", "share messages with other instances through NATS servers with JetStream at this `URL`")
	names := fs.String("moderators", "", "`names` of users who may moderate, separated by commas")
	fs.Func("trusted-proxies", "`networks` of proxies whose X-Forwarded-For is believed, separated by commas: 127.0.0.1/32,10.0.0.0/8", cfg.addProxies)
	fs.StringVar(&cfg.inspect, "inspect", "", "`address` that only operators reach, such as 127.0.0.1:5001, for a page that shows connections and rooms")
	fs.StringVar(&cfg.probe, "probe", "", "ask this `URL`, such as http://127.0.0.1:5000/readyz, and end; for containers without a shell")
	fs.BoolVar(&cfg.version, "version", false, "print the version and end")
	switch err := fs.Parse(args); {
	case err == flag.ErrHelp: //nolint:errorlint // the flag package never wraps it
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

	if cfg.version || cfg.probe != "" {
		return cfg, nil
	}
	if cfg.dataDir != "" && cfg.natsURL != "" {
		return cfg, errors.New("-data and -nats exclude each other (see chat -help)")
	}

	cfg.moderators = parseModerators(*names)
	cfg.secret = []byte(getenv("JWT_SECRET"))
	switch n := len(cfg.secret); {
	case n == 0 && cfg.natsURL != "":
		return cfg, errors.New("-nats needs JWT_SECRET, the same on all instances, because clients move between them")
	case n == 0:
		cfg.secret = make([]byte, minSecret)
		rand.Read(cfg.secret) // never fails
		cfg.secretIsRandom = true
	case n < minSecret:
		return cfg, fmt.Errorf("JWT_SECRET has %d bytes and needs at least %d", n, minSecret)
	}

	for origin := range strings.SplitSeq(getenv("CLIENT_URL"), ",") {
		if origin = strings.TrimSuffix(strings.TrimSpace(origin), "/"); origin != "" {
			cfg.origins = append(cfg.origins, origin)
		}
	}
	return cfg, nil
}

func (cfg *config) addProxies(list string) error {
	for s := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return err
		}
		cfg.proxies = append(cfg.proxies, p)
	}
	return nil
}
