package chathub

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"slices"
	"strconv"

	"github.com/chathub-go/chathub/internal/change"
	"github.com/chathub-go/chathub/internal/text"
	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// historyPage is the number of messages that a history request without a limit
// gets.
const historyPage = 50

// historyScan is how many messages of a log one request looks through, if it
// asks for some of them only.
const historyScan = 2048

// maxTypes is how many types a history request may name.
const maxTypes = 32

// historyData is the data of a history.
type historyData struct {
	Before uint64   `json:"before"`
	After  uint64   `json:"after"`
	Around uint64   `json:"around"`
	Limit  int      `json:"limit"`
	Types  []string `json:"types"`
	Re     uint64   `json:"re"`

	hasAfter   bool // after was given
	fromOldest bool // and before was not
}

func historyDataOf(e *Event) (*historyData, error) {
	var given struct {
		After *uint64 `json:"after"`
	}
	d := historyData{Limit: historyPage}
	if err := decodeData(e, &d); err != nil {
		return nil, err
	}
	if err := decodeData(e, &given); err != nil {
		return nil, err
	}
	d.hasAfter = given.After != nil
	d.fromOldest = d.hasAfter && d.Before == 0
	switch {
	case d.Limit <= 0:
		return nil, errorf(CodeBadRequest, "limit must be positive")
	case max(d.Before, d.After, d.Around, d.Re) > maxSeq:
		return nil, errorf(CodeBadRequest, "a position must be at most %d", uint64(maxSeq))
	case d.Around > 0 && (d.Before > 0 || d.hasAfter):
		return nil, errorf(CodeBadRequest, "around excludes before and after")
	case d.Re > 0 && e.Room == "":
		return nil, errorf(CodeBadRequest, "re is for rooms")
	case len(d.Types) > maxTypes:
		return nil, errorf(CodeBadRequest, "more than %d types", maxTypes)
	}
	for _, typ := range d.Types {
		if !text.ValidType(typ) {
			return nil, errorf(CodeBadRequest, "types must be names of events")
		}
	}
	return &d, nil
}

func checkHistory(c *Client, e *Event) *Error {
	if err := roomOrTo(e); err != nil {
		return err
	}
	if _, err := historyDataOf(e); err != nil {
		bad, _ := publicError(err)
		return bad
	}
	if e.Room != "" {
		return isMember(c, e)
	}
	return nil
}

func onHistory(ctx context.Context, c *Client, e *Event) (any, error) {
	d, err := historyDataOf(e)
	if err != nil {
		return nil, err
	}
	if c.hub.cfg.ReplayLimit < 0 {
		return nil, errorf(CodeForbidden, "History is off")
	}
	if err := c.awaitReplay(ctx); err != nil {
		return nil, err
	}
	q := historyQuery{c: c, topic: c.world().room(e.Room), peer: e.To, historyData: *d}
	if e.Room == "" {
		q.topic = c.inbox()
	}
	q.Limit = min(q.Limit, c.hub.cfg.ReplayLimit)
	q.budget = max(1, c.hub.cfg.answerBytes())
	answer, err := q.run(ctx)
	if err != nil {
		return nil, err
	}
	if e.Room != "" && !c.inRoom(e.Room) { // it was removed meanwhile, and these may be newer
		return nil, errNotInRoom()
	}
	return answer, nil
}

// historyQuery collects the messages of one history request.
type historyQuery struct {
	historyData
	c      *Client
	topic  Topic
	peer   string // of a private conversation
	budget int    // bytes that the messages may have
	taken  int    // number of messages of the answer so far
}

// historyPart is a part of an answer, oldest message first.
type historyPart struct {
	frames [][]byte
	more   bool   // the log has more messages in the direction of reading
	next   uint64 // where to go on; 0: at the last message
}

