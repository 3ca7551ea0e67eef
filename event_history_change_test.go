package chathub_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// pastMessage is a message of a log, as a model of history knows it.
type pastMessage struct {
	seq, version uint64
	typ, text    string
	re           int
	peer         string // of a private one
	deleted      bool
	mine         bool // ana has reacted
}

// historyModel is what history is to answer.
type historyModel struct {
	log []pastMessage
}

// request is a history request: 0 and "" are left out, except for after.
type request struct {
	before, after, around, limit, re int
	types                            []string
	peer                             string
}

func (r *request) frame() hubtest.Frame {
	data := map[string]any{}
	for name, v := range map[string]int{"before": r.before, "around": r.around, "limit": r.limit, "re": r.re} {
		if v > 0 {
			data[name] = v
		}
	}
	if r.after >= 0 {
		data["after"] = r.after
	}
	if r.types != nil {
		data["types"] = r.types
	}
	f := hubtest.Frame{Type: "history", Room: "red", Data: hubtest.Data(data)}
	if r.peer != "" {
		f.Room, f.To = "", r.peer
	}
	return f
}

// wants reports whether a request is about a message.
func (r *request) wants(m *pastMessage) bool {
	return (r.types == nil || slices.Contains(r.types, m.typ)) && (r.re == 0 || m.re == r.re) &&
		(r.peer == "" || m.typ == "private-message" && m.peer == r.peer)
}

// all returns the wanted messages with after < seq < before.
func (mod *historyModel) all(r *request, after, before int) (found []string) {
	for i := range mod.log {
		m := &mod.log[i]
		if seq := int(m.seq); r.wants(m) && seq > after && (before == 0 || seq < before) {
			found = append(found, m.String())
		}
	}
	return found
}

// any reports whether there is any message with after < seq < before.
func (mod *historyModel) any(after, before int) bool {
	return len(mod.all(&request{}, after, before)) > 0
}

func (m *pastMessage) String() string {
	s := fmt.Sprintf("%d %s", m.seq, m.text)
	switch {
	case m.deleted:
		s = fmt.Sprintf("%d ", m.seq)
	case m.version > 0 && strings.HasPrefix(m.text, `"edit`):
		s += fmt.Sprintf(" v%d edited", m.version)
	case m.version > 0:
		s += fmt.Sprintf(" v%d", m.version)
	}
	switch {
	case m.deleted:
		s += fmt.Sprintf(" v%d deleted", m.version)
	case m.mine:
		s += " map[k:{1 [ana]}] mine [k]"
	}
	return s
}

