package deploy_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/jsm.go"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// TestBackup does with a stream what docs/operations.md says, with the code
// behind `nats stream backup` and `nats stream restore`: while nothing is
// stopped, a backup is made; later, the stream is lost and restored.
func TestBackup(t *testing.T) {
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer srv.Shutdown()
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	manager, err := jsm.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	lobby := chathub.Topic{Room: "lobby"}
	// visit attaches to the stream, says something, calls f, and returns what
	// is there.
	visit := func(say int, f func()) (head chathub.Position, texts []string) {
		t.Helper()
		b, err := natsbroker.Connect(srv.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		s, err := b.Attach(t.Context(), func(chathub.Message) {})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		for i := range say {
			if _, err := s.Publish(t.Context(), chathub.Message{Topic: lobby, Body: fmt.Append(nil, say, " ", i)}); err != nil {
				t.Fatal(err)
			}
		}
		f()
		page, err := s.Read(t.Context(), lobby, chathub.Range{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Messages {
			texts = append(texts, string(m.Body))
		}
		return page.Head, texts
	}
	nothing := func() {}

	backup := t.TempDir()
	_, before := visit(10, func() {
		stream, err := manager.LoadStream("chathub")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.SnapshotToDirectory(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
	})
	after, _ := visit(5, nothing)
	stream, err := manager.LoadStream("chathub")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Delete(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := manager.RestoreSnapshotFromDirectory(t.Context(), "chathub", backup); err != nil {
		t.Fatal(err)
	}
	if stream, err = manager.LoadStream("chathub"); err != nil {
		t.Fatal(err)
	}
	if err := stream.UpdateConfiguration(stream.Configuration(), jsm.StreamMetadata(map[string]string{"chathub-restored": "2026-01-31"})); err != nil {
		t.Fatal(err)
	}
	head, texts := visit(0, nothing)
	if !slices.Equal(texts, before) {
		t.Errorf("restored %q, the backup had %q", texts, before)
	}
	if head.Epoch == after.Epoch {
		t.Error("positions of before are still valid")
	}
	if next, _ := visit(1, nothing); next.Epoch != head.Epoch || next.Seq <= head.Seq {
		t.Errorf("after %+v, the next message is at %+v", head, next)
	}
}
