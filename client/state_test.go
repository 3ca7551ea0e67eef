package client_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
)

func wantState(t *testing.T, r *client.Room, want map[string]string) {
	t.Helper()
	synctest.Wait()
	got := r.State()
	for key, v := range want {
		if string(got[key].Value) != v || got[key].Seq == 0 {
			t.Errorf("%s is %s at %d, want %s", key, got[key].Value, got[key].Seq, v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the state is %v, want %v", got, want)
	}
}

// TestState: the state of a room is there after a join, follows changes, and is
// right again after a connection was lost.
func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{ClientState: func(_ context.Context, _ *chathub.Client, _, key string) bool {
			return key != "locked"
		}})
		ana, network := dial(t, hub, client.Options{})
		bob, _ := dial(t, hub, client.Options{Token: token("bob")})
		red := join(t, ana, "red", client.JoinOptions{})
		wantState(t, red, nil)
		first, err := red.SetState(t.Context(), "topic", "cats")
		if err != nil || first.Position.Seq == 0 {
			t.Fatalf("%+v, %v", first, err)
		}
		theirs := join(t, bob, "red", client.JoinOptions{})
		wantState(t, theirs, map[string]string{"topic": `"cats"`})
		if _, err := theirs.SetStateIf(t.Context(), "topic", "dogs", 0); !isCode(err, client.CodeConflict) {
			t.Errorf("setting what was set: %v", err)
		}
		if _, err := theirs.SetState(t.Context(), "locked", 1); !isCode(err, client.CodeForbidden) {
			t.Errorf("setting a key of others: %v", err)
		}
		if _, err := theirs.SetStateIf(t.Context(), "topic", "dogs", theirs.State()["topic"].Seq); err != nil {
			t.Error(err)
		}
		if _, err := theirs.SetState(t.Context(), "pinned", []int{1}); err != nil {
			t.Error(err)
		}
		wantState(t, red, map[string]string{"topic": `"dogs"`, "pinned": "[1]"})
		if got := texts(arrived(red, client.TypeStateChanged)); got != `{"key":"topic","value":"cats"} {"key":"topic","value":"dogs"} {"key":"pinned","value":[1]}` {
			t.Errorf("the events are %s", got)
		}

		network.cut()
		for key, v := range map[string]any{"topic": nil, "pinned": []int{2}} {
			if _, err := hub.To("red").SetState(t.Context(), key, v); err != nil {
				t.Error(err)
			}
		}
		until(t, ana, client.Waiting)
		until(t, ana, client.Connected)
		time.Sleep(time.Second)
		wantState(t, red, map[string]string{"pinned": "[2]"})
		if _, err := red.SetState(t.Context(), "pinned", nil); err != nil {
			t.Error(err)
		}
		wantState(t, red, nil)
		wantState(t, theirs, nil)
	})
}

// TestStateOrder: what follows a join may be older than the state in its
// answer, and what the server left out is still known.
func TestStateOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		n := &network{handler: server}
		go func() {
			p := server.accept(t)
			p.answer(p.next(t, "join-room"), "ack", `{"epoch":"e","seq":5,"recovered":false,"state":{"a":1,"b":2},"versions":{"a":9,"b":3}}`)
			for _, f := range []string{
				`{"type":"state-changed","room":"red","seq":6,"data":{"key":"a","value":0}}`,
				`{"type":"state-changed","room":"red","seq":7,"data":{"key":"b","value":null}}`,
				`{"type":"state-changed","room":"red","seq":8,"data":{"key":"c","value":"x"}}`,
				`{"type":"state-changed","room":"red","seq":10,"data":{"key":"d"}}`,
			} {
				p.send(f)
			}
			p.next(t, client.TypeTyping)
			_ = p.ws.CloseNow()
			p = server.accept(t)
			p.answer(p.next(t, "resume"), "ack", `{"rooms":{"red":{"epoch":"e","seq":10,"recovered":true,"state":null}}}`)
		}()
		ana := dialOver(t, n, client.Options{})
		red := join(t, ana, "red", client.JoinOptions{})
		wantState(t, red, map[string]string{"a": "1", "c": `"x"`})
		red.Typing()
		until(t, ana, client.Waiting)
		until(t, ana, client.Connected)
		wantState(t, red, map[string]string{"a": "1", "c": `"x"`})
	})
}

// TestTrace: a trace is sent and received with a message.
func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		ana, _ := dial(t, hub, client.Options{})
		inbox, err := ana.Inbox(t.Context(), client.InboxOptions{})
		if err != nil {
			t.Fatal(err)
		}
		red := join(t, ana, "red", client.JoinOptions{})
		const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		if _, err := red.Post(t.Context(), client.Post{Trace: trace, Data: 1}); err != nil {
			t.Error(err)
		}
		if e := next(t, red, client.TypeRoomMessage); e.Trace != trace {
			t.Errorf("the trace is %q", e.Trace)
		}
		bob, _ := dial(t, hub, client.Options{Token: token("bob")})
		if _, err := bob.Private("ana").Post(t.Context(), client.Post{Trace: trace, Data: 1}); err != nil {
			t.Error(err)
		}
		if e := next(t, inbox, client.TypePrivateMessage); e.Trace != trace {
			t.Errorf("the trace is %q", e.Trace)
		}
	})
}
