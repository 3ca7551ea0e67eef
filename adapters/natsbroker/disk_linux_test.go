package natsbroker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestDiskFull: where the server's disk is full nothing is acked that is not stored. Once
// there is room again and the server was restarted, it goes on, and nothing is doubled.
func TestDiskFull(t *testing.T) {
	p := &process{Name: "alone", Dir: t.TempDir(), Port: freePort(t), DiskBytes: 32 << 20, t: t}
	t.Cleanup(p.kill)
	p.start()
	b := connect(t, "nats://"+p.addr(), natsbroker.MaxBytes(16<<20))
	n, other := attach(t, b), attach(t, b)
	topic := room("lobby")
	n.subscribe(topic)
	other.subscribe(topic)
	body := make([]byte, 8<<10)
	var acked, tried []string
	publish := func(key string, patience time.Duration) bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := n.Publish(ctx, chathub.Message{Topic: topic, Key: key, Body: body})
		if err != nil {
			wantUnavailable(t, key, err)
			return false
		}
		acked = append(acked, key)
		return true
	}
	for i := range 100 {
		publish("before-"+numbered(i), patience)
	}
	p.tell("fill")
	for i := 0; len(tried) < 5; i++ {
		if key := "full-" + numbered(i); !publish(key, 300*time.Millisecond) {
			tried = append(tried, key)
		}
		if i == 5000 {
			t.Fatal("everything is acked, on a full disk")
		}
	}
	// What is there can be read still.
	if got := n.read(topic, chathub.Range{Limit: 500}).Messages; len(got) < len(acked) {
		t.Errorf("%d messages can be read, %d were acked", len(got), len(acked))
	}
	t.Logf("%d acked on a full disk", len(acked)-100)

	p.tell("free")
	p.tell("restart")
	for _, key := range tried {
		eventually(t, "an ack after the restart", func() bool { return publish(key, time.Second) })
	}
	last := n.say(topic, "last").Seq
	log := n.read(topic, chathub.Range{Limit: 1 << 20}).Messages
	keys := make(map[string]int)
	for _, m := range log {
		keys[m.Key]++
	}
	for _, key := range acked {
		if keys[key] != 1 {
			t.Errorf("%s was acked, and is there %d times", key, keys[key])
		}
	}
	for _, h := range []*node{n, other} {
		if got := h.until(topic, last); !slices.EqualFunc(got, log, func(a, b chathub.Message) bool { return a.Seq == b.Seq && a.Key == b.Key }) {
			t.Errorf("%d messages were delivered, the log has %d", len(got), len(log))
		}
	}
}
