package chathub

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// catchUp is what follows the answer to a join or resume: the messages that the
// client missed, read from logs while their topics are on hold for the client.
type catchUp struct {
	c      *Client
	topics []Topic  // on hold
	skip   []uint64 // for each topic: up to where the client has it from a node that was ahead
	fresh  []string // rooms that the client was not in before
	lost   []string // rooms whose log could not be read
	missed []missed // in order
	lists  int      // bytes that lists of users may still have in the answer
}

// missed are messages of one topic that the client did not get.
type missed struct {
	topic  Topic
	frames [][]byte
}

// newCatchUp returns an empty catchUp. User lists may take a quarter of the
// outbox, so that the messages that follow (see replay) fit as well.
func newCatchUp(c *Client) *catchUp {
	return &catchUp{c: c, lists: c.hub.cfg.MaxOutboxBytes / 4}
}

// add appends missed messages of a topic.
func (cu *catchUp) add(t Topic, frames [][]byte) {
	for i, frame := range frames {
		frames[i] = cu.c.compress(frame)
	}
	cu.missed = append(cu.missed, missed{t, frames})
}

// end sends the answer and ends the holds. If ok, the missed messages come in
// between. Otherwise the client leaves the rooms that it was not in before.
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
			l.leaveRoom(cu.c, name)
		}
		if answer != nil {
			l.send(cu.c, answer, wire.Durable)
		}
		if ok {
			cu.sendMissed(l)
		}
		for i, t := range cu.topics {
			if a := l.audienceOf(t); a != nil {
				l.release(cu.c, a, cu.skip[i])
			}
		}
	})
}

// sendMissed sends the messages that were missed. A room that the client was
// removed from while they were read is not among them. The client has been told
// so, and is again, since the answer says that it is in the room.
func (cu *catchUp) sendMissed(l *loop) {
	for _, t := range cu.topics {
		room := plain(t.Room)
		if a := l.audienceOf(t); room != "" && (a == nil || cu.c.onLoop.seatIn(a) < 0) && !slices.Contains(cu.lost, room) {
			l.tellRemoved(cu.c, room, "")
		}
	}
	for _, m := range cu.missed {
		if a := l.audienceOf(m.topic); a == nil || cu.c.onLoop.seatIn(a) < 0 {
			continue
		}
		for _, frame := range m.frames {
			l.send(cu.c, frame, wire.Durable)
		}
	}
}

// replayRequest says which messages of a log a client wants when it joins.
type replayRequest struct {
	Since   *Position `json:"since"`
	History int       `json:"history"`
}

// hold records that a topic is on hold.
func (cu *catchUp) hold(t Topic) {
	cu.topics = append(cu.topics, t)
	cu.skip = append(cu.skip, 0)
}

// ahead reports whether a client that comes from another node knows more of a
// log than this node, which knows it up to pos. Such a client misses nothing.
// ahead then moves pos to the client's position, and lets it skip the messages
// up to there that are still to arrive.
func (cu *catchUp) ahead(ctx context.Context, t Topic, pos *Position, since *Position) (bool, error) {
	if since == nil || since.Epoch != pos.Epoch || since.Seq <= pos.Seq {
		return false, nil
	}
	page, err := cu.c.readLog(ctx, t, Range{}) // for the head of the log
	switch head := page.Head.Seq; {
	case err != nil:
		return false, err
	case head == 0: // an empty log: two nodes may see its end at different positions
	case head < since.Seq: // the log was restored to an older state
		return false, nil
	default:
		cu.skip[len(cu.skip)-1] = since.Seq
	}
	*pos = *since
	return true, nil
}

// recover reads the messages that a client wants after its position in a log
// that is on hold. It counts whether the client then misses nothing, which it
// reports.
func (cu *catchUp) recover(ctx context.Context, t Topic, pos *Position, w replayRequest, budget *int) (frames [][]byte, recovered bool, err error) {
	result := RecoveryComplete
	ahead, err := cu.ahead(ctx, t, pos, w.Since)
	if err == nil && !ahead {
		frames, result, err = cu.c.replay(ctx, t, *pos, w, budget)
	}
	if err != nil {
		result = RecoveryFailed
	}
	if w.Since != nil {
		cu.c.hub.counters.recoveries.add(Recovery{Inbox: t.User != "", Result: result})
	}
	return frames, result == RecoveryComplete, err
}

