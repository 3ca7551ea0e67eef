package chathub

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/text"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The bounds of the state of a room. Every answer to a join has all of it.
const (
	maxStateKeys  = 64
	maxStateKey   = 64       // bytes of a key
	maxStateBytes = 32 << 10 // of all keys and values together
)

// stateBytes bounds the keys and values of the state of a room. One answer must
// have room for several.
func (cfg *Config) stateBytes() int { return min(maxStateBytes, cfg.MaxOutboxBytes/8) }

// kindState is the kind of the names of a room's state.
const kindState = "state"

// StateValue is the value of one key of the state of a room.
type StateValue struct {
	Value jsontext.Value
	// Seq is the position in the log of the room at which it was set, and Time
	// when that was.
	Seq  uint64
	Time time.Time
	From User // who set it; zero: the application
}

// setStateData is the data of a set-state.
type setStateData struct {
	Key    string         `json:"key"`
	Value  jsontext.Value `json:"value"`
	Expect *uint64        `json:"expect"`
}

func setStateDataOf(e *Event) (*setStateData, error) {
	var d setStateData
	if err := decodeData(e, &d); err != nil {
		return nil, err
	}
	if !text.Valid(d.Key, maxStateKey) {
		return nil, errorf(CodeBadRequest, "data.key must be 1 to %d bytes without control characters", maxStateKey)
	}
	if d.Value == nil {
		return nil, errorf(CodeBadRequest, "data.value is missing; null removes the key")
	}
	if d.Expect != nil && *d.Expect > maxSeq {
		return nil, errorf(CodeBadRequest, "data.expect must be at most %d", uint64(maxSeq))
	}
	return &d, nil
}

func checkSetState(c *Client, e *Event) *Error {
	if err := hasRoom(c, e); err != nil {
		return err
	}
	if _, err := setStateDataOf(e); err != nil {
		bad, _ := publicError(err)
		return bad
	}
	return isMember(c, e)
}

func onSetState(ctx context.Context, c *Client, e *Event) (any, error) {
	d, err := setStateDataOf(e)
	if err != nil {
		return nil, err
	}
	may := c.hub.cfg.ClientState
	if may == nil || !may(ctx, c, e.Room, d.Key) {
		return nil, errorf(CodeForbidden, "Clients may not set this key")
	}
	s := stateChange{topic: c.world().room(e.Room), key: d.Key, value: d.Value, expect: d.Expect, from: c.user(), id: e.ID, trace: e.Trace, publish: c.publish}
	return answerOf(s.store(ctx, c.hub))
}

// stateChange sets or removes a key of the state of a room.
type stateChange struct {
	topic   Topic
	key     string
	value   jsontext.Value
	expect  *uint64
	from    *User  // nil: the application
	id      string // of the client's event
	trace   string
	publish func(context.Context, Message) (Receipt, error)
}

func (s *stateChange) store(ctx context.Context, h *Hub) (Receipt, error) {
	m := Message{
		Topic:  s.topic,
		Name:   kindState + "/" + s.key,
		Remove: s.value.Kind() == 'n',
		Expect: s.expect,
		Notice: true,
	}
	if !m.Remove {
		unlock, err := h.states.lock(ctx, s.topic.Room)
		if err != nil {
			return Receipt{}, err
		}
		defer unlock()
		if err := s.checkRoom(ctx, h); err != nil {
			return Receipt{}, err
		}
	}
	data := appendQuoted([]byte(`{"key":`), s.key)
	data = append(data, `,"value":`...)
	data = append(append(data, s.value...), '}')
	if s.from != nil {
		m.Owner = s.from.ID
	}
	if s.id != "" {
		m.Key = m.Owner + "\x02" + s.id // an id of its own kind
		m.Sum = checksum(data)
	}
	env := envelope{typ: eventStateChanged, id: s.id, room: plain(s.topic.Room), from: s.from, trace: s.trace, data: data}
	m.Body = env.body(&note.Routed{})
	return s.publish(ctx, m)
}

// checkRoom returns an error if the state of the room would be too large.
func (s *stateChange) checkRoom(ctx context.Context, h *Hub) error {
	state, err := h.stateIn(ctx, s.topic)
	if err != nil {
		return err
	}
	_, isKnown := state[s.key]
	size := len(s.key) + len(s.value)
	for key, v := range state {
		if key != s.key {
			size += len(key) + len(v.Value)
		}
	}
	if most := h.cfg.stateBytes(); !isKnown && len(state) >= maxStateKeys || size > most {
		return errorf(CodeLimitExceeded, "The state of a room has at most %d keys and %d bytes", maxStateKeys, most)
	}
	return nil
}

// stateLocks keep those apart who set states of one room on this hub, so that
// all of them together keep to its bounds. Another hub may add a value at the
// same time. Any goroutine may use it.
type stateLocks struct {
	mu    sync.Mutex
	rooms map[string]*stateLock // by scoped name
}

