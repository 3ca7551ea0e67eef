package chathub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json/jsontext"
)

// stateData is the part of the answer to a join that is about the state.
type stateData struct {
	State    map[string]jsontext.Value `json:"state"`
	Versions map[string]uint64         `json:"versions"`
}

func setState(room, data string) hubtest.Frame {
	return hubtest.Frame{Type: "set-state", Room: room, Data: raw(data)}
}

// TestState: a state is set by the application and, if it may, by clients. All
// members get it at its place, and whoever comes later gets all of it.
func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{ClientState: func(_ context.Context, c *chathub.Client, room, key string) bool {
			return c.User().ID == "ana" && room == "lobby" && key == "topic"
		}})
		ana, bob := p.dial("ana", "lobby"), p.dial("bob", "lobby")
		room := p.hub.To("lobby")
		expectRefused(t, bob.Client, setState("lobby", `{"key":"topic","value":1}`), chathub.CodeForbidden)
		first, err := room.SetState(t.Context(), "pinned", []int{1, 2})
		if err != nil {
			t.Fatal(err)
		}
		ack := ana.Must(setState("lobby", `{"key":"topic","value":{"text":"Hi"}}`))
		if ack.Seq != first.Seq+1 {
			t.Errorf("set-state was answered with %+v", ack)
		}
		expectRefused(t, ana.Client, setState("lobby", `{"key":"pinned","value":1}`), chathub.CodeForbidden)
		if _, err := room.SetState(t.Context(), "pinned", nil); err != nil {
			t.Fatal(err)
		}
		wantHeard(t, "bob", bob.Client,
			`state-changed@lobby {"key":"pinned","value":[1,2]}`,
			`state-changed@lobby {"key":"topic","value":{"text":"Hi"}}`,
			`state-changed@lobby {"key":"pinned","value":null}`)

		carol := p.dial("carol")
		var got stateData
		answer := enter(carol.Client, "lobby")
		unmarshal(t, answer.Data, &got)
		if len(got.State) != 1 || string(got.State["topic"]) != `{"text":"Hi"}` || got.Versions["topic"] != ack.Seq {
			t.Errorf("the answer to a join is %s", answer.Data)
		}
		state, err := p.hub.State(t.Context(), "lobby")
		if v := state["topic"]; err != nil || len(state) != 1 || v.Seq != ack.Seq || v.From.ID != "ana" || v.Time.IsZero() {
			t.Errorf("State returned %+v, %v", state, err)
		}
		if answer := enter(carol.Client, "other"); strings.Contains(string(answer.Data), "state") {
			t.Errorf("a room without a state was answered with %s", answer.Data)
		}
	})
}

// TestStateExpect: of two who change the same version, one is refused.
func TestStateExpect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{ClientState: func(context.Context, *chathub.Client, string, string) bool { return true }})
		ana := p.dial("ana", "lobby")
		first := ana.Must(setState("lobby", `{"key":"a","value":1,"expect":0}`))
		expectRefused(t, ana.Client, setState("lobby", `{"key":"a","value":2,"expect":0}`), chathub.CodeConflict)
		second := ana.Must(setState("lobby", fmt.Sprintf(`{"key":"a","value":2,"expect":%d}`, first.Seq)))
		room := p.hub.To("lobby")
		if _, err := room.SetStateIf(t.Context(), "a", 3, first.Seq); !hasCode(err, chathub.CodeConflict) {
			t.Errorf("an old version: %v", err)
		}
		if _, err := room.SetStateIf(t.Context(), "a", nil, second.Seq); err != nil {
			t.Error(err)
		}
		if _, err := room.SetStateIf(t.Context(), "a", 4, 0); err != nil {
			t.Errorf("after the removal: %v", err)
		}
		f := setState("lobby", `{"key":"b","value":1}`)
		f.ID = "once"
		once := ana.Must(f)
		ana.Must(setState("lobby", `{"key":"b","value":2}`))
		if again := ana.Must(f); again.Seq != once.Seq || !strings.Contains(string(again.Data), `"dup":true`) {
			t.Errorf("a repetition was answered with %s", again.Data)
		}
		if state, err := p.hub.State(t.Context(), "lobby"); err != nil || string(state["b"].Value) != "2" {
			t.Errorf("the repetition has set %s, %v", state["b"].Value, err)
		}
	})
}

