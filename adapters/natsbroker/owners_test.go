package natsbroker_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// refused reports whether an owner's message was refused because of what it has
// stored.
func refused(t *testing.T, err error) bool {
	t.Helper()
	var e *chathub.Error
	if err != nil && (!errors.As(err, &e) || e.Code != chathub.CodeLimitExceeded) {
		t.Errorf("error %v, want code %s", err, chathub.CodeLimitExceeded)
	}
	return err != nil
}

// TestFlood sends large notices to thousands of users who do not exist. What
// another user waits for must survive, and everyone else must be able to go on.
func TestFlood(t *testing.T) {
	const bound = 64 << 20
	b := openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage(), natsbroker.MaxBytes(bound))
	n := attach(t, b)
	topic := inbox("ana")
	start := n.subscribe(topic)
	waiting := n.sayAs("ben", topic, "waiting")
	var stored, refusals atomic.Int64
	body := make([]byte, 65_000)
	parallel(4000, func(i int) {
		_, err := n.Publish(t.Context(), chathub.Message{Topic: inbox("nobody-" + numbered(i)), Owner: "mallory", Notice: true, Body: body})
		if refused(t, err) {
			refusals.Add(1)
		} else {
			stored.Add(int64(len(body)))
		}
	})
	if refusals.Load() == 0 || stored.Load() > bound*6/10 || stored.Load() < bound*4/10 {
		t.Errorf("%d refusals, %d bytes of %d are mallory's", refusals.Load(), stored.Load(), bound)
	}
	// Others fill most of what is left.
	for i := range 300 {
		for _, owner := range []string{numbered(i), ""} {
			if _, err := n.Publish(t.Context(), chathub.Message{Topic: room(numbered(i)), Owner: owner, Body: body[:30_000]}); refused(t, err) {
				t.Fatalf("%q was refused", owner)
			}
		}
	}
	if _, err := n.Publish(t.Context(), chathub.Message{Topic: room("lobby"), Owner: "mallory"}); !refused(t, err) {
		t.Error("mallory is not refused any more")
	}
	p := attach(t, b).read(topic, chathub.Range{After: start.Seq, Limit: 10})
	if len(p.Messages) != 1 || p.Messages[0].Seq != waiting.Seq || p.Trimmed > start.Seq || p.Head.Epoch != start.Epoch {
		t.Errorf("the inbox: %+v, was subscribed at %+v", p, start)
	}
}

// TestFloodOfOneRoom checks that nobody is refused because of messages that are
// gone: a room keeps the last ones only.
func TestFloodOfOneRoom(t *testing.T) {
	const bound = 16 << 20
	n := attach(t, openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage(), natsbroker.MaxBytes(bound), natsbroker.MaxMessages(10)))
	body := make([]byte, 10_000)
	for i := range 100 { // more than half of the stream
		for range 10 {
			n.publish(chathub.Message{Topic: room(numbered(i)), Owner: numbered(i), Body: body})
		}
	}
	stored := 0
	for range 1000 {
		if _, err := n.Publish(t.Context(), chathub.Message{Topic: room("busy"), Owner: "bot", Body: body}); refused(t, err) {
			t.Fatalf("refused after %d bytes, most of which are gone", stored)
		}
		stored += len(body)
	}
}

// TestFloodOfEqualOwners checks that nobody is refused in a full stream that a
// few owners fill in equal parts.
func TestFloodOfEqualOwners(t *testing.T) {
	n := attach(t, openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage(), natsbroker.MaxBytes(4<<20)))
	body := make([]byte, 10_000)
	for i := range 1200 {
		if _, err := n.Publish(t.Context(), chathub.Message{Topic: room(numbered(i)), Owner: numbered(i % 4), Body: body}); refused(t, err) {
			t.Fatalf("message %d was refused", i)
		}
	}
}

// TestFloodEnds checks that an owner who was refused may store messages again
// when the old ones are gone.
func TestFloodEnds(t *testing.T) {
	n := attach(t, openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage(), natsbroker.MaxBytes(2<<20), natsbroker.MaxAge(3*time.Second)))
	body := make([]byte, 10_000)
	publish := func(ctx context.Context) error {
		_, err := n.Publish(ctx, chathub.Message{Topic: room("lobby"), Owner: "mallory", Body: body})
		return err
	}
	for i := 0; !refused(t, publish(t.Context())); i++ {
		if i > 200 {
			t.Fatal("never refused")
		}
	}
	eventually(t, "mallory may store again", func() bool { return !refused(t, publish(t.Context())) })
	if got := n.read(room("lobby"), chathub.Range{Limit: 500}).Messages; len(got) == 0 || !slices.ContainsFunc(got, func(m chathub.Message) bool { return len(m.Body) == len(body) }) {
		t.Errorf("%d messages", len(got))
	}
}
