package main

import (
	"bufio"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
)

func TestHelp(t *testing.T) {
	ran(t, nil).want(t, statusUsage, "Usage: chathub COMMAND", "verify", "conform")
	ran(t, nil, "help").want(t, statusDone, "Usage: chathub COMMAND")
	ran(t, nil, "version").want(t, statusDone, "chathub ", "go1")
	ran(t, nil, "nonsense").want(t, statusUsage, `there is no command "nonsense"`)
	for _, c := range commands() {
		t.Run(c.name, func(t *testing.T) {
			for _, args := range [][]string{{"help", c.name}, {c.name, "-h"}, {c.name, "--help"}} {
				r := ran(t, nil, args...)
				r.want(t, statusDone, "Usage: chathub "+c.name, "\nFlags:\n", "  -json\n", "\nExit status:\n", "\nExamples:\n  ")
				if r.err != "" || strings.Contains(r.out, "FLAGS") {
					t.Errorf("errors %q, help:\n%s", r.err, r.out)
				}
				for line := range strings.Lines(r.out) {
					if !strings.HasPrefix(line, "    \t") && len([]rune(line)) > 81 {
						t.Errorf("a long line: %s", line)
					}
				}
			}
		})
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range []string{
		"verify", "verify ftp://x", "verify " + hubURL + " extra", "verify " + hubURL + " -no-such-flag",
		"verify " + hubURL + " -users 1", "verify " + hubURL + " -rate 0", "verify " + hubURL + " -rate NaN", "verify " + hubURL + " -duration -1s",
		"verify " + hubURL + " -token x -login http://x/", "verify " + hubURL + " -login nonsense",
		"load", "load " + hubURL + " -clients 0", "load " + hubURL + " -duration 0", "load " + hubURL + " -secret-env A -secret-file B",
		"tail " + hubURL, "tail " + hubURL + " -room a -inbox", "tail " + hubURL + " -room a -since nonsense", "tail " + hubURL + " -room a -since k3/x",
		"tail " + hubURL + " -inbox -history 3", "tail " + hubURL + " -room a -count -1",
		"send " + hubURL + " x", "send " + hubURL + " -room a", "send " + hubURL + " -room a -to b x",
		"token extra", "conform extra", "conform -run (", "conform -run no-such-scenario", "conform -manual -- x", "conform -quiet 0",
	} {
		t.Run(args, func(t *testing.T) {
			r := ran(t, http.NotFoundHandler(), strings.Fields(args)...)
			r.want(t, statusUsage, "(see chathub ", " -help)")
			if r.out != "" || strings.Count(r.err, "\n") != 1 {
				t.Errorf("output %q, errors %q", r.out, r.err)
			}
		})
	}
}

// TestTLS: a certificate of one's own is trusted if it is named, and an
// unchecked one is not without a warning.
func TestTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(newHub(t, chathub.Config{}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	u := "wss" + strings.TrimPrefix(srv.URL, "https")
	sent := func(flags ...string) result {
		return ran(t, nil, append([]string{"send", u, "-secret-env", "TEST_SECRET", "-room", "lobby", "x"}, flags...)...)
	}
	sent("-ca", ca).want(t, statusDone, "stored at")
	sent("-insecure").want(t, statusDone, "stored at", "warning: the server's certificate is not checked")
	sent("-ca", os.Args[0]).want(t, statusFailed, "no certificate")
	sent("-ca", "/no/such/file").want(t, statusFailed, "no such file")
	// A client tries a server again that it cannot reach, and verify does not
	// try for long.
	ran(t, nil, "verify", u, "-secret-env", "TEST_SECRET", "-users", "2").want(t, statusFailed, "certificate")
}

// TestLogIn: users log in, and their tokens stay where they are.
func TestLogIn(t *testing.T) {
	hub := newHub(t, chathub.Config{})
	s := &signer{key: []byte(secret), life: time.Hour}
	mux := http.NewServeMux()
	mux.Handle("/ws", hub)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		body, err := bufio.NewReader(r.Body).ReadString('}')
		name := strings.TrimSuffix(strings.TrimPrefix(body, `{"name":"`), `"}`)
		if err != nil || name == "mallory" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, `{"code":"forbidden","message":"Not you"}`)
			return
		}
		token, _, err := s.sign("id of "+name, name, time.Now())
		if err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(w, `{"token":%q}`, token)
	})
	login := "http://hub.test/login?key=very-secret"
	ran(t, mux, "send", hubURL, "-login", login, "-user", "ana", "-room", "lobby", "x").want(t, statusDone, "stored at")
	ran(t, mux, "tail", hubURL, "-login", login, "-user", "ben", "-room", "lobby", "-history", "1", "-count", "1", "-json").
		want(t, statusDone, `"from":{"id":"id of ana","name":"ana"}`)
	r := ran(t, mux, "verify", hubURL+"?token=very-secret", "-login", login, "-user", "mallory", "-users", "2", "-rate", "100", "-duration", "1s")
	r.want(t, statusDone, "result       clean") // mallory-1 and mallory-2
	r = ran(t, mux, "verify", hubURL+"?token=very-secret", "-login", "http://hub.test/nowhere?key=very-secret", "-users", "2")
	r.want(t, statusFailed, "log-in at http://hub.test/nowhere: HTTP status 404")
	if strings.Contains(r.err, "very-secret") {
		t.Errorf("a secret is shown: %s", r.err)
	}
}

func TestTokenFile(t *testing.T) {
	s := &signer{key: []byte(secret), life: time.Hour}
	token, _, err := s.sign("ana", "Ana", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hub := newHub(t, chathub.Config{})
	ran(t, hub, "send", hubURL, "-token-file", file, "-room", "lobby", "x").want(t, statusDone)
	ran(t, hub, "send", hubURL, "-token-file", file+"x", "-room", "lobby", "x").want(t, statusFailed, "no such file")

	var out, errs output
	e := newEnv(hub, nil, &out, &errs)
	e.getenv = func(name string) string { return map[string]string{"CHATHUB_TOKEN": token}[name] }
	if status := run(t.Context(), []string{"send", hubURL, "-room", "lobby", "x"}, e); status != statusDone {
		t.Errorf("status %d: %s", status, errs.String())
	}
}
