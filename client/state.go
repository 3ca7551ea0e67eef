package client

import (
	"context"
	"maps"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// StateValue is the value of one key of the state of a room.
type StateValue struct {
	Value jsontext.Value // must not be changed
	// Seq is the position in the log of the room at which it was set.
	Seq uint64
}

// roomState is the state of a room as the server has told it.
type roomState struct {
	mu      sync.Mutex
	values  map[string]StateValue
	removed map[string]uint64 // positions at which keys were removed since the last whole
}

// whole takes the state in the answer to a join. If the server has left it out,
// it keeps the old one.
func (s *roomState) whole(p part) {
	var values map[string]jsontext.Value
	switch {
	case p.State == nil:
	case p.State.Kind() == 'n', json.Unmarshal(p.State, &values) != nil:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values, s.removed = make(map[string]StateValue, len(values)), nil
	for key, v := range values {
		s.values[key] = StateValue{v, p.Versions[key]}
	}
}

// change takes a state-changed. One that is older than what is known, which may
// follow a join, changes nothing.
func (s *roomState) change(fr frame) {
	var d struct {
		Key   string         `json:"key"`
		Value jsontext.Value `json:"value"`
	}
	if json.Unmarshal(fr.Data, &d) != nil || d.Value == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if fr.Seq <= max(s.values[d.Key].Seq, s.removed[d.Key]) {
		return
	}
	if d.Value.Kind() == 'n' {
		delete(s.values, d.Key)
		if s.removed == nil {
			s.removed = make(map[string]uint64)
		}
		s.removed[d.Key] = fr.Seq
		return
	}
	if s.values == nil {
		s.values = make(map[string]StateValue)
	}
	s.values[d.Key] = StateValue{d.Value, fr.Seq}
}

// State returns the state of the room, as far as the server has told it. A
// change is in it once it has arrived, perhaps before the program reads its
// [TypeStateChanged]. It stays as it was while there is no connection.
func (r *Room) State() map[string]StateValue {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	return maps.Clone(r.state.values)
}

// SetState sets a key of the state of the room to a value, which is sent as
// JSON. Nil removes the key. The application decides who may set which key. A
// key has 1 to 64 bytes.
func (r *Room) SetState(ctx context.Context, key string, value any) (Receipt, error) {
	return r.setState(ctx, map[string]any{"key": key, "value": value})
}

// SetStateIf is SetState on condition that the key was set at seq, or is not
// set if that is 0. Otherwise it returns an [*Error] with [CodeConflict].
func (r *Room) SetStateIf(ctx context.Context, key string, value any, seq uint64) (Receipt, error) {
	return r.setState(ctx, map[string]any{"key": key, "value": value, "expect": seq})
}

func (r *Room) setState(ctx context.Context, data map[string]any) (Receipt, error) {
	return r.keep(ctx, "", request{Type: "set-state"}, nil, data)
}
