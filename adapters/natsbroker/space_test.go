package natsbroker_test

import (
	"runtime/debug"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestSpaceMemory checks that a stream in memory fits into GOMEMLIMIT.
func TestSpaceMemory(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(800 << 20))
	n := attach(t, openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage()))
	if got, err := natsbroker.StreamMaxBytes(t.Context(), n.BrokerSession); err != nil || got != 600<<20 {
		t.Errorf("the stream is bounded to %d bytes (%v), want %d", got, err, 600<<20)
	}
	n.say(room("lobby"), "hello")
	b := openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage(), natsbroker.MaxBytes(1<<30))
	_, err := b.Attach(t.Context(), func(chathub.Message) {})
	if err == nil || !strings.Contains(err.Error(), "MaxBytes is 1.0 GiB, but only 800.0 MiB are free in memory") {
		t.Errorf("error %v", err)
	}
}

// TestSpaceOfServer checks that the error about a server that may not store a
// stream of MaxBytes has that figure, and says what to do.
func TestSpaceOfServer(t *testing.T) {
	s := serve(t)
	s.stop()
	s.opts.JetStreamMaxStore = 100 << 20
	s.start()
	_, err := connect(t, s.ClientURL()).Attach(t.Context(), func(chathub.Message) {})
	for _, want := range []string{"MaxBytes is 1.0 GiB", "max_file_store", "set MaxBytes to less"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not contain %q", err, want)
		}
	}
	attach(t, connect(t, s.ClientURL(), natsbroker.MaxBytes(50<<20))).say(room("lobby"), "hello")
}
