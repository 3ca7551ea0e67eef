package chathub_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// allConnections reads all pages.
func allConnections(t *testing.T, hub *chathub.Hub, q chathub.InspectQuery) (all []chathub.ConnectionInfo) {
	t.Helper()
	for {
		page, next, err := hub.Connections(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if next == "" {
			return all
		}
		q.After = next
	}
}

func who(all []chathub.ConnectionInfo) (names []string) {
	for _, c := range all {
		name := c.User.ID
		if c.Tenant != "" {
			name = c.Tenant + "/" + name
		}
		names = append(names, name)
	}
	return names
}

// TestConnections: every node answers for all, page by page, in one order.
func TestConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hubs := newUnsteady(1).hubs(t, 3, chathub.Config{KeepConnectionInfo: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}})
		time.Sleep(2 * time.Second)
		start := time.Now()
		var want []string
		for i := range 20 {
			user := fmt.Sprintf("u%02d", i)
			c, err := hubtest.DialHeader(t, hubs[i%3], http.Header{
				"Authorization": {"Bearer " + user + "/User-" + user}, "User-Agent": {fmt.Sprint("agent/", i)}, "X-Forwarded-For": {fmt.Sprint("198.51.100.", i)},
			})
			if err != nil {
				t.Fatal(err)
			}
			c.Wait("online-users")
			enter(c, fmt.Sprint("room", i%2))
			want = append(want, user)
		}
		dialTenant(t, hubs[1], "acme", "u05")
		want = append(want, "acme/u05") // tenants come after those without one
		time.Sleep(time.Second)         // the nodes tell each other of users in rooms
		for _, hub := range hubs {
			for _, limit := range []int{0, 1, 7, 20, 21, 5000} {
				if got := who(allConnections(t, hub, chathub.InspectQuery{Limit: limit})); !slices.Equal(got, want) {
					t.Errorf("in pages of %d: %q", limit, got)
				}
			}
			for name, tc := range map[string]struct {
				q    chathub.InspectQuery
				want []string
			}{
				"user":       {chathub.InspectQuery{User: "u05"}, []string{"u05", "acme/u05"}},
				"tenant":     {chathub.InspectQuery{Tenant: "acme"}, []string{"acme/u05"}},
				"room":       {chathub.InspectQuery{Room: "room1", Limit: 3}, []string{"u01", "u03", "u05", "u07", "u09", "u11", "u13", "u15", "u17", "u19"}},
				"agent":      {chathub.InspectQuery{Search: "AGENT/7"}, []string{"u07"}},
				"address":    {chathub.InspectQuery{Search: "100.19"}, []string{"u19"}},
				"name":       {chathub.InspectQuery{Search: "user-U03"}, []string{"u03"}},
				"nobody":     {chathub.InspectQuery{User: "nobody"}, nil},
				"other room": {chathub.InspectQuery{Room: "room1", User: "u02"}, nil},
			} {
				if got := who(allConnections(t, hub, tc.q)); !slices.Equal(got, tc.want) {
					t.Errorf("%s: %q, want %q", name, got, tc.want)
				}
			}
		}
		c := allConnections(t, hubs[0], chathub.InspectQuery{User: "u04"})[0]
		if c.Address.String() != "198.51.100.4" || c.Agent != "agent/4" || !c.Since.Equal(start) || c.Heard.Before(start) ||
			!slices.Equal(c.Rooms, []string{"room0"}) || c.ID == "" || c.Node == "" || c.User.Name != "User-u04" {
			t.Errorf("got %+v", c)
		}

		rooms, next, err := hubs[2].Rooms(t.Context(), chathub.InspectQuery{})
		if want := []chathub.RoomInfo{{Name: "room0", Connections: 10, Users: 10}, {Name: "room1", Connections: 10, Users: 10}}; !slices.Equal(rooms, want) || next != "" || err != nil {
			t.Errorf("rooms %+v, %q, %v", rooms, next, err)
		}
		rooms, next, err = hubs[1].Rooms(t.Context(), chathub.InspectQuery{User: "u03", Limit: 1})
		if len(rooms) != 1 || rooms[0].Name != "room1" || err != nil {
			t.Errorf("rooms of a user: %+v, %v", rooms, err)
		}
		if rooms, _, err = hubs[1].Rooms(t.Context(), chathub.InspectQuery{Limit: 1, After: next}); len(rooms) > 0 || err != nil {
			t.Errorf("then come %+v, %v", rooms, err)
		}
		if rooms, _, _ = hubs[1].Rooms(t.Context(), chathub.InspectQuery{Search: "OOM1"}); len(rooms) != 1 {
			t.Errorf("found %+v", rooms)
		}
		if _, _, err := hubs[0].Connections(t.Context(), chathub.InspectQuery{Search: "\xff"}); err == nil {
			t.Error("a query that is not UTF-8 is answered")
		}
	})
}

// TestConnectionsOfASilentNode: what the others have is shown, and that
// something is missing.
func TestConnectionsOfASilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newUnsteady(1)
		hubs := broker.hubs(t, 3, chathub.Config{})
		time.Sleep(2 * time.Second)
		for i, hub := range hubs {
			hubtest.Dial(t, hub, fmt.Sprint("u", i))
		}
		broker.links[1].pause()
		page, _, err := hubs[0].Connections(t.Context(), chathub.InspectQuery{})
		e, ok := errors.AsType[*chathub.Error](err)
		if !ok || e.Code != chathub.CodeUnavailable || !slices.Equal(who(page), []string{"u0", "u2"}) {
			t.Errorf("got %q, %v", who(page), err)
		}
		broker.links[1].resume()
		broker.weather(0.3, 0.3, 100*time.Millisecond)
		time.Sleep(10 * time.Second)
		if page, _, err := hubs[0].Connections(t.Context(), chathub.InspectQuery{}); len(page) != 3 {
			t.Errorf("in bad weather: %q, %v", who(page), err)
		}
	})
}

// TestConnectionInfoIsForgotten: nothing stays of a connection that has gone,
// or that was refused.
func TestConnectionInfoIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{KeepConnectionInfo: true, MaxConnsPerUser: 1})
		for range 3 {
			c := hubtest.Dial(t, hub, "ana")
			knock(t, hub, "ana").Wait("connect-error")
			if page, _, _ := hub.Connections(t.Context(), chathub.InspectQuery{}); len(page) != 1 || page[0].Since.IsZero() {
				t.Errorf("got %+v", page)
			}
			c.Drop()
			synctest.Wait()
			if page, _, _ := hub.Connections(t.Context(), chathub.InspectQuery{}); len(page) != 0 {
				t.Errorf("afterwards there is %+v", page)
			}
		}
	})
}
