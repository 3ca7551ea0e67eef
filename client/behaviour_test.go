package client_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
)

// stage is a server that can lose connections, and be restarted with its logs
// or without them.
type stage struct {
	t      *testing.T
	cfg    chathub.Config
	broker *chathub.MemoryBroker
	hub    *chathub.Hub
	nets   []*network
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, cfg: chathub.Config{Rate: -1, UserRate: -1, ByteRate: -1, UserByteRate: -1}}
	s.start(true)
	return s
}

func (s *stage) start(empty bool) {
	if empty {
		s.broker = &chathub.MemoryBroker{}
	}
	s.cfg.Broker = s.broker
	s.hub = hubtest.New(s.t, s.cfg)
	for _, n := range s.nets {
		n.serve(s.hub)
	}
}

func (s *stage) connect(user string) *client.Client {
	c, n := dial(s.t, s.hub, client.Options{Token: token(user)})
	s.nets = append(s.nets, n)
	return c
}

// breaking breaks all connections by f, and waits until c is back.
func (s *stage) breaking(c *client.Client, f func()) {
	f()
	until(s.t, c, client.Waiting)
	until(s.t, c, client.Connected)
	synctest.Wait()
}

func (s *stage) cut() {
	for _, n := range s.nets {
		n.cut()
	}
}

