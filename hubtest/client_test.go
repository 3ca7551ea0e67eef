package hubtest_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

func TestClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
		chathub.OnAck(hub, "double", func(_ context.Context, _ *chathub.Client, n int) (int, error) { return 2 * n, nil })
		ana, bob := hubtest.Dial(t, hub, "ana/Ana"), hubtest.Dial(t, hub, "bob")
		if s := string(ana.Welcome.Data); !strings.Contains(s, `"user":{"id":"ana","name":"Ana"}`) {
			t.Errorf("welcome is %s", s)
		}

		for range 2 {
			if f := ana.Request(hubtest.Frame{Type: "double", Data: hubtest.Data(21)}); f.Type != "ack" || string(f.Data) != "42" {
				t.Errorf("got %s %s", f.Type, f.Data)
			}
		}
		if f := ana.Must(hubtest.Frame{Type: "double", ID: "mine"}); f.ID != "mine" {
			t.Errorf("the ack has id %q", f.ID)
		}
		if f := ana.Request(hubtest.Frame{Type: "treble"}); f.Code() != chathub.CodeUnknownType {
			t.Errorf("got %s %s", f.Type, f.Data)
		}

		bob.Must(hubtest.Frame{Type: "join-room", Room: "red"})
		ana.Must(hubtest.Frame{Type: "join-room", Room: "red"})
		for i := range 3 {
			ana.Send(hubtest.Frame{Type: "room-message", Room: "red", Data: hubtest.Data(i)})
		}
		ana.SendText(`{"type":"message","data":"text"}`)
		f := bob.Next()
		if f.Type != "room-message" || f.Room != "red" || f.From == nil || *f.From != (chathub.User{ID: "ana", Name: "Ana"}) ||
			f.Seq != 1 || f.TS != time.Now().UnixMilli() || string(f.Data) != "0" {
			t.Errorf("the first frame is %+v", f)
		}
		if f := bob.Wait("message"); string(f.Data) != `"text"` {
			t.Errorf("the message is %s", f.Data)
		}
		if got := bob.Pending(); len(got) > 0 {
			t.Errorf("after it came %v", got)
		}
		synctest.Wait()
		if got := ana.Pending(); len(got) != 3 {
			t.Errorf("ana has %v", got)
		}
		ana.SendRaw(true, []byte("binary"))
		if f := ana.Next(); f.Code() != chathub.CodeBadRequest {
			t.Errorf("got %s %s", f.Type, f.Data)
		}
	})
}

// TestEnds checks that both sides see how a connection ends.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan chathub.Disconnect)
		hub := hubtest.New(t, chathub.Config{
			PresenceInterval: -1,
			OnDisconnect:     func(_ *chathub.Client, d chathub.Disconnect) { ends <- d },
		})
		handled := 0
		chathub.On(hub, "count", func(context.Context, *chathub.Client, struct{}) error {
			handled++
			return nil
		})

		c := hubtest.Dial(t, hub, "ana")
		for range 100 {
			c.Send(hubtest.Frame{Type: "count"})
		}
		c.Close() // after everything that was sent
		if d := <-ends; d.Code != 1000 || !d.Remote || handled != 100 {
			t.Errorf("the hub saw %+v, after %d events", d, handled)
		}
		c.Close()
		c.Drop()

		c = hubtest.Dial(t, hub, "ana")
		c.Drop()
		if code, reason := c.Closed(); code != -1 || reason != "" {
			t.Errorf("dropped: %d %q", code, reason)
		}
		if d := <-ends; d.Code != 1006 {
			t.Errorf("the hub saw %+v", d)
		}
		c.Drop()
		c.Close()

		c = hubtest.Dial(t, hub, "ana")
		if err := hub.ToUser("ana").Emit(t.Context(), "news", nil); err != nil {
			t.Error(err)
		}
		if err := hub.ToUser("ana").Disconnect(t.Context(), "bye"); err != nil {
			t.Error(err)
		}
		<-ends
		if code, reason := c.Closed(); code != 4503 || reason != "bye" {
			t.Errorf("disconnected: %d %q", code, reason)
		}
		if f := c.Next(); f.Type != "news" { // can still be read
			t.Errorf("before it came %s", f.Type)
		}
	})
}