// check asks, and goes on with next where the answer says so, until the answer
// is complete.
func (mod *historyModel) check(t *testing.T, c *hubtest.Client, r request) {
	t.Helper()
	asked := r
	var got []string
	var answer historyAnswer
	limit := min(max(r.limit, 50*btoi(r.limit == 0)), 256)
	for range 1000 {
		answer = dataOf[historyAnswer](t, c.Must(r.frame()))
		page := present(answer.Messages...)
		oldest := r.after >= 0 && r.before == 0
		if oldest || r.around > 0 {
			got = append(got, page...)
		} else {
			got = append(page, got...)
		}
		if answer.Next == 0 || r.around > 0 || len(got) >= limit {
			break
		}
		if oldest {
			r.after = int(answer.Next)
		} else {
			r.before = int(answer.Next)
		}
		r.limit = limit - len(got)
	}
	r = asked
	var want []string
	switch {
	case r.around > 0:
		older, newer := mod.all(&r, 0, r.around+1), mod.all(&r, r.around, 0)
		half := (limit + 1) / 2
		want = append(older[max(0, len(older)-half):], newer[:min(len(newer), limit-half)]...)
	case r.after >= 0 && r.before == 0:
		want = mod.all(&r, r.after, 0)
		want = want[:min(len(want), limit)]
	default:
		want = mod.all(&r, max(r.after, 0), r.before)
		want = want[max(0, len(want)-limit):]
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s was answered with\n%q, want\n%q", r.frame().Data, got, want)
		return
	}
	if hasNewer := r.after >= 0 || r.around > 0; (answer.Newer != nil) != hasNewer {
		t.Errorf("%s: newer is there: %t", r.frame().Data, !hasNewer)
	}
	if r.types != nil || r.re > 0 || r.peer != "" || len(want) == 0 {
		return // then more and newer are about any message
	}
	first, _, _ := strings.Cut(want[0], " ")
	last, _, _ := strings.Cut(want[len(want)-1], " ")
	if more := mod.any(0, atoi(first)); answer.More != more {
		t.Errorf("%s: more is %t after %q", r.frame().Data, answer.More, got)
	}
	if newer := mod.any(atoi(last), 0); answer.Newer != nil && *answer.Newer != newer {
		t.Errorf("%s: newer is %t after %q", r.frame().Data, *answer.Newer, got)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// History in every form answers what a plain list would, with messages as they
// are now, and deleted ones in their places.
func TestHistoryModel(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			p := newParty(t, chathub.Config{UserRate: -1})
			ana, bob := p.dial("ana", "red"), p.dial("bob", "red")
			var room, inbox historyModel
			seq, boxSeq := uint64(0), uint64(0)
			for i := range 120 {
				seq++
				m := pastMessage{seq: seq, typ: "room-message", text: fmt.Sprint(i)}
				if rnd.IntN(4) == 0 {
					m.typ = "poll"
					if err := p.hub.To("red").Emit(t.Context(), "poll", i); err != nil {
						t.Fatal(err)
					}
				} else {
					f := roomMessage("", "red", m.text)
					if m.re = rnd.IntN(min(4, int(seq))); m.re > 0 {
						f.Re = fmt.Append(nil, m.re)
					}
					ana.Must(f)
				}
				room.log = append(room.log, m)
				boxSeq++
				m = pastMessage{seq: boxSeq, typ: "private-message", text: fmt.Sprint(i), peer: []string{"bob", "cid", "ana"}[rnd.IntN(3)]}
				if rnd.IntN(5) == 0 {
					m.typ = "notification"
					bob.Must(notification(fmt.Sprint("n", i), "ana", m.text))
				} else {
					ana.Must(privateMessage(fmt.Sprint("p", i), m.peer, m.text))
				}
				inbox.log = append(inbox.log, m)
			}
			change := func(mod *historyModel, seq *uint64, m *pastMessage, kind int, frame func(typ, more string) hubtest.Frame) {
				if m.deleted || m.typ != "room-message" && m.typ != "private-message" {
					return
				}
				switch {
				case kind < 3:
					m.text = fmt.Sprintf(`"edit%d"`, *seq)
					ana.Must(frame("edit-message", `,"data":`+m.text))
				case kind < 6:
					m.mine = !m.mine
					ana.Must(frame("react", fmt.Sprintf(`,"author":"ana","key":"k","on":%t`, m.mine)))
				default:
					m.deleted = true
					ana.Must(frame("delete-message", ""))
				}
				*seq++
				m.version = *seq
			}
			deletions := []int{1, 4, 20}[seed%3] // some, many, and nearly only
			for i := range 250 {
				kind := rnd.IntN(6 + deletions)
				m := &room.log[rnd.IntN(len(room.log))]
				change(&room, &seq, m, kind, func(typ, more string) hubtest.Frame {
					return hubtest.Frame{Type: typ, Room: "red", Data: fmt.Appendf(nil, `{"seq":%d%s}`, m.seq, more)}
				})
				b := &inbox.log[rnd.IntN(len(inbox.log))]
				change(&inbox, &boxSeq, b, kind, func(typ, more string) hubtest.Frame {
					return hubtest.Frame{Type: typ, To: b.peer, Data: fmt.Appendf(nil, `{"id":"p%d"%s}`, b.seq-1, more)}
				})
				if i%50 == 0 {
					say(ana.Client, "red", "x")
					seq++
					room.log = append(room.log, pastMessage{seq: seq, typ: "room-message", text: `"x"`})
				}
			}
			for range 150 {
				r := request{after: -1}
				place := func() int { return rnd.IntN(int(seq) + 10) }
				switch rnd.IntN(6) {
				case 0:
					r.before = place()
				case 1:
					r.after = place()
				case 2:
					r.before, r.after = place(), place()
				case 3:
					r.around = 1 + place()
				case 4:
					r.before, r.after = 1+place(), 0
				}
				if rnd.IntN(3) > 0 {
					r.limit = 1 + rnd.IntN(40)
				}
				switch rnd.IntN(8) {
				case 0:
					r.types = []string{"room-message", "private-message"}
				case 1:
					r.types = []string{"poll", "notification"}
				case 2:
					r.types = []string{"none"}
				}
				if rnd.IntN(3) == 0 {
					r.peer = []string{"bob", "cid", "ana", "dan"}[rnd.IntN(4)]
					inbox.check(t, ana.Client, r)
					continue
				}
				if rnd.IntN(3) == 0 {
					r.re = 1 + rnd.IntN(4)
				}
				room.check(t, ana.Client, r)
			}
		})
	}
}

