package chathub

import (
	"testing"
	"testing/synctest"
	"time"
)

// A closed hub has neither receipts nor timers, and gets no new ones.
func TestReceiptsStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, err := New(Config{Auth: Anonymous{}, ReadReceipts: true, PresenceInterval: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		rc := &hub.receipts
		if rc.add("lobby", "ana", 1, false) || !rc.add("lobby", "ana", 1, true) || !rc.add("lobby", "bob", 2, false) {
			t.Error("receipts are added wrongly")
		}
		timer := rc.rooms["lobby"].timer
		if err := hub.Close(); err != nil {
			t.Fatal(err)
		}
		if timer.Stop() {
			t.Error("the timer still ran")
		}
		if rc.add("lobby", "ana", 1, true) || rc.rooms != nil {
			t.Error("a closed hub gathers receipts")
		}
		rc.send("lobby") // as a timer does that was faster
	})
}
