package chathub

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxOverview is how many rooms an overview may have.
	maxOverview = 500
	// maxConversations is how many conversations an overview has at most.
	maxConversations = 500
	// searchedInbox is how many messages of an inbox are searched for
	// conversations.
	searchedInbox = 4096
	// overviewCost is what each room and conversation of an overview costs of
	// the user's budget for answers, besides its bytes.
	overviewCost = 256
)

type overviewData struct {
	Rooms []string `json:"rooms"`
	Inbox bool     `json:"inbox"`
}

func onOverview(ctx context.Context, c *Client, e *Event) (any, error) {
	var d overviewData
	if err := decodeData(e, &d); err != nil {
		return nil, err
	}
	if len(d.Rooms) > maxOverview {
		return nil, errorf(CodeBadRequest, "more than %d rooms", maxOverview)
	}
	for _, room := range d.Rooms {
		if err := checkRoom(room); err != nil {
			return nil, err
		}
	}
	if err := c.awaitReplay(ctx); err != nil {
		return nil, err
	}
	o := overview{c: c, user: c.User().ID, budget: c.hub.cfg.answerBytes()}
	rooms, err := c.visible(ctx, unique(d.Rooms))
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 256*(1+len(rooms))), `{"rooms":{`...)
	if b, err = o.appendRooms(ctx, b, rooms); err != nil {
		return nil, err
	}
	b = append(b, '}')
	if d.Inbox {
		b = append(b, `,"conversations":[`...)
		if b, err = o.appendConversations(ctx, b); err != nil {
			return nil, err
		}
		b = append(b, ']')
	}
	c.chargeReplay(len(b) + overviewCost*o.parts)
	return jsontext.Value(append(b, '}')), nil
}

// visible returns those of rooms that the client's user may see.
func (c *Client) visible(ctx context.Context, rooms []string) ([]string, error) {
	cfg := &c.hub.cfg
	switch {
	case len(rooms) == 0:
		return nil, nil
	case cfg.Visible != nil:
		some, err := cfg.Visible(ctx, c, slices.Clone(rooms))
		if err != nil {
			return nil, forbidden(err)
		}
		// It cannot add any.
		return slices.DeleteFunc(rooms, func(r string) bool { return !slices.Contains(some, r) }), nil
	case cfg.Authorize == nil:
		return rooms, nil
	}
	var some []string
	for _, room := range rooms {
		if err := c.authorize(Action{Type: eventOverview, Room: room}); err == nil {
			some = append(some, room)
		} else if c.Context().Err() != nil {
			return nil, err
		}
	}
	return some, nil
}

// overview makes one answer.
type overview struct {
	c      *Client
	user   string
	budget int // bytes that the newest messages may have
	parts  int
}

// overviewPart is one room or conversation.
type overviewPart struct {
	topic  Topic
	name   string // of what the newest message has become
	marker uint64
	at     Standing
	last   []byte // in its present form; nil: there is none
}

func (o *overview) appendRooms(ctx context.Context, b []byte, rooms []string) ([]byte, error) {
	names := make([]string, len(rooms))
	for i, room := range rooms {
		names[i] = markerName(room, "")
	}
	markers, err := o.c.hub.markers(ctx, o.user, names...)
	if err != nil {
		return nil, err
	}
	queries := make([]SurveyQuery, len(rooms))
	for i, room := range rooms {
		queries[i] = SurveyQuery{Topic: Topic{Room: room}, After: markers[names[i]].Seq, Reader: o.user, Most: mostUnread, Last: true}
	}
	standings, err := o.survey(ctx, queries, func(i int, epoch string) uint64 { return markers[names[i]].in(epoch) })
	if err != nil {
		return nil, err
	}
	parts := make([]overviewPart, len(rooms))
	for i := range parts {
		at := standings[i]
		parts[i] = overviewPart{topic: queries[i].Topic, marker: queries[i].After, at: at, name: changedName(at.Last.Seq)}
	}
	if err := o.present(ctx, parts); err != nil {
		return nil, err
	}
	first := true
	for i := range parts {
		p := &parts[i]
		if p.at.Head.Seq == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendQuoted(b, rooms[i])
		b = append(b, `:{"epoch":`...)
		b = appendQuoted(b, p.at.Head.Epoch)
		b = append(b, `,"seq":`...)
		b = strconv.AppendUint(b, p.at.Head.Seq, 10)
		b = p.append(b)
	}
	return b, nil
}

// survey asks where topics stand. After of a query is the position of a marker;
// if that belongs to another epoch of the log, everything is unread.
func (o *overview) survey(ctx context.Context, queries []SurveyQuery, marker func(i int, epoch string) uint64) ([]Standing, error) {
	if len(queries) == 0 {
		return nil, nil
	}
	o.parts += len(queries)
	standings, err := o.c.hub.session.Survey(ctx, queries)
	if err != nil {
		return nil, err
	}
	var again []int
	for i := range queries {
		if seq := marker(i, standings[i].Head.Epoch); seq != queries[i].After {
			queries[i].After = seq
			again = append(again, i)
		}
	}
	if len(again) == 0 {
		return standings, nil
	}
	some := make([]SurveyQuery, len(again))
	for k, i := range again {
		some[k] = queries[i]
	}
	others, err := o.c.hub.session.Survey(ctx, some)
	if err != nil {
		return nil, err
	}
	for k, i := range again {
		standings[i] = others[k]
	}
	return standings, nil
}

