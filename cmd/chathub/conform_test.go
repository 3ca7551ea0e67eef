package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
)

// played plays scenarios with the Go client, in memory. If they are not nil,
// spoil changes the client, and between what passes from it and to it.
func played(t *testing.T, only string, spoil func(*client.Options), between *spoiler) *conformReport {
	t.Helper()
	var progress output
	c := newConform(newEnv(nil, nil, &progress, &progress), conformOptions{patience: time.Minute, quiet: 3 * time.Second})
	if only != "" {
		c.scenarios = slices.DeleteFunc(c.scenarios, func(s scenario) bool { return s.name != only })
	}
	c.base = "conform.test"
	direct := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			w = &upgradeWriter{w}
		}
		c.ServeHTTP(w, r)
	})
	var h http.Handler = direct
	if between != nil {
		between.hub = direct
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				between.ServeHTTP(w, r)
			} else {
				direct(w, r)
			}
		})
	}
	d := &driver{http: hubtest.HTTPClient(h), base: "http://conform.test", spoil: spoil}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	driven := make(chan error, 1)
	go func() { driven <- d.run(ctx) }()
	report, err := c.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := <-driven; err != nil {
		t.Errorf("driver: %v", err)
	}
	t.Log(progress.String())
	return report
}

// TestConformGoClient: package client passes all scenarios.
func TestConformGoClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := played(t, "", nil, nil)
		if r.Failed > 0 || r.Passed != len(scenarios) {
			t.Errorf("%d passed and %d failed of %d", r.Passed, r.Failed, len(scenarios))
		}
	})
}

// TestMain is the driver of the Go client, if conform starts it.
func TestMain(m *testing.M) {
	if base := os.Getenv("CHATHUB_CONFORM"); base != "" {
		d := &driver{http: http.DefaultClient, base: base}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if slices.Contains(os.Args, "quits") {
			d.closed = cancel
		}
		if err := d.run(ctx); err != nil {
			os.Exit(1)
		}
		return
	}
	m.Run()
}

// TestConformCommand: conform starts a driver, over the network.
func TestConformCommand(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := ran(t, nil, "conform", "-json", "-run", "^(connect|send|resume)$", "--", exe)
	r.want(t, statusDone, "listening on http://127.0.0.1:", "3/3 resume")
	if report := decoded[conformReport](t, r); report.Passed != 3 || report.Failed != 0 || len(report.Scenarios) != 3 {
		t.Errorf("%+v", report)
	}
	ran(t, nil, "conform", "--", "/no/such/driver").want(t, statusFailed, "no such file")
	ran(t, nil, "conform", "--", exe, "quits").want(t, statusFailed, "1/24", "2/24", "the driver ended")
	ran(t, nil, "conform", "--", "false").want(t, statusFailed, "the driver ended")
	ran(t, nil, "conform", "-list").want(t, statusDone, "silence    it notices")
}

// TestConformInterrupted: what is done so far is reported.
func TestConformInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var progress output
		c := newConform(newEnv(nil, nil, &progress, &progress), conformOptions{patience: time.Minute, quiet: time.Second})
		c.base = "conform.test"
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				w = &upgradeWriter{w}
			}
			c.ServeHTTP(w, r)
		})
		d := &driver{http: hubtest.HTTPClient(h), base: "http://conform.test"}
		driven := make(chan error, 1)
		go func() { driven <- d.run(t.Context()) }()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		report, err := c.run(ctx)
		if err != nil || !report.Interrupted || report.NotRun == 0 || report.Passed == 0 || report.Failed > 0 {
			t.Errorf("%+v, %v", report, err)
		}
		if err := <-driven; err != nil {
			t.Error(err)
		}
	})
}

// TestConformManual: a person lets the client connect, and reports nothing.
func TestConformManual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var progress output
		c := newConform(newEnv(nil, nil, &progress, &progress), conformOptions{manual: true, patience: time.Minute, quiet: time.Second})
		c.scenarios = slices.DeleteFunc(c.scenarios, func(s scenario) bool { return s.name != "join" })
		c.base = "conform.test"
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.ServeHTTP(&upgradeWriter{w}, r) })
		go func() {
			cl, err := client.Dial(t.Context(), "ws://conform.test/any/path", client.Options{HTTPClient: hubtest.HTTPClient(h)})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(cl.Close)
			room, err := cl.Join(t.Context(), "lobby", client.JoinOptions{SendOnly: true})
			if err == nil {
				err = room.Leave(t.Context())
			}
			if err == nil {
				_, err = cl.Join(t.Context(), "hall", client.JoinOptions{SendOnly: true})
			}
			if err != nil && !errors.Is(err, client.ErrClosed) { // the run may end first
				t.Error(err)
			}
		}()
		report, err := c.run(t.Context())
		if err != nil || !report.Manual || report.Passed != 1 {
			t.Errorf("%+v, %v", report, err)
		}
		if said := progress.String(); !strings.Contains(said, "-> make a new client, and connect it to ws://conform.test/join with the token token-1") ||
			!strings.Contains(said, `-> join the room "lobby"`) {
			t.Error(said)
		}
	})
}

// drop lets all but some frames of the server pass.
func drop(match func(frame) bool) *spoiler {
	return &spoiler{down: func(f frame, raw string, send func(string)) {
		if !match(f) {
			send(raw)
		}
	}}
}

func typed(types ...string) func(frame) bool {
	return func(f frame) bool { return slices.Contains(types, f.Type) }
}

// change changes a text in what a client sends.
func change(typ, from, to string) *spoiler {
	return &spoiler{up: func(f frame, raw string, send, _ func(string)) {
		if f.Type == typ {
			raw = strings.ReplaceAll(raw, from, to)
		}
		send(raw)
	}}
}

