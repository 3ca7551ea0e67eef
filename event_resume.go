package chathub

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// fetched is what follows the answer to a join or resume: while its topics are
// held for the client, older messages were read from their logs.
type catchUp struct {
	c      *Client
	topics []Topic  // held
	skip   []uint64 // of each topic: up to where the client has it from a hub that was ahead
	fresh  []string // rooms that the client was not in before
	lost   []string // rooms whose log could not be read
	frames [][]byte // what was missed, in order
	lists  int      // bytes that lists of users may still have in the answer
}

// newFetched bounds what the answer holds of lists, so that with what follows it
// (see recover) the outbox has room for it.
func newFetched(c *Client) *catchUp {
	return &catchUp{c: c, lists: c.hub.cfg.MaxOutboxBytes / 4}
}

// add appends what was missed.
func (cu *catchUp) add(frames [][]byte) {
	for _, frame := range frames {
		cu.frames = append(cu.frames, cu.c.compress(frame))
	}
}

// end sends the answer, then, where all went well, what was missed, and lets go
// of what was held. Otherwise the client is where it was before.
func (cu *catchUp) end(answer []byte, ok bool) {
	if answer != nil {
		answer = cu.c.compress(answer)
	}
	_ = cu.c.hub.onLoop(func(l *loop) { // a closed hub has no client to tell
		if !cu.c.onLoop.registered {
			return
		}
		leave := cu.lost
		if !ok {
			leave = cu.fresh
		}
		for _, name := range leave {
			if r := l.rooms[name]; r != nil && cu.c.onLoop.memberOf(&r.audience) != nil {
				l.leave(cu.c, r, false)
			}
		}
		if answer != nil {
			l.send(cu.c, answer, wire.Durable)
		}
		if ok {
			for _, frame := range cu.frames {
				l.send(cu.c, frame, wire.Durable)
			}
		}
		for i, t := range cu.topics {
			if a := l.audienceOf(t); a != nil {
				l.release(cu.c, a, cu.skip[i])
			}
		}
	})
}

// want is what a client asks for of a log when it joins.
type replayRequest struct {
	Since   *Position `json:"since"`
	History int       `json:"history"`
}

// hold notes that a topic is held.
func (cu *catchUp) hold(t Topic) {
	cu.topics = append(cu.topics, t)
	cu.skip = append(cu.skip, 0)
}

// ahead reports whether a client that comes from another hub knows more of a log
// than this hub was told yet, up to pos: then it misses nothing. It moves pos to where the client
// is, and has it skip what is still to arrive up to there.
func (cu *catchUp) ahead(ctx context.Context, t Topic, pos *Position, since *Position) (bool, error) {
	if since == nil || since.Epoch != pos.Epoch || since.Seq <= pos.Seq {
		return false, nil
	}
	page, err := cu.c.hub.session.Read(ctx, t, Range{}) // for its head
	switch head := page.Head.Seq; {
	case err != nil:
		return false, err
	case head == 0: // nothing is there: two hubs may see an empty log end in different places
	case head < since.Seq: // an older state of the log was brought back
		return false, nil
	default:
		cu.skip[len(cu.skip)-1] = since.Seq
	}
	*pos = *since
	return true, nil
}

// replay reads what a client wants of a log up to pos, within budget bytes,
// which it reduces. If the budget is used up, replay still asks whether anything
// was missed, since in a quiet room nothing was.
func (h *Hub) replay(ctx context.Context, t Topic, pos Position, w replayRequest, budget *int) (frames [][]byte, recovered bool, err error) {
	limit := min(w.History, max(h.cfg.ReplayLimit, 0))
	r := Range{Before: pos.Seq + 1, Limit: limit}
	known := w.Since != nil && w.Since.Epoch == pos.Epoch && w.Since.Seq <= pos.Seq
	if w.Since != nil {
		r.Limit = max(h.cfg.ReplayLimit, 0)
		if known {
			if r.After = w.Since.Seq; r.After == pos.Seq {
				return nil, true, nil
			}
		}
	}
	if r.Limit <= 0 {
		return nil, false, nil
	}
	if r.MaxBytes = *budget; r.MaxBytes <= 0 {
		r.MaxBytes, r.Limit = 1, 1 // no message is that small
	}
	page, err := h.session.Read(ctx, t, r)
	if err != nil {
		return nil, false, err
	}
	recovered = known && !page.More && page.Trimmed <= w.Since.Seq
	if page.More && t.User != "" && slices.ContainsFunc(page.Messages, hasOwner) {
		if page.Messages, err = h.partOfInbox(ctx, t, r); err != nil {
			return nil, false, err
		}
	}
	frames = eventFrames(page.Messages)
	for i, f := range slices.Backward(frames) {
		if *budget -= len(f); *budget < 0 {
			*budget = 0
			return frames[i+1:], false, nil // the newest that fit
		}
	}
	return frames, recovered, nil
}

