package chathub

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"

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
	// Refused rooms cost, too: they may take long to refuse.
	asked := unique(d.Rooms)
	c.chargeReplay(overviewCost * len(asked))
	rooms, err := c.visible(ctx, asked)
	if err != nil {
		return nil, err
	}
	o := overview{c: c, user: c.User().ID, most: c.hub.cfg.answerBytes(), inbox: d.Inbox}
	b := append(make([]byte, 0, 512*(1+len(rooms))), `{"rooms":{`...)
	if b, err = o.appendRooms(ctx, b, rooms); err != nil {
		return nil, err
	}
	b = append(b, '}')
	if d.Inbox {
		if b, err = o.appendInbox(ctx, b); err != nil {
			return nil, err
		}
	}
	b = append(b, '}')
	c.chargeReplay(len(b))
	return jsontext.Value(b), nil
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
		isVisible := make(map[string]bool, len(some))
		for _, room := range some {
			isVisible[room] = true
		}
		// It cannot add any.
		return slices.DeleteFunc(rooms, func(room string) bool { return !isVisible[room] }), nil
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
	c     *Client
	user  string
	most  int // bytes that the answer may have
	inbox bool
}

// overviewPart is one room or conversation.
type overviewPart struct {
	topic  Topic
	name   string // of what the newest message has become
	marker uint64
	at     Standing
	last   []byte // the envelope in its present form; nil: there is none
}

