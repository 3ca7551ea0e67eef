package chathub_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json/jsontext"
)

// asData returns JSON as the data of a frame. If s is empty, there is none.
func asData(data string) jsontext.Value {
	if data == "" {
		return nil
	}
	return jsontext.Value(data)
}

func TestJoinWithHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, ReplayLimit: 6, Rate: -1, UserRate: -1})
		head := fill(t, hub, "lobby", 10)
		bob := members(t, hub, "lobby", "bob")[0]
		for _, tc := range []struct {
			data  string
			first int
		}{
			{``, 0}, {`null`, 0}, {`{}`, 0}, {`{"history":0}`, 0}, {`{"history":-3}`, 0},
			{`{"history":1}`, 10}, {`{"history":4}`, 7}, {`{"history":6}`, 5}, {`{"history":1000}`, 5},
		} {
			c := hubtest.Dial(t, hub, "ana")
			c.Send(hubtest.Frame{Type: "join-room", ID: "j", Room: "lobby", Data: asData(tc.data)})
			got := arrived(c)
			if len(got) == 0 || got[0].Type != "ack" || position(t, got[0]) != head || dataOf[joinData](t, got[0]).Recovered {
				t.Fatalf("%s was answered with %+v", tc.data, got)
			}
			var want []string
			if tc.first > 0 {
				want = numbers(tc.first, 10)
			}
			bob.Send(hubtest.Frame{Type: "typing", Room: "lobby"})
			got = append(got[1:], arrived(c)...)
			if last := len(got) - 1; got[last].Type != "typing" || !slices.Equal(texts(got[:last]), want) {
				t.Errorf("%s: got %v, want %v", tc.data, texts(got), want)
			}
			c.Drop()
		}
	})
}

func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, ReplayLimit: 60, Rate: -1, UserRate: -1})
		c := members(t, hub, "lobby", "ana")[0]
		for i := range 75 {
			c.Send(hubtest.Frame{Type: "room-message", ID: fmt.Sprint("m", i+1), Room: "lobby", Data: hubtest.Data(fmt.Sprint(i + 1))})
		}
		live := ofType(arrived(c), "room-message")
		for _, tc := range []struct {
			data        string
			first, last int
			more        bool
		}{
			{``, 26, 75, true}, {`{}`, 26, 75, true},
			{`{"limit":1}`, 75, 75, true}, {`{"limit":60}`, 16, 75, true}, {`{"limit":1000}`, 16, 75, true},
			{`{"before":26}`, 1, 25, false}, {`{"before":27,"limit":25}`, 2, 26, true}, {`{"before":26,"limit":25}`, 1, 25, false},
			{`{"before":2}`, 1, 1, false}, {`{"before":1}`, 1, 0, false}, {`{"before":0,"limit":1}`, 75, 75, true},
			{`{"before":9007199254740991,"limit":2}`, 74, 75, true},
		} {
			got := dataOf[historyData](t, c.Must(hubtest.Frame{Type: "history", Room: "lobby", Data: asData(tc.data)}))
			if got.More != tc.more || !slices.EqualFunc(got.Messages, live[tc.first-1:tc.last], sameFrame) {
				t.Errorf("%s: got %v, more %t", tc.data, texts(got.Messages), got.More)
			}
		}
		for _, data := range []string{`{"limit":0}`, `{"limit":-1}`, `{"limit":"5"}`, `{"before":-1}`, `{"before":1.5}`, `[]`, `7`} {
			expectRefused(t, c, hubtest.Frame{Type: "history", Room: "lobby", Data: []byte(data)}, chathub.CodeBadRequest)
		}
	})
}

// historyData is the data of the answer to history.
type historyData struct {
	Messages []hubtest.Frame `json:"messages"`
	More     bool            `json:"more"`
}

// Going back page by page finds every message once, however large the messages
// are.
func TestHistoryInPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, MaxMessageBytes: 10_000, MaxOutboxBytes: 40_000, Rate: -1, UserRate: -1})
		c := members(t, hub, "lobby", "ana")[0]
		rnd := rand.New(rand.NewPCG(1, 0))
		for range 60 {
			say(c, "lobby", strings.Repeat("x", rnd.IntN(8000)))
		}
		live := uint64(60)
		before, pages := uint64(0), 0
		for more := true; more; pages++ {
			data := hubtest.Data(map[string]any{"before": before, "limit": 1 + rnd.IntN(20)})
			got := dataOf[historyData](t, c.Must(hubtest.Frame{Type: "history", Room: "lobby", Data: data}))
			for _, f := range slices.Backward(got.Messages) {
				if f.Seq != live {
					t.Fatalf("page %d has seq %d, want %d", pages, f.Seq, live)
				}
				live--
			}
			if len(got.Messages) == 0 {
				t.Fatalf("page %d is empty", pages)
			}
			before, more = got.Messages[0].Seq, got.More
		}
		if live != 0 {
			t.Errorf("%d messages were not found", live)
		}
	})
}
