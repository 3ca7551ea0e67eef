package chathub_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

func TestClientValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		hub := hubtest.New(t, chathub.Config{
			OnConnect: func(_ context.Context, c *chathub.Client, r *http.Request) error {
				if v := c.Value(key{}); v != nil {
					t.Errorf("before: %v", v)
				}
				c.Set(key{}, r.Header.Get("X-Tenant"))
				return nil
			},
		})
		chathub.OnAck(hub, "tenant", func(_ context.Context, c *chathub.Client, _ any) (any, error) {
			return c.Value(key{}), nil
		})
		for _, tenant := range []string{"north", "south"} {
			c, err := hubtest.DialHeader(t, hub, http.Header{"Authorization": {"Bearer ana"}, "X-Tenant": {tenant}})
			if err != nil {
				t.Fatal(err)
			}
			if a := c.Must(hubtest.Frame{Type: "tenant"}); string(a.Data) != `"`+tenant+`"` {
				t.Errorf("%s: %s", tenant, a.Data)
			}
		}
	})
}

func TestEventFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		if e := chathub.EventFrom(t.Context()); e != nil {
			t.Errorf("outside of a handler: %+v", e)
		}
		chathub.OnAck(hub, "look", func(ctx context.Context, _ *chathub.Client, _ string) (any, error) {
			e := chathub.EventFrom(ctx)
			return []string{e.Type, e.ID, e.Room, e.To, string(e.Data)}, nil
		})
		a := hubtest.Dial(t, hub, "ana").Must(hubtest.Frame{Type: "look", ID: "7", Room: "red", To: "bob", Data: hubtest.Data("x")})
		if want := `["look","7","red","bob","\"x\""]`; string(a.Data) != want {
			t.Errorf("%s, want %s", a.Data, want)
		}
	})
}

// One client's answer to a question is not shown to another client, whose
// handler asked it.
func TestRefusalIsNotPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		bob := hubtest.Dial(t, hub, "bob")
		chathub.On(hub, "ask-bob", func(ctx context.Context, _ *chathub.Client, _ any) error {
			answers, err := hub.ToUser("bob").EmitWithAck(ctx, "well", nil)
			if err != nil {
				return err
			}
			return answers[0].Err
		})
		ana := hubtest.Dial(t, hub, "ana")
		ana.Send(hubtest.Frame{Type: "ask-bob", ID: "1"})
		q := bob.Wait("well")
		bob.Send(hubtest.Frame{Type: "error", ID: q.ID, Data: hubtest.Data(map[string]string{"code": "token_expired", "message": "boo"})})
		if f := ana.Wait("error"); f.Code() != chathub.CodeInternal || strings.Contains(string(f.Data), "boo") {
			t.Errorf("%s", f.Data)
		}
	})
}
