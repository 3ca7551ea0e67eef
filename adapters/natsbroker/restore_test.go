package natsbroker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestRestored checks that a directory that was restored from a backup has the
// messages of the backup, and that positions of before are not valid any more.
func TestRestored(t *testing.T) {
	dir, backup := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "backup")
	lobby := room("lobby")
	// visit opens the directory, says something, and returns what is there.
	visit := func(say int, options ...natsbroker.Option) (head chathub.Position, texts []string) {
		t.Helper()
		b, err := natsbroker.Embedded(dir, append(options, quiet)...)
		if err != nil {
			t.Fatal(err)
		}
		defer closeBroker(t, b)
		s, err := b.Attach(t.Context(), func(chathub.Message) {})
		if err != nil {
			t.Fatal(err)
		}
		n := &node{BrokerSession: s, t: t, ctx: t.Context()}
		defer func() {
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		for range say {
			n.say(lobby, fmt.Sprint(len(n.read(lobby, chathub.Range{Limit: 100}).Messages)))
		}
		page := n.read(lobby, chathub.Range{Limit: 100})
		return page.Head, bodies(page.Messages)
	}
	_, before := visit(10)
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	after, _ := visit(5)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}

	first, texts := visit(0, natsbroker.Restored("2026-01-31"))
	if !slices.Equal(texts, before) {
		t.Errorf("restored %q, the backup had %q", texts, before)
	}
	if first.Epoch == after.Epoch {
		t.Error("positions of before are still valid")
	}
	for what, options := range map[string][]natsbroker.Option{
		"with the same name":      {natsbroker.Restored("2026-01-31")},
		"without the option":      nil,
		"with another option too": {natsbroker.MaxMessages(500)},
	} {
		if head, _ := visit(1, options...); head.Epoch != first.Epoch {
			t.Errorf("%s, positions are not valid any more", what)
		}
	}
	if head, _ := visit(0, natsbroker.Restored("2026-02-28")); head.Epoch == first.Epoch || head.Epoch == after.Epoch {
		t.Error("after another restore, positions of before are still valid")
	}
}