// hasOwner reports whether the broker has said whose message m is.
func hasOwner(m Message) bool { return m.Owner != "" || m.Notice }

// inboxRead is how much of an inbox is read to choose from, as a multiple of
// what fits into an answer.
const inboxRead = 4

// partOfInbox returns the part of an inbox that a client gets if it has missed
// more than r allows. The newest messages could all be of one sender, and there
// is no history of an inbox. So the part is chosen as if the answer were a small
// inbox.
func (h *Hub) partOfInbox(ctx context.Context, t Topic, r Range) ([]Message, error) {
	fits := measure{inNumber: r.Limit, inBytes: r.MaxBytes}
	r.Limit, r.MaxBytes = max(r.Limit, inboxRead*r.Limit), max(r.MaxBytes, inboxRead*r.MaxBytes) // or it overflows
	page, err := h.session.Read(ctx, t, r)
	if err != nil {
		return nil, err
	}
	return fairPart(t, page.Messages, fits), nil
}

// eventFrames returns the events among messages as frames.
func eventFrames(messages []Message) [][]byte {
	frames := make([][]byte, 0, len(messages))
	for _, m := range messages {
		var r routed
		if r.decode(m.Body) == nil && r.op == opEmit {
			frames = append(frames, frameOf(r.body, m.Seq, m.Time))
		}
	}
	return frames
}

// rejoin puts the client into a room, holds it, and reads what it wants.
func (c *Client) rejoin(ctx context.Context, room string, w replayRequest, budget *int) (*join, bool, error) {
	j, err := c.join(ctx, &join{room: room, hold: true})
	if err != nil {
		return nil, false, err
	}
	t := Topic{Room: room}
	f := c.onHandler.catchUp
	f.hold(t)
	if j.fresh {
		f.fresh = append(f.fresh, room)
	}
	var frames [][]byte
	recovered, err := f.ahead(ctx, t, &j.pos, w.Since)
	if err == nil && !recovered {
		frames, recovered, err = c.hub.replay(ctx, t, j.pos, w, budget)
	}
	if err != nil {
		if j.fresh {
			f.lost = append(f.lost, room)
		}
		return nil, false, err
	}
	f.add(frames)
	return j, recovered, nil
}

func onJoinRoom(ctx context.Context, c *Client, e *Event) (any, error) {
	var w replayRequest
	if err := decodeData(e, &w); err != nil {
		return nil, err
	}
	c.onHandler.catchUp = newFetched(c)
	budget := c.hub.cfg.MaxOutboxBytes / 2
	j, recovered, err := c.rejoin(ctx, e.Room, w, &budget)
	if err != nil {
		return nil, err
	}
	return c.onHandler.catchUp.joinData(j, recovered), nil
}

// joinData is what a client is told of a room that it has joined. Where the list of
// who is there is too large, their count is there alone.
func (cu *catchUp) joinData(j *join, recovered bool) jsontext.Value {
	b, who := positionData(j.pos, recovered), j.who
	if who == nil {
		return b
	}
	if len(who) > cu.lists {
		who = fmt.Appendf(nil, `{"count":%d}`, j.count)
	}
	cu.lists -= len(who)
	b[len(b)-1] = ','
	return append(b, who[1:]...)
}

func positionData(p Position, recovered bool) jsontext.Value {
	b, err := json.Marshal(struct {
		Position  `json:",inline"`
		Recovered bool `json:"recovered"`
	}{p, recovered})
	if err != nil {
		panic(err) // an epoch that is not UTF-8
	}
	return b
}

