package chathub_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json/jsontext"
)

// everyEvent is one valid event of each built-in type that middleware sees. The
// order works for a client that is not in a room yet.
func everyEvent() []hubtest.Frame {
	return []hubtest.Frame{
		{Type: "join-room", Room: "red"},
		{Type: "message", Data: raw(`"m"`)},
		{Type: "room-message", Room: "red", Data: raw(`"r"`)},
		{Type: "typing", Room: "red"},
		{Type: "stop-typing", Room: "red"},
		{Type: "private-message", To: "bob", Data: raw(`"p"`)},
		{Type: "send-notification", To: "bob", Data: raw(`"n"`)},
		{Type: "history", Room: "red"},
		{Type: "resume", Data: raw(`{"rooms":{"blue":{"epoch":"e","seq":1},"green":{"epoch":"e","seq":1}}}`)},
		{Type: "online-users"},
		{Type: "refresh-token", Data: raw(`{"token":"ana"}`)},
		{Type: "leave-room", Room: "red"},
	}
}

func TestMiddlewareOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		var calls record
		tag := func(name string) chathub.Middleware {
			return func(next chathub.Handler) chathub.Handler {
				return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
					calls.add("%s %s %s", name, e.Type, e.Room+e.To)
					defer calls.add("%s ends", name)
					return next(ctx, c, e)
				}
			}
		}
		hub.Use(tag("first"), tag("second"))
		hub.Use(tag("third"))
		hub.Use()
		chathub.On(hub, "custom", func(context.Context, *chathub.Client, struct{}) error {
			calls.add("handler")
			return nil
		})
		ana := hubtest.Dial(t, hub, "ana")
		for _, f := range everyEvent() {
			ana.Must(f)
			of := f.Type + " " + f.Room + f.To
			calls.want(t, f.Type, "first "+of, "second "+of, "third "+of, "third ends", "second ends", "first ends")
		}
		ana.Must(hubtest.Frame{Type: "custom", Room: "red", To: "bob"})
		calls.want(t, "custom", "first custom redbob", "second custom redbob", "third custom redbob", "handler",
			"third ends", "second ends", "first ends")

		hub.Use(tag("late")) // applies from now on
		ana.Must(hubtest.Frame{Type: "online-users"})
		calls.want(t, "online-users", "first online-users ", "second online-users ", "third online-users ", "late online-users ",
			"late ends", "third ends", "second ends", "first ends")
		ana.Must(hubtest.Frame{Type: "ping"})
		calls.want(t, "ping")
	})
}

func TestMiddlewareActs(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		p := newParty(t, chathub.Config{Logger: log.logger()})
		var seen record
		p.hub.Use(func(next chathub.Handler) chathub.Handler {
			return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				switch string(e.Data) {
				case `"modify"`:
					e.Data = []byte(`"modified"`)
				case `"remove"`:
					e.Data = nil
				case `"veto"`:
					return nil, &chathub.Error{Code: chathub.CodeForbidden, Message: "No"}
				case `"swallow"`:
					return "swallowed", nil
				case `"fail after"`:
					if _, err := next(ctx, c, e); err != nil {
						return nil, err
					}
					return nil, errors.New("store is down")
				}
				result, err := next(context.WithValue(ctx, key{}, "value"), c, e)
				if r, ok := result.(chathub.Receipt); ok {
					seen.add("%s seq %d dup %t from %s", e.Type, r.Seq, r.Duplicate, c.User().ID)
				}
				if string(e.Data) == `"replace"` {
					return map[string]int{"n": 1}, err
				}
				return result, err
			}
		})
		chathub.OnAck(p.hub, "value", func(ctx context.Context, _ *chathub.Client, _ struct{}) (any, error) {
			return ctx.Value(key{}), nil
		})
		ana, bob := p.dial("ana", "red"), p.dial("bob", "red")

		room := func(id, data string) hubtest.Frame {
			return ana.Request(hubtest.Frame{Type: "room-message", ID: id, Room: "red", Data: raw(data)})
		}
		if got := ana.Must(hubtest.Frame{Type: "value"}); string(got.Data) != `"value"` {
			t.Errorf("the handler's context has %s", got.Data)
		}
		room("m1", `"plain"`)
		if got := room("m1", `"plain"`); got.Seq != 1 {
			t.Errorf("the repetition has seq %d", got.Seq)
		}
		seen.want(t, "receipts", "room-message seq 1 dup false from ana", "room-message seq 1 dup true from ana")
		ana.Must(hubtest.Frame{Type: "private-message", To: "bob", Data: raw(`"p"`)})
		seen.want(t, "receipts", "private-message seq 1 dup false from ana")
		wantHeard(t, "bob", bob.Client, `room-message@red "plain"`, `private-message "p"`)

		room("m2", `"modify"`)
		room("m3", `"remove"`)
		wantHeard(t, "bob", bob.Client, `room-message@red "modified"`, `room-message@red`)
		if got := room("m4", `"veto"`); string(got.Data) != `{"code":"forbidden","message":"No"}` {
			t.Errorf("the refusal was sent as %s", got.Data)
		}
		if got := room("m5", `"swallow"`); got.Type != "ack" || string(got.Data) != `"swallowed"` || got.Seq != 0 {
			t.Errorf("with the event swallowed: %s %s", got.Type, got.Data)
		}
		wantHeard(t, "bob", bob.Client)
		if got := room("m6", `"replace"`); got.Type != "ack" || string(got.Data) != `{"n":1}` {
			t.Errorf("with the result replaced: %s %s", got.Type, got.Data)
		}
		log.take()
		if got := room("m7", `"fail after"`); got.Code() != chathub.CodeInternal {
			t.Errorf("with a failure after next: %s %s", got.Type, got.Data)
		}
		if s := log.take(); !strings.Contains(s, "store is down") {
			t.Errorf("log %q", s)
		}
		wantHeard(t, "bob", bob.Client, `room-message@red "replace"`, `room-message@red "fail after"`)
	})
}