func (q *historyQuery) run(ctx context.Context) (jsontext.Value, error) {
	if q.Around > 0 {
		return q.around(ctx)
	}
	if q.fromOldest {
		part, err := q.read(ctx, q.After, 0, q.Limit, true)
		if err != nil {
			return nil, err
		}
		older, err := q.anyBefore(ctx, q.After+1)
		return part.json(older, &part.more), err
	}
	part, err := q.read(ctx, q.After, q.Before, q.Limit, false)
	if err != nil {
		return nil, err
	}
	if !q.hasAfter {
		return part.json(part.more, nil), nil
	}
	newer, err := q.anyAfter(ctx, q.Before)
	if err == nil && !part.more {
		part.more, err = q.anyBefore(ctx, q.After+1)
	}
	return part.json(part.more, &newer), err
}

// around reads about half of a page up to a position, and half after it.
func (q *historyQuery) around(ctx context.Context) (jsontext.Value, error) {
	half := (q.Limit + 1) / 2
	rest := q.budget / 2 // of the bytes, for what is newer
	q.budget -= rest
	older, err := q.read(ctx, 0, q.Around+1, half, false)
	if err != nil {
		return nil, err
	}
	q.budget = max(q.budget, 0) + rest
	newer := historyPart{}
	if q.Limit > half {
		if newer, err = q.read(ctx, q.Around, 0, q.Limit-half, true); err != nil {
			return nil, err
		}
	} else if newer.more, err = q.anyAfter(ctx, q.Around+1); err != nil {
		return nil, err
	}
	older.frames = append(older.frames, newer.frames...)
	return older.json(older.more, &newer.more), nil
}

// anyBefore reports whether the log has a message before a position.
func (q *historyQuery) anyBefore(ctx context.Context, seq uint64) (bool, error) {
	return q.any(ctx, Range{Before: seq, Limit: 1, Ordinary: true})
}

// anyAfter reports whether the log has a message at or after a position. 0: the
// end of the log.
func (q *historyQuery) anyAfter(ctx context.Context, seq uint64) (bool, error) {
	if seq == 0 {
		return false, nil
	}
	return q.any(ctx, Range{After: seq - 1, Limit: 1, Ordinary: true})
}

func (q *historyQuery) any(ctx context.Context, r Range) (bool, error) {
	if r.Before == 1 {
		return false, nil
	}
	page, err := q.c.readLog(ctx, q.topic, r)
	if err != nil || len(page.Messages) > 0 {
		return err == nil, err
	}
	p := presented{c: q.c, topic: q.topic, from: r.After + 1, to: r.Before}
	states, err := p.states(ctx)
	return len(states.deleted()) > 0, err
}

// read reads messages with after < seq < before: the newest, or the oldest, up
// to limit. It looks through a bounded part of the log.
func (q *historyQuery) read(ctx context.Context, after, before uint64, limit int, oldest bool) (part historyPart, err error) {
	r := Range{After: after, Before: before, Limit: limit, Oldest: oldest, Ordinary: true}
	r.MaxBytes = max(1, q.budget)
	for seen := 0; ; {
		page, err := readSome(r, func(r Range) (Page, error) { return q.c.readLog(ctx, q.topic, r) })
		if err != nil {
			return part, err
		}
		seen += max(1, len(page.Messages))
		p := presented{c: q.c, topic: q.topic, messages: page.Messages, wants: q.wants}
		p.from, p.to = r.After+1, r.Before
		if page.More && len(page.Messages) > 0 {
			if oldest {
				p.to = page.Messages[len(page.Messages)-1].Seq + 1
			} else {
				p.from = page.Messages[0].Seq
			}
		}
		frames, err := p.frames(ctx)
		if err != nil {
			return part, err
		}
		part.more = page.More
		part.add(q, frames, limit, oldest)
		switch {
		case !page.More, len(part.frames) >= limit, q.budget <= 0, q.wantsAll():
			part.next = 0
			return part, nil
		case len(page.Messages) == 0: // no broker does this
			return part, nil
		}
		if oldest {
			r.After = page.Messages[len(page.Messages)-1].Seq
			part.next = r.After
		} else {
			r.Before = page.Messages[0].Seq
			part.next = r.Before
		}
		if seen >= historyScan {
			return part, nil
		}
		r.Limit = min(256, max(limit, 64))
	}
}