// replay reads the messages that a client wants, up to pos. It takes at most
// budget bytes and reduces the budget by them. If the budget is used up, replay
// still asks whether anything was missed, since in a quiet room nothing was.
// Without a position to continue from, the result is RecoveryNewLog.
func (c *Client) replay(ctx context.Context, t Topic, pos Position, w replayRequest, budget *int) (frames [][]byte, result RecoveryResult, err error) {
	limit := min(w.History, max(c.hub.cfg.ReplayLimit, 0))
	r := Range{Before: pos.Seq + 1, Limit: limit, Ordinary: w.Since == nil}
	result = RecoveryComplete
	switch {
	case w.Since == nil || w.Since.Epoch != pos.Epoch:
		result = RecoveryNewLog
	case w.Since.Seq > pos.Seq:
		result = RecoveryAhead
	}
	if w.Since != nil {
		r.Limit = max(c.hub.cfg.ReplayLimit, 0)
		if result == RecoveryComplete {
			if r.After = w.Since.Seq; r.After == pos.Seq {
				return nil, result, nil
			}
		}
	}
	if r.Limit <= 0 {
		return nil, RecoveryOff, nil
	}
	if r.MaxBytes = *budget; r.MaxBytes <= 0 {
		r.MaxBytes, r.Limit = 1, 1 // no message is that small
	}
	page, err := c.readLog(ctx, t, r)
	if err != nil {
		return nil, result, err
	}
	switch {
	case result != RecoveryComplete:
	case page.Trimmed > w.Since.Seq:
		result = RecoveryDropped
	case page.More:
		result = RecoveryTooMuch
	}
	if page.More && t.User != "" {
		if page.Messages, err = c.partOfInbox(ctx, t, r); err != nil {
			return nil, result, err
		}
	}
	if len(page.Messages) == 0 {
		return nil, result, nil
	}
	p := presented{c: c, topic: t, messages: page.Messages, from: r.After + 1, to: r.Before}
	if page.More {
		p.from = page.Messages[0].Seq
	}
	if t.User != "" {
		p.messages = c.refreshed(ctx, p.messages)
	}
	all, err := p.frames(ctx)
	if err != nil {
		return nil, result, err
	}
	frames, size := newestFrames(all, *budget)
	if len(frames) < len(all) {
		*budget = 0
		if result == RecoveryComplete {
			result = RecoveryTooMuch
		}
		return frames, result, nil
	}
	*budget -= size
	return frames, result, nil
}

// newestFrames returns the newest frames that have at most so many bytes
// together, and how many they have.
func newestFrames(frames [][]byte, most int) (fit [][]byte, size int) {
	for i, f := range slices.Backward(frames) {
		if size+len(f) > most {
			return frames[i+1:], size
		}
		size += len(f)
	}
	return frames, size
}

// withOwner returns a message of an inbox with Owner and Notice. A broker may
// read it without them.
func withOwner(m Message) Message {
	var r note.Routed
	if m.Owner != "" || m.Notice || r.Decode(m.Body) != nil || !r.Emits() {
		return m
	}
	var e struct {
		Type string `json:"type"`
		From User   `json:"from"`
	}
	if json.Unmarshal(r.Body, &e) == nil { // if not, it is the application's
		m.Owner = e.From.ID
	}
	m.Notice = e.Type != eventPrivateMessage
	return m
}

// inboxRead is how much of an inbox is read to choose from, as a multiple of
// what fits into an answer. The log of an inbox may have no bound in bytes.
const inboxRead = 16

// partOfInbox returns the part of an inbox that a client gets if it has missed
// more than r allows. The newest messages could all be of one sender, and there
// is no history of an inbox. So the part is chosen as if the answer were a
// small inbox.
func (c *Client) partOfInbox(ctx context.Context, t Topic, r Range) ([]Message, error) {
	fits := measure{byNumber: r.Limit, byBytes: r.MaxBytes}
	// Or it overflows.
	r.Limit, r.MaxBytes = max(r.Limit, inboxRead*r.Limit), max(r.MaxBytes, inboxRead*r.MaxBytes)
	page, err := c.readLog(ctx, t, r)
	if err != nil {
		return nil, err
	}
	for i, m := range page.Messages {
		page.Messages[i] = withOwner(m)
	}
	return fairPart(t, page.Messages, fits), nil
}

// eventIn returns the envelope in a message of a log, or nil if it is not an
// event.
func eventIn(m *Message) []byte {
	var r note.Routed
	if r.Decode(m.Body) != nil || !r.Emits() {
		return nil
	}
	return r.Body
}

// rejoin puts the client into a room, on hold, and reads the messages that it
// wants.
func (c *Client) rejoin(ctx context.Context, room string, right *check, w replayRequest, budget *int) (*join, bool, error) {
	j, err := c.join(ctx, &join{room: room, right: right, hold: true})
	if err != nil {
		return nil, false, err
	}
	t := c.world().room(room)
	f := c.onHandler.catchUp
	f.hold(t)
	if j.fresh {
		f.fresh = append(f.fresh, room)
	}
	frames, recovered, err := f.recover(ctx, t, &j.pos, w, budget)
	if err != nil {
		if j.fresh {
			f.lost = append(f.lost, room)
		}
		return nil, false, err
	}
	f.add(t, frames)
	return j, recovered, nil
}

func onJoinRoom(ctx context.Context, c *Client, e *Event) (any, error) {
	var w replayRequest
	if err := decodeData(e, &w); err != nil {
		return nil, err
	}
	if err := c.awaitReplay(ctx); err != nil {
		return nil, err
	}
	c.onHandler.catchUp = newCatchUp(c)
	budget := c.hub.cfg.answerBytes()
	j, recovered, err := c.rejoin(ctx, e.Room, e.right, w, &budget)
	if err != nil {
		return nil, err
	}
	answer := map[string]jsontext.Value{j.room: c.onHandler.catchUp.joinData(j, recovered)}
	c.completeJoins(ctx, answer, j)
	return answer[j.room], nil
}