// present fills in the newest messages, as long as the budget allows.
func (o *overview) present(ctx context.Context, parts []overviewPart) error {
	var queries []NameQuery
	byTopic := make(map[Topic]int)
	for i := range parts {
		p := &parts[i]
		if p.at.Last.Seq == 0 {
			continue
		}
		k, known := byTopic[p.topic]
		if !known {
			k = len(queries)
			byTopic[p.topic] = k
			queries = append(queries, NameQuery{Topic: p.topic})
		}
		queries[k].Names = append(queries[k].Names, p.name)
	}
	if len(queries) == 0 {
		return nil
	}
	named, err := o.c.hub.session.ReadNamed(ctx, queries)
	if err != nil {
		return err
	}
	for i := range parts {
		p := &parts[i]
		body := eventIn(&p.at.Last)
		if body == nil {
			continue
		}
		for k := range named[byTopic[p.topic]] {
			m := &named[byTopic[p.topic]][k]
			if st, err := stateIn(m); m.Name == p.name && err == nil {
				body = presentBody(body, &present{st, m.Seq}, o.user)
			}
		}
		frame := frameOf(body, p.at.Last.Seq, p.at.Last.Time)
		if o.budget < len(frame) {
			continue
		}
		o.budget -= len(frame)
		p.last = wire.Payload(frame)
	}
	return nil
}

// append appends what rooms and conversations have in common.
func (p *overviewPart) append(b []byte) []byte {
	b = append(b, `,"read":`...)
	b = strconv.AppendUint(b, p.marker, 10)
	b = append(b, `,"unread":`...)
	b = strconv.AppendInt(b, int64(p.at.Unread), 10)
	if p.last != nil {
		b = append(b, `,"last":`...)
		b = append(b, p.last...)
	}
	return append(b, '}')
}

// conversation is what an inbox has of the private messages with one user.
type conversation struct {
	peer User
	last Message
}

func (o *overview) appendConversations(ctx context.Context, b []byte) ([]byte, error) {
	list, err := o.conversations(ctx)
	if err != nil || len(list) == 0 {
		return b, err
	}
	inbox := Topic{User: o.user}
	names := make([]string, len(list))
	for i := range list {
		names[i] = markerName("", list[i].peer.ID)
	}
	markers, err := o.c.hub.markers(ctx, o.user, names...)
	if err != nil {
		return nil, err
	}
	queries := make([]SurveyQuery, len(list))
	for i := range list {
		queries[i] = SurveyQuery{Topic: inbox, After: markers[names[i]].Seq, Reader: o.user, From: list[i].peer.ID, Most: mostUnread}
	}
	standings, err := o.survey(ctx, queries, func(i int, epoch string) uint64 { return markers[names[i]].in(epoch) })
	if err != nil {
		return nil, err
	}
	parts := make([]overviewPart, len(list))
	for i := range parts {
		last := list[i].last
		_, s := sentIn(&last)
		standings[i].Last = last
		parts[i] = overviewPart{topic: inbox, marker: queries[i].After, at: standings[i], name: changedPrivateName(s.From.ID, s.To, s.ID)}
	}
	if err := o.present(ctx, parts); err != nil {
		return nil, err
	}
	for i := range parts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"user":`...)
		b = appendUser(b, list[i].peer)
		b = parts[i].append(b)
	}
	return b, nil
}

// conversations looks through the inbox for private messages. The conversation
// with the newest one comes first. The name of a user who has not written is
// empty.
func (o *overview) conversations(ctx context.Context) ([]*conversation, error) {
	byPeer := make(map[string]*conversation)
	r := Range{Limit: 256, MaxBytes: o.c.hub.cfg.answerBytes(), Ordinary: true}
	for seen := 0; seen < searchedInbox && len(byPeer) < maxConversations; {
		page, err := o.c.readLog(ctx, Topic{User: o.user}, r)
		if err != nil {
			return nil, err
		}
		for _, m := range slices.Backward(page.Messages) {
			_, s := sentIn(&m)
			if s.Type != eventPrivateMessage {
				continue
			}
			peer := s.From
			if peer.ID == o.user {
				peer = User{ID: s.To}
			}
			known := byPeer[peer.ID]
			switch {
			case known == nil && len(byPeer) < maxConversations:
				byPeer[peer.ID] = &conversation{peer: peer, last: m}
			case known != nil && known.peer.Name == "":
				known.peer.Name = peer.Name
			}
		}
		if !page.More || len(page.Messages) == 0 {
			break
		}
		seen += len(page.Messages)
		r.Before = page.Messages[0].Seq
	}
	list := slices.Collect(maps.Values(byPeer))
	slices.SortFunc(list, func(a, b *conversation) int { return int(b.last.Seq) - int(a.last.Seq) })
	return list, nil
}
