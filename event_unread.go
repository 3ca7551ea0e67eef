package chathub

import (
	"context"
	"log/slog"
	"strings"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// mostUnread bounds the counts of unread messages. It stands for that many or
// more.
const mostUnread = 100

// unreadAfter asks for what is unread after a position: in a room or, if that
// is empty, in the conversation with a user.
func (c *Client) unreadAfter(room, peer string, seq uint64) SurveyQuery {
	user := c.User().ID
	q := SurveyQuery{Topic: c.world().room(room), After: seq, Reader: user, Most: mostUnread}
	if room == "" {
		q.Topic, q.From = c.inbox(), peer
	}
	return q
}

// joined is what the answers to join-room and resume say about a room besides
// its position and its users.
type joined struct {
	reading
	state map[string]StateValue
}

// joinedOf returns that of several rooms: the marker, the number of unread
// messages up to the position of the join, and the state. If it fails and the
// result is not nil, that has the states.
func (c *Client) joinedOf(ctx context.Context, joins []*join) (map[string]joined, error) {
	if len(joins) == 0 {
		return nil, nil
	}
	names := make([]string, len(joins))
	asked := make([]NameQuery, len(joins), len(joins)+1)
	for i, j := range joins {
		names[i] = markerName(j.room, "")
		asked[i] = NameQuery{Topic: c.world().room(j.room), Kind: kindState}
	}
	named, err := c.hub.session.ReadNamed(ctx, append(asked, NameQuery{Topic: c.inbox(), Names: names}))
	if err != nil {
		return nil, err
	}
	markers := markersIn(named[len(joins)])
	all := make(map[string]joined, len(joins))
	var queries []SurveyQuery
	for i, j := range joins {
		seq := markers[names[i]].in(j.pos.Epoch)
		all[j.room] = joined{reading{Seq: seq}, roomState(named[i])}
		if seq < j.pos.Seq {
			q := c.unreadAfter(j.room, "", seq)
			q.Before = j.pos.Seq + 1
			queries = append(queries, q)
		}
	}
	if len(queries) == 0 {
		return all, nil
	}
	standings, err := c.hub.surveyAsOf(ctx, queries)
	if err != nil {
		return all, err
	}
	for i, q := range queries {
		room := plain(q.Topic.Room)
		r := all[room]
		r.Unread = standings[i].Unread
		all[room] = r
	}
	return all, nil
}

// refreshed returns messages of the user's inbox in which the read events are
// up to date. As they were stored, they say what was unread at that time, which
// would mislead a client that was away. Markers of a log that is another one by
// now are left out.
func (c *Client) refreshed(ctx context.Context, messages []Message) []Message {
	var places []int
	var queries []SurveyQuery
	for i := range messages {
		kind, of, _ := strings.Cut(messages[i].Name, "/")
		switch seq := markerIn(&messages[i]).Seq; kind {
		case kindRead:
			places, queries = append(places, i), append(queries, c.unreadAfter(of, "", seq))
		case kindSeen:
			places, queries = append(places, i), append(queries, c.unreadAfter("", of, seq))
		}
	}
	if len(queries) == 0 {
		return messages
	}
	c.chargeReplay(overviewCost * len(queries))
	standings, err := c.hub.session.Survey(ctx, queries)
	if err != nil {
		c.cannotCount(ctx, err)
		return messages // they are right as of their head
	}
	user := c.User()
	for k, i := range places {
		m, at := &messages[i], standings[k]
		_, of, _ := strings.Cut(m.Name, "/")
		room, peer := of, ""
		if queries[k].Topic.Room == "" {
			room, peer = "", of
		}
		if markerIn(m).Epoch != at.Head.Epoch {
			m.Body = nil // it is no event any more
		} else if env, err := readEvent(room, peer, &user, &reading{queries[k].After, at.Unread, at.Head.Seq}); err == nil {
			m.Body = env.body(&note.Routed{})
		}
	}
	return messages
}

// cannotCount logs that unread messages could not be counted.
func (c *Client) cannotCount(ctx context.Context, err error) {
	if ctx.Err() != nil { // the client has gone
		return
	}
	c.hub.logLimited("cannot count unread", slog.LevelWarn, "chathub: cannot count unread messages", func() []any {
		return []any{"user", c.User().ID, "err", err}
	})
}

// surveyAsOf is Survey for queries that count up to a position, Before. Survey
// leaves out what is deleted by now. A client takes one off for each deletion
// that it hears of after that position. So what was deleted after it counts.
func (h *Hub) surveyAsOf(ctx context.Context, queries []SurveyQuery) ([]Standing, error) {
	standings, err := h.session.Survey(ctx, queries)
	if err != nil {
		return nil, err
	}
	var places []int
	var changed []NameQuery
	for i := range queries {
		q, at := &queries[i], &standings[i]
		if at.Head.Seq >= q.Before && at.Unread < q.Most && q.Before > q.After+1 {
			places = append(places, i)
			changed = append(changed, NameQuery{Topic: q.Topic, Kind: kindChanged, From: q.After + 1, To: q.Before - 1})
		}
	}
	if len(changed) == 0 {
		return standings, nil
	}
	named, err := h.session.ReadNamed(ctx, changed)
	if err != nil {
		return nil, err
	}
	for k, i := range places {
		for j := range named[k] {
			if m, at := &named[k][j], &standings[i]; queries[i].Before <= m.Seq && m.Seq <= at.Head.Seq && wasUnread(m, &queries[i]) {
				at.Unread = min(at.Unread+1, queries[i].Most)
			}
		}
	}
	return standings, nil
}

// wasUnread reports whether a message was deleted that a query would count
// otherwise. M says what it has become.
func wasUnread(m *Message, q *SurveyQuery) bool {
	st, err := stateIn(m)
	if err != nil || st.Deleted == 0 {
		return false
	}
	var s sent
	if json.Unmarshal(st.Head, &s) != nil {
		return false
	}
	return s.From.ID != q.Reader && (q.From == "" || s.From.ID == q.From)
}

// appendReading adds to the answer for a room how far its user has read.
func appendReading(b jsontext.Value, r reading) jsontext.Value {
	add, err := json.Marshal(struct {
		Read   uint64 `json:"read"`
		Unread int    `json:"unread"`
	}{r.Seq, r.Unread})
	if err != nil {
		return b
	}
	b[len(b)-1] = ','
	return append(b, add[1:]...)
}