// joinData returns the answer for a room that the client has joined. If the
// list of users is too large, it has only their count.
func (cu *catchUp) joinData(j *join, recovered bool) jsontext.Value {
	b, who := positionData(j.pos, recovered), j.who
	if who == nil {
		return b
	}
	if len(who) > cu.lists {
		who = fmt.Appendf(nil, `{"count":%d}`, j.count)
	}
	cu.lists -= len(who)
	cu.c.chargeReplay(len(who))
	b[len(b)-1] = ','
	return append(b, who[1:]...)
}

func positionData(p Position, recovered bool) jsontext.Value {
	b, err := json.Marshal(struct {
		Position  `json:",inline"`
		Recovered bool `json:"recovered"`
	}{p, recovered})
	if err != nil {
		panic(err) // only if a broker's epoch is not UTF-8
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
	if err := c.awaitReplay(ctx); err != nil {
		return nil, err
	}
	f := newCatchUp(c)
	c.onHandler.catchUp = f
	budget := c.hub.cfg.answerBytes()
	result := struct {
		Rooms map[string]jsontext.Value `json:"rooms"`
		Inbox jsontext.Value            `json:"inbox,omitzero"`
	}{Rooms: make(map[string]jsontext.Value, len(data.Rooms))}
	// The inbox is read first, so that busy rooms do not use up the budget: a
	// client can get the rest of a room with history, but not the rest of its
	// inbox.
	var inbox [][]byte
	if data.Inbox != nil {
		t := c.inbox()
		var pos Position
		if err := c.hub.onLoop(func(l *loop) { pos = l.holdInbox(c) }); err != nil {
			return nil, err
		}
		f.hold(t)
		var recovered bool
		var err error
		if inbox, recovered, err = f.recover(ctx, t, &pos, replayRequest{Since: data.Inbox}, &budget); err != nil {
			return nil, err
		}
		result.Inbox = positionData(pos, recovered)
	}
	var joins []*join
	for i, room := range slices.Sorted(maps.Keys(data.Rooms)) {
		// Authorize is not asked: the join would fail anyway.
		if most := c.hub.cfg.MaxRooms; most >= 0 && i >= most {
			result.Rooms[room] = errorPart(errorf(CodeLimitExceeded, "More than %d rooms", most))
			continue
		}
		since := data.Rooms[room]
		part, j := c.resumeRoom(ctx, room, replayRequest{Since: &since}, &budget)
		if result.Rooms[room] = part; j != nil {
			joins = append(joins, j)
		}
	}
	c.completeJoins(ctx, result.Rooms, joins...)
	f.add(c.inbox(), inbox)
	return result, nil
}

// resumeRoom rejoins one room and returns its part of the answer, and the join
// if it succeeded. A failure does not affect the other rooms.
func (c *Client) resumeRoom(ctx context.Context, room string, w replayRequest, budget *int) (jsontext.Value, *join) {
	var err error
	if bad := checkRoom(room); bad != nil {
		err = bad
	} else {
		right := c.hub.rights.begin()
		defer right.end()
		var j *join
		var recovered bool
		if err = c.authorize(Action{Type: eventJoinRoom, Room: room}); err == nil {
			j, recovered, err = c.rejoin(ctx, room, right, w, budget)
		}
		if err == nil {
			return c.onHandler.catchUp.joinData(j, recovered), j
		}
	}
	e, known := publicError(err)
	if !known {
		c.hub.logLimited("cannot rejoin", slog.LevelError, "chathub: cannot rejoin a room", func() []any {
			return []any{"room", room, "user", c.User().ID, "err", err}
		})
	}
	return errorPart(e), nil
}

// completeJoins adds to the answers for rooms that the client has just joined
// what does not come from the join itself. A join does not fail because of it.
func (c *Client) completeJoins(ctx context.Context, answers map[string]jsontext.Value, joins ...*join) {
	all, err := c.joinedOf(ctx, joins)
	if err != nil {
		c.cannotCount(ctx, err)
	}
	budget := c.hub.cfg.MaxOutboxBytes / 4 // as lists of users have
	for _, j := range joins {
		answer := answers[j.room]
		if err == nil {
			answer = appendReading(answer, all[j.room].reading)
		}
		if all == nil {
			answer = withoutState(answer)
		} else {
			answer = appendState(answer, all[j.room].state, &budget)
		}
		answers[j.room] = answer
	}
	c.chargeReplay(c.hub.cfg.MaxOutboxBytes/4 - budget)
}

// errorPart returns the part of the answer for a room that cannot be rejoined.
func errorPart(e *Error) jsontext.Value {
	return append(append([]byte(`{"error":`), errorData(e)...), '}')
}