// Going through a log in pages finds everything once, in both directions, also
// if a message in its present form is larger than a page.
func TestHistoryPagesOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{UserRate: -1, MaxMessageBytes: 10_000, MaxOutboxBytes: 40_000})
		ana := p.dial("ana", "red")
		var want []string
		for i := range 40 {
			data := any(i)
			if i%10 == 5 {
				data = strings.Repeat("x", 20_000-2) // as much as may be emitted
			}
			if err := p.hub.To("red").Emit(t.Context(), []string{"room-message", "poll"}[i%2], data); err != nil {
				t.Fatal(err)
			}
			arrived(ana.Client)
			want = append(want, fmt.Sprint(i+1))
		}
		for i := range 20 {
			if _, err := p.hub.EditMessage(t.Context(), "red", uint64(2*i+1), strings.Repeat("y", 900*i)); err != nil {
				t.Fatal(err)
			}
			arrived(ana.Client)
		}
		for _, types := range []string{``, `,"types":["room-message","poll"]`} {
			for _, limit := range []int{1, 3, 40} {
				var back, forth []string
				before, after := uint64(100), uint64(0)
				for range 50 {
					a := dataOf[historyAnswer](t, ana.Must(hubtest.Frame{Type: "history", Room: "red", Data: fmt.Appendf(nil, `{"before":%d,"limit":%d%s}`, before, limit, types)}))
					for _, f := range slices.Backward(a.Messages) {
						back = append([]string{fmt.Sprint(f.Seq)}, back...)
						before = f.Seq
					}
					if !a.More {
						break
					}
				}
				for range 50 {
					a := dataOf[historyAnswer](t, ana.Must(hubtest.Frame{Type: "history", Room: "red", Data: fmt.Appendf(nil, `{"after":%d,"limit":%d%s}`, after, limit, types)}))
					for _, f := range a.Messages {
						forth = append(forth, fmt.Sprint(f.Seq))
						after = f.Seq
					}
					if !*a.Newer {
						break
					}
				}
				if !slices.Equal(back, want) || !slices.Equal(forth, want) {
					t.Errorf("limit %d%s: back %v, forth %v", limit, types, back, forth)
				}
			}
		}
		// Half of a page is newer, even if what is older is large.
		a := dataOf[historyAnswer](t, ana.Must(hubtest.Frame{Type: "history", Room: "red", Data: raw(`{"around":6,"limit":6}`)}))
		if n := len(a.Messages); n < 2 || a.Messages[0].Seq != 6 || a.Messages[n-1].Seq < 7 || !a.More || !*a.Newer {
			t.Errorf("around 6 are %q, more %t, newer %t", texts(a.Messages), a.More, *a.Newer)
		}
	})
}

// A page looks through a bounded part of a long log, and says where to go on.
func TestHistorySearches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{UserRate: -1, Broker: &chathub.MemoryBroker{MaxMessages: 10_000, MaxBytes: 1 << 24}})
		emit := func(event string, n int) {
			for i := range n {
				if err := p.hub.To("red").Emit(t.Context(), event, i); err != nil {
					t.Fatal(err)
				}
			}
		}
		emit("rare", 1)
		emit("poll", 5000)
		emit("rare", 1)
		ana := p.dial("ana", "red")
		for _, name := range []string{"before", "after"} {
			var got []string
			next, pages := uint64(0), 1
			for ; ; pages++ {
				data := map[string]any{"types": []string{"rare"}, name: next}
				a := dataOf[historyAnswer](t, ana.Must(hubtest.Frame{Type: "history", Room: "red", Data: hubtest.Data(data)}))
				got = append(got, present(a.Messages...)...)
				if next = a.Next; next == 0 {
					if name == "before" && a.More || name == "after" && *a.Newer {
						t.Errorf("%s: there is no next", name)
					}
					break
				}
			}
			slices.Sort(got)
			if fmt.Sprint(got) != "[1 0 5002 0]" || pages < 2 || pages > 4 {
				t.Errorf("%s: %q in %d pages", name, got, pages)
			}
		}
	})
}

func TestHistoryRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{})
		ana := p.dial("ana", "red")
		many := `"a"` + strings.Repeat(`,"a"`, 32)
		for _, data := range []string{
			`{"after":-1}`, `{"after":"1"}`, `{"around":-1}`, `{"around":1.5}`, `{"re":-1}`, `{"re":"1"}`, `{"re":{}}`,
			`{"before":9007199254740992}`, `{"after":9007199254740992}`, `{"around":9007199254740992}`, `{"re":9007199254740992}`,
			`{"around":1,"before":2}`, `{"around":1,"after":0}`, `{"types":"a"}`, `{"types":[1]}`, `{"types":[""]}`, `{"types":["A"]}`, `{"types":[` + many + `]}`,
		} {
			expectRefused(t, ana.Client, hubtest.Frame{Type: "history", Room: "red", Data: raw(data)}, chathub.CodeBadRequest)
		}
		for _, f := range []hubtest.Frame{{}, {Room: "red", To: "bob"}, {To: "bob", Data: raw(`{"re":1}`)}} {
			f.Type = "history"
			expectRefused(t, ana.Client, f, chathub.CodeBadRequest)
		}
		expectRefused(t, ana.Client, hubtest.Frame{Type: "history", Room: "blue"}, chathub.CodeNotInRoom)
		ana.Must(hubtest.Frame{Type: "history", Room: "red", Data: raw(`{"types":[],"around":0,"before":9007199254740991,"re":0}`)})
	})
}

// Someone who was away gets one event for a message that changed often, and
// what is missed or asked for comes as it is now.
func TestResumeChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{UserRate: -1})
		ana, bob := p.dial("ana", "red"), p.dial("bob")
		pos := position(t, enter(bob.Client, "red"))
		inbox := dataOf[welcomeData](t, bob.Welcome).Inbox
		ana.Must(roomMessage("m1", "red", `"seen"`))
		ana.Must(privateMessage("p1", "bob", `"seen"`))
		pos.Seq, inbox.Seq = pos.Seq+1, inbox.Seq+1
		bob.Drop()
		for i := range 1000 {
			ana.Must(editOf("", "red", 1, fmt.Sprint(i)))
		}
		ana.Must(editPrivate("", "bob", "p1", `"EDITED"`))
		ana.Must(roomMessage("m2", "red", `"gone"`))              // 1002
		ana.Must(roomMessage("m3", "red", `"three"`))             // 1003
		ana.Must(reactTo("", "red", 1003, "k", true))             // 1004
		ana.Must(deleteOf("", "red", 1002))                       // 1005
		ana.Must(privateMessage("p2", "bob", `"two"`))            // 3
		ana.Must(reactPrivate("", "bob", "ana", "p2", "k", true)) // 4
		tab := p.dial("bob")
		answer := resume(t, tab.Client, resumeRequest{Rooms: map[string]chathub.Position{"red": pos}, Inbox: &inbox})
		if !answer.Rooms["red"].Recovered || answer.Rooms["red"].Seq != 1005 || !answer.Inbox.Recovered || answer.Inbox.Seq != 4 {
			t.Errorf("the answer is %+v", answer)
		}
		var got []string
		for _, f := range arrived(tab.Client) {
			if f.Type == "message-changed" {
				d := dataOf[changedData](t, f)
				got = append(got, fmt.Sprintf("%d %s %d%s %s", f.Seq, d.Change, d.Seq, d.ID, string(d.Message.Data)))
			} else {
				got = append(got, present(f)...)
			}
		}
		want := []string{
			`1001 edited 1 999`, `1002  v1005 deleted`, `1003 "three" v1004 map[k:{1 [ana]}]`, `1004 reacted 1003 `, `1005 deleted 1002 `,
			`2 edited 0p1 "EDITED"`, `3 "two" v4 map[k:{1 [ana]}]`, `4 reacted 0p2 `,
		}
		if !slices.Equal(got, want) {
			t.Errorf("came\n%q, want\n%q", got, want)
		}
		tab.Send(hubtest.Frame{Type: "join-room", Room: "red", Data: raw(`{"history":2}`)})
		if got := present(arrived(tab.Client)...); !slices.Equal(got, []string{"1 999 v1001 edited", `1002  v1005 deleted`, `1003 "three" v1004 map[k:{1 [ana]}]`}) {
			t.Errorf("with history came %q", got)
		}
		time.Sleep(time.Second)
		expectNothing(t, tab.Client)
	})
}
