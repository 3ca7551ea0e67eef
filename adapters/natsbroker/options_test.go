package natsbroker_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub/adapters/natsbroker"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		want    string
		options []natsbroker.Option
	}{
		{`Name "a.b"`, []natsbroker.Option{natsbroker.Name("a.b")}},
		{`Name ""`, []natsbroker.Option{natsbroker.Name("")}},
		{"MaxMessages is 0", []natsbroker.Option{natsbroker.MaxMessages(0)}},
		{"MaxAge 1ms", []natsbroker.Option{natsbroker.MaxAge(time.Millisecond)}},
		{"MaxBytes 5", []natsbroker.Option{natsbroker.MaxBytes(5)}},
		{"DuplicateWindow -1ns", []natsbroker.Option{natsbroker.DuplicateWindow(-1)}},
		{"SyncEvery 0s", []natsbroker.Option{natsbroker.SyncEvery(0)}},
		{"Timeout 0s", []natsbroker.Option{natsbroker.Timeout(0)}},
		{"SweepEvery 0s", []natsbroker.Option{natsbroker.SweepEvery(0)}},
		{`Restored "a b"`, []natsbroker.Option{natsbroker.Restored("a b")}},
		{"Logger is nil", []natsbroker.Option{natsbroker.Logger(nil)}},
		{"Replicas is for Connect", []natsbroker.Option{natsbroker.Replicas(3)}},
		{"ExistingStream is for Connect", []natsbroker.Option{natsbroker.ExistingStream()}},
		{"Domain is for Connect", []natsbroker.Option{natsbroker.Domain("hub")}},
	} {
		_, err := natsbroker.Embedded(t.TempDir(), c.options...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
	for want, o := range map[string]natsbroker.Option{
		"SyncEvery is for Embedded":  natsbroker.SyncEvery(time.Second),
		"SyncAlways is for Embedded": natsbroker.SyncAlways(),
		"Restored is for Embedded":   natsbroker.Restored("today"),
		"Replicas is 2":              natsbroker.Replicas(2),
	} {
		if _, err := natsbroker.Connect("nats://127.0.0.1", o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	_, err := natsbroker.Embedded(t.TempDir(), natsbroker.MaxMessages(0), natsbroker.Timeout(0))
	if err == nil || !strings.Contains(err.Error(), "MaxMessages") || !strings.Contains(err.Error(), "Timeout") {
		t.Errorf("error %v, want both", err)
	}
	if _, err := natsbroker.Embedded(""); err == nil {
		t.Error("no directory is not refused")
	}
	if _, err := natsbroker.Connect(""); err == nil {
		t.Error("no URL is not refused")
	}
}

// TestNames checks that applications with different names can share a server.
func TestNames(t *testing.T) {
	s := serve(t)
	topic := room("lobby")
	one := attach(t, connect(t, s.ClientURL(), natsbroker.Name("one")))
	two := attach(t, connect(t, s.ClientURL(), natsbroker.Name("two")))
	one.subscribe(topic)
	two.subscribe(topic)
	one.say(topic, "of one")
	last := two.say(topic, "of two")
	if got := bodies(two.until(topic, last.Seq)); !slices.Equal(got, []string{"of two"}) {
		t.Errorf("two got %v", got)
	}
}