// add takes as many of the frames as fit, from where reading began. The first
// one of an answer always does: nobody could get past it otherwise.
func (p *historyPart) add(q *historyQuery, frames [][]byte, limit int, oldest bool) {
	fit, size := 0, 0
	for i := range frames {
		f := frames[i]
		if !oldest {
			f = frames[len(frames)-1-i]
		}
		if len(p.frames)+fit == limit || size+len(f) > q.budget && q.taken+fit > 0 {
			p.more = true
			break
		}
		fit++
		size += len(f)
	}
	q.budget -= size
	q.taken += fit
	if fit < len(frames) && len(p.frames)+fit < limit {
		q.budget = 0 // the next one does not fit
	}
	if oldest {
		p.frames = append(p.frames, frames[:fit]...)
	} else {
		p.frames = append(slices.Clone(frames[len(frames)-fit:]), p.frames...)
	}
}

// wants reports whether a message is one of those that the request is about.
// The body is an envelope.
func (q *historyQuery) wants(body []byte) bool {
	if q.wantsAll() {
		return true
	}
	var s struct {
		sent `json:",inline"`
		Re   jsontext.Value `json:"re"`
	}
	if json.Unmarshal(body, &s) != nil {
		return false
	}
	switch {
	case len(q.Types) > 0 && !slices.Contains(q.Types, s.Type):
		return false
	case q.peer != "":
		me := q.c.User().ID
		return s.Type == eventPrivateMessage && (s.From.ID == me && s.To == q.peer || s.From.ID == q.peer && s.To == me)
	case q.Re > 0:
		return string(s.Re) == strconv.FormatUint(q.Re, 10)
	}
	return true
}

func (q *historyQuery) wantsAll() bool { return q.peer == "" && q.Re == 0 && len(q.Types) == 0 }

// json returns the answer.
func (p *historyPart) json(more bool, newer *bool) jsontext.Value {
	size := 64
	for _, f := range p.frames {
		size += len(f)
	}
	b := append(make([]byte, 0, size), `{"messages":[`...)
	for i, f := range p.frames {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, wire.Payload(f)...)
	}
	b = append(b, `],"more":`...)
	b = strconv.AppendBool(b, more)
	if newer != nil {
		b = append(b, `,"newer":`...)
		b = strconv.AppendBool(b, *newer)
	}
	if p.next > 0 && p.more {
		b = append(b, `,"next":`...)
		b = strconv.AppendUint(b, p.next, 10)
	}
	return append(b, '}')
}

// presented is a stretch of a log whose messages are to be shown in their
// present form to the user of a client.
type presented struct {
	c        *Client
	topic    Topic
	messages []Message // the ordinary ones, and possibly others
	from, to uint64    // the stretch, without to; 0: up to the end
	wants    func(body []byte) bool
}

// frames returns the frames of the messages, and of those that were deleted, in
// their order. Messages that are not events are left out.
func (p *presented) frames(ctx context.Context) ([][]byte, error) {
	states, err := p.states(ctx)
	if err != nil {
		return nil, err
	}
	frames := make([][]byte, 0, len(p.messages))
	for m, st := range states.inOrder(p.messages) {
		switch {
		case m == nil:
			frames = p.append(frames, st.Head, st, st.Seq, st.Time)
		case isMarker(m.Name):
			if body := eventIn(m); body != nil {
				frames = append(frames, markerFrame(body, m.Seq, m.Time))
			}
		default:
			frames = p.append(frames, eventIn(m), st, m.Seq, m.Time)
		}
	}
	return frames, nil
}

func (p *presented) append(frames [][]byte, body []byte, st *present, seq uint64, ts int64) [][]byte {
	if body == nil || p.wants != nil && !p.wants(body) {
		return frames
	}
	if st != nil {
		body = presentBody(body, st, p.c.User().ID)
	}
	return append(frames, frameOf(body, seq, ts))
}

