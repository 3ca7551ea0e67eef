package chathub_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// wantCounts compares counts by key.
func wantCounts[K comparable](t *testing.T, what string, got, want map[K]uint64) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// Events are counted by type and result, and types that clients make up under
// one key.
func TestMetricsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		chathub.On(p.hub, "slow", func(context.Context, *chathub.Client, struct{}) error {
			time.Sleep(3 * time.Millisecond)
			return nil
		})
		chathub.On(p.hub, "odd", func(context.Context, *chathub.Client, struct{}) error {
			return &chathub.Error{Code: "odd_code"}
		})
		chathub.On(p.hub, "bad", func(context.Context, *chathub.Client, struct{}) error { panic("boom") })
		p.hub.Use(func(next chathub.Handler) chathub.Handler {
			return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				if e.Type == "slow" && len(e.Data) > 0 {
					e.Type = "odd"
				}
				return next(ctx, c, e)
			}
		})
		ana := p.dial("ana", "red")
		ana.Must(hubtest.Frame{Type: "slow"})
		// The middleware turns it into an odd one.
		ana.Request(hubtest.Frame{Type: "slow", Data: hubtest.Data(map[string]int{})})
		ana.Request(hubtest.Frame{Type: "odd"})
		ana.Request(hubtest.Frame{Type: "bad"})
		for i := range 100 {
			ana.Request(hubtest.Frame{Type: fmt.Sprintf("made-up-%d", i)})
		}
		ana.Must(hubtest.Frame{Type: "room-message", Room: "red"})
		ana.Request(hubtest.Frame{Type: "room-message", Room: "blue"})
		synctest.Wait()
		m := p.hub.Metrics()
		for typ, want := range map[string]map[chathub.Code]uint64{
			"slow":                {"": 1, "other": 1},
			"odd":                 {"other": 1},
			"bad":                 {chathub.CodeInternal: 1},
			"room-message":        {"": 1, chathub.CodeNotInRoom: 1},
			chathub.UnknownEvents: {chathub.CodeUnknownType: 100},
		} {
			wantCounts(t, typ, m.Events[typ].Results, want)
			n := uint64(0)
			for _, results := range want {
				n += results
			}
			if d := m.Events[typ].Duration; d.Count() != n {
				t.Errorf("%s: %d durations, want %d", typ, d.Count(), n)
			}
			delete(m.Events, typ)
		}
		if len(m.Events) > 0 {
			t.Errorf("more events: %v", m.Events)
		}
		slow := p.hub.Metrics().Events["slow"].Duration
		if i := slices.Index(slow.Bounds, 5*time.Millisecond); slow.Counts[i] != 1 || slow.Sum != 3*time.Millisecond {
			t.Errorf("3 ms are in %+v", slow)
		}
		if m.Panics != 1 {
			t.Errorf("%d panics", m.Panics)
		}
	})
}

// Handshakes are counted by the code that the client was told, and ends by the
// close code, of which a client cannot make new ones.
func TestMetricsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{MaxConnsPerUser: 4})
		knock(t, p.hub, "").Closed()
		for _, code := range []int{1000, 1001, 3000, 4999} {
			r := handshake(t, "chathub.v1")
			r.Header.Set("Authorization", "Bearer ana")
			peer := dialPeer(t, p.hub, r)
			peer.write(maskedFrame(opClose, true, binary.BigEndian.AppendUint16(nil, uint16(code))))
			synctest.Wait()
		}
		p.dial("ben").Drop()
		cora := p.dial("cora")
		if err := p.hub.ToUser("cora").Disconnect(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		cora.Closed()
		for range 4 {
			p.dial("dan")
		}
		knock(t, p.hub, "dan").Closed()
		synctest.Wait()
		m := p.hub.Metrics()
		wantCounts(t, "refused", m.RefusedBy, map[chathub.Code]uint64{chathub.CodeUnauthenticated: 1, chathub.CodeLimitExceeded: 1})
		wantCounts(t, "ends", m.Disconnects, map[chathub.End]uint64{
			{Code: 1000, Remote: true}: 1,
			{Code: 1001, Remote: true}: 1,
			{Remote: true}:             2, // 3000 and 4999
			{Code: 1006, Remote: true}: 1,
			{Code: 4503}:               1,
		})
	})
}