type stateLock struct {
	held  chan struct{} // has room for one: the holder
	users int           // guarded by stateLocks.mu
}

func (ls *stateLocks) lock(ctx context.Context, room string) (unlock func(), err error) {
	ls.mu.Lock()
	if ls.rooms == nil {
		ls.rooms = make(map[string]*stateLock)
	}
	l := ls.rooms[room]
	if l == nil {
		l = &stateLock{held: make(chan struct{}, 1)}
		ls.rooms[room] = l
	}
	l.users++
	ls.mu.Unlock()
	leave := func() {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(ls.rooms, room)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, Unavailable(ctx.Err())
	}
}

// State returns the state of a room. See [Target.SetState].
func (h *Hub) State(ctx context.Context, room string) (map[string]StateValue, error) {
	return h.Tenant("").State(ctx, room)
}

// State returns the state of a room. See [Target.SetState].
func (t Tenant) State(ctx context.Context, room string) (map[string]StateValue, error) {
	topic, err := t.room(room)
	if err != nil {
		return nil, err
	}
	return t.hub.stateIn(ctx, topic)
}

func (h *Hub) stateIn(ctx context.Context, room Topic) (map[string]StateValue, error) {
	named, err := h.session.ReadNamed(ctx, []NameQuery{{Topic: room, Kind: kindState}})
	if err != nil {
		return nil, err
	}
	return roomState(named[0]), nil
}

// SetState sets a key of the state of one room to a JSON value, whose form
// [Target.Emit] describes. Nil, or what becomes null, removes the key. It is
// stored in the log of the room, so every member and node sees it at the same
// place among the messages. Members get state-changed, and answers to joins and
// resumes have the whole state. A key has 1 to 64 bytes. A room has at most 64
// keys, and 32 KiB of keys and values (an eighth of Config.MaxOutboxBytes, if
// that is less), or the error is [CodeLimitExceeded].
func (t Target) SetState(ctx context.Context, key string, value any) (Receipt, error) {
	return t.setState(ctx, key, value, nil)
}

// SetStateIf is SetState on condition that the key was set at position seq, or
// is not set if that is 0. If it was set since, the error is an [Error] with
// [CodeConflict], and nothing has changed.
func (t Target) SetStateIf(ctx context.Context, key string, value any, seq uint64) (Receipt, error) {
	return t.setState(ctx, key, value, &seq)
}

func (t Target) setState(ctx context.Context, key string, value any, expect *uint64) (Receipt, error) {
	if err := t.check(); err != nil {
		return Receipt{}, err
	}
	if len(t.topics) != 1 || t.all || t.topics[0].Room == "" {
		return Receipt{}, badEmit("a state belongs to one room", nil)
	}
	if !text.Valid(key, maxStateKey) {
		return Receipt{}, badEmit("a key of a state has 1 to 64 bytes without control characters", nil)
	}
	b, err := marshal(value)
	if err != nil {
		return Receipt{}, err
	}
	if b == nil {
		b = []byte("null")
	}
	s := stateChange{topic: t.topics[0], key: key, value: b, expect: expect, trace: traceIn(ctx), publish: t.hub.session.Publish}
	return s.store(ctx, t.hub)
}

// roomState decodes the named messages of a room's state.
func roomState(named []Message) map[string]StateValue {
	state := make(map[string]StateValue, len(named))
	for i := range named {
		m := &named[i]
		var env struct {
			From User `json:"from"`
			Data struct {
				Key   string         `json:"key"`
				Value jsontext.Value `json:"value"`
			} `json:"data"`
		}
		if json.Unmarshal(eventIn(m), &env) == nil {
			state[env.Data.Key] = StateValue{env.Data.Value, m.Seq, time.UnixMilli(m.Time), env.From}
		}
	}
	return state
}

// appendState adds the state of a room to the answer for it, if there is any:
// the values, and at which positions they were set. If that is over the budget
// of the answer, which it reduces, it adds null instead.
func appendState(b jsontext.Value, state map[string]StateValue, budget *int) jsontext.Value {
	if len(state) == 0 {
		return b
	}
	before := len(b)
	keys := slices.Sorted(maps.Keys(state))
	b = append(b[:len(b)-1], `,"state":{`...)
	for i, key := range keys {
		b = appendKey(b, i, key)
		b = append(b, state[key].Value...)
	}
	b = append(b, `},"versions":{`...)
	for i, key := range keys {
		b = appendKey(b, i, key)
		b = strconv.AppendUint(b, state[key].Seq, 10)
	}
	b = append(b, "}}"...)
	if *budget -= len(b) - before; *budget < 0 {
		*budget = 0
		b = withoutState(append(b[:before-1], '}'))
	}
	return b
}

// withoutState adds to the answer for a room that its state is not there, which
// differs from a room that has none.
func withoutState(b jsontext.Value) jsontext.Value {
	return append(b[:len(b)-1], `,"state":null}`...)
}

func appendKey(b []byte, i int, key string) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return append(appendQuoted(b, key), ':')
}
