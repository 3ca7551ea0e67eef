package change

import (
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// version is the first byte of an encoded state.
const version = 1

var errState = errors.New("change: not a state of this version")

// Encode returns the state as bytes for the log:
//
//	1 byte    version
//	varint    edited, deleted, time
//	uvarint   seq, count
//	bytes     head, data; each after its length
//	list      reactions: key, and list of users
//	list      operations: 8 bytes id, 8 bytes sum, varint time
//
// A list comes after its length, and so does a text.
func (st *State) Encode() []byte {
	b := make([]byte, 0, 64+len(st.Head)+len(st.Data)+24*len(st.done)+32*st.pairs())
	b = append(b, version)
	for _, t := range [...]int64{st.Edited, st.Deleted, st.Time} {
		b = binary.AppendVarint(b, t)
	}
	b = binary.AppendUvarint(b, st.Seq)
	b = binary.AppendUvarint(b, st.Count)
	b = appendBytes(b, st.Head)
	b = appendBytes(b, st.Data)
	b = binary.AppendUvarint(b, uint64(len(st.Reactions)))
	for _, r := range st.Reactions {
		b = appendBytes(b, []byte(r.Key))
		b = binary.AppendUvarint(b, uint64(len(r.Users)))
		for _, u := range r.Users {
			b = appendBytes(b, []byte(u))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(st.done)))
	for _, d := range st.done {
		b = binary.BigEndian.AppendUint64(b, d.id)
		b = binary.BigEndian.AppendUint64(b, d.sum)
		b = binary.AppendVarint(b, d.at)
	}
	return b
}

func appendBytes(b, s []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// Decode is the opposite of Encode. The state shares no memory with b.
func Decode(b []byte) (*State, error) {
	r := reader{b: b}
	if v := r.take(1); len(v) == 0 || v[0] != version {
		return nil, errState
	}
	st := &State{Edited: r.varint(), Deleted: r.varint(), Time: r.varint(), Seq: r.uvarint(), Count: r.uvarint()}
	st.Head, st.Data = r.bytes(), r.bytes()
	for range r.count(2) {
		x := Reaction{Key: string(r.bytes())}
		for range r.count(1) {
			x.Users = append(x.Users, string(r.bytes()))
		}
		st.Reactions = append(st.Reactions, x)
	}
	for range r.count(17) {
		id, sum := r.uint64(), r.uint64()
		st.done = append(st.done, done{id, sum, r.varint()})
	}
	if r.failed || len(r.b) > 0 {
		return nil, errState
	}
	return st, nil
}

// reader takes an encoded state apart. Once it has failed, everything is zero.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n uint64) []byte {
	if r.failed || n > uint64(len(r.b)) {
		r.failed = true
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.failed = r.failed || n <= 0
	r.take(uint64(max(n, 0)))
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	r.failed = r.failed || n <= 0
	r.take(uint64(max(n, 0)))
	return v
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes returns a copy, or nil if it is empty.
func (r *reader) bytes() []byte { return append([]byte(nil), r.take(r.uvarint())...) }

// count returns the length of a list whose items have at least size bytes.
func (r *reader) count(size uint64) uint64 {
	n := r.uvarint()
	if r.failed || n > uint64(len(r.b))/size {
		r.failed = true
		return 0
	}
	return n
}

// shown is how many users of a reaction clients are told.
const shown = 20

// AppendMessage appends the present form of the message as a JSON object: what
// has changed, and nothing else.
func (st *State) AppendMessage(b []byte) []byte {
	b = append(b, '{')
	start := len(b)
	if st.Data != nil {
		b = append(b, `,"data":`...)
		b = append(b, st.Data...)
	}
	b = st.AppendFields(b)
	if len(b) > start { // without the first comma
		b = append(b[:start], b[start+1:]...)
	}
	return append(b, '}')
}

// AppendFields appends what has changed except for the data, as fields of a
// JSON object. A comma precedes each.
func (st *State) AppendFields(b []byte) []byte {
	b = appendTime(b, "edited", st.Edited)
	b = appendTime(b, "deleted", st.Deleted)
	if len(st.Reactions) == 0 {
		return b
	}
	b = append(b, `,"reactions":{`...)
	for i, r := range st.Reactions {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, r.Key)
		b = append(b, `:{"count":`...)
		b = strconv.AppendInt(b, int64(len(r.Users)), 10)
		b = append(b, `,"users":`...)
		b = AppendStrings(b, r.Users[:min(len(r.Users), shown)])
		b = append(b, '}')
	}
	return append(b, '}')
}

// AppendStrings appends a JSON array of strings.
func AppendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, s)
	}
	return append(b, ']')
}

func appendTime(b []byte, name string, t int64) []byte {
	if t == 0 {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return strconv.AppendInt(b, t, 10)
}

// appendQuoted appends s, which is valid UTF-8, as a JSON string.
func appendQuoted(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}