// TestStateRefused: what is refused leaves nothing behind.
func TestStateRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{ClientState: func(context.Context, *chathub.Client, string, string) bool { return true }})
		ana := p.dial("ana", "lobby")
		long := strings.Repeat("x", 65)
		for _, data := range []string{
			``, `null`, `{}`, `{"key":"a"}`, `{"value":1}`, `{"key":"","value":1}`, `{"key":1,"value":1}`, `{"key":"a\n","value":1}`,
			`{"key":"` + long + `","value":1}`, `{"key":"a","value":1,"expect":-1}`, `{"key":"a","value":1,"expect":9007199254740992}`,
		} {
			expectRefused(t, ana.Client, setState("lobby", data), chathub.CodeBadRequest)
		}
		expectRefused(t, ana.Client, setState("other", `{"key":"a","value":1}`), chathub.CodeNotInRoom)
		expectRefused(t, ana.Client, setState("", `{"key":"a","value":1}`), chathub.CodeBadRequest)
		room := p.hub.To("lobby")
		for name, err := range map[string]error{
			"a long key": second(room.SetState(t.Context(), long, 1)),
			"two rooms":  second(p.hub.To("a", "b").SetState(t.Context(), "a", 1)),
			"a user":     second(p.hub.ToUser("ana").SetState(t.Context(), "a", 1)),
			"no JSON":    second(room.SetState(t.Context(), "a", func() {})),
		} {
			if !hasCode(err, chathub.CodeBadRequest) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if head, err := p.hub.Head(t.Context(), "lobby"); err != nil || head.Seq != 0 {
			t.Errorf("something was stored: %+v, %v", head, err)
		}
		for i := range 64 {
			if _, err := room.SetState(t.Context(), fmt.Sprint(i), i); err != nil {
				t.Fatal(err)
			}
		}
		expectRefused(t, ana.Client, setState("lobby", `{"key":"another","value":1}`), chathub.CodeLimitExceeded)
		if _, err := room.SetState(t.Context(), "1", strings.Repeat("x", 33_000)); !hasCode(err, chathub.CodeLimitExceeded) {
			t.Errorf("a large value: %v", err)
		}
		ana.Must(setState("lobby", `{"key":"1","value":"new"}`))
		ana.Must(setState("lobby", `{"key":"2","value":null}`))
		ana.Must(setState("lobby", `{"key":"another","value":1}`))
	})
}

// TestStateOfManyRooms: an answer that would be too large has null for some.
func TestStateOfManyRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
		since := make(map[string]chathub.Position)
		for i := range 20 {
			room := fmt.Sprint("room", i)
			r, err := hub.To(room).SetState(t.Context(), "a", strings.Repeat("x", 30_000))
			if err != nil {
				t.Fatal(err)
			}
			since[room] = chathub.Position{Epoch: r.Epoch, Seq: r.Seq}
		}
		c := hubtest.Dial(t, hub, "ana")
		ack := c.Must(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{"rooms": since})})
		var answer struct {
			Rooms map[string]map[string]jsontext.Value `json:"rooms"`
		}
		unmarshal(t, ack.Data, &answer)
		whole := 0
		for room, part := range answer.Rooms {
			if len(part["state"]) > 30_000 {
				whole++
			} else if string(part["state"]) != "null" {
				t.Errorf("%s: %s", room, part["state"])
			}
		}
		if whole == 0 || len(answer.Rooms) != 20 {
			t.Errorf("%d of %d rooms have their state", whole, len(answer.Rooms))
		}
	})
}