func (s *stage) restart(empty bool) {
	old := s.hub
	s.start(empty)
	_ = old.Close()
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantTexts checks the messages, and gaps between them, that have arrived.
func wantTexts(t *testing.T, what string, s source, want ...any) {
	t.Helper()
	var all []string
	for _, w := range want {
		if w == "gap" {
			all = append(all, "gap")
		} else {
			all = append(all, string(hubtest.Data(w)))
		}
	}
	got := texts(arrived(s, client.TypeRoomMessage, client.TypePrivateMessage, client.TypeGap))
	if got != strings.Join(all, " ") {
		t.Errorf("%s: got %s, want %s", what, got, strings.Join(all, " "))
	}
}

// behaviours are the tests of clients/ts/test/behaviour.ts, by the same names:
// what any client promises beside any server.
var behaviours = map[string]func(t *testing.T, s *stage){
	"a room message reaches everyone in the room once, its sender too": func(t *testing.T, s *stage) {
		ana, ben := join(t, s.connect("ana"), "red", client.JoinOptions{}), join(t, s.connect("ben"), "red", client.JoinOptions{})
		last := uint64(0)
		for n := 1; n <= 3; n++ {
			r := must[client.Receipt](t)(ana.Send(t.Context(), n))
			if r.Position.Seq <= last {
				t.Errorf("%d is at %d, after %d", n, r.Position.Seq, last)
			}
			last = r.Position.Seq
		}
		wantTexts(t, "ana", ana, 1, 2, 3)
		wantTexts(t, "ben", ben, 1, 2, 3)
	},
	"a room may be called anything": func(t *testing.T, s *stage) {
		ana := s.connect("ana")
		for _, odd := range []string{"__proto__", "constructor", "🌍 <img onerror=alert(1)>"} {
			room := join(t, ana, odd, client.JoinOptions{})
			must[client.Receipt](t)(room.Send(t.Context(), odd))
			s.breaking(ana, s.cut)
			must[client.Receipt](t)(room.Send(t.Context(), "again"))
			wantTexts(t, odd, room, odd, "again")
		}
	},
	"half an emoji arrives as U+FFFD, in data, ids and names": func(t *testing.T, s *stage) {
		// A Go string cannot hold half a surrogate pair, but it need not be
		// UTF-8. Data is mended, and a name or id is refused, since it could
		// become that of somebody else.
		ana := s.connect("ana")
		room := join(t, ana, "red", client.JoinOptions{})
		if _, err := room.Send(t.Context(), "a\xf0\x9f"); err == nil {
			wantTexts(t, "ana", room, "a\ufffd\ufffd")
		}
		if _, err := ana.Join(t.Context(), "a\xf0\x9f", client.JoinOptions{}); err == nil {
			t.Error("a name that is not UTF-8 is joined")
		}
		if _, err := room.Post(t.Context(), client.Post{ID: "a\xf0\x9f", Data: 1}); err == nil {
			t.Error("an id that is not UTF-8 is sent")
		}
	},
	"history is read page by page": func(t *testing.T, s *stage) {
		room := join(t, s.connect("ana"), "red", client.JoinOptions{})
		for n := 1; n <= 5; n++ {
			must[client.Receipt](t)(room.Send(t.Context(), n))
		}
		newest := must[client.Page](t)(room.History(t.Context(), client.Query{Limit: 2}))
		rest := must[client.Page](t)(room.History(t.Context(), client.Query{Limit: 10, Before: newest.Messages[0].Position.Seq}))
		if texts(newest.Messages) != "4 5" || !newest.More || texts(rest.Messages) != "1 2 3" || rest.More {
			t.Errorf("pages %s (%v) and %s (%v)", texts(newest.Messages), newest.More, texts(rest.Messages), rest.More)
		}
	},
	"a join brings the newest messages, before the live ones": func(t *testing.T, s *stage) {
		ana := join(t, s.connect("ana"), "red", client.JoinOptions{})
		for n := 1; n <= 5; n++ {
			must[client.Receipt](t)(ana.Send(t.Context(), n))
		}
		ben := join(t, s.connect("ben"), "red", client.JoinOptions{History: 2})
		must[client.Receipt](t)(ana.Send(t.Context(), 6))
		wantTexts(t, "ben", ben, 4, 5, 6)
	},
	"missed messages of several rooms and the inbox come after a reconnect, once and in order": func(t *testing.T, s *stage) {
		ana, ben := s.connect("ana"), s.connect("ben")
		inbox := must[*client.Inbox](t)(ben.Inbox(t.Context(), client.InboxOptions{}))
		var hers, his []*client.Room
		for _, name := range []string{"red", "green", "blue"} {
			hers = append(hers, join(t, ana, name, client.JoinOptions{SendOnly: true}))
			his = append(his, join(t, ben, name, client.JoinOptions{}))
		}
		must[client.Receipt](t)(hers[0].Send(t.Context(), "before"))
		must[client.Receipt](t)(ana.Private("ben").Send(t.Context(), "before"))
		s.nets[1].serve(nil)
		s.nets[1].cut()
		until(t, ben, client.Waiting)
		for n := 1; n <= 2; n++ {
			for _, r := range hers {
				must[client.Receipt](t)(r.Send(t.Context(), n))
			}
		}
		must[client.Receipt](t)(ana.Private("ben").Send(t.Context(), "meanwhile"))
		s.nets[1].serve(s.hub)
		until(t, ben, client.Connected)
		must[client.Receipt](t)(hers[2].Send(t.Context(), "after"))
		wantTexts(t, "red", his[0], "before", 1, 2)
		wantTexts(t, "green", his[1], 1, 2)
		wantTexts(t, "blue", his[2], 1, 2, "after")
		wantTexts(t, "inbox", inbox, "before", "meanwhile")
	},
	"a conversation survives a restart: nothing is lost, doubled or out of order": func(t *testing.T, s *stage) {
		const total = 100
		var rooms []*client.Room
		sent := make(chan error)
		for _, user := range []string{"ana", "ben"} {
			rooms = append(rooms, join(t, s.connect(user), "red", client.JoinOptions{}))
		}
		for i, room := range rooms {
			go func() {
				for n := range total {
					if _, err := room.Send(t.Context(), fmt.Sprintf("%d %d", i, n)); err != nil {
						sent <- err
						return
					}
					if n == total/3 && i == 0 {
						s.restart(false)
					}
					if n == 2*total/3 && i == 1 {
						s.cut()
					}
				}
				sent <- nil
			}()
		}
		for range rooms {
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute) // who was cut off last comes back
		logs := [][]client.Event{arrived(rooms[0], client.TypeRoomMessage, client.TypeGap), arrived(rooms[1], client.TypeRoomMessage, client.TypeGap)}
		if texts(logs[0]) != texts(logs[1]) || len(logs[0]) != 2*total {
			t.Errorf("%s\nand\n%s", texts(logs[0]), texts(logs[1]))
		}
		for i := range rooms {
			var own []string
			for _, e := range logs[0] {
				if text := strings.Trim(string(e.Data), `"`); strings.HasPrefix(text, fmt.Sprint(i)) {
					own = append(own, text)
				}
			}
			for n := range total {
				if n >= len(own) || own[n] != fmt.Sprintf("%d %d", i, n) {
					t.Fatalf("messages of %d: %q", i, own)
				}
			}
		}
	},
	"a server that has lost its logs causes recovered: false": func(t *testing.T, s *stage) {
		ana := s.connect("ana")
		room := join(t, ana, "red", client.JoinOptions{})
		inbox := must[*client.Inbox](t)(ana.Inbox(t.Context(), client.InboxOptions{}))
		must[client.Receipt](t)(ana.Private("ana").Send(t.Context(), "note"))
		must[client.Receipt](t)(room.Send(t.Context(), "old"))
		s.breaking(ana, func() { s.restart(true) })
		must[client.Receipt](t)(room.Send(t.Context(), "new"))
		wantTexts(t, "room", room, "old", "gap", "new")
		wantTexts(t, "inbox", inbox, "gap")
	},
	"events, receipts and pages have the epoch of their log": func(t *testing.T, s *stage) {
		ana := s.connect("ana")
		room := join(t, ana, "red", client.JoinOptions{})
		old := must[client.Receipt](t)(room.Send(t.Context(), 1)).Position.Epoch
		page := must[client.Page](t)(room.History(t.Context(), client.Query{}))
		if e := next(t, room, client.TypeRoomMessage); old == "" || e.Position.Epoch != old || page.Messages[0].Position.Epoch != old {
			t.Errorf("epoch %q, event %+v, page %+v", old, e, page)
		}
		s.breaking(ana, func() { s.restart(true) })
		fresh := must[client.Receipt](t)(room.Send(t.Context(), 2)).Position.Epoch
		if e := next(t, room, client.TypeRoomMessage); fresh == old || e.Position.Epoch != fresh {
			t.Errorf("epochs %q and %q, event %+v", old, fresh, e)
		}
		if r := must[client.Receipt](t)(ana.Notify(t.Context(), "ben", 3)); r.Position != (client.Position{}) || r.ID == "" {
			t.Errorf("receipt of a notification: %+v", r)
		}
	},
	"messages written while the server was away are sent in order afterwards": func(t *testing.T, s *stage) {
		ana := s.connect("ana")
		room := join(t, ana, "red", client.JoinOptions{})
		s.nets[0].serve(nil)
		s.cut()
		until(t, ana, client.Waiting)
		sent := make(chan error)
		for n := 1; n <= 4; n++ {
			go func() { _, err := room.Send(t.Context(), n); sent <- err }()
			synctest.Wait() // the calls have an order
		}
		s.nets[0].serve(s.hub)
		for range 4 {
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
		wantTexts(t, "ana", room, 1, 2, 3, 4)
	},
	"a message without an answer is sent again, and stored once": func(t *testing.T, s *stage) {
		ana := s.connect("ana")
		room := join(t, ana, "red", client.JoinOptions{})
		var want []any
		for n := range 10 {
			sent := make(chan error)
			go func() { _, err := room.Send(t.Context(), n); sent <- err }()
			s.cut()
			if err := <-sent; err != nil {
				t.Error(err)
			}
			want = append(want, n)
		}
		wantTexts(t, "ana", room, want...)
		if page := must[client.Page](t)(room.History(t.Context(), client.Query{})); texts(page.Messages) != "0 1 2 3 4 5 6 7 8 9" {
			t.Errorf("the log has %s", texts(page.Messages))
		}
	},
	"a private message waits for an absent user, and does not come back to its sender": func(t *testing.T, s *stage) {
		ana := s.connect("ana")
		own := must[*client.Inbox](t)(ana.Inbox(t.Context(), client.InboxOptions{}))
		r := must[client.Receipt](t)(ana.Private("ben").Send(t.Context(), "psst"))
		s.breaking(ana, s.cut)
		theirs := must[*client.Inbox](t)(s.connect("ben").Inbox(t.Context(), client.InboxOptions{Since: &client.Position{}}))
		if e := next(t, theirs, client.TypePrivateMessage); string(e.Data) != `"psst"` || e.ID != r.ID || e.To != "ben" || e.From.ID != "ana" {
			t.Errorf("ben got %+v", e)
		}
		wantTexts(t, "ana", own)
	},
	"an id that was used for another message is a conflict, and the connection goes on": func(t *testing.T, s *stage) {
		ana, ben := s.connect("ana"), s.connect("ben")
		room, his := join(t, ana, "red", client.JoinOptions{}), join(t, ben, "red", client.JoinOptions{})
		inbox := must[*client.Inbox](t)(ben.Inbox(t.Context(), client.InboxOptions{}))
		must[client.Receipt](t)(room.Post(t.Context(), client.Post{ID: "i", Data: 1}))
		if r := must[client.Receipt](t)(room.Post(t.Context(), client.Post{ID: "i", Data: 1})); !r.Duplicate {
			t.Errorf("a repetition has %+v", r)
		}
		if _, err := room.Post(t.Context(), client.Post{ID: "i", Data: 2}); !isCode(err, client.CodeConflict) {
			t.Errorf("another message: %v", err)
		}
		must[client.Receipt](t)(ana.Private("ben").Post(t.Context(), client.Post{ID: "i", Data: 3}))
		if _, err := ana.Private("ben").Post(t.Context(), client.Post{ID: "i", Data: 4}); !isCode(err, client.CodeConflict) {
			t.Errorf("another private message: %v", err)
		}
		must[client.Receipt](t)(room.Send(t.Context(), 5))
		wantTexts(t, "red", his, 1, 5)
		wantTexts(t, "ben", inbox, 3)
	},
	"a second tab of the sender gets its private messages": func(t *testing.T, s *stage) {
		one, two := s.connect("ana"), s.connect("ana")
		inbox := must[*client.Inbox](t)(two.Inbox(t.Context(), client.InboxOptions{}))
		must[client.Receipt](t)(one.Private("ben").Send(t.Context(), "hello"))
		wantTexts(t, "the second tab", inbox, "hello")
	},
	"answers questions of the server": func(t *testing.T, s *stage) {
		_, n := dial(t, s.hub, client.Options{Answers: map[string]client.Answerer{
			"double": func(_ context.Context, q client.Event) (any, error) {
				var n int
				err := q.Decode(&n)
				return 2 * n, err
			},
			"nothing": func(context.Context, client.Event) (any, error) { return nil, nil },
			"refuse": func(context.Context, client.Event) (any, error) {
				return nil, &client.Error{Code: client.CodeForbidden, Message: "Not now"}
			},
		}})
		s.nets = append(s.nets, n)
		for event, want := range map[string]string{"double": "42", "nothing": "null", "refuse": "forbidden: Not now", "nobody": "unknown_type"} {
			answers := must[[]chathub.Answer](t)(s.hub.ToUser("ana").EmitWithAck(t.Context(), event, 21))
			got := string(answers[0].Data)
			if e, ok := errors.AsType[*chathub.Error](answers[0].Err); ok {
				got = string(e.Code) + ": " + e.Message
			}
			if !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s, want %s", event, got, want)
			}
		}
	},
	"an unknown event is an error for its caller": func(t *testing.T, s *stage) {
		ana := s.connect("ana")
		if err := ana.Emit(t.Context(), "no-such-event", 1, nil); !isCode(err, client.CodeUnknownType) {
			t.Error(err)
		}
		if st := ana.Status(); st.State != client.Connected {
			t.Errorf("then the client is %v", st.State)
		}
	},
	"a room that was left is not joined again": func(t *testing.T, s *stage) {
		ana := s.connect("ana")
		room := join(t, ana, "red", client.JoinOptions{})
		if err := room.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		s.breaking(ana, s.cut)
		if _, err := room.Send(t.Context(), "x"); !errors.Is(err, client.ErrLeft) {
			t.Error(err)
		}
		if users := must[[]chathub.User](t)(s.hub.RoomUsers(t.Context(), "red")); len(users) > 0 {
			t.Errorf("in the room: %v", users)
		}
	},
}

func TestBehaviour(t *testing.T) {
	for name, f := range behaviours {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, newStage(t)) })
		})
	}
}

// TestBehaviourIsComplete: no behaviour of the TypeScript client is missing.
func TestBehaviourIsComplete(t *testing.T) {
	source, err := os.ReadFile("../clients/ts/test/behaviour.ts")
	if err != nil {
		t.Fatal(err)
	}
	var theirs []string
	for _, m := range regexp.MustCompile(`(?m)^    test(?:\.each\(.*\))?\('([^']*)'`).FindAllStringSubmatch(string(source), -1) {
		theirs = append(theirs, strings.ReplaceAll(m[1], "%s", "anything"))
	}
	slices.Sort(theirs)
	if ours := slices.Sorted(maps.Keys(behaviours)); !slices.Equal(ours, theirs) || len(theirs) == 0 {
		t.Errorf("the Go client has %q, the TypeScript client %q", ours, theirs)
	}
}