func (o *overview) appendRooms(ctx context.Context, b []byte, rooms []string) ([]byte, error) {
	free, err := o.c.readAlone(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	names := make([]string, len(rooms))
	for i, room := range rooms {
		names[i] = markerName(room, "")
	}
	markers, err := o.c.hub.markers(ctx, o.c.inbox(), names...)
	if err != nil {
		return nil, err
	}
	queries, read := make([]SurveyQuery, len(rooms)), make([]marker, len(rooms))
	for i, room := range rooms {
		read[i] = markers[names[i]]
		queries[i] = o.c.unreadAfter(room, "", read[i].Seq)
		queries[i].Last = true
	}
	standings, err := o.surveyRooms(ctx, queries, read)
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
	left := o.most // for the newest messages
	for _, room := range rooms {
		left -= len(room) + overviewCost/2
	}
	if o.inbox {
		left /= 2 // for conversations, too
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
		b = append(b, ':')
		b = append(appendHead(b, p.at.Head), ',')
		b = p.append(b)
		if len(p.last) <= left {
			left -= len(p.last)
			b = p.appendLast(b)
		}
		b = append(b, '}')
	}
	return b, nil
}

// surveyRooms asks where rooms stand. After of a query is the position of a
// marker. If that belongs to another epoch of the log, everything is unread.
func (o *overview) surveyRooms(ctx context.Context, queries []SurveyQuery, markers []marker) ([]Standing, error) {
	if len(queries) == 0 {
		return nil, nil
	}
	standings, err := o.c.hub.session.Survey(ctx, queries)
	if err != nil {
		return nil, err
	}
	var again []int
	var some []SurveyQuery
	for i := range queries {
		if seq := markers[i].in(standings[i].Head.Epoch); seq != queries[i].After {
			queries[i].After = seq
			again, some = append(again, i), append(some, queries[i])
		}
	}
	if len(again) == 0 {
		return standings, nil
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

// present fills in the newest messages.
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
	changed := make(map[Topic]map[string]*Message)
	for k := range named {
		for i := range named[k] {
			m := &named[k][i]
			if changed[queries[k].Topic] == nil {
				changed[queries[k].Topic] = make(map[string]*Message, len(named[k]))
			}
			changed[queries[k].Topic][m.Name] = m
		}
	}
	for i := range parts {
		p := &parts[i]
		body := eventIn(&p.at.Last)
		if body == nil {
			continue
		}
		if m := changed[p.topic][p.name]; m != nil {
			if st, err := stateIn(m); err == nil {
				body = presentBody(body, &present{st, m.Seq}, o.user)
			}
		}
		p.last = append(make([]byte, 0, len(body)+48), body...)
		p.last = appendPosition(p.last, p.at.Last.Seq, p.at.Last.Time)
	}
	return nil
}

// append appends what rooms and conversations have in common.
func (p *overviewPart) append(b []byte) []byte {
	b = append(b, `"read":`...)
	b = strconv.AppendUint(b, p.marker, 10)
	b = append(b, `,"unread":`...)
	return strconv.AppendInt(b, int64(p.at.Unread), 10)
}

func (p *overviewPart) appendLast(b []byte) []byte {
	if p.last == nil {
		return b
	}
	b = append(b, `,"last":`...)
	return append(b, p.last...)
}

// appendHead appends a position as an object that is still open.
func appendHead(b []byte, p Position) []byte {
	b = append(b, `{"epoch":`...)
	b = appendQuoted(b, p.Epoch)
	b = append(b, `,"seq":`...)
	return strconv.AppendUint(b, p.Seq, 10)
}

// conversation is what an inbox has of the private messages with one user.
type conversation struct {
	peer User
	last Message
}

// appendInbox appends the private conversations, and the position up to which
// they count.
func (o *overview) appendInbox(ctx context.Context, b []byte) ([]byte, error) {
	list, head, err := o.conversations(ctx)
	if err != nil {
		return nil, err
	}
	o.c.chargeReplay(overviewCost * len(list))
	parts, err := o.conversationParts(ctx, list, head)
	if err != nil {
		return nil, err
	}
	b = appendHead(append(b, `,"inbox":`...), head)
	b = append(b, `},"conversations":[`...)
	for i := range parts {
		p := &parts[i]
		before := len(b)
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"user":`...)
		b = append(appendUser(b, list[i].peer), ',')
		b = append(p.appendLast(p.append(b)), '}')
		if len(b) > o.most {
			b = b[:before]
			break
		}
	}
	return append(b, ']'), nil
}

// conversationParts says how each conversation stands at a position of the
// inbox.
func (o *overview) conversationParts(ctx context.Context, list []*conversation, head Position) ([]overviewPart, error) {
	if len(list) == 0 {
		return nil, nil
	}
	free, err := o.c.readAlone(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	names := make([]string, len(list))
	for i := range list {
		names[i] = markerName("", list[i].peer.ID)
	}
	markers, err := o.c.hub.markers(ctx, o.c.inbox(), names...)
	if err != nil {
		return nil, err
	}
	queries := make([]SurveyQuery, len(list))
	for i := range list {
		queries[i] = o.c.unreadAfter("", list[i].peer.ID, markers[names[i]].in(head.Epoch))
		queries[i].Before = head.Seq + 1
	}
	standings, err := o.c.hub.surveyAsOf(ctx, queries)
	if err != nil {
		return nil, err
	}
	parts := make([]overviewPart, len(list))
	for i := range parts {
		last := list[i].last
		_, s := sentIn(&last)
		standings[i].Last = last
		parts[i] = overviewPart{topic: queries[i].Topic, marker: queries[i].After, at: standings[i], name: changedPrivateName(s.From.ID, s.To, s.ID)}
	}
	return parts, o.present(ctx, parts)
}

// conversations looks through the inbox for private messages. The conversation
// with the newest one comes first. The name of a user who has not written is
// empty. Head is that of the inbox.
func (o *overview) conversations(ctx context.Context) (list []*conversation, head Position, err error) {
	byPeer := make(map[string]*conversation)
	r := Range{Limit: 256, MaxBytes: o.c.hub.cfg.answerBytes(), Ordinary: true}
	for seen := 0; seen < searchedInbox && len(byPeer) < maxConversations; {
		page, err := o.c.readLog(ctx, o.c.inbox(), r)
		if err != nil {
			return nil, head, err
		}
		if head == (Position{}) {
			head = page.Head
		}
		for _, m := range slices.Backward(page.Messages) {
			_, s := sentIn(&m)
			if s.Type != eventPrivateMessage {
				continue
			}
			peer := s.From
			if peer.ID == o.user && s.To != o.user {
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
	list = slices.Collect(maps.Values(byPeer))
	slices.SortFunc(list, func(a, b *conversation) int { return cmp.Compare(b.last.Seq, a.last.Seq) })
	return list, head, nil
}
