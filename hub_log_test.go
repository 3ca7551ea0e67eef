package chathub_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestFaultFlood checks that faults that clients can repeat are a few lines,
// which say how many there were.
func TestFaultFlood(t *testing.T) {
	const flood = 100
	connect := func(t *testing.T, hub *chathub.Hub) {
		c := knock(t, hub, "ana")
		c.Closed()
	}
	visit := func(t *testing.T, hub *chathub.Hub) {
		c := hubtest.Dial(t, hub, "ana")
		c.Close()
		c.Closed()
	}
	onConnect := func(f func(c *chathub.Client) error) chathub.Config {
		return chathub.Config{OnConnect: func(_ context.Context, c *chathub.Client, _ *http.Request) error { return f(c) }}
	}
	for _, tc := range []struct {
		name    string
		cfg     chathub.Config
		cause   func(t *testing.T, hub *chathub.Hub) // once
		msg     string
		level   slog.Level
		attrs   map[string]string // parts of the line's values
		refused bool
	}{
		{
			name: "error of OnConnect", cause: connect, refused: true,
			cfg: onConnect(func(*chathub.Client) error { return errors.New("no such table") }),
			msg: "chathub: handshake refused", level: slog.LevelError,
			attrs: map[string]string{"reason": "Internal error", "err": "no such table", "user": "ana"},
		},
		{
			name: "panic of OnConnect", cause: connect, refused: true,
			cfg: onConnect(func(*chathub.Client) error { panic("boom") }),
			msg: "chathub: panic", level: slog.LevelError,
			attrs: map[string]string{"in": "OnConnect", "panic": "boom", "stack": "hub_log_test.go:"},
		},
		{
			name: "rooms of OnConnect that cannot be joined", cause: visit,
			cfg: chathub.Config{MaxRooms: 1, OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
				return errors.Join(c.Join(ctx, "red"), c.Join(ctx, "green"))
			}},
			msg: "chathub: cannot join a room in OnConnect", level: slog.LevelWarn,
			attrs: map[string]string{"room": "green", "err": "limit_exceeded"},
		},
		{
			name: "panic of OnDisconnect", cause: visit,
			cfg: chathub.Config{OnDisconnect: func(*chathub.Client, chathub.Disconnect) { panic("boom") }},
			msg: "chathub: panic", level: slog.LevelError,
			attrs: map[string]string{"in": "OnDisconnect", "stack": "hub_log_test.go:"},
		},
		{
			name: "panic of a Trace", cause: visit,
			cfg: chathub.Config{Trace: &chathub.Trace{Connected: func(*chathub.Client) { panic("boom") }}},
			msg: "chathub: panic", level: slog.LevelError,
			attrs: map[string]string{"in": "Trace.Connected", "stack": "hub_log_test.go:"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &logRecorder{}
				tc.cfg.Logger = slog.New(log)
				hub := hubtest.New(t, tc.cfg)
				lines := func() (found []logLine) {
					for _, l := range log.takeAll() {
						if l.msg != tc.msg {
							continue
						}
						if l.level != tc.level {
							t.Errorf("logged at %v, want %v", l.level, tc.level)
						}
						for k, want := range tc.attrs {
							if !strings.Contains(l.attrs[k], want) {
								t.Errorf("%s is %q, want %q in it", k, l.attrs[k], want)
							}
						}
						found = append(found, l)
					}
					return found
				}
				start := time.Now()
				for range flood {
					tc.cause(t, hub)
				}
				synctest.Wait()
				most := 10 + int(time.Since(start)/time.Second)
				first := lines()
				if n := len(first); n < 10 || n > most {
					t.Errorf("%d lines, want 10 to %d", n, most)
				}
				time.Sleep(time.Minute)
				tc.cause(t, hub)
				synctest.Wait()
				wantCounted(t, append(first, lines()...), flood+1)
				if n := hub.Stats().Refused; tc.refused && n != flood+1 {
					t.Errorf("Stats says %d refusals, want %d", n, flood+1)
				}
			})
		})
	}
}

// wantCounted checks that lines speak of so many faults.
func wantCounted(t *testing.T, lines []logLine, want int) {
	t.Helper()
	got := len(lines)
	for _, l := range lines {
		if s, ok := l.attrs["unlogged"]; ok {
			n, err := strconv.Atoi(s)
			if err != nil || n == 0 {
				t.Errorf("unlogged is %q", s)
			}
			got += n
		}
	}
	if got != want {
		t.Errorf("%d lines speak of %d faults, want %d", len(lines), got, want)
	}
}

// TestPanicFlood checks that a client that repeats an event with a panic does
// not fill the log, and hides no other panic.
func TestPanicFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const flood = 1000
		log := &logRecorder{}
		p := newParty(t, chathub.Config{Rate: -1, Logger: slog.New(log)})
		for _, event := range []string{"boom", "other"} {
			chathub.On(p.hub, event, func(context.Context, *chathub.Client, struct{}) error { panic(event) })
		}
		ana := p.dial("ana")
		for range flood {
			ana.Request(hubtest.Frame{Type: "boom"})
		}
		ana.Request(hubtest.Frame{Type: "other"})
		panics := func() map[string][]logLine {
			lines := make(map[string][]logLine)
			for _, l := range log.takeAll() {
				if l.msg == "chathub: panic" {
					lines[l.attrs["in"]] = append(lines[l.attrs["in"]], l)
				}
			}
			return lines
		}
		got := panics()
		if len(got["boom"]) != 10 || len(got["other"]) != 1 {
			t.Errorf("%d lines about the flood, %d about the other panic, want 10 and 1", len(got["boom"]), len(got["other"]))
		}
		for _, lines := range got {
			for _, l := range lines {
				if !strings.Contains(l.attrs["stack"], "hub_log_test.go:") || l.attrs["panic"] != l.attrs["in"] {
					t.Errorf("got %+v", l)
				}
			}
		}
		time.Sleep(time.Second)
		ana.Request(hubtest.Frame{Type: "boom"})
		wantCounted(t, append(got["boom"], panics()["boom"]...), flood+1)
	})
}

// What the level leaves out is not counted as unlogged.
func TestFaultsBelowTheLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		level := new(slog.LevelVar)
		level.Set(slog.LevelError + 1)
		p := newParty(t, chathub.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))})
		chathub.On(p.hub, "boom", func(context.Context, *chathub.Client, struct{}) error { panic("boom") })
		ana := p.dial("ana")
		for range 50 {
			ana.Request(hubtest.Frame{Type: "boom"})
		}
		if s := log.take(); s != "" {
			t.Errorf("logged %s", s)
		}
		level.Set(slog.LevelError)
		ana.Request(hubtest.Frame{Type: "boom"})
		if s := log.take(); strings.Count(s, `msg="chathub: panic"`) != 1 || strings.Contains(s, "unlogged") {
			t.Errorf("logged %s", s)
		}
	})
}
