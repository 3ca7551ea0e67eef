package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// said describes answers, sorted by user.
func said(answers []chathub.Answer) []string {
	var all []string
	for _, a := range answers {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s: %s %v", a.User.ID, string(a.Data), a.Err)))
	}
	slices.Sort(all)
	return all
}

// unsteadyParties are hubs on one broker. Their sessions are the broker's
// links.
func unsteadyParties(t *testing.T, n int, lease time.Duration) (*unsteady, []*party) {
	broker := newUnsteady(1)
	var parties []*party
	for range n {
		parties = append(parties, newParty(t, chathub.Config{Broker: broker, NodeLease: lease}))
	}
	synctest.Wait()
	return broker, parties
}

func TestClusterEmitWithAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := unsteadyParties(t, 3, 0)
		guests := map[string]guest{
			"ana": p[0].dial("ana", "red"),
			"bob": p[1].dial("bob", "red", "blue"),
			"cid": p[1].dial("cid", "red"),
			"dan": p[2].dial("dan", "red", "blue"),
			"eve": p[2].dial("eve", "red"),
			"fay": p[2].dial("fay"),
		}
		answers := func(user, typ, data string) {
			go func() {
				f := guests[user].Wait("ask")
				if string(f.Data) != `"?"` || !f.Ack || f.From != nil {
					t.Errorf("%s is asked %+v", user, f)
				}
				if typ == "drop" {
					guests[user].Drop()
				} else if typ != "" {
					guests[user].Send(hubtest.Frame{Type: typ, ID: f.ID, Data: raw(data)})
				}
			}()
		}
		answers("ana", "ack", `"yes"`)
		answers("bob", "ack", "")
		answers("cid", "error", `{"code":"conflict","message":"No"}`)
		answers("dan", "drop", "")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		got, err := p[0].hub.To("red", "blue").Except(guests["fay"].server.ID()).EmitWithAck(ctx, "ask", "?")
		want := []string{
			`ana: "yes" <nil>`, `bob: null <nil>`, `cid:  chathub: conflict: No`,
			`dan:  chathub: client is gone`, `eve:  context deadline exceeded`,
		}
		if err != nil || !slices.Equal(said(got), want) {
			t.Errorf("answers %q, %v, want %q", said(got), err, want)
		}
		for _, a := range got {
			if a.ClientID != guests[a.User.ID].server.ID() {
				t.Errorf("%s answered on connection %s", a.User.ID, a.ClientID)
			}
		}
		wantHeard(t, "eve, too late to answer, asked once", guests["eve"].Client, `ask "?"`)

		// Other targets, from other hubs.
		for _, tc := range []struct {
			name string
			to   chathub.Target
			who  string
		}{
			{"a user of another node", p[0].hub.ToUser("fay"), "fay"},
			{"a connection of another node", p[1].hub.ToClient(guests["fay"].server.ID()), "fay"},
			{"everyone but", p[2].hub.Broadcast().Except(guests["ana"].server.ID(), guests["cid"].server.ID(), guests["eve"].server.ID(), guests["fay"].server.ID()), "bob"},
			{"nobody", p[0].hub.ToUser("nobody"), ""},
			{"no room", p[0].hub.To(), ""},
		} {
			var want []string
			if tc.who != "" {
				answers(tc.who, "ack", "1")
				want = []string{tc.who + ": 1 <nil>"}
			}
			start := time.Now()
			got, err := tc.to.EmitWithAck(t.Context(), "ask", "?")
			if err != nil || !slices.Equal(said(got), want) || time.Since(start) > 0 {
				t.Errorf("%s: answers %q, %v after %v, want %q", tc.name, said(got), err, time.Since(start), want)
			}
		}
		for name, g := range guests {
			if name != "dan" {
				wantHeard(t, name, g.Client)
			}
		}
	})
}

