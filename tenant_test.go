package chathub_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// tenantClient is a connection of a user of a tenant, and all that it has seen.
type tenantClient struct {
	*hubtest.Client
	t    *testing.T
	id   string
	seen []string
	step []hubtest.Frame // of the step that runs
}

// tenantAuth knows tenants with any name: the token is the user's id, and the
// tenant in hexadecimal.
type tenantAuth struct{}

func (tenantAuth) Authenticate(_ context.Context, token string, _ *http.Request) (chathub.Identity, error) {
	id, tenant, _ := strings.Cut(token, "/")
	name, err := hex.DecodeString(tenant)
	return chathub.Identity{User: chathub.User{ID: id, Name: id}, Tenant: string(name)}, err
}

// changing is what is different in each run: random ids, epochs and times.
var changing = regexp.MustCompile(`"(clientId|epoch)":"[^"]*"|"(id|Key)":"[mc]_[^"]*"|"(ts|time|edited|deleted)":\d+`)

func (c *tenantClient) see(f hubtest.Frame) { c.step = append(c.step, f) }

func (c *tenantClient) ask(f hubtest.Frame) hubtest.Frame {
	if f.ID == "" {
		f.ID = "q"
	}
	c.Send(f)
	for {
		answer := c.Next()
		if c.see(answer); answer.ID == f.ID && (answer.Type == "ack" || answer.Type == "error") {
			return answer
		}
	}
}

// tenantRun is one tenant over two hubs, with two users whose ids all tenants
// have.
type tenantRun struct {
	t     *testing.T
	hubs  []*chathub.Hub
	name  string
	other string // a connection of another tenant
	conns []*tenantClient
	says  []string // what calls from Go have returned
}

func (r *tenantRun) dial(hub int, user string) *tenantClient {
	c := &tenantClient{Client: knock(r.t, r.hubs[hub], user+"/"+hex.EncodeToString([]byte(r.name))), t: r.t}
	welcome := c.Next()
	c.id = dataOf[welcomeData](r.t, welcome).ClientID
	c.see(welcome)
	r.conns = append(r.conns, c)
	return c
}

// note notes what has arrived in a step.
func (r *tenantRun) note() {
	for _, c := range r.conns {
		// Presence, messages and answers have no order among each other.
		frames := append(c.step, c.Pending()...)
		slices.SortStableFunc(frames, func(a, b hubtest.Frame) int { return strings.Compare(a.Type, b.Type) })
		for _, f := range frames {
			c.seen = append(c.seen, changing.ReplaceAllString(string(hubtest.Data(f)), "*"))
		}
		c.step = nil
	}
}

func (r *tenantRun) say(what string, values ...any) {
	s := changing.ReplaceAllString(string(hubtest.Data(fmt.Sprintf("%+v", values))), "*")
	r.says = append(r.says, what+" "+goChanging.ReplaceAllString(s, "*"))
}

var goChanging = regexp.MustCompile(`Epoch:\w*|Time:[^}]*`)