// present is what a message has become, and the position at which it did.
type present struct {
	*change.State
	version uint64
}

// states are what messages have become, by their positions.
type states map[uint64]*present

// states reads what has become of the messages of the stretch. It is charged to
// the user of the client.
func (p *presented) states(ctx context.Context) (states, error) {
	all, size, err := p.c.hub.statesOf(ctx, p.topic, p.from, p.to)
	p.c.chargeReplay(size)
	return all, err
}

// statesOf reads what has become of the messages of a log at or after from and
// before to, and how many bytes were read. A to of 0 is the end of the log.
func (h *Hub) statesOf(ctx context.Context, t Topic, from, to uint64) (all states, size int, err error) {
	if to == 0 {
		to = maxSeq + 1
	}
	if to <= from {
		return nil, 0, nil
	}
	named, err := h.session.ReadNamed(ctx, []NameQuery{{Topic: t, Kind: kindChanged, From: from, To: to - 1}})
	if err != nil || len(named[0]) == 0 {
		return nil, 0, err
	}
	all = make(states, len(named[0]))
	for i := range named[0] {
		m := &named[0][i]
		size += len(m.Body)
		if st, err := stateIn(m); err == nil {
			all[m.Tied] = &present{st, m.Seq}
		} else {
			h.log.Error("chathub: what a message has become cannot be read", "topic", m.Topic, "seq", m.Seq, "err", err)
		}
	}
	return all, size, nil
}

// inOrder returns messages with what they have become, which is nil if they
// never changed, and between them the deleted ones, which have no message.
func (all states) inOrder(messages []Message) iter.Seq2[*Message, *present] {
	return func(yield func(*Message, *present) bool) {
		deleted := all.deleted()
		for i := range messages {
			m := &messages[i]
			for ; len(deleted) > 0 && deleted[0].Seq <= m.Seq; deleted = deleted[1:] {
				if !yield(nil, deleted[0]) {
					return
				}
			}
			if st := all[m.Seq]; (st == nil || st.Deleted == 0) && !yield(m, st) {
				return
			}
		}
		for _, st := range deleted {
			if !yield(nil, st) {
				return
			}
		}
	}
}

// deleted returns those that were deleted, in order.
func (all states) deleted() (list []*present) {
	for _, st := range all {
		if st.Deleted > 0 {
			list = append(list, st)
		}
	}
	slices.SortFunc(list, func(a, b *present) int { return cmp.Compare(a.Seq, b.Seq) })
	return list
}

// presentBody returns an envelope in its present form, as a user sees it.
func presentBody(body []byte, st *present, user string) []byte {
	data := st.Data
	if st.Data != nil || st.Deleted > 0 {
		body, _ = splitData(body)
	}
	b := append(make([]byte, 0, len(body)+len(data)+256), body[:len(body)-1]...)
	if data != nil {
		b = append(b, `,"data":`...)
		b = append(b, data...)
	}
	b = append(b, `,"version":`...)
	b = strconv.AppendUint(b, st.version, 10)
	b = st.AppendFields(b)
	if mine := st.Mine(user); len(mine) > 0 {
		b = append(b, `,"mine":`...)
		b = change.AppendStrings(b, mine)
	}
	return append(b, '}')
}

// splitData returns an envelope without its data, and the data. It is for
// envelopes that the hub has made.
func splitData(body []byte) (head, data []byte) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	if _, err := dec.ReadToken(); err != nil {
		return body, nil
	}
	for dec.PeekKind() == '"' {
		start := int(dec.InputOffset())
		name, err := dec.ReadToken()
		if err != nil {
			return body, nil
		}
		isData := name.String() == "data"
		value, err := dec.ReadValue()
		if err != nil {
			return body, nil
		}
		if end := int(dec.InputOffset()); isData {
			head = append(slices.Clone(body[:start]), body[end:]...)
			return head, slices.Clone(value)
		}
	}
	return body, nil
}