// A node that dies, leaves or is silent delays the caller by no more than its
// lease, and is reported.
func TestClusterEmitWithAckEnds(t *testing.T) {
	unavailable := func(err error) bool {
		var e *chathub.Error
		return errors.As(err, &e) && e.Code == chathub.CodeUnavailable
	}
	for name, tc := range map[string]struct {
		before, after func(t *testing.T, p *party, l *link)
		timeout       time.Duration
		most          time.Duration
		missing       bool // the clients that the node has asked are not known
		want          []string
	}{
		"killed before":     {before: func(_ *testing.T, _ *party, l *link) { l.kill() }, most: 6 * time.Second, missing: true, want: []string{`ana: 1 <nil>`}},
		"killed meanwhile":  {after: func(_ *testing.T, _ *party, l *link) { l.kill() }, most: 6 * time.Second, want: []string{`ana: 1 <nil>`, `bob:  chathub: client is gone`}},
		"silent":            {before: func(_ *testing.T, _ *party, l *link) { l.kill() }, timeout: time.Second, most: time.Second, missing: true, want: []string{`ana: 1 <nil>`}},
		"closes":            {after: func(t *testing.T, p *party, _ *link) { _ = p.hub.Close() }, want: []string{`ana: 1 <nil>`, `bob:  chathub: client is gone`}},
		"context":           {timeout: time.Second, most: time.Second, want: []string{`ana: 1 <nil>`, `bob:  context deadline exceeded`}},
		"pause, and resume": {after: func(t *testing.T, p *party, l *link) { l.pause(); time.Sleep(2 * time.Second); l.resume() }, timeout: 3 * time.Second, most: 3 * time.Second, want: []string{`ana: 1 <nil>`, `bob:  context deadline exceeded`}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker, p := unsteadyParties(t, 2, 0)
				ana, bob := p[0].dial("ana", "red"), p[1].dial("bob", "red")
				if tc.before != nil {
					tc.before(t, p[1], broker.links[1])
				}
				ctx := t.Context()
				if tc.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.timeout)
					defer cancel()
				}
				go answer(ana.Client, "ack", "1")
				if tc.after != nil {
					go func() {
						bob.Wait("ask")
						synctest.Wait() // the node has reported whom it asked
						tc.after(t, p[1], broker.links[1])
					}()
				}
				start := time.Now()
				got, err := p[0].hub.To("red").EmitWithAck(ctx, "ask", nil)
				if !slices.Equal(said(got), tc.want) || unavailable(err) != tc.missing || !tc.missing && err != nil {
					t.Errorf("answers %q, %v, want %q", said(got), err, tc.want)
				}
				if took := time.Since(start); took > tc.most {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// Every answer arrives, and every client is asked once, whatever is lost or
// doubled on the way.
func TestClusterEmitWithAckUnsteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, p := unsteadyParties(t, 3, time.Minute) // so that no node is given up
		want := make(map[string]int)
		var notes record
		var clients sync.WaitGroup
		defer clients.Wait()
		for i := range 9 {
			user := fmt.Sprint("user", i)
			g := p[i%3].dial(user, "red")
			clients.Go(func() {
				for n := 0; n < 20; time.Sleep(10 * time.Millisecond) {
					for _, f := range g.Pending() {
						n++
						notes.add("%s %s", user, f.Data)
						g.Send(hubtest.Frame{Type: "ack", ID: f.ID, Data: f.Data})
					}
				}
			})
		}
		broker.weather(0.3, 0.3, 20*time.Millisecond)
		for i := range 20 {
			got, err := p[i%3].hub.To("red").EmitWithAck(t.Context(), "ask", i)
			if err != nil || len(got) != 9 {
				t.Errorf("question %d: %d answers, %v", i, len(got), err)
			}
			for _, a := range got {
				if a.Err != nil || string(a.Data) != fmt.Sprint(i) {
					t.Errorf("question %d: %s answered %s, %v", i, a.User.ID, a.Data, a.Err)
				}
				want[fmt.Sprintf("%s %d", a.User.ID, i)]++
			}
		}
		heard := make(map[string]int)
		for _, n := range notes.take() {
			heard[n]++
		}
		if !maps.Equal(heard, want) {
			t.Errorf("%v were asked, %v answered", heard, want)
		}
	})
}

// An answer that nobody waits for any more is ignored.
func TestClusterEmitWithAckLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := unsteadyParties(t, 2, 0)
		bob := p[1].dial("bob")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := p[0].hub.ToUser("bob").EmitWithAck(ctx, "ask", nil)
			done <- err
		}()
		f := bob.Wait("ask")
		synctest.Wait() // the node has reported whom it asked
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		bob.Send(hubtest.Frame{Type: "ack", ID: f.ID, Data: raw("1")})
		wantHeard(t, "bob", bob.Client)
	})
}

// A user whose token is revoked is thrown out on every node at once.
func TestClusterRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := unsteadyParties(t, 3, 0)
		var tabs []guest
		for _, p := range p {
			tabs = append(tabs, p.dial("ana", "red"))
		}
		bob := p[2].dial("bob", "red")
		start := time.Now()
		if err := p[0].hub.ToUser("ana").Disconnect(t.Context(), "revoked"); err != nil {
			t.Error(err)
		}
		for i, tab := range tabs {
			if code, reason := tab.Closed(); code != 4503 || reason != "revoked" {
				t.Errorf("tab %d: closed with %d %q", i, code, reason)
			}
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v", took)
		}
		bob.Must(hubtest.Frame{Type: "ping"})
	})
}
