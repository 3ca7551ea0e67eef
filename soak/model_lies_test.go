package main

import (
	"context"
	"flag"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	become "github.com/chathub-go/chathub/internal/change"
	"github.com/chathub-go/chathub/internal/note"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

// lie is a way in which a broker deceives hubs, so that they break a law. Each
// function may change what it is given.
type lie struct {
	name string
	// finding is a part of what the model says about it.
	finding string

	publish   func(l *liar, m *chathub.Message)
	forget    func(l *liar, m *chathub.Message) bool // true: it is acked, and not stored
	deliver   func(l *liar, m *chathub.Message) bool // false: not at all
	readNamed func(q *chathub.NameQuery, found []chathub.Message) []chathub.Message
	survey    func(q *chathub.SurveyQuery, s *chathub.Standing)
	read      func(p *chathub.Page, r chathub.Range)
}

// liar is a hub's session with a broker that lies.
type liar struct {
	chathub.BrokerSession
	lie  *lie
	hub  int                   // 1, 2, ...
	also func(chathub.Message) // delivers one more message to the hub
}

// caught is what the model panics with if it has found a lie.
type caught struct{}

func (l *liar) Publish(ctx context.Context, m chathub.Message) (chathub.Receipt, error) {
	if f := l.lie.forget; f != nil && f(l, &m) {
		return chathub.Receipt{Seq: 1, Time: 1}, nil
	}
	if l.lie.publish != nil {
		l.lie.publish(l, &m)
	}
	return l.BrokerSession.Publish(ctx, m)
}

func (l *liar) ReadNamed(ctx context.Context, queries []chathub.NameQuery) ([][]chathub.Message, error) {
	found, err := l.BrokerSession.ReadNamed(ctx, queries)
	if l.lie.readNamed != nil {
		for i := range found {
			found[i] = l.lie.readNamed(&queries[i], found[i])
		}
	}
	return found, err
}

func (l *liar) Survey(ctx context.Context, queries []chathub.SurveyQuery) ([]chathub.Standing, error) {
	standings, err := l.BrokerSession.Survey(ctx, queries)
	if l.lie.survey != nil {
		for i := range standings {
			l.lie.survey(&queries[i], &standings[i])
		}
	}
	return standings, err
}

func (l *liar) Read(ctx context.Context, t chathub.Topic, r chathub.Range) (chathub.Page, error) {
	page, err := l.BrokerSession.Read(ctx, t, r)
	if l.lie.read != nil {
		l.lie.read(&page, r)
	}
	return page, err
}

// other is a tenant beside the one in which a story is told.
const other = "acme"

// lastWords are in the data of a message of bo, who is banned meanwhile.
const lastWords = "last words"

// isChange reports whether a message says what another one has become.
func isChange(m *chathub.Message) bool { return strings.HasPrefix(m.Name, "m/") }

// retell changes the states of messages that are read.
func retell(found []chathub.Message, f func(st *become.State)) []chathub.Message {
	found = slices.Clone(found)
	for i := range found {
		var r note.Routed
		if isChange(&found[i]) && r.Decode(found[i].Body) == nil {
			st, err := become.Decode(r.State)
			if err != nil {
				panic(err)
			}
			f(st)
			r.State = st.Encode()
			found[i].Body = r.Encode(0)
		}
	}
	return found
}

func without(found []chathub.Message, prefix string) []chathub.Message {
	return slices.DeleteFunc(slices.Clone(found), func(m chathub.Message) bool { return strings.HasPrefix(m.Name, prefix) })
}

// lies break one law each.
var lies = []*lie{
	{
		name: "history and replays have the original messages", finding: "got version 0",
		readNamed: func(q *chathub.NameQuery, found []chathub.Message) []chathub.Message {
			if q.Kind == "m" {
				return nil
			}
			return found
		},
	},
	{
		name: "a deleted message comes back in an answer", finding: "want   ",
		publish: func(_ *liar, m *chathub.Message) { m.Erase = false },
		readNamed: func(q *chathub.NameQuery, found []chathub.Message) []chathub.Message {
			return retell(found, func(st *become.State) {
				if q.Kind == "m" {
					st.Deleted, st.Head = 0, nil
				}
			})
		},
	},
	{
		name: "what is deleted stays in the log", finding: "unread",
		publish: func(_ *liar, m *chathub.Message) { m.Erase = false },
	},
	{
		name: "a member does not hear of changes", finding: "missed position",
		deliver: func(l *liar, m *chathub.Message) bool { return l.hub != 2 || !isChange(m) },
	},
	{
		name: "members see different changes", finding: "want",
		deliver: func(l *liar, m *chathub.Message) bool {
			if l.hub == 2 && isChange(m) {
				var r note.Routed
				if err := r.Decode(m.Body); err != nil {
					panic(err)
				}
				r.Body = []byte(strings.ReplaceAll(string(r.Body), `"edited"`, `"reacted"`))
				m.Body = r.Encode(0)
			}
			return true
		},
	},
	{
		name: "a change starts from the message as it was sent", finding: "nobody has just asked",
		publish: func(_ *liar, m *chathub.Message) {
			if isChange(m) {
				m.Expect = nil
			}
		},
		readNamed: func(q *chathub.NameQuery, found []chathub.Message) []chathub.Message {
			if len(q.Names) > 0 {
				return without(found, "m/")
			}
			return found
		},
	},
	{
		name: "an edit that is sent again is made again", finding: "nobody has just asked for an edit",
		readNamed: func(_ *chathub.NameQuery, found []chathub.Message) []chathub.Message {
			return retell(found, func(st *become.State) {
				*st = become.State{ // without the ids
					Head: st.Head, Seq: st.Seq, Time: st.Time, Count: st.Count,
					Data: st.Data, Edited: st.Edited, Deleted: st.Deleted, Reactions: st.Reactions,
				}
			})
		},
	},
	{
		name: "the other copy of a private message stays", finding: "for ana, {} for bo",
		forget: func(_ *liar, m *chathub.Message) bool { return m.Topic.User == "bo" && isChange(m) },
	},
	{
		name: "a change is acked, and not made", finding: "no such change",
		forget: func(_ *liar, m *chathub.Message) bool { return m.Owner == "cy" && isChange(m) },
	},
	{
		name: "too much is unread", finding: "unread in",
		survey: func(q *chathub.SurveyQuery, s *chathub.Standing) {
			if q.Most > 0 {
				s.Unread++
			}
		},
	},
	{
		name: "a marker moves back", finding: "moves from",
		publish: func(_ *liar, m *chathub.Message) {
			if strings.HasPrefix(m.Name, "read/") {
				m.Expect = nil
			}
		},
		readNamed: func(_ *chathub.NameQuery, found []chathub.Message) []chathub.Message { return without(found, "read/") },
	},
	{
		name: "an overview knows no marker", finding: "before the request",
		readNamed: func(q *chathub.NameQuery, found []chathub.Message) []chathub.Message {
			if len(q.Names) > 1 {
				return without(found, "read/")
			}
			return found
		},
	},
	{
		name: "an overview has an old message", finding: "the newest message",
		survey: func(_ *chathub.SurveyQuery, s *chathub.Standing) { s.Last = chathub.Message{} },
	},
	{
		name: "a page has a gap", finding: "answered without",
		read: func(p *chathub.Page, r chathub.Range) {
			if r.Oldest && len(p.Messages) > 1 {
				p.Messages = p.Messages[1:]
			}
		},
	},
	{
		name: "a tenant hears another one", finding: "has no message",
		deliver: func(l *liar, m *chathub.Message) bool {
			if m.Topic == (chathub.Topic{Room: "attic"}) && m.Seq > 0 {
				leaked := *m
				leaked.Topic.Room = other + tenantEnd + m.Topic.Room
				l.also(leaked)
			}
			return true
		},
	},
	{
		name: "a message goes to another tenant", finding: "no such message",
		publish: func(_ *liar, m *chathub.Message) {
			if m.Owner == "bo" && m.Topic.Room != "" && m.Name == "" {
				m.Topic.Room = other + tenantEnd + m.Topic.Room
			}
		},
	},
	{
		name: "a message is stored after its sender was banned", finding: "was stored after bo was banned",
		publish: func(_ *liar, m *chathub.Message) {
			if m.Owner == "bo" && m.Topic.Room == "attic" && strings.Contains(string(m.Body), lastWords) {
				time.Sleep(20 * time.Second) // which is longer than a hub waits
			}
		},
	},
}

// TestModelFindsLies runs one story with brokers that lie. The model has to
// find each lie, and nothing if there is none.
func TestModelFindsLies(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value
	defer func(was string) { _ = checks.Set(was) }(checks.String())
	if err := checks.Set("1"); err != nil {
		t.Fatal(err)
	}
	for _, l := range append([]*lie{{name: "none"}}, lies...) {
		t.Run(l.name, func(t *testing.T) {
			story := ""
			rapid.Check(t, func(t *rapid.T) { rapid.SyncTest(t, func(t *rapid.T) { tell(t, &story, l) }) })
			said := story[strings.LastIndex(story, "quiet")+1:]
			if l.finding == "" && story != "" || l.finding != "" && !strings.Contains(said, l.finding) {
				t.Errorf("the model says %q, not %q, after\n%s", said, l.finding, story)
			}
		})
	}
}

// tell tells a story with a lie, until the model finds it.
func tell(t *rapid.T, story *string, l *lie) {
	defer func() {
		if v := recover(); v != nil && v != (caught{}) {
			panic(v)
		}
	}()
	s := newStage(t, story, setting{broker: &chathub.MemoryBroker{}, keys: true, lie: l, replayLimit: 256, hubs: 2, tenants: []string{"", other}})
	w := s.worlds[0]
	elsewhere := s.worlds[1].devices[0]
	elsewhere.connect(w.nodes[1], "forget")
	elsewhere.conn.join("attic", "plain")
	conns := make(map[string]*conn)
	for i, name := range []string{"ana", "bo", "cy", "ana 2"} {
		w.devices[i].connect(w.nodes[i%2], "forget")
		conns[name] = w.devices[i].conn
		conns[name].join("attic", "plain")
	}
	ana, bo, cy := conns["ana"], conns["bo"], conns["cy"]
	w.settle()
	attic := chathub.Topic{Room: "attic"}
	n := 0
	data := func() jsontext.Value {
		n++
		return hubtest.Data(map[string]int{"n": n})
	}
	say := func(c *conn, typ, room, to string) {
		c.ask(&request{frame: hubtest.Frame{Type: typ, ID: c.nextID(), Room: room, To: to, Data: data()}})
		w.settle()
	}
	at := func(t chathub.Topic, seq uint64) target {
		life, _ := w.truth.latest(t)
		return target{t, life, w.truth.upTo(life).at(seq), seq}
	}
	do := func(c *conn, seq uint64, o op) *request {
		tg := at(attic, seq)
		if o.topic.User != "" {
			tg = at(c.d.inbox, seq)
		}
		c.change(tg, &o)
		w.settle()
		return w.sent[len(w.sent)-1]
	}
	read := func(c *conn, seq int) {
		c.ask(&request{about: uint64(seq), frame: hubtest.Frame{Type: "mark-read", ID: c.nextID(), Room: "attic", Data: hubtest.Data(map[string]int{"seq": seq})}})
		w.settle()
	}
	for range 3 {
		say(ana, "room-message", "attic", "")
		say(bo, "room-message", "attic", "")
	}
	say(ana, "private-message", "", "bo")
	say(ana, "private-message", "", "cy")

	read(ana, 4)
	read(conns["ana 2"], 2)
	edit := do(ana, 1, op{kind: "edited", data: string(data())})
	do(ana, 1, op{kind: "edited", data: string(data())})
	ana.ask(edit.again())
	do(cy, 1, op{kind: "reacted", key: "👍", on: true})
	do(bo, 1, op{kind: "reacted", key: "👍", on: true})
	do(cy, 1, op{kind: "reacted", key: "👍"})
	do(ana, 1, op{kind: "edited", data: string(data()), topic: ana.d.inbox})
	do(bo, 1, op{kind: "reacted", key: "👍", on: true, topic: bo.d.inbox})
	do(ana, 2, op{kind: "edited", data: string(data()), topic: ana.d.inbox})
	do(bo, 6, op{kind: "deleted"})
	for i, c := range []*conn{ana, conns["ana 2"], ana} { // on both hubs, within a moment
		c.change(at(attic, 3), &op{kind: "reacted", key: "no", on: i%2 == 0})
		synctest.Wait()
	}
	w.settle()

	for _, c := range w.conns {
		after := uint64(0)
		for _, h := range []*historyRequest{{Limit: 50}, {Limit: 3, Before: 6}, {Limit: 4, After: &after}, {Limit: 5, Around: 3}} {
			c.ask(&request{history: h, frame: hubtest.Frame{Type: "history", ID: c.nextID(), Room: "attic", Data: hubtest.Data(h)}})
		}
		c.ask(&request{history: &historyRequest{Limit: 50}, frame: hubtest.Frame{Type: "history", ID: c.nextID(), To: "bo", Data: hubtest.Data(map[string]int{"limit": 50})}})
		c.overview()
	}
	w.settle()
	cy.leave(true)
	do(bo, 4, op{kind: "deleted"})
	w.devices[2].connect(w.nodes[1], "resume")
	w.settle()
	w.devices[5].connect(w.nodes[0], "forget")
	w.devices[5].conn.join("attic", "history")
	w.settle()
	w.checkErased()

	bo.ask(&request{frame: hubtest.Frame{Type: "room-message", ID: bo.nextID(), Room: "attic", Data: hubtest.Data(lastWords)}})
	synctest.Wait()
	w.ban(bo.node, bo.d.user, "attic", []*conn{bo})
	w.settle()
}