func onResume(ctx context.Context, c *Client, e *Event) (any, error) {
	var data struct {
		Rooms map[string]Position `json:"rooms"`
		Inbox *Position           `json:"inbox"`
	}
	if err := decodeData(e, &data); err != nil {
		return nil, err
	}
	f := newFetched(c)
	c.onHandler.catchUp = f
	budget := c.hub.cfg.MaxOutboxBytes / 2
	result := struct {
		Rooms map[string]jsontext.Value `json:"rooms"`
		Inbox jsontext.Value            `json:"inbox,omitzero"`
	}{Rooms: make(map[string]jsontext.Value, len(data.Rooms))}
	// Read first, so that busy rooms do not use up the budget: what a room lacks can
	// be had by history then, what the inbox lacks cannot.
	var inbox [][]byte
	if data.Inbox != nil {
		t := Topic{User: c.user.ID}
		var pos Position
		if err := c.hub.onLoop(func(l *loop) { pos = l.holdInbox(c) }); err != nil {
			return nil, err
		}
		f.hold(t)
		recovered, err := f.ahead(ctx, t, &pos, data.Inbox)
		if err == nil && !recovered {
			inbox, recovered, err = c.hub.replay(ctx, t, pos, replayRequest{Since: data.Inbox}, &budget)
		}
		if err != nil {
			return nil, err
		}
		result.Inbox = positionData(pos, recovered)
	}
	for i, room := range slices.Sorted(maps.Keys(data.Rooms)) {
		if most := c.hub.cfg.MaxRooms; most >= 0 && i >= most { // without asking for what cannot be
			result.Rooms[room] = errorPart(errorf(CodeLimitExceeded, "More than %d rooms", most))
			continue
		}
		since := data.Rooms[room]
		result.Rooms[room] = c.resumeRoom(ctx, room, replayRequest{Since: &since}, &budget)
	}
	f.add(inbox)
	return result, nil
}

// resumeRoom rejoins one room. A room that cannot be does not fail the others.
func (c *Client) resumeRoom(ctx context.Context, room string, w replayRequest, budget *int) jsontext.Value {
	var err error
	if bad := checkRoom(room); bad != nil {
		err = bad
	} else if err = c.authorize(Action{Type: eventJoinRoom, Room: room}); err == nil {
		var j *join
		var recovered bool
		if j, recovered, err = c.rejoin(ctx, room, w, budget); err == nil {
			return c.onHandler.catchUp.joinData(j, recovered)
		}
	}
	e, known := publicError(err)
	if !known {
		c.hub.log.Error("chathub: resume", "room", room, "user", c.user.ID, "err", err)
	}
	return errorPart(e)
}

// errorPart is what the answer to resume says of a room that cannot be rejoined.
func errorPart(e *Error) jsontext.Value {
	return append(append([]byte(`{"error":`), errorData(e)...), '}')
}

// historyPage is how many messages a history request without a limit gets.
const historyPage = 50

func onHistory(ctx context.Context, c *Client, e *Event) (any, error) {
	data := struct {
		Before uint64 `json:"before"`
		Limit  int    `json:"limit"`
	}{Limit: historyPage}
	if err := decodeData(e, &data); err != nil {
		return nil, err
	}
	if data.Limit <= 0 {
		return nil, errorf(CodeBadRequest, "limit must be positive")
	}
	if c.hub.cfg.ReplayLimit < 0 {
		return nil, errorf(CodeForbidden, "History is off")
	}
	budget := c.hub.cfg.MaxOutboxBytes / 2
	page, err := c.hub.session.Read(ctx, Topic{Room: e.Room}, Range{
		Before:   data.Before,
		Limit:    min(data.Limit, c.hub.cfg.ReplayLimit),
		MaxBytes: max(1, budget),
	})
	if err != nil {
		return nil, err
	}
	messages, more := eventFrames(page.Messages), page.More
	size := 0
	for i, f := range slices.Backward(messages) {
		if size += len(f); size > budget {
			messages, more = messages[i+1:], true
			break
		}
	}
	b := append(make([]byte, 0, size+64), `{"messages":[`...)
	for i, f := range messages {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, wire.Payload(f)...)
	}
	b = append(b, `],"more":`...)
	if more {
		b = append(b, "true}"...)
	} else {
		b = append(b, "false}"...)
	}
	return jsontext.Value(b), nil
}
