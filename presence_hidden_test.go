package chathub_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestHidden: presence of the hub, presence in rooms and messages to everyone
// are off one by one. The welcome says so, and the application still knows.
func TestHidden(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cfg   chathub.Config
		off   []string
		heard []string
	}{
		{"nothing", chathub.Config{}, nil, []string{"online-users", "user-online", "user-joined", "message"}},
		{"online users", chathub.Config{HideOnlineUsers: true}, []string{"online-users"}, []string{"user-joined", "message"}},
		{"room users", chathub.Config{HideRoomUsers: true}, []string{"room-users"}, []string{"online-users", "user-online", "message"}},
		{"messages", chathub.Config{RefuseBroadcasts: true}, []string{"message"}, []string{"online-users", "user-online", "user-joined"}},
		{"presence", chathub.Config{PresenceInterval: -1}, []string{"online-users", "room-users"}, []string{"message"}},
		{"all", chathub.Config{HideOnlineUsers: true, HideRoomUsers: true, RefuseBroadcasts: true}, []string{"online-users", "room-users", "message"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, tc.cfg)
				ana := knock(t, hub, "ana")
				var welcome struct {
					Off []string `json:"off"`
				}
				unmarshal(t, ana.Next().Data, &welcome)
				if !slices.Equal(welcome.Off, tc.off) {
					t.Errorf("the welcome says that %q is off, want %q", welcome.Off, tc.off)
				}
				answer := enter(ana, "lobby")
				var join map[string]any
				unmarshal(t, answer.Data, &join)
				if _, lists := join["users"]; lists == slices.Contains(tc.off, "room-users") {
					t.Errorf("the answer to a join is %s", answer.Data)
				}
				asked := ana.Request(hubtest.Frame{Type: "online-users"})
				if (asked.Type == "error") != slices.Contains(tc.off, "online-users") {
					t.Errorf("online-users was answered with %s %s", asked.Type, asked.Data)
				}
				arrived(ana)
				bob := knock(t, hub, "bob")
				heard := []string(nil)
				if first := arrived(bob); len(first) > 1 {
					heard = append(heard, first[1].Type)
				}
				enter(bob, "lobby")
				if r := bob.Request(hubtest.Frame{Type: "message", Data: raw("1")}); (r.Type == "error") != tc.cfg.RefuseBroadcasts {
					t.Errorf("message was answered with %s %s", r.Type, r.Data)
				}
				time.Sleep(time.Second) // changes are gathered
				got := arrived(ana)
				for _, typ := range []string{"user-online", "user-joined", "message"} {
					if len(ofType(got, typ)) > 0 {
						heard = append(heard, typ)
					}
				}
				if !slices.Equal(heard, tc.heard) {
					t.Errorf("heard %q, want %q", heard, tc.heard)
				}
				online, err := hub.OnlineUsers(t.Context())
				room, err2 := hub.RoomUsers(t.Context(), "lobby")
				if len(online) != 2 || len(room) != 2 || err != nil || err2 != nil {
					t.Errorf("the application sees %v and %v, %v, %v", online, room, err, err2)
				}
			})
		})
	}
}
