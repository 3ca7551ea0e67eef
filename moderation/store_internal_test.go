package moderation

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// started returns a Moderation with its hub.
func started(t testing.TB, cfg chathub.Config) *Moderation {
	t.Helper()
	m := New(Config{})
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	m.Install(&cfg)
	if err := m.Start(t.Context(), hubtest.New(t, cfg)); err != nil {
		t.Fatal(err)
	}
	return m
}

// sharing returns users whose bans are in one shard.
func sharing(t testing.TB, n int) (users []string) {
	t.Helper()
	first := id{"", Ban, "", "user0"}.slot()
	for i := 0; len(users) < n; i++ {
		if user := fmt.Sprint("user", i); (id{"", Ban, "", user}).slot().shard == first.shard {
			users = append(users, user)
		}
	}
	return users
}

// TestStoreFull: a decision that the store has no place for is refused, those
// before it stay, and there is room again when some of them end.
func TestStoreFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		m := started(t, chathub.Config{Broker: broker})
		users := sharing(t, 600)
		stored := 0
		for _, user := range users {
			_, err := m.Decide(t.Context(), Decision{Kind: Ban, User: user, Until: time.Now().Add(time.Minute)})
			if e, ok := errors.AsType[*chathub.Error](err); ok && e.Code == chathub.CodeLimitExceeded {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			stored++
		}
		if stored < 250 || stored == len(users) {
			t.Fatalf("%d decisions in a shard", stored)
		}
		for i, user := range users {
			if banned := m.MayEnter(user, "") != nil; banned != (i < stored) {
				t.Errorf("user %d of %d: banned %v", i, stored, banned)
			}
		}
		time.Sleep(11 * time.Minute) // they end, and are removed
		if _, err := m.Decide(t.Context(), Decision{Kind: Ban, User: users[stored]}); err != nil {
			t.Errorf("when there is room: %v", err)
		}
		if got := m.Decisions(""); len(got) != 1 {
			t.Errorf("%d decisions hold", len(got))
		}
		if n := len(m.book.decisions); n != 1 {
			t.Errorf("%d decisions are in memory", n)
		}
	})
}

// TestStoreYoung: a decision is stored again before a store that drops what is
// oldest can drop it.
func TestStoreYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := started(t, chathub.Config{})
		if _, err := m.Decide(t.Context(), Decision{Kind: Ban, User: "ana"}); err != nil {
			t.Fatal(err)
		}
		at := id{"", Ban, "", "ana"}.slot()
		for range 3 {
			time.Sleep(7 * time.Hour)
			state, err := m.hub.State(t.Context(), shardRoom(at.shard))
			if err != nil || len(state) != 1 || time.Since(state[at.name()].Time) > 7*time.Hour {
				t.Errorf("the shard has %+v, %v", state, err)
			}
		}
		if m.MayEnter("ana", "") == nil {
			t.Error("the ban does not hold")
		}
	})
}

// TestStoreUnreadable: a store that cannot be read lets nobody in.
func TestStoreUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, set := range map[string]func(hub *chathub.Hub) error{
			"value": func(hub *chathub.Hub) error {
				_, err := hub.To(shardRoom(0)).SetState(t.Context(), "00", "x")
				return err
			},
			"key": func(hub *chathub.Hub) error {
				_, err := hub.To(shardRoom(0)).SetState(t.Context(), "other", []record{})
				return err
			},
		} {
			m := New(Config{})
			cfg := chathub.Config{}
			m.Install(&cfg)
			hub := hubtest.New(t, cfg)
			if err := set(hub); err != nil {
				t.Fatal(err)
			}
			if err := m.Start(t.Context(), hub); err == nil {
				t.Errorf("%s: it has started", name)
			}
		}
		m := started(t, chathub.Config{})
		for _, post := range []chathub.Post{{Type: newsEvent, Data: "x"}, {Type: "else", Data: news{}}, {Type: newsEvent, Data: news{Slot: "zz"}}, {Type: newsEvent, Data: news{Slot: "ffff"}}} {
			receipt, err := m.hub.To(newsRoom).Post(t.Context(), post)
			if err == nil {
				err = m.hub.Settle(t.Context(), newsRoom, receipt.Seq)
			}
			if err != nil {
				t.Error(err)
			}
		}
		if _, err := m.Decide(t.Context(), Decision{Kind: Ban, User: "ana"}); err != nil {
			t.Errorf("after announcements that cannot be read: %v", err)
		}
	})
}

// TestTenantFull: a tenant that has too many decisions takes no place of
// others.
func TestTenantFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := started(t, chathub.Config{})
		at := id{"red", Mute, "", "user0"}.slot()
		fill := func(seq uint64, n int) {
			var all []*Decision
			for i := range n {
				all = append(all, &Decision{Kind: Mute, User: fmt.Sprint("user", i), tenant: "red"})
			}
			m.book.replace(at, page{seq: seq, decisions: all})
		}
		mute := func(tenant, user string) error {
			_, err := m.Tenant(tenant).Decide(t.Context(), Decision{Kind: Mute, User: user})
			return err
		}
		fill(1, maxPerTenant)
		if e, ok := errors.AsType[*chathub.Error](mute("red", "one more")); !ok || e.Code != chathub.CodeLimitExceeded {
			t.Errorf("one more: %v", e)
		}
		for _, tenant := range []string{"blue", ""} {
			if err := mute(tenant, "one more"); err != nil {
				t.Errorf("tenant %q: %v", tenant, err)
			}
		}
		fill(2, maxPerTenant-1)
		if err := mute("red", "one more"); err != nil {
			t.Errorf("when there is room: %v", err)
		}
		if err := mute("red", "one more"); err != nil {
			t.Errorf("one that is there: %v", err)
		}
	})
}
