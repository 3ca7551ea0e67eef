package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
)

func TestLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ran(t, newHub(t, chathub.Config{}), "load", hubURL, "-secret-env", "TEST_SECRET",
			"-clients", "20", "-rooms", "4", "-rate", "50", "-ramp", "2s", "-duration", "8s", "-json")
		r.want(t, statusDone, "20 clients in 4 rooms", "received a second")
		report := decoded[loadReport](t, r)
		if !report.Clean || report.Connected != 20 || report.Sent < 300 || report.Acked != report.Sent || report.Received < 4*report.Sent {
			t.Errorf("%+v", report)
		}
		if len(report.PerSecond) < 9 || len(report.Chart) == 0 || len(report.Errors) > 0 {
			t.Errorf("%+v", report)
		}
	})
}

func TestLoadText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel) // like Ctrl-C
		ranWith(ctx, newHub(t, chathub.Config{}), "", "load", hubURL, "-secret-env", "TEST_SECRET", "-clients", "3", "-rooms", "1", "-duration", "1h").
			want(t, statusDone, "3 of 3 clients connected, in 1 rooms", "p50", "█")
	})
}

func TestLoadErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t, chathub.Config{Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
			if a.Type == "room-message" {
				return &chathub.Error{Code: chathub.CodeForbidden, Message: "Read only"}
			}
			return nil
		}})
		r := ran(t, hub, "load", hubURL, "-secret-env", "TEST_SECRET", "-clients", "3", "-duration", "5s", "-json")
		r.want(t, statusWrong)
		if report := decoded[loadReport](t, r); report.Clean || report.Errors["forbidden"] == 0 || report.Acked > 0 {
			t.Errorf("%+v", report)
		}
		ran(t, hub, "load", hubURL, "-clients", "3").want(t, statusFailed, "unauthenticated")
	})
}

func TestSparkline(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   string
	}{
		{nil, ""},
		{[]float64{0, 0}, "▁▁"},
		{[]float64{0, 1, 7}, "▁▂█"},
	} {
		if got := sparkline(tc.values); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.values, got, tc.want)
		}
	}
	long := make([]float64, 10*chartWidth)
	long[len(long)-1] = 1
	if got := []rune(sparkline(long)); len(got) != chartWidth || got[chartWidth-1] != '█' {
		t.Errorf("%s", string(got))
	}
}