// steps are what a tenant does. After each, everything settles.
func (r *tenantRun) steps() []func() {
	ctx := r.t.Context()
	tenant := []chathub.Tenant{r.hubs[0].Tenant(r.name), r.hubs[1].Tenant(r.name)}
	var ana, ana2, ben *tenantClient
	var first, second uint64
	return []func(){
		func() { ana, ben = r.dial(0, "ana"), r.dial(1, "ben") },
		func() { ana2 = r.dial(1, "ana") },
		func() {
			for _, c := range []*tenantClient{ana, ana2, ben} {
				c.ask(hubtest.Frame{Type: "join-room", Room: "lobby"})
			}
		},
		func() {
			first = ana.ask(roomMessage("m1", "lobby", `"one"`)).Seq
			second = ben.ask(roomMessage("m1", "lobby", `"two"`)).Seq
			ana.ask(roomMessage("m1", "lobby", `"one"`)) // a repetition
		},
		func() {
			ana.ask(editOf("e1", "lobby", first, `"edited"`))
			ben.ask(reactTo("r1", "lobby", first, "👍", true))
		},
		func() {
			ben.ask(hubtest.Frame{Type: "delete-message", Room: "lobby", ID: "d1", Data: raw(fmt.Sprintf(`{"seq":%d}`, second))})
		},
		func() {
			ana.ask(privateMessage("p1", "ben", `"secret"`))
			ben.ask(hubtest.Frame{Type: "send-notification", ID: "n1", To: "ana", Data: raw(`"look"`)})
			ana.ask(hubtest.Frame{Type: "edit-message", ID: "pe", To: "ben", Data: raw(`{"id":"p1","data":"more secret"}`)})
		},
		func() {
			ana.ask(hubtest.Frame{Type: "message", Data: raw(`"to all"`)})
			ben.ask(hubtest.Frame{Type: "typing", Room: "lobby"})
			ben.ask(hubtest.Frame{Type: "online-users"})
		},
		func() {
			ben.ask(hubtest.Frame{Type: "mark-read", Room: "lobby", Data: raw(fmt.Sprintf(`{"seq":%d}`, first))})
			ana2.ask(hubtest.Frame{Type: "set-state", Room: "lobby", Data: raw(`{"key":"topic","value":"ours"}`)})
		},
		func() {
			for _, c := range []*tenantClient{ana2, ben} {
				c.ask(hubtest.Frame{Type: "history", Room: "lobby"})
				c.ask(hubtest.Frame{Type: "history", To: "ana"})
				c.ask(hubtest.Frame{Type: "overview", Data: raw(`{"rooms":["lobby","other"],"inbox":true}`)})
			}
		},
		func() {
			for i, t := range tenant {
				r.say("emit", t.Emit(ctx, "news", i), t.To("lobby").Emit(ctx, "room-news", i), t.ToUser("ana").Volatile().Emit(ctx, "yours", i))
				r.say("to a client", t.ToClient(ana.id, r.other).Emit(ctx, "you", i))
				receipt, err := t.To("lobby").Post(ctx, chathub.Post{From: chathub.User{ID: "bot"}, ID: "b1", Data: "beep"})
				r.say("post", receipt.Seq, receipt.Duplicate, err)
				online, err := t.OnlineUsers(ctx)
				r.say("online", online, err)
				users, err := t.RoomUsers(ctx, "lobby")
				r.say("in the lobby", users, err)
				state, err := t.State(ctx, "lobby")
				r.say("state", string(state["topic"].Value), len(state), err)
				entries, more, err := t.History(ctx, "lobby", chathub.Range{Limit: 100})
				for _, e := range entries {
					r.say("history", e.Seq, e.Type, e.From, string(e.Data), e.Reactions)
				}
				r.say("history", more, err)
			}
		},
		func() {
			done := make(chan struct{})
			var answers []chathub.Answer
			var err error
			go func() {
				defer close(done)
				answers, err = tenant[0].Broadcast().EmitWithAck(ctx, "sure", nil)
			}()
			time.Sleep(relayed)
			for _, c := range []*tenantClient{ana, ana2, ben} {
				for _, f := range arrived(c.Client) {
					if c.see(f); f.Type == "sure" {
						c.Send(hubtest.Frame{Type: "ack", ID: f.ID, Data: raw(`"yes"`)})
					}
				}
			}
			<-done
			r.say("answers", len(answers), err)
		},
		func() { ben.Drop() },
		func() {
			ben = r.dial(0, "ben")
			ben.ask(hubtest.Frame{Type: "resume", Data: raw(`{"rooms":{"lobby":{"epoch":"?","seq":0}},"inbox":{"epoch":"?","seq":0}}`)})
		},
		func() { r.say("remove", tenant[1].ToUser("ana").Remove(ctx, "out", "lobby")) },
		func() { r.say("disconnect", tenant[0].ToUser("ben").Disconnect(ctx, "banned")) },
		func() { n, err := tenant[0].EraseUser(ctx, "ben", "lobby"); r.say("erased", n, err) },
		func() { r.say("disconnect all", tenant[0].Broadcast().Disconnect(ctx, "closed")) },
	}
}

