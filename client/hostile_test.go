package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub/client"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// serverFrames returns the golden frames from the server, by name.
func serverFrames(t testing.TB) (frames map[string]string) {
	t.Helper()
	b, err := os.ReadFile("../protocol/frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Frames []struct {
			Name      string         `json:"name"`
			Direction string         `json:"direction"`
			Frame     jsontext.Value `json:"frame"`
		} `json:"frames"`
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	frames = make(map[string]string)
	for _, f := range golden.Frames {
		if f.Direction == "server" {
			frames[f.Name] = string(f.Frame)
		}
	}
	return frames
}

// session is a client that is in the room lobby, and has waiting calls of every
// kind, with a fake server.
type session struct {
	*client.Client
	server  *fake
	network *network
	peer    *peer
	lobby   *client.Room
	inbox   *client.Inbox
	calls   []received // that the client has sent and that have no answer
	over    context.CancelFunc
}

// begin makes a session. Call it in a bubble.
func begin(t *testing.T) *session {
	t.Helper()
	server := newFake()
	s := &session{server: server}
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		s.peer = server.accept(t)
		s.peer.answer(s.peer.next(t, "join-room"), "ack", `{"epoch":"k3","seq":1,"recovered":false}`)
		s.peer.answer(s.peer.next(t, "resume"), "ack", `{"rooms":{},"inbox":{"epoch":"a1","seq":1,"recovered":true}}`)
	}()
	s.Client, s.network = dial(t, server, client.Options{Answers: map[string]client.Answerer{
		"still-there": func(context.Context, client.Event) (any, error) { return true, nil },
	}})
	s.lobby = join(t, s.Client, "lobby", client.JoinOptions{})
	var err error
	if s.inbox, err = s.Inbox(t.Context(), client.InboxOptions{Since: &client.Position{Epoch: "a1", Seq: 1}}); err != nil {
		t.Fatal(err)
	}
	<-ready
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s.over = cancel
	s.Events(ctx) // keep them from now on
	for _, call := range []func(){
		func() { _, _ = s.lobby.Send(ctx, 1) },
		func() { _, _ = s.Private("u2").Send(ctx, 1) },
		func() { _, _ = s.lobby.History(ctx, client.Query{}) },
		func() { _, _ = s.Overview(ctx, nil, true) },
		func() { _, _ = s.lobby.MarkRead(ctx, 1) },
		func() { _, _, _ = s.OnlineUsers(ctx) },
		func() { var v any; _ = s.Emit(ctx, "order", nil, &v) },
		func() { _, _ = s.Join(ctx, "other", client.JoinOptions{}) },
	} {
		go call()
		synctest.Wait()
		s.calls = append(s.calls, <-s.peer.frames)
	}
	return s
}

// TestGoldenFrames sends each golden frame of the server to a client. It hands
// on what is for the program, with nothing lost, and ignores the rest.
func TestGoldenFrames(t *testing.T) {
	quiet := map[string]bool{"welcome": true, "ack": true, "error": true, "pong": true, "connect-error": true, "reconnect": true}
	frames := serverFrames(t)
	if len(frames) < 50 {
		t.Fatalf("%d frames", len(frames))
	}
	for name, raw := range frames {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := begin(t)
				s.peer.send(raw)
				var f struct {
					Type string         `json:"type"`
					Room string         `json:"room"`
					Seq  uint64         `json:"seq"`
					Ack  bool           `json:"ack"`
					From *client.User   `json:"from"`
					Data jsontext.Value `json:"data"`
				}
				if err := json.Unmarshal([]byte(raw), &f); err != nil {
					t.Fatal(err)
				}
				var at struct {
					Position uint64 `json:"position"` // of a read in the inbox
				}
				if f.Type == client.TypeRead && json.Unmarshal(f.Data, &at) == nil {
					f.Seq = at.Position
				}
				var got []client.Event
				for _, where := range []source{s.lobby, s.inbox, s} {
					got = append(got, arrived(where, f.Type)...)
				}
				switch {
				case quiet[f.Type], f.Ack:
					if len(got) != 0 {
						t.Errorf("the program got %+v", got)
					}
				case len(got) != 1:
					t.Errorf("the program got %d events", len(got))
				default:
					e := got[0]
					if e.Room != f.Room || e.Position.Seq != f.Seq || !bytes.Equal(e.Data, f.Data) || f.From != nil && e.From != *f.From {
						t.Errorf("the program got %+v", e)
					}
					if _, ok := e.Change(); ok != (f.Type == client.TypeChanged) {
						t.Errorf("a change: %v", ok)
					}
				}
				if s.Status().State != client.Connected {
					t.Errorf("status %+v", s.Status())
				}
			})
		})
	}
}

