package main

import (
	"context"
	"net"
	"strings"
	"testing"
)

func TestRunFails(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tt := range map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"port in use":       {args: []string{"-addr", taken.Addr().String()}, want: "address already in use"},
		"port from PORT":    {env: map[string]string{"PORT": "notaport"}, want: "notaport"},
		"short secret":      {env: map[string]string{"JWT_SECRET": "hush"}, want: "JWT_SECRET has 4 bytes and needs at least 32"},
		"origin":            {env: map[string]string{"CLIENT_URL": "chat.example.com"}, want: "chat.example.com"},
		"unknown flag":      {args: []string{"-port", "1"}, want: "-port"},
		"unknown level":     {args: []string{"-log-level", "loud"}, want: "loud"},
		"rate not a number": {args: []string{"-rate", "fast"}, want: "fast"},
		"both brokers":      {args: []string{"-data", "d", "-nats", "nats://127.0.0.1"}, want: "-data and -nats"},
		"no shared secret":  {args: []string{"-nats", "nats://127.0.0.1"}, want: "-nats needs JWT_SECRET"},
		"no NATS there":     {args: []string{"-nats", "nats://127.0.0.1:1"}, env: map[string]string{"JWT_SECRET": secret}, want: "unavailable"},
		"no network":        {args: []string{"-trusted-proxies", "127.0.0.1"}, want: "127.0.0.1"},
		"no directory":      {args: []string{"-data", "/dev/null/data"}, want: "/dev/null"},
		"argument":          {args: []string{"serve"}, want: `unexpected argument "serve"`},
	} {
		t.Run(name, func(t *testing.T) {
			// If run does not fail, it serves until then.
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var out strings.Builder
			err := run(ctx, tt.args, func(name string) string { return tt.env[name] }, &out)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), []string{"-help"}, func(string) string { return "" }, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-addr", "-rate", "-log-level", "-data", "-nats", "-moderators", "PORT", "JWT_SECRET", "CLIENT_URL", ":5000"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help without %s:\n%s", want, &out)
		}
	}
}