// runTenants lets tenants take their steps at the same time, and returns what
// the first has seen.
func runTenants(t *testing.T, names ...string) (seen []string) {
	synctest.Test(t, func(t *testing.T) {
		hubs := newUnsteady(1).hubs(t, 2, chathub.Config{
			Auth: tenantAuth{}, Rate: -1, ReadReceipts: true,
			ClientState: func(context.Context, *chathub.Client, string, string) bool { return true },
			Moderator:   func(context.Context, *chathub.Client, chathub.Action) bool { return true },
		})
		time.Sleep(2 * time.Second) // the hubs meet
		var runs []*tenantRun
		var steps [][]func()
		for _, name := range names {
			r := &tenantRun{t: t, hubs: hubs, name: name}
			runs, steps = append(runs, r), append(steps, r.steps())
		}
		for i := range steps[0] {
			for k := range slices.Backward(runs) {
				steps[k][i]()
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			for k, r := range runs {
				r.note()
				r.other = runs[(k+1)%len(runs)].conns[0].id
			}
		}
		for _, c := range runs[0].conns {
			seen = append(append(seen, "--"), c.seen...)
		}
		seen = append(append(seen, "--"), runs[0].says...)
	})
	return seen
}

// TestTenants: whatever other tenants do, a tenant sees exactly what it sees if
// it is alone. Users and rooms have equal names in all of them.
func TestTenants(t *testing.T) {
	for _, name := range []string{"", "acme", "a b/💬"} {
		alone := runTenants(t, name)
		if len(alone) < 100 {
			t.Fatalf("only %d frames: %q", len(alone), alone)
		}
		for _, others := range [][]string{{""}, {"bex"}, {"acme\u00a0"}, {"", "bex", "acm"}} {
			if slices.Contains(others, name) {
				continue
			}
			together := runTenants(t, append([]string{name}, others...)...)
			if i := differAt(alone, together); i >= 0 {
				t.Errorf("%q beside %q: at %d it saw\n%s\nalone\n%s", name, others, i, lineOf(together, i), lineOf(alone, i))
			}
		}
	}
}

func differAt(a, b []string) int {
	for i := range max(len(a), len(b)) {
		if lineOf(a, i) != lineOf(b, i) {
			return i
		}
	}
	return -1
}

func lineOf(s []string, i int) string {
	if i >= len(s) {
		return "nothing"
	}
	return s[i]
}

// dialTenant connects a user of a tenant to a hub with the Authenticator of
// hubtest.
func dialTenant(t *testing.T, hub *chathub.Hub, tenant, user string) *hubtest.Client {
	return hubtest.Dial(t, hub, user+"/"+user+"/"+tenant)
}

// TestTenantLimits: a tenant that takes all it can get takes nothing from
// others, whose users have the same ids.
func TestTenantLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{
			MaxConns: 6, MaxConnsPerUser: 2,
			Rate: 1, Burst: 100, UserRate: 1, UserBurst: 3, BroadcastBurst: 2,
		})
		first := dialTenant(t, hub, "acme", "ana")
		second := dialTenant(t, hub, "acme", "ana")
		refused := func(user, tenant, why string) {
			t.Helper()
			c := knock(t, hub, user+"/"+user+"/"+tenant)
			if f := c.Next(); f.Code() != chathub.CodeLimitExceeded || !strings.Contains(string(f.Data), why) {
				t.Errorf("%s of %s: %s %s, want %s", user, tenant, f.Type, f.Data, why)
			}
		}
		refused("ana", "acme", "of this user")
		dialTenant(t, hub, "acme", "ben")
		refused("cem", "acme", "of this tenant") // half of MaxConns
		other := dialTenant(t, hub, "bex", "ana")
		dialTenant(t, hub, "", "ana")

		for name, want := range map[string]chathub.Stats{
			"acme": {Connections: 3, Users: 2}, "bex": {Connections: 1, Users: 1}, "": {Connections: 1, Users: 1}, "none": {},
		} {
			if got := hub.Tenant(name).Stats(); got != want {
				t.Errorf("%q: %+v, want %+v", name, got, want)
			}
		}

		for _, c := range []*hubtest.Client{first, second} {
			for range 5 {
				c.Request(hubtest.Frame{Type: "online-users"})
			}
		}
		if r := first.Request(hubtest.Frame{Type: "online-users"}); r.Code() != chathub.CodeRateLimited {
			t.Errorf("the seventh event of a user: %s %s", r.Type, r.Data)
		}
		for range 2 {
			other.Must(hubtest.Frame{Type: "message", Data: raw("1")})
		}

		for _, c := range []*hubtest.Client{first, second} {
			c.Drop()
		}
		synctest.Wait()
		dialTenant(t, hub, "acme", "cem")
		if got, want := hub.Tenant("acme").Stats(), (chathub.Stats{Connections: 2, Users: 2}); got != want {
			t.Errorf("afterwards: %+v, want %+v", got, want)
		}
	})
}