// TestHostileFrames sends what no server should. The connection goes on.
func TestHostileFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t)
		for _, raw := range []string{
			``, `null`, `[]`, `"x"`, `{`, `{}`, `{"type":1}`, `{"type":"UPPER"}`, `{"type":"x","type":"y"}`,
			`{"type":"room-message","room":"lobby","seq":-1}`,
			`{"type":"room-message","room":"lobby","seq":9007199254740992}`,
			`{"type":"room-message","room":"lobby","seq":1.5}`,
			`{"type":"room-message","room":"lobby","seq":1}`, // the client has that
			`{"type":"room-message","room":5,"seq":2}`,
			`{"type":"+gap","room":"lobby"}`,
			`{"type":"user-joined","room":"lobby","data":{"users":5,"count":-1}}`,
			`{"type":"online-users","data":{"count":-1}}`,
			`{"type":"error"}`, `{"type":"ack","id":"nobody"}`, `{"type":"error","id":"nobody","data":7}`,
			`{"type":"reconnect","data":{"afterMs":-1}}`, `{"type":"reconnect","data":null}`,
			`{"type":"welcome","data":{"clientId":"c_2","user":{"id":"eve","name":"Eve"},"time":1,"inbox":{"epoch":"b","seq":0}}}`,
			`{"type":"message-changed","room":"lobby","data":{"seq":"x"}}`,
			`{"type":"question","id":"q1","ack":true}`,
			strings.Repeat("[", 100000),
		} {
			s.peer.send(raw)
		}
		_ = s.peer.ws.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"room-message","room":"lobby","seq":7,"data":"binary"}`))
		s.peer.send(`{"type":"room-message","room":"lobby","seq":2,"data":"right"}`)
		if got := texts(arrived(s.lobby, client.TypeRoomMessage, client.TypeGap)); got != `"right"` {
			t.Errorf("got %s", got)
		}
		if u := s.User(); s.Status().State != client.Connected || u.ID != "ana" {
			t.Errorf("%+v, as %v", s.Status(), u)
		}
	})
}

// TestInvalidAnswers answers calls with what is not an answer.
func TestInvalidAnswers(t *testing.T) {
	for _, data := range []string{`null`, `5`, `[]`, `{"messages":5,"rooms":5,"seq":"x"}`, `{"epoch":"","seq":-1}`} {
		t.Run(data, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := begin(t)
				for _, call := range s.calls {
					s.peer.answer(call, "ack", data)
				}
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := s.Join(ctx, "other", client.JoinOptions{}); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("joining the room again: %v", err)
				}
				if s.Status().State != client.Connected {
					t.Errorf("status %+v", s.Status())
				}
			})
		})
	}
}

// TestInvalidWelcome tries again, and more and more slowly.
func TestInvalidWelcome(t *testing.T) {
	for name, frames := range map[string][]string{
		"none":       {},
		"not valid":  {`{"type":"welcome","data":{"clientId":5}}`},
		"incomplete": {`{"type":"welcome"}`},
		"no resume":  {welcomeFrame, `{"type":"error","id":"x","data":null}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newFake()
				good := make(chan *peer)
				go func() { good <- server.accept(t) }()
				n := &network{handler: server}
				c := dialOver(t, n, client.Options{})
				<-good
				// Waits for the answer to resume from now on.
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, _ = c.Join(ctx, "red", client.JoinOptions{Since: &client.Position{Epoch: "k", Seq: 1}})
				go func() { _, _ = c.Inbox(t.Context(), client.InboxOptions{}) }()
				n.cut()
				attempts := 0
				for began := time.Now(); time.Since(began) < 10*time.Minute; attempts++ {
					p := <-server.peers
					for _, f := range frames {
						p.send(f)
					}
				}
				if attempts < 10 || attempts > 80 {
					t.Errorf("%d attempts in 10 minutes", attempts)
				}
			})
		})
	}
}

// FuzzFrames sends frames to a client that waits for answers. It must not
// panic, and must end.
func FuzzFrames(f *testing.F) {
	all := ""
	for _, raw := range serverFrames(f) {
		f.Add(raw)
		all += raw + "\n"
	}
	f.Add(all)
	for _, part := range []string{
		`{"type":"ack","id":"$1","data":{"seq":1,"ts":2}}`,
		`{"type":"error","id":"$8","data":{"code":"rate_limited","retryAfterMs":1e300}}`,
		`{"type":"ack","id":"$3","data":{"messages":[{"type":"x","re":{}},{}],"next":3}}`,
		`{"type":"removed","room":"lobby"}`,
	} {
		f.Add(part + "\n" + welcomeFrame)
	}
	f.Fuzz(func(t *testing.T, frames string) {
		synctest.Test(t, func(t *testing.T) {
			s := begin(t)
			for raw := range strings.SplitSeq(frames, "\n") {
				for i, call := range s.calls {
					raw = strings.ReplaceAll(raw, fmt.Sprint("$", i), call.ID)
				}
				s.peer.send(raw)
			}
			synctest.Wait()
			for _, where := range []source{s.lobby, s.inbox, s} {
				for _, e := range arrived(where, client.TypeChanged) {
					e.Change()
				}
			}
			s.lobby.Users()
			s.Online()
			s.over()
			s.Close()
		})
	})
}