// TestPause checks that a client that does not read receives everything once it
// reads again.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
		ana := hubtest.Dial(t, hub, "ana")
		ana.Pause()
		for i := range 10 {
			if err := hub.ToUser("ana").Emit(t.Context(), "news", i); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := len(ana.Pending()); n > 1 {
			t.Errorf("%d frames came while it read nothing", n)
		}
		ana.Resume()
		synctest.Wait()
		if n := len(ana.Pending()); n < 9 {
			t.Errorf("%d frames came afterwards, want the others", n)
		}
	})
}

func TestDialRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{})
		c, err := hubtest.DialHeader(t, hub, nil)
		if err != nil {
			t.Fatal(err)
		}
		if f := c.Next(); f.Type != "connect-error" || f.Code() != chathub.CodeUnauthenticated {
			t.Errorf("got %s %s", f.Type, f.Data)
		}
		if code, _ := c.Closed(); code != 4500 {
			t.Errorf("closed with %d, want 4500", code)
		}
		// Without the protocol, the hub refuses over HTTP.
		_, err = hubtest.DialHeader(t, hub, http.Header{"Sec-Websocket-Protocol": {"other"}})
		if err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("the error is %v, want one with 401", err)
		}
		for _, h := range []http.Handler{http.NotFoundHandler(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})} {
			if _, err := hubtest.DialHeader(t, h, nil); err == nil {
				t.Error("there was no hub, and no error")
			}
		}
	})
}

// stub is a testing.TB that records why it failed.
type stub struct {
	testing.TB
	fault string
}

func (s *stub) Helper() {}

func (s *stub) Fatal(args ...any) { s.fail(fmt.Sprint(args...)) }

func (s *stub) Fatalf(format string, args ...any) { s.fail(fmt.Sprintf(format, args...)) }

func (s *stub) fail(fault string) {
	s.fault = fault
	runtime.Goexit() // like a real testing.TB
}

// faultOf returns the message with which f fails a test, or "".
func faultOf(t *testing.T, f func(testing.TB)) string {
	s := &stub{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(s)
	}()
	<-done
	return s.fault
}

// TestFaults checks the messages with which a client fails a test.
func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1})
		for _, tc := range []struct {
			name string
			do   func(tb testing.TB, c *hubtest.Client)
			want string
		}{
			{"Next", func(_ testing.TB, c *hubtest.Client) { c.Next() }, "no frame within 10s"},
			{"Wait", func(_ testing.TB, c *hubtest.Client) { c.Wait("news") }, "no frame within 10s"},
			{"Must", func(_ testing.TB, c *hubtest.Client) { c.Must(hubtest.Frame{Type: "nonsense"}) }, "unknown_type"},
			{"Closed", func(_ testing.TB, c *hubtest.Client) { c.Closed() }, "connection is still open"},
			{"Next after the end", func(_ testing.TB, c *hubtest.Client) {
				c.Drop()
				c.Next()
			}, "connection ended: "},
			{"Send of what is no JSON", func(_ testing.TB, c *hubtest.Client) {
				c.Send(hubtest.Frame{Type: "message", Data: []byte("{")})
			}, "json: "},
			{"Dial", func(tb testing.TB, _ *hubtest.Client) { hubtest.Dial(tb, hub, "") }, `first frame is "connect-error" `},
			{"New", func(tb testing.TB, _ *hubtest.Client) { hubtest.New(tb, chathub.Config{WriteTimeout: -1}) }, "chathub: invalid Config: "},
		} {
			got := faultOf(t, func(tb testing.TB) { tc.do(tb, hubtest.Dial(tb, hub, "ana")) })
			if !strings.Contains(got, tc.want) || got == "" {
				t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
			}
		}
	})
}

func TestData(t *testing.T) {
	if got := string(hubtest.Data(map[string]int{"n": 1})); got != `{"n":1}` {
		t.Error(got)
	}
	defer func() {
		if recover() == nil {
			t.Error("what has no JSON was accepted")
		}
	}()
	hubtest.Data(func() {})
}
