package natsbroker_test

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/chathub-go/chathub"
)

// newHub returns a hub on a broker, which is closed at the end of the test.
func newHub(t *testing.T, b chathub.Broker) *chathub.Hub {
	t.Helper()
	hub, err := chathub.New(chathub.Config{Broker: b, Auth: chathub.Anonymous{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	return hub
}

// wantReady waits until a hub is ready, or is not because its broker refuses.
func wantReady(t *testing.T, what string, hub *chathub.Hub, ready bool) {
	t.Helper()
	eventually(t, what, func() bool {
		err := hub.Ready(t.Context())
		var e *chathub.Error
		if err != nil && !(errors.As(err, &e) && e.Code == chathub.CodeUnavailable) {
			t.Fatalf("%s: %v", what, err)
		}
		return (err == nil) == ready
	})
}

// TestReady checks that a hub notices when its server has gone, and when it is
// back.
func TestReady(t *testing.T) {
	srv := serve(t)
	b := connect(t, srv.ClientURL())
	hub := newHub(t, b)
	wantReady(t, "ready with a server", hub, true)
	srv.stop()
	wantReady(t, "not ready without a server", hub, false)
	srv.start()
	wantReady(t, "ready again", hub, true)
}
