package moderation_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/moderation"
)

// tenants is an Authenticator whose tokens are a tenant and a user, as in
// "red:ana".
type tenants struct{}

func (tenants) Authenticate(_ context.Context, token string, _ *http.Request) (chathub.Identity, error) {
	tenant, user, _ := strings.Cut(token, ":")
	return chathub.Identity{Tenant: tenant, User: chathub.User{ID: user, Name: user}}, nil
}

// TestTenants: decisions of one tenant are nothing to another one, even if all
// names are equal.
func TestTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		a, b := cluster(t, moderation.Config{OnReport: func(_ context.Context, r moderation.Report) error {
			told = append(told, r.Tenant+" "+r.Room)
			return nil
		}}, chathub.Config{Auth: tenants{}})
		red, blue, none := a.dial("red:ana", "lobby"), b.dial("blue:ana", "lobby"), a.dial(":ana", "lobby")
		others := func(when string) {
			t.Helper()
			for _, c := range []*hubtest.Client{blue, none} {
				expect(t, when, c, text("lobby", when), "ack")
				expect(t, when, c, text("lobby", when), "ack")
			}
			if got := b.Tenant("blue").Decisions("lobby"); len(got) > 0 {
				t.Errorf("%s: blue has %+v", when, got)
			}
		}
		tenant := b.Tenant("red")
		decide := func(d moderation.Decision) {
			t.Helper()
			if _, err := tenant.Decide(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		lift := func(kind moderation.Kind, room, user string) {
			t.Helper()
			if _, err := tenant.Lift(t.Context(), kind, room, user); err != nil {
				t.Fatal(err)
			}
		}
		decide(moderation.Decision{Kind: moderation.Mute, User: "ana"})
		red.Wait("muted")
		expect(t, "muted", red, text("lobby", "1"), "forbidden: You are muted")
		others("muted")
		if err := tenant.MayWrite("ana", "lobby"); !hasCode(err, chathub.CodeForbidden) {
			t.Errorf("MayWrite: %v", err)
		}
		lift(moderation.Mute, "", "ana")
		decide(moderation.Decision{Kind: moderation.Freeze, Room: "lobby"})
		red.Wait("state-changed")
		expect(t, "frozen", red, text("lobby", "1"), "forbidden: The room is frozen")
		others("frozen")
		lift(moderation.Freeze, "lobby", "")
		decide(slow("lobby", time.Minute))
		expect(t, "slow", red, text("lobby", "1"), "ack")
		expect(t, "slow", red, text("lobby", "2"), "rate_limited: Slow mode (1m0s)")
		others("slow")
		lift(moderation.Slow, "lobby", "")

		// A moderator acts in the own tenant.
		mod := a.dial("red:mod1", "lobby")
		mod.Must(moderate("lobby", "ban", "user", "ana"))
		red.Wait("removed")
		others("banned")
		status := mod.Must(frame("moderation", "lobby", nil))
		if s := string(status.Data); !strings.Contains(s, `"user":"ana"`) || strings.Contains(s, "red") {
			t.Errorf("the moderator sees %s", s)
		}
		if s := string(b.dial("blue:mod1", "lobby").Must(frame("moderation", "lobby", nil)).Data); strings.Contains(s, "ana") {
			t.Errorf("the moderator of another tenant sees %s", s)
		}
		mod.Must(moderate("", "ban", "user", "ana"))
		if code, _ := red.Closed(); code != 4503 {
			t.Errorf("closed with %d", code)
		}
		others("banned from the service")
		if c, err := hubtest.DialHeader(t, b.hub, http.Header{"Authorization": {"Bearer red:ana"}}); err != nil || c.Next().Type != "connect-error" {
			t.Errorf("a user who is banned may connect (%v)", err)
		}

		reader := b.dial("red:mod2", moderation.ReportsRoom)
		foreign := b.dial("blue:mod2", moderation.ReportsRoom)
		seq := a.dial("red:ben", "lobby").Must(text("lobby", "spam")).Seq
		mod.Must(frame("report", "lobby", map[string]any{"seq": seq, "reason": "spam"}))
		reader.Wait("report")
		synctest.Wait()
		for _, f := range foreign.Pending() {
			if f.Type == "report" {
				t.Error("a report has reached another tenant")
			}
		}
		if fmt.Sprint(told) != "[red lobby]" {
			t.Errorf("the application was told %q", told)
		}
		for _, name := range []string{"a\nb", strings.Repeat("x", 65)} {
			if _, err := a.Tenant(name).Decide(t.Context(), moderation.Decision{Kind: moderation.Mute, User: "ana"}); !hasCode(err, chathub.CodeBadRequest) {
				t.Errorf("tenant %q: %v", name, err)
			}
		}
	})
}
