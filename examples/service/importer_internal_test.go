package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// oldMessages returns lines of n messages.
func oldMessages(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"id":"%d","user":"u%d","name":"User","text":"old %d","time":"2020-01-01T00:00:00Z"}`+"\n", i, i%7, i)
	}
	return b.String()
}

// TestImport: an import that fails again and again has each message once, in
// order, whether or not it has noted how far it was.
func TestImport(t *testing.T) {
	const n = 3000
	hub := hubtest.New(t, chathub.Config{Broker: &chathub.MemoryBroker{MaxMessages: 2 * n, MaxBytes: -1, DuplicateWindow: -1}})
	lines, broken := oldMessages(n), errors.New("broken")
	im := &importer{hub: hub, room: "lobby", file: filepath.Join(t.TempDir(), "import.json")}
	var reports []int
	im.report = func(n int) { reports = append(reports, n) }
	for _, bytes := range []int{10_000, 100_000, 100_050, 200_000} {
		input := io.MultiReader(io.LimitReader(strings.NewReader(lines), int64(strings.LastIndex(lines[:bytes], "\n")+1)), iotest.ErrReader(broken))
		if err := im.run(t.Context(), input); !errors.Is(err, broken) {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	im.report = func(n int) {
		if reports = append(reports, n); n > 2500 {
			cancel()
		}
	}
	if err := im.run(ctx, strings.NewReader(lines)); err == nil {
		t.Fatal("the import has not ended with its ctx")
	}
	im.report = func(n int) { reports = append(reports, n) }
	for range 2 {
		if err := im.run(t.Context(), strings.NewReader(lines)); err != nil {
			t.Fatal(err)
		}
	}
	got := texts(t, hub)
	for i, text := range got {
		if text != fmt.Sprint("old ", i) {
			t.Fatalf("message %d is %q", i, text)
		}
	}
	if len(got) != n || !slices.IsSorted(reports) || reports[len(reports)-1] != n {
		t.Errorf("%d messages, reports %v", len(got), reports)
	}
	if err := im.run(t.Context(), strings.NewReader(lines+"no JSON\n")); err == nil || !strings.HasPrefix(err.Error(), "line 3001: ") {
		t.Errorf("a line that is not valid: %v", err)
	}
}

// BenchmarkImport imports b.N messages over NATS. For 100,000, run it with
// -benchtime=100000x.
func BenchmarkImport(b *testing.B) {
	hub := natsHub(b, natsServer(b))
	lines := oldMessages(b.N)
	im := &importer{hub: hub, room: "lobby", file: filepath.Join(b.TempDir(), "import.json"), report: func(int) {}}
	b.ResetTimer()
	if err := im.run(b.Context(), strings.NewReader(lines)); err != nil {
		b.Fatal(err)
	}
}