// Recoveries are counted by their result.
func TestMetricsRecoveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &shaky{}
		b.MaxMessages = 20
		p := newParty(t, chathub.Config{Broker: b, ReplayLimit: 10})
		head := fill(t, p.hub, "room", 40)
		want := make(map[chathub.Recovery]uint64)
		for _, c := range []struct {
			since  chathub.Position
			result chathub.RecoveryResult
		}{
			{head, chathub.RecoveryComplete},
			{chathub.Position{Epoch: head.Epoch, Seq: head.Seq - 5}, chathub.RecoveryComplete},
			{chathub.Position{Epoch: head.Epoch, Seq: head.Seq - 15}, chathub.RecoveryTooMuch},
			{chathub.Position{Epoch: head.Epoch, Seq: head.Seq - 30}, chathub.RecoveryDropped},
			{chathub.Position{Epoch: "other", Seq: head.Seq}, chathub.RecoveryNewLog},
			{chathub.Position{Epoch: head.Epoch, Seq: head.Seq + 5}, chathub.RecoveryAhead},
		} {
			answer := resume(t, p.dial("ana").Client, resumeRequest{Rooms: map[string]chathub.Position{"room": c.since}})
			if recovered := answer.Rooms["room"].Recovered; recovered != (c.result == chathub.RecoveryComplete) {
				t.Errorf("%v: recovered %t", c.since, recovered)
			}
			want[chathub.Recovery{Result: c.result}]++
			wantCounts(t, fmt.Sprint(c.since), p.hub.Metrics().Recoveries, want)
		}
		ben := p.dial("ben")
		var welcome struct {
			Inbox chathub.Position `json:"inbox"`
		}
		unmarshal(t, ben.Welcome.Data, &welcome)
		resume(t, ben.Client, resumeRequest{Inbox: &welcome.Inbox})
		want[chathub.Recovery{Inbox: true, Result: chathub.RecoveryComplete}]++
		enter(ben.Client, "room") // no recovery
		wantCounts(t, "an inbox", p.hub.Metrics().Recoveries, want)
	})
}

// Calls of the broker are counted by method and result.
func TestMetricsBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &shaky{}
		p := newParty(t, chathub.Config{Broker: b})
		ana := p.dial("ana", "red")
		before := p.hub.Metrics().Broker
		ana.Must(hubtest.Frame{Type: "room-message", Room: "red"})
		b.down.Store(true)
		ana.Request(hubtest.Frame{Type: "room-message", Room: "red"})
		ana.Request(hubtest.Frame{Type: "history", Room: "red"})
		b.down.Store(false)
		m := p.hub.Metrics().Broker
		wantCounts(t, "publish", m["publish"].Results, map[chathub.Code]uint64{"": 1, chathub.CodeUnavailable: 1})
		wantCounts(t, "read", m["read"].Results, map[chathub.Code]uint64{chathub.CodeUnavailable: 1})
		wantCounts(t, "subscribe", m["subscribe"].Results, before["subscribe"].Results)
		if n := m["subscribe"].Results[""]; n != 2 { // an inbox and a room; not the node itself
			t.Errorf("%d topics subscribed", n)
		}
		if d := m["publish"].Duration; d.Count() != 2 {
			t.Errorf("%d durations", d.Count())
		}
	})
}

// A hub counts the other nodes, and the users of all of them.
func TestMetricsNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		var hubs []*chathub.Hub
		for range 3 {
			hubs = append(hubs, hubtest.New(t, chathub.Config{Broker: broker}))
		}
		for i, hub := range hubs {
			hubtest.Dial(t, hub, fmt.Sprint("user", i))
		}
		time.Sleep(5 * time.Second)
		for i, hub := range hubs {
			if s := hub.Stats(); s.Nodes != 2 || s.Online != 3 || s.Users != 1 {
				t.Errorf("hub %d: %+v", i, s)
			}
		}
		_ = hubs[0].Close()
		time.Sleep(time.Minute)
		if s := hubs[1].Stats(); s.Nodes != 1 || s.Online != 2 {
			t.Errorf("after one has gone: %+v", s)
		}
	})
}

// A type of event that stands for all unknown ones cannot be registered.
func TestUnknownEvents(t *testing.T) {
	defer func() {
		if v := recover(); !strings.Contains(fmt.Sprint(v), "is not an event name") {
			t.Errorf("registering it: %v", v)
		}
	}()
	chathub.On(hubtest.New(t, chathub.Config{}), chathub.UnknownEvents, func(context.Context, *chathub.Client, struct{}) error { return nil })
}

// A hub counts its tenants, and the users of all of them.
func TestMetricsTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		for _, user := range []string{"ana", "ana/Ana/a", "ben/Ben/a", "ana/Ana/b"} {
			hubtest.Dial(t, hub, user)
		}
		time.Sleep(2 * time.Second) // for the sweep
		if s := hub.Stats(); s.Tenants != 2 || s.Online != 4 || s.Connections != 4 {
			t.Errorf("%+v", s)
		}
	})
}
