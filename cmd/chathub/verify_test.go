package main

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
)

// verified runs verify with JSON output for 20 virtual seconds, or as the flags
// say.
func verified(t *testing.T, h http.Handler, flags ...string) (verifyReport, result) {
	t.Helper()
	args := append([]string{"verify", hubURL, "-secret-env", "TEST_SECRET", "-duration", "20s", "-break", "3s", "-patience", "5s", "-json"}, flags...)
	r := ran(t, h, args...)
	return decoded[verifyReport](t, r), r
}

func TestVerifyClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report, r := verified(t, newHub(t, chathub.Config{}))
		r.want(t, statusDone, "8 users in 3 rooms of ws://hub.test/ws", "catching up")
		if !report.Clean || report.Interrupted || report.Sent < 100 || report.Acked != report.Sent || report.Received <= 2*report.Sent {
			t.Errorf("%+v", report)
		}
		if report.Reconnects < 10 || report.Ends["closed by the user"] == 0 || report.Ends["broken off by the user"] == 0 {
			t.Errorf("%d reconnects: %v", report.Reconnects, report.Ends)
		}
		if report.Delivery.Max == 0 || report.Silence.Ms == 0 || report.Silence.User == "" || report.Outage.Ms == 0 || report.Outage.Ms > report.Silence.Ms {
			t.Errorf("%+v, silence %+v, outage %+v", report.Delivery, report.Silence, report.Outage)
		}
	})
}

// TestVerifyRollout: clients of a hub that is replaced lose nothing, and the
// report says why connections ended.
func TestVerifyRollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		s := &service{hub: newHub(t, chathub.Config{Broker: broker})}
		next := newHub(t, chathub.Config{Broker: broker})
		replaced := make(chan error, 1)
		time.AfterFunc(7*time.Second, func() { replaced <- s.replace(next) })
		report, r := verified(t, s)
		r.want(t, statusDone)
		if err := <-replaced; err != nil {
			t.Error(err)
		}
		if report.Ends["4000"] == 0 || report.Acked < 100 {
			t.Errorf("%+v", report)
		}
	})
}

// TestVerifyFindsForgetfulRollout: the next hub does not have the logs of the
// one before.
func TestVerifyFindsForgetfulRollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{hub: newHub(t, chathub.Config{})}
		next := newHub(t, chathub.Config{})
		time.AfterFunc(7*time.Second, func() { _ = s.replace(next) })
		report, r := verified(t, s)
		r.want(t, statusWrong, "has become another log")
		if report.Clean || report.Gaps == 0 || report.Bad == 0 {
			t.Errorf("%+v", report)
		}
	})
}

// every passes a number of frames that match, and does something to the next.
func every(n int, match func(frame) bool, do func(f frame, raw string, send func(string))) *spoiler {
	seen := make(chan int, 1)
	seen <- 0
	return &spoiler{down: func(f frame, raw string, send func(string)) {
		if !match(f) {
			send(raw)
			return
		}
		i := <-seen + 1
		seen <- i
		if i%n == 0 {
			do(f, raw, send)
		} else {
			send(raw)
		}
	}}
}

// TestVerifyFinds: verify notices what something between it and a hub spoils.
func TestVerifyFinds(t *testing.T) {
	isMessage := typed("room-message", "private-message")
	for name, tc := range map[string]struct {
		between func() *spoiler
		found   func(verifyReport) bool
		note    string
	}{
		"loss": {func() *spoiler {
			return every(50, isMessage, func(frame, string, func(string)) {})
		}, func(r verifyReport) bool { return r.Lost > 0 && r.Doubled == 0 && r.Reordered == 0 }, "lacks"},
		"doubling": {func() *spoiler {
			return every(50, isMessage, func(_ frame, raw string, send func(string)) {
				send(raw)
				send(raw)
			})
		}, func(r verifyReport) bool { return r.Doubled > 0 && r.Lost == 0 && r.Reordered == 0 }, "again"},
		"reordering": {func() *spoiler {
			held := make(chan string, 1000)
			s := every(50, typed("room-message"), func(_ frame, raw string, _ func(string)) { held <- raw })
			pass := s.down
			s.down = func(f frame, raw string, send func(string)) {
				pass(f, raw, send)
				if f.Type == "room-message" && !strings.Contains(raw, `"dup"`) {
					select {
					case old := <-held:
						if old == raw {
							held <- old
						} else {
							send(old)
						}
					default:
					}
				}
			}
			return s
		}, func(r verifyReport) bool { return r.Reordered > 0 }, "late"},
		"a false ack": {func() *spoiler {
			n := make(chan int, 1)
			n <- 0
			return &spoiler{up: func(f frame, raw string, send, back func(string)) {
				i := <-n
				if f.Type == "room-message" {
					i++
				}
				n <- i
				if f.Type == "room-message" && i == 20 {
					back(`{"type":"ack","id":"` + f.ID + `","data":{"seq":1000000,"ts":1}}`)
					return
				}
				send(raw)
			}}
		}, func(r verifyReport) bool { return r.Lost > 0 }, "lacks"},
		"a message stored twice": {func() *spoiler {
			return &spoiler{up: func(f frame, raw string, send, _ func(string)) {
				send(raw)
				if f.Type == "room-message" && strings.HasSuffix(f.ID, "-5") {
					send(strings.Replace(raw, f.ID, f.ID+"x", 1))
				}
			}}
		}, func(r verifyReport) bool { return r.Doubled > 0 }, "stored twice"},
		"silence": {func() *spoiler {
			return &spoiler{down: func(f frame, raw string, send func(string)) {
				if f.Type != "ack" || strings.Contains(raw, "users") {
					send(raw)
				}
			}}
		}, func(r verifyReport) bool { return r.Unacked > 0 && r.Acked == 0 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				between := tc.between()
				between.hub = newHub(t, chathub.Config{})
				report, r := verified(t, between)
				r.want(t, statusWrong, tc.note)
				if report.Clean || !tc.found(report) {
					t.Errorf("%+v", report)
				}
			})
		})
	}
}

