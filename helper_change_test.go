package chathub_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/chathub-go/chathub/hubtest"
)

func editOf(id, room string, seq uint64, data string) hubtest.Frame {
	return hubtest.Frame{Type: "edit-message", ID: id, Room: room, Data: fmt.Appendf(nil, `{"seq":%d,"data":%s}`, seq, data)}
}

func deleteOf(id, room string, seq uint64) hubtest.Frame {
	return hubtest.Frame{Type: "delete-message", ID: id, Room: room, Data: fmt.Appendf(nil, `{"seq":%d}`, seq)}
}

func reactTo(id, room string, seq uint64, key string, on bool) hubtest.Frame {
	return hubtest.Frame{Type: "react", ID: id, Room: room, Data: fmt.Appendf(nil, `{"seq":%d,"key":%q,"on":%t}`, seq, key, on)}
}

// wantReceipt sends a change, and checks its receipt: the position, and whether
// it is a repetition.
func wantReceipt(t testing.TB, c *hubtest.Client, f hubtest.Frame, seq uint64, dup bool) {
	t.Helper()
	r := c.Request(f)
	if r.Type != "ack" {
		t.Errorf("%s %s: %s", f.Type, f.Data, r.Data)
		return
	}
	got := dataOf[receipt](t, r)
	if got.Seq != seq || got.Dup != dup || got.TS == 0 || r.Seq != seq || r.TS != got.TS || r.Room != f.Room {
		t.Errorf("%s %s: receipt %s in %+v, want seq %d, dup %t", f.Type, f.Data, r.Data, r, seq, dup)
	}
}

// present returns frames in short: seq, data, and what has become of them.
func present(frames ...hubtest.Frame) []string {
	all := make([]string, 0, len(frames))
	for _, f := range frames {
		s := fmt.Sprintf("%d %s", f.Seq, string(f.Data))
		if f.Version > 0 {
			s += fmt.Sprintf(" v%d", f.Version)
		}
		if f.Edited > 0 {
			s += " edited"
		}
		if f.Deleted > 0 {
			s += " deleted"
		}
		if f.Reactions != nil {
			s += fmt.Sprint(" ", f.Reactions)
		}
		if f.Mine != nil {
			s += fmt.Sprint(" mine ", f.Mine)
		}
		all = append(all, s)
	}
	return all
}

// pageOf returns a page of history.
func pageOf(t testing.TB, c *hubtest.Client, f hubtest.Frame) []string {
	t.Helper()
	f.Type = "history"
	return present(dataOf[historyAnswer](t, c.Must(f)).Messages...)
}

// historyAnswer is the whole answer to history.
type historyAnswer struct {
	Messages []hubtest.Frame `json:"messages"`
	More     bool            `json:"more"`
	Newer    *bool           `json:"newer"`
	Next     uint64          `json:"next"`
}

func wantPage(t testing.TB, c *hubtest.Client, f hubtest.Frame, want ...string) {
	t.Helper()
	if got := pageOf(t, c, f); !slices.Equal(got, want) {
		t.Errorf("the log has\n%q, want\n%q", got, want)
	}
}

// changedData is the data of message-changed.
type changedData struct {
	Seq     uint64        `json:"seq"`
	ID      string        `json:"id"`
	Author  string        `json:"author"`
	Change  string        `json:"change"`
	Message hubtest.Frame `json:"message"`
}