// changeAnswer changes a text in what a server sends.
func changeAnswer(typ, from, to string) *spoiler {
	return &spoiler{down: func(f frame, raw string, send func(string)) {
		if f.Type == typ {
			raw = strings.ReplaceAll(raw, from, to)
		}
		send(raw)
	}}
}

// swallow drops frames of a client.
func swallow(types ...string) *spoiler {
	return &spoiler{up: func(f frame, raw string, send, _ func(string)) {
		if !slices.Contains(types, f.Type) {
			send(raw)
		}
	}}
}

// TestConformFindsFaults: each scenario notices a client that does it wrong.
// Something between the Go client and the server makes it such a client. It
// also passes on no close codes.
func TestConformFindsFaults(t *testing.T) {
	faults := map[string]struct {
		section section
		between func(t *testing.T) *spoiler
	}{
		"connect": {secConnecting, func(*testing.T) *spoiler {
			return &spoiler{header: func(h http.Header) { h.Set("Authorization", "Bearer another") }}
		}},
		"join":  {secSends, func(*testing.T) *spoiler { return swallow("leave-room") }},
		"send":  {secEnvelope, func(*testing.T) *spoiler { return change("room-message", "one", "two") }},
		"error": {secAnswers, func(*testing.T) *spoiler { return changeAnswer("error", "forbidden", "internal") }},
		"wait":  {secAnswers, func(*testing.T) *spoiler { return changeAnswer("error", "700", "1") }},
		"repeat": {secAnswers, func(*testing.T) *spoiler {
			n := 0
			return &spoiler{up: func(f frame, raw string, send, _ func(string)) {
				if f.Type == "room-message" {
					n++
					raw = strings.Replace(raw, f.ID, f.ID+strings.Repeat("x", n), 1)
				}
				send(raw)
			}}
		}},
		"frames": {secReceives, func(*testing.T) *spoiler {
			return drop(func(f frame) bool { return f.Type == "room-message" && f.Room == "check" })
		}},
		"unknown":   {secEnvelope, func(*testing.T) *spoiler { return drop(func(f frame) bool { return f.ID == "s9" }) }},
		"question":  {secAnswers, func(*testing.T) *spoiler { return swallow("ack", "error") }},
		"large":     {secReceives, func(*testing.T) *spoiler { return drop(func(f frame) bool { return string(f.Data) == "500" }) }},
		"resume":    {secLogs, func(*testing.T) *spoiler { return change("resume", `"seq":9`, `"seq":10`) }},
		"positions": {secLogs, func(*testing.T) *spoiler { return change("resume", `"seq":0`, `"seq":9`) }},
		"early":     {secLogs, func(*testing.T) *spoiler { return change("resume", `"seq":5`, `"seq":8`) }},
		"gap":       {secLogs, func(*testing.T) *spoiler { return changeAnswer("ack", `"seq":500,`, `"recovered":true,"a":{},"b":`) }},
		"epoch":     {secLogs, func(*testing.T) *spoiler { return change("resume", "k4", "k3") }},
		"removed":   {secReceives, func(*testing.T) *spoiler { return drop(typed("removed")) }},
		"back":      {secLogs, func(*testing.T) *spoiler { return swallow("resume") }},
		"away":      {secEnd, func(*testing.T) *spoiler { return &spoiler{} }},
		"refused":   {secConnecting, func(*testing.T) *spoiler { return drop(typed("connect-error")) }},
		"expired":   {secEnd, func(*testing.T) *spoiler { return &spoiler{} }},
		"restart":   {secEnd, func(*testing.T) *spoiler { return drop(typed("reconnect")) }},
		"backoff":   {secEnd, nil},
		"ping": {secConnecting, func(t *testing.T) *spoiler {
			over := make(chan struct{})
			t.Cleanup(func() { close(over) })
			return &spoiler{down: func(f frame, raw string, send func(string)) {
				send(raw)
				if f.Type == "ack" { // to join-room
					<-over
				}
			}}
		}},
		"silence": {secConnecting, func(*testing.T) *spoiler {
			return &spoiler{up: func(f frame, raw string, send, back func(string)) {
				if f.Type == "ping" {
					back(`{"type":"pong"}`)
					return
				}
				send(raw)
			}}
		}},
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fault, ok := faults[s.name]
				if !ok {
					t.Fatal("no fault")
				}
				var between *spoiler
				if fault.between != nil {
					between = fault.between(t)
				}
				r := played(t, s.name, func(o *client.Options) {
					if s.name == "backoff" {
						o.BackoffMin, o.BackoffMax = time.Millisecond, time.Millisecond
					}
				}, between)
				if r.Failed != 1 || !slices.ContainsFunc(r.Scenarios[0].Problems, func(p problem) bool { return p.Section == int(fault.section) }) {
					t.Errorf("want a problem of %v, got %+v", fault.section, r.Scenarios)
				}
				var text strings.Builder
				if err := r.print(&text); err != nil || !strings.Contains(text.String(), "FAIL  "+s.name) || !strings.Contains(text.String(), fault.section.String()) {
					t.Errorf("report: %s, %v", text.String(), err)
				}
			})
		})
	}
}

// TestSectionsExist: the sections that a client breaks are in the protocol.
func TestSectionsExist(t *testing.T) {
	b, err := os.ReadFile("../../protocol/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for s, title := range sectionTitles {
		if heading := strings.TrimSuffix(s.String()[len("section "):], " ("+title+")") + ". " + title; !strings.Contains(string(b), "\n## "+heading+"\n") {
			t.Errorf("no section %q", heading)
		}
	}
}
