package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

func anyClientState(context.Context, *chathub.Client, string, string) bool { return true }

// TestStateExpectTwoHubs: of many who set one version on two hubs at once, one
// wins, and what it has set stays.
func TestStateExpectTwoHubs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		hubs := []*chathub.Hub{hubtest.New(t, chathub.Config{Broker: broker}), hubtest.New(t, chathub.Config{Broker: broker})}
		last := uint64(0)
		for round := range 20 {
			var mu sync.Mutex
			var won []string
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					value := fmt.Sprint(round, "/", i)
					r, err := hubs[i%2].To("lobby").SetStateIf(t.Context(), "a", value, last)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						won = append(won, fmt.Sprintf("%d %q", r.Seq, value))
					case !hasCode(err, chathub.CodeConflict) || r != (chathub.Receipt{}):
						t.Errorf("a loser got %+v, %v", r, err)
					}
				})
			}
			wg.Wait()
			state, err := hubs[round%2].State(t.Context(), "lobby")
			v := state["a"]
			if want := fmt.Sprint(v.Seq, " ", string(v.Value)); err != nil || len(won) != 1 || won[0] != want {
				t.Errorf("winners %q, and the state is %s, %v", won, want, err)
			}
			last = v.Seq
		}
	})
}

// stateView is the state of a room as a client puts it together.
type stateView map[string]string

func (v stateView) apply(t *testing.T, versions map[string]uint64, f hubtest.Frame) {
	t.Helper()
	d := dataOf[struct {
		Key   string         `json:"key"`
		Value jsontext.Value `json:"value"`
	}](t, f)
	if f.Seq <= versions[d.Key] {
		return
	}
	if versions[d.Key] = f.Seq; d.Value.Kind() == 'n' {
		delete(v, d.Key)
	} else {
		v[d.Key] = string(d.Value)
	}
}

// TestStateConverges: clients who join while keys are set and removed on two
// hubs end with the state that the hub has, whether they join or resume.
func TestStateConverges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &chathub.MemoryBroker{}
		cfg := chathub.Config{Broker: broker, PresenceInterval: -1, Rate: -1}
		hubs := []*chathub.Hub{hubtest.New(t, cfg), hubtest.New(t, cfg)}
		begin, err := hubs[0].To("lobby").SetState(t.Context(), "0", "first")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i, hub := range hubs {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			wg.Go(func() {
				for k := range 300 {
					var value any
					if random.IntN(3) > 0 {
						value = k
					}
					if _, err := hub.To("lobby").SetState(t.Context(), fmt.Sprint(random.IntN(5)), value); err != nil {
						t.Error(err)
					}
				}
			})
		}
		const clients = 20
		views, versions := make([]stateView, clients), make([]map[string]uint64, clients)
		conns := make([]*hubtest.Client, clients)
		for i := range clients {
			c := hubtest.Dial(t, hubs[i%2], fmt.Sprint("u", i))
			var answer struct {
				stateData
				Rooms map[string]stateData `json:"rooms"`
			}
			if i%3 == 0 {
				unmarshal(t, c.Must(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{
					"rooms": map[string]chathub.Position{"lobby": {Epoch: begin.Epoch, Seq: begin.Seq}},
				})}).Data, &answer)
				answer.stateData = answer.Rooms["lobby"]
			} else {
				unmarshal(t, enter(c, "lobby").Data, &answer)
			}
			views[i], versions[i], conns[i] = make(stateView), answer.Versions, c
			if versions[i] == nil {
				versions[i] = make(map[string]uint64)
			}
			for key, value := range answer.State {
				views[i][key] = string(value)
			}
		}
		wg.Wait()
		synctest.Wait()
		state, err := hubs[1].State(t.Context(), "lobby")
		if err != nil {
			t.Fatal(err)
		}
		want := make(stateView)
		for key, v := range state {
			want[key] = string(v.Value)
		}
		for i, c := range conns {
			for _, f := range ofType(arrived(c), "state-changed") {
				views[i].apply(t, versions[i], f)
			}
			if fmt.Sprint(views[i]) != fmt.Sprint(want) {
				t.Errorf("client %d has %v, want %v", i, views[i], want)
			}
		}
	})
}

