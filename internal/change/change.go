// Package change is what becomes of a message after it was sent: it is edited,
// deleted, and reacted to. A [State] is a value without I/O, clock or lock.
// Operations go in, and the new state comes out, or the reason why there is
// none.
package change

import (
	"errors"
	"slices"
)

// Bounds of the reactions to one message, and of the operations that are
// remembered.
const (
	MaxKeys  = 50   // different keys
	MaxPairs = 1000 // pairs of a user and a key
	// MaxDone is how many operations a state remembers to recognise
	// repetitions, and Window for how long, in milliseconds.
	MaxDone = 256
	Window  = 5 * 60 * 1000
)

// Kind is what an operation does, by the name that clients are told.
type Kind string

// The kinds of operations.
const (
	Edit   Kind = "edited"
	Delete Kind = "deleted"
	React  Kind = "reacted"
)

// Op is one operation.
type Op struct {
	Kind Kind
	User string // who reacts
	Data []byte // of an Edit: the new data, as JSON
	Key  string // of a React; empty: all keys of the user, to be taken back
	On   bool   // of a React: whether the key is set or taken back
	// ID identifies a repetition of the operation, and Sum its content. 0: it
	// cannot be repeated.
	ID, Sum uint64
}

// State is what a message has become. The zero value is a message as it was
// sent. 0 <= Edited, and Deleted > 0 means that everything else is empty.
type State struct {
	// Head is the envelope of a deleted message without its data, as JSON, and
	// Seq and Time say where and when it was stored.
	Head []byte
	Seq  uint64
	Time int64

	// Count is how often the message has changed. Of two states of one message,
	// the one with the higher count is newer.
	Count uint64

	Data    []byte // of the last edit, as JSON
	Edited  int64  // when, in Unix milliseconds; 0: never
	Deleted int64

	Reactions []Reaction // in the order of their first use
	done      []done     // oldest first
}

// Reaction is a key with the users who have set it, in that order. There is at
// least one.
type Reaction struct {
	Key   string
	Users []string
}

// done is an operation that was carried out.
type done struct {
	id, sum uint64
	at      int64 // Unix milliseconds
}

// The results of [State.Apply].
var (
	// ErrRepeated: the operation was carried out before.
	ErrRepeated = errors.New("change: repeated")
	// ErrUnchanged: there is nothing to do.
	ErrUnchanged = errors.New("change: nothing to do")
	// ErrOther: the id was used for another operation.
	ErrOther = errors.New("change: the id was used for another operation")
	// ErrDeleted: a deleted message does not change.
	ErrDeleted = errors.New("change: the message is deleted")
	// ErrTooMany: the message has as many reactions as it may have.
	ErrTooMany = errors.New("change: too many reactions")
)

// Apply carries out an operation at a time in Unix milliseconds. If it returns
// an error, the state is as before.
func (st *State) Apply(op *Op, now int64) error {
	if op.ID != 0 {
		if i := slices.IndexFunc(st.done, func(d done) bool { return d.id == op.ID }); i >= 0 {
			if st.done[i].sum != op.Sum {
				return ErrOther
			}
			return ErrRepeated
		}
	}
	switch {
	case st.Deleted > 0 && op.Kind == Delete:
		return ErrUnchanged
	case st.Deleted > 0:
		return ErrDeleted
	}
	switch op.Kind {
	case Edit:
		st.Data, st.Edited = op.Data, now
	case Delete:
		st.Data, st.Edited, st.Deleted, st.Reactions = nil, 0, now, nil
	case React:
		if err := st.react(op); err != nil {
			return err
		}
	}
	st.Count++
	st.remember(op, now)
	return nil
}

func (st *State) react(op *Op) error {
	if op.Key == "" {
		return st.forget(op.User)
	}
	k := slices.IndexFunc(st.Reactions, func(r Reaction) bool { return r.Key == op.Key })
	u := -1
	if k >= 0 {
		u = slices.Index(st.Reactions[k].Users, op.User)
	}
	switch {
	case op.On == (u >= 0):
		return ErrUnchanged
	case !op.On:
		r := &st.Reactions[k]
		if r.Users = slices.Delete(r.Users, u, u+1); len(r.Users) == 0 {
			st.Reactions = slices.Delete(st.Reactions, k, k+1)
		}
		return nil
	case k < 0 && len(st.Reactions) == MaxKeys, st.pairs() == MaxPairs:
		return ErrTooMany
	case k < 0:
		st.Reactions = append(st.Reactions, Reaction{Key: op.Key, Users: []string{op.User}})
		return nil
	}
	st.Reactions[k].Users = append(st.Reactions[k].Users, op.User)
	return nil
}

// forget takes back all reactions of a user.
func (st *State) forget(user string) error {
	before := st.pairs()
	for i := range st.Reactions {
		r := &st.Reactions[i]
		r.Users = slices.DeleteFunc(r.Users, func(u string) bool { return u == user })
	}
	st.Reactions = slices.DeleteFunc(st.Reactions, func(r Reaction) bool { return len(r.Users) == 0 })
	if st.pairs() == before {
		return ErrUnchanged
	}
	return nil
}

func (st *State) pairs() (n int) {
	for i := range st.Reactions {
		n += len(st.Reactions[i].Users)
	}
	return n
}

// remember notes an operation, and forgets those that are too old or too many.
func (st *State) remember(op *Op, now int64) {
	from := 0
	for from < len(st.done) && (now-st.done[from].at > Window || len(st.done)-from >= MaxDone) {
		from++
	}
	st.done = slices.Delete(st.done, 0, from)
	if op.ID != 0 {
		st.done = append(st.done, done{op.ID, op.Sum, now})
	}
}

// Clone returns a copy that an operation on one of the two does not change in
// the other.
func (st *State) Clone() *State {
	c := *st
	c.Reactions = slices.Clone(st.Reactions)
	for i := range c.Reactions {
		c.Reactions[i].Users = slices.Clone(c.Reactions[i].Users)
	}
	c.done = slices.Clone(st.done)
	return &c
}

// Mine returns the keys that a user has set.
func (st *State) Mine(user string) (keys []string) {
	for i := range st.Reactions {
		if slices.Contains(st.Reactions[i].Users, user) {
			keys = append(keys, st.Reactions[i].Key)
		}
	}
	return keys
}