// Middleware knows the position of a message before its sender does.
func TestMiddlewareReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		receipts := make(chan chathub.Receipt, 1)
		save := make(chan struct{})
		p.hub.Use(func(next chathub.Handler) chathub.Handler {
			return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
				result, err := next(ctx, c, e)
				if r, ok := result.(chathub.Receipt); ok {
					receipts <- r
					<-save
				}
				return result, err
			}
		})
		ana := p.dial("ana")
		var room, inbox chathub.Position
		unmarshal(t, ana.Must(hubtest.Frame{Type: "join-room", Room: "red"}).Data, &room)
		var welcome struct {
			Inbox chathub.Position `json:"inbox"`
		}
		unmarshal(t, ana.Welcome.Data, &welcome)
		inbox = welcome.Inbox
		for _, tc := range []struct {
			f    hubtest.Frame
			want chathub.Position
			dup  bool
		}{
			{hubtest.Frame{Type: "room-message", ID: "m1", Room: "red"}, chathub.Position{Epoch: room.Epoch, Seq: 1}, false},
			{hubtest.Frame{Type: "room-message", ID: "m1", Room: "red"}, chathub.Position{Epoch: room.Epoch, Seq: 1}, true},
			{hubtest.Frame{Type: "private-message", ID: "m2", To: "bob"}, chathub.Position{Epoch: inbox.Epoch, Seq: 1}, false},
		} {
			ana.Send(tc.f)
			r := <-receipts
			if (chathub.Position{Epoch: r.Epoch, Seq: r.Seq}) != tc.want || r.Duplicate != tc.dup {
				t.Errorf("%s: receipt %+v, want %+v, duplicate %t", tc.f.Type, r, tc.want, tc.dup)
			}
			for _, f := range arrived(ana.Client) {
				if f.Type == "ack" {
					t.Errorf("%s was acked before it was saved", tc.f.Type)
				}
			}
			save <- struct{}{}
			ack := ana.Wait("ack")
			if data := dataOf[map[string]any](t, ack); ack.ID != tc.f.ID || ack.Seq != tc.want.Seq || data["epoch"] != nil {
				t.Errorf("ack %+v", ack)
			}
		}
	})
}

// A join that middleware refuses after it has happened is undone. One that it
// refuses before does not happen.
func TestMiddlewareOnJoin(t *testing.T) {
	for _, when := range []string{"before", "after", "panic"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParty(t, chathub.Config{})
				p.hub.Use(func(next chathub.Handler) chathub.Handler {
					return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
						if e.Room != "forbidden" {
							return next(ctx, c, e)
						}
						if when != "before" {
							if _, err := next(ctx, c, e); err != nil {
								return nil, err
							}
						}
						if when == "panic" {
							panic(when)
						}
						return nil, &chathub.Error{Code: chathub.CodeForbidden}
					}
				})
				ana := p.dial("ana", "red")
				if got := ana.Request(hubtest.Frame{Type: "join-room", Room: "forbidden"}); got.Type != "error" {
					t.Errorf("got %s", got.Type)
				}
				if rooms := ana.server.Rooms(); !slices.Equal(rooms, []string{"red"}) {
					t.Errorf("ana is in %q", rooms)
				}
				if err := p.hub.To("forbidden", "red").Emit(t.Context(), "news", nil); err != nil {
					t.Error(err)
				}
				wantHeard(t, "ana", ana.Client, "news@red")
			})
		})
	}
}

func TestAuthorizeActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked record
		p := newParty(t, chathub.Config{
			Authorize: func(ctx context.Context, c *chathub.Client, a chathub.Action) error {
				if ctx.Err() != nil || c.User().ID != "ana" {
					t.Errorf("Authorize was called for %s", c.User().ID)
				}
				asked.add("%s room=%s to=%s", a.Type, a.Room, a.To)
				return nil
			},
		})
		chathub.On(p.hub, "custom", func(context.Context, *chathub.Client, struct{}) error { return nil })
		ana := p.dial("ana")
		want := map[string][]string{
			"join-room":         {"join-room room=red to="},
			"message":           {"message room= to="},
			"room-message":      {"room-message room=red to="},
			"typing":            {"typing room=red to="},
			"private-message":   {"private-message room= to=bob"},
			"send-notification": {"send-notification room= to=bob"},
			"history":           {"history room=red to="},
			"resume":            {"join-room room=blue to=", "join-room room=green to="},
		}
		for _, f := range everyEvent() {
			ana.Request(f)
			asked.want(t, f.Type, want[f.Type]...)
		}
		ana.Must(hubtest.Frame{Type: "custom", Room: "red", To: "bob"})
		asked.want(t, "custom", "custom room=red to=bob")
		for _, f := range []hubtest.Frame{
			{Type: "room-message", Room: "red"}, // left
			{Type: "room-message"},
			{Type: "join-room"},
			{Type: "private-message"},
			{Type: "unknown"},
		} {
			if got := ana.Request(f); got.Type != "error" {
				t.Errorf("%s: %s", f.Type, got.Type)
			}
			asked.want(t, "what the protocol refuses")
		}
		if err := ana.server.Join(t.Context(), "red"); err != nil {
			t.Error(err)
		}
		asked.want(t, "what the application does")
	})
}

func TestAuthorizeRefuses(t *testing.T) {
	secret := errors.New("secret")
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"plain", secret, `{"code":"forbidden","message":"Not allowed"}`},
		{"own", &chathub.Error{Code: chathub.CodeConflict, Message: "Banned", Err: secret}, `{"code":"conflict","message":"Banned"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var passed record
				refuse := false
				p := newParty(t, chathub.Config{
					Authorize: func(context.Context, *chathub.Client, chathub.Action) error {
						if refuse {
							return tc.err
						}
						return nil
					},
				})
				p.hub.Use(func(next chathub.Handler) chathub.Handler {
					return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
						passed.add("%s", e.Type)
						return next(ctx, c, e)
					}
				})
				chathub.On(p.hub, "custom", func(context.Context, *chathub.Client, struct{}) error { return nil })
				ana, bob := p.dial("ana", "red"), p.dial("bob", "red")
				refuse = true
				free := []string{"leave-room", "stop-typing", "online-users", "resume", "refresh-token"}
				for _, f := range append(everyEvent(), hubtest.Frame{Type: "custom"}) {
					if slices.Contains(free, f.Type) {
						continue
					}
					if got := ana.Request(f); got.Type != "error" || string(got.Data) != tc.want {
						t.Errorf("%s: %s %s, want %s", f.Type, got.Type, got.Data, tc.want)
					}
				}
				passed.want(t, "of what was refused, middleware saw")
				wantHeard(t, "bob", bob.Client)
			})
		})
	}
}

// The ack says that a room was refused, and nothing of it is sent. The other
// rooms are resumed.
func TestAuthorizeResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{
			Authorize: func(_ context.Context, c *chathub.Client, a chathub.Action) error {
				if a.Room == "secret" && c.User().ID != "guard" {
					return errors.New("no")
				}
				return nil
			},
		})
		guard := p.dial("guard", "secret", "red")
		positions := make(map[string]chathub.Position)
		for _, room := range guard.server.Rooms() {
			var pos chathub.Position
			unmarshal(t, guard.Must(hubtest.Frame{Type: "join-room", Room: room}).Data, &pos)
			positions[room] = pos
			if err := p.hub.To(room).Emit(t.Context(), "news", room); err != nil {
				t.Fatal(err)
			}
		}
		ana := p.dial("ana")
		var result struct {
			Rooms map[string]jsontext.Value `json:"rooms"`
		}
		ack := ana.Must(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{"rooms": positions})})
		unmarshal(t, ack.Data, &result)
		if got := string(result.Rooms["secret"]); got != `{"error":{"code":"forbidden","message":"Not allowed"}}` {
			t.Errorf("the secret room: %s", got)
		}
		if got := string(result.Rooms["red"]); !strings.Contains(got, `"recovered":true`) {
			t.Errorf("the red room: %s", got)
		}
		wantHeard(t, "ana", ana.Client, `news@red "red"`)
		if rooms := ana.server.Rooms(); !slices.Equal(rooms, []string{"red"}) {
			t.Errorf("ana is in %q", rooms)
		}
	})
}