// TestTenantNames: no name leads into another tenant.
func TestTenantNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana := dialTenant(t, hub, "acme", "ana")
		enter(ana, "lobby")
		mallory := hubtest.Dial(t, hub, "mallory")
		enter(mallory, "lobby")
		arrived(ana)
		for _, name := range []string{"acme\x00lobby", "acme\x00", "\x00lobby", "\x00"} {
			for what, err := range map[string]error{
				"To":         hub.To(name).Emit(t.Context(), "sneak", nil),
				"ToUser":     hub.ToUser(name).Emit(t.Context(), "sneak", nil),
				"Disconnect": hub.ToUser(name).Disconnect(t.Context(), ""),
				"Tenant":     hub.Tenant(name).Emit(t.Context(), "sneak", nil),
				"a tenant":   hub.Tenant("ac").To("me"+name).Emit(t.Context(), "sneak", nil),
				"Join":       hub.ToUser("mallory").Join(t.Context(), name),
				"Follow":     hub.Follow(t.Context(), name, chathub.Position{}, nil),
			} {
				if e, ok := errors.AsType[*chathub.Error](err); !ok || e.Code != chathub.CodeBadRequest {
					t.Errorf("%s %q: %v", what, name, err)
				}
			}
			if _, err := hub.RoomUsers(t.Context(), name); err == nil {
				t.Errorf("RoomUsers %q is answered", name)
			}
			if _, err := hub.Tenant(name).OnlineUsers(t.Context()); err == nil {
				t.Errorf("OnlineUsers of %q is answered", name)
			}
			for _, f := range []hubtest.Frame{
				{Type: "join-room", Room: name}, {Type: "private-message", To: name, Data: raw("1")},
				{Type: "overview", Data: hubtest.Data(map[string]any{"rooms": []string{name}})},
				{Type: "resume", Data: hubtest.Data(map[string]any{"rooms": map[string]any{name: map[string]any{"epoch": "", "seq": 0}}})},
			} {
				if r := mallory.Request(f); r.Type != "error" && !strings.Contains(string(r.Data), "bad_request") {
					t.Errorf("%s %q: %s", f.Type, name, r.Data)
				}
			}
		}
		time.Sleep(time.Second)
		if got := heard(ana); len(got) > 0 {
			t.Errorf("ana of acme heard %q", got)
		}
	})
}

// TestTenantRefresh: a connection stays in its tenant, whatever the new token
// says.
func TestTenantRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server *chathub.Client
		hub := hubtest.New(t, chathub.Config{OnConnect: func(_ context.Context, c *chathub.Client, _ *http.Request) error {
			server = c
			return nil
		}})
		ana := dialTenant(t, hub, "acme", "ana")
		for token, want := range map[string]string{"ana/Ana/acme": "ack", "ana/Ana/bex": "error", "ana/Ana": "error"} {
			r := ana.Request(hubtest.Frame{Type: "refresh-token", Data: hubtest.Data(map[string]string{"token": token})})
			if r.Type != want || want == "error" && r.Code() != chathub.CodeForbidden {
				t.Errorf("%s: %s %s", token, r.Type, r.Data)
			}
		}
		if got := server.Tenant(); got != "acme" {
			t.Errorf("the tenant is %q", got)
		}
	})
}

// TestTenantIsInvalid: an Authenticator that names an impossible tenant lets
// nobody in.
func TestTenantIsInvalid(t *testing.T) {
	for _, name := range []string{strings.Repeat("x", 65), "a\x00b", "a\nb", "\xff"} {
		synctest.Test(t, func(t *testing.T) {
			hub := hubtest.New(t, chathub.Config{Auth: authFunc(func(string, *http.Request) (chathub.Identity, error) {
				return chathub.Identity{User: chathub.User{ID: "ana"}, Tenant: name}, nil
			})})
			if f := knock(t, hub, "any").Next(); f.Code() != chathub.CodeInternal {
				t.Errorf("%q: %s %s", name, f.Type, f.Data)
			}
		})
	}
}