// TestVerifyText: the report for people says the same.
func TestVerifyText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran(t, newHub(t, chathub.Config{}), "verify", hubURL, "-secret-env", "TEST_SECRET", "-duration", "3s", "-users", "2", "-rooms", "1").
			want(t, statusDone, "0 lost, 0 doubled, 0 reordered", "result       clean")
		s := &spoiler{hub: newHub(t, chathub.Config{}), down: func(f frame, raw string, send func(string)) {
			send(raw)
			if f.Type == "room-message" {
				send(raw)
			}
		}}
		ran(t, s, "verify", hubURL, "-secret-env", "TEST_SECRET", "-duration", "3s").
			want(t, statusWrong, "result       FAILED")
	})
}

// TestVerifyOneUser: with one token all are one user, in several windows.
func TestVerifyOneUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &signer{key: []byte(secret), life: time.Hour}
		token, _, err := s.sign("ana", "Ana", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r := ran(t, newHub(t, chathub.Config{}), "verify", hubURL, "-token", token, "-duration", "5s", "-break", "1s", "-json")
		r.want(t, statusDone)
		if report := decoded[verifyReport](t, r); report.Acked == 0 || report.Reconnects == 0 {
			t.Errorf("%+v", report)
		}
	})
}

// TestVerifyInterrupted: an interrupt ends it early, with a report.
func TestVerifyInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t, chathub.Config{})
		for _, duration := range []string{"1h", "0"} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(5*time.Second, cancel)
			r := ranWith(ctx, hub, "", "verify", hubURL, "-secret-env", "TEST_SECRET", "-json", "-duration", duration)
			r.want(t, statusDone)
			// With 0, an interrupt is the way to end it.
			if report := decoded[verifyReport](t, r); report.Interrupted != (duration == "1h") || report.Acked == 0 || report.Seconds > 60 {
				t.Errorf("%+v", report)
			}
		}
	})
}

// TestVerifyCannot: it says so if there is nothing to verify.
func TestVerifyCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := newHub(t, chathub.Config{Auth: &chathub.JWT{Key: []byte("another secret, which is long enough, too")}})
		forbidding := newHub(t, chathub.Config{Authorize: func(context.Context, *chathub.Client, chathub.Action) error {
			return &chathub.Error{Code: chathub.CodeForbidden, Message: "Not for robots"}
		}})
		down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Down", http.StatusServiceUnavailable) })
		for _, tc := range []struct {
			h    http.Handler
			want string
		}{{other, "Invalid token"}, {forbidding, "Not for robots"}, {down, "HTTP status 503"}} {
			ran(t, tc.h, "verify", hubURL, "-secret-env", "TEST_SECRET").want(t, statusFailed, tc.want)
		}
	})
}

func TestVerifyRefusedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report, r := verified(t, newHub(t, chathub.Config{Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
			if a.Type == "room-message" {
				return &chathub.Error{Code: chathub.CodeForbidden, Message: "Read only"}
			}
			return nil
		}}))
		r.want(t, statusWrong, "Read only")
		if report.Refused == 0 || report.Errors["forbidden"] == 0 {
			t.Errorf("%+v", report)
		}
	})
}