// TestStateRights: a right that is taken away while a set-state is being
// authorized is not used.
func TestStateRights(t *testing.T) {
	for name, revoke := range map[string]func(context.Context, *chathub.Hub) error{
		"leave":      func(ctx context.Context, h *chathub.Hub) error { return h.ToUser("ana").Leave(ctx, "lobby") },
		"disconnect": func(ctx context.Context, h *chathub.Hub) error { return h.ToUser("ana").Disconnect(ctx, "out") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked, decided := make(chan struct{}), make(chan struct{})
				p := newParty(t, chathub.Config{ClientState: func(context.Context, *chathub.Client, string, string) bool {
					close(asked)
					<-decided
					return true
				}})
				ana := p.dial("ana", "lobby")
				ana.Send(setState("lobby", `{"key":"a","value":1}`))
				<-asked
				if err := revoke(t.Context(), p.hub); err != nil {
					t.Error(err)
				}
				close(decided)
				synctest.Wait()
				if state, err := p.hub.State(t.Context(), "lobby"); err != nil || len(state) > 0 {
					t.Errorf("the state is %v, %v", state, err)
				}
			})
		})
	}
}

// TestStateRightsStored: a revocation waits for a state that is being stored.
func TestStateRightsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := newGatedBroker()
		p := newParty(t, chathub.Config{Broker: broker, ClientState: anyClientState})
		ana := p.dial("ana", "lobby")
		storing := make(chan struct{})
		set(broker, broker.publishing, chathub.Topic{Room: "lobby"}, storing)
		ana.Send(setState("lobby", `{"key":"a","value":1}`))
		synctest.Wait()
		left := make(chan error, 1)
		go func() { left <- p.hub.ToUser("ana").Leave(t.Context(), "lobby") }()
		synctest.Wait()
		if len(left) > 0 {
			t.Error("Leave has returned, and the state is still being stored")
		}
		close(storing)
		if err := <-left; err != nil {
			t.Error(err)
		}
		if state, err := p.hub.State(t.Context(), "lobby"); err != nil || string(state["a"].Value) != "1" {
			t.Errorf("the state is %v, %v", state, err)
		}
	})
}

// TestStateFlood: clients who set keys all at once fill a room as far as its
// bound, and the application can still remove what they have set.
func TestStateFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{ClientState: anyClientState})
		var wg sync.WaitGroup
		for i := range 10 {
			c := p.dial(fmt.Sprint("u", i), "lobby")
			wg.Go(func() {
				for k := range 20 {
					c.Send(setState("lobby", fmt.Sprintf(`{"key":"%d/%d","value":%q}`, i, k, strings.Repeat("x", 1000))))
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		state, err := p.hub.State(t.Context(), "lobby")
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for key, v := range state {
			size += len(key) + len(v.Value)
		}
		if size > 32<<10 || size < 30<<10 {
			t.Errorf("%d keys have %d bytes", len(state), size)
		}
		for key := range state {
			if _, err := p.hub.To("lobby").SetState(t.Context(), key, nil); err != nil {
				t.Error(err)
			}
		}
		if _, err := p.hub.To("lobby").SetState(t.Context(), "mine", 1); err != nil {
			t.Error(err)
		}
	})
}

// TestStateOld: a state outlives the messages of its room and everybody in it.
func TestStateOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{Broker: &chathub.MemoryBroker{MaxAge: time.Hour, DuplicateWindow: time.Hour}})
		if _, err := hub.To("lobby").Post(t.Context(), chathub.Post{Data: 1}); err != nil {
			t.Fatal(err)
		}
		set, err := hub.To("lobby").SetState(t.Context(), "a", 1)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		// What is due goes.
		if _, err := hub.To("other").Post(t.Context(), chathub.Post{}); err != nil {
			t.Fatal(err)
		}
		state, err := hub.State(t.Context(), "lobby")
		if v := state["a"]; err != nil || v.Seq != set.Seq || string(v.Value) != "1" {
			t.Errorf("the state is %v, %v", state, err)
		}
		if entries, _, err := hub.History(t.Context(), "lobby", chathub.Range{Limit: 9}); err != nil || len(entries) > 0 {
			t.Errorf("the log has %v, %v", entries, err)
		}
		var got record
		stop := follow(t, hub, chathub.Position{}, &got)
		synctest.Wait()
		got.want(t, "from the oldest", `2 state-changed {"key":"a","value":1}`)
		_ = stop()
	})
}

// TestStateUnknown: an answer to a join says so if the state could not be read,
// since a room without a state has none in it.
func TestStateUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &hooked{}
		hub := hubtest.New(t, chathub.Config{Broker: broker, PresenceInterval: -1})
		if _, err := hub.To("lobby").SetState(t.Context(), "a", 1); err != nil {
			t.Fatal(err)
		}
		c := hubtest.Dial(t, hub, "ana")
		for method, want := range map[string]string{"ReadNamed": "null", "Survey": `{"a":1}`} {
			broker.before(method, func() error { return chathub.Unavailable(errors.New("down")) })
			var answer map[string]jsontext.Value
			if err := json.Unmarshal(enter(c, "lobby").Data, &answer); err != nil || string(answer["state"]) != want {
				t.Errorf("without %s: the answer is %v, %v", method, answer, err)
			}
			broker.before(method, nil)
		}
	})
}
