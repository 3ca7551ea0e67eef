package hubtest_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestNewClosesHub checks that the hub is closed at the end of the test, and
// uses the logger.
func TestNewClosesHub(t *testing.T) {
	var hub *chathub.Hub
	var log bytes.Buffer
	t.Run("inner", func(t *testing.T) {
		hub = hubtest.New(t, chathub.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		chathub.On(hub, "fail", func(context.Context, *chathub.Client, struct{}) error { return fmt.Errorf("a reason") })
		c := hubtest.Dial(t, hub, "ana")
		c.Request(hubtest.Frame{Type: "fail"})
	})
	if err := hub.Emit(t.Context(), "news", nil); err == nil {
		t.Error("the hub still runs")
	}
	if !strings.Contains(log.String(), "a reason") {
		t.Errorf("log: %s", log.String())
	}
}
