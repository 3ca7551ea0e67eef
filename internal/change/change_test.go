package change_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/chathub-go/chathub/internal/change"
)

// op returns an operation from a text: edit DATA, delete, on USER KEY, off USER
// KEY, or off USER. An id and a sum of its content may precede it, as in
// "7=edit 1".
func op(s string) *change.Op {
	o := &change.Op{}
	if id, rest, ok := strings.Cut(s, "="); ok {
		_, _ = fmt.Sscan(id, &o.ID)
		s = rest
		for _, b := range []byte(s) {
			o.Sum = o.Sum*31 + uint64(b)
		}
	}
	words := strings.Fields(s)
	switch words[0] {
	case "edit":
		o.Kind, o.Data = change.Edit, []byte(words[1])
	case "delete":
		o.Kind = change.Delete
	default:
		o.Kind, o.User, o.On = change.React, words[1], words[0] == "on"
		if len(words) > 2 {
			o.Key = words[2]
		}
	}
	return o
}

// message returns the present form, as clients are told.
func message(st *change.State) string { return string(st.AppendMessage(nil)) }

func TestApply(t *testing.T) {
	type step struct {
		op   string
		want error
	}
	for _, tc := range []struct {
		name  string
		steps []step
		want  string // the time is the number of the step, from 1
	}{
		{"as it was sent", nil, `{}`},
		{"edited", []step{{"edit 1", nil}, {`edit {"a":2}`, nil}}, `{"data":{"a":2},"edited":2}`},
		{"deleted", []step{{"on u a", nil}, {"edit 1", nil}, {"delete", nil}}, `{"deleted":3}`},
		{"delete beats all", []step{
			{"delete", nil}, {"delete", change.ErrUnchanged}, {"edit 1", change.ErrDeleted}, {"on u a", change.ErrDeleted}, {"off u a", change.ErrDeleted},
		}, `{"deleted":1}`},
		{"reactions", []step{
			{"on u a", nil}, {"on v b", nil}, {"on v a", nil}, {"on u a", change.ErrUnchanged}, {"off w a", change.ErrUnchanged}, {"off u b", change.ErrUnchanged},
		}, `{"reactions":{"a":{"count":2,"users":["u","v"]},"b":{"count":1,"users":["v"]}}}`},
		{"taken back", []step{{"on u a", nil}, {"on v b", nil}, {"off u a", nil}, {"on u a", nil}, {"off v b", nil}}, `{"reactions":{"a":{"count":1,"users":["u"]}}}`},
		{"all taken back", []step{{"on u a", nil}, {"on v a", nil}, {"on u b", nil}, {"off u", nil}, {"off u", change.ErrUnchanged}}, `{"reactions":{"a":{"count":1,"users":["v"]}}}`},
		{"none left", []step{{"edit 1", nil}, {"on u a", nil}, {"off u a", nil}}, `{"data":1,"edited":1}`},
		{"quoted", []step{{`on u"\ "`, nil}}, `{"reactions":{"\"":{"count":1,"users":["u\"\\"]}}}`},
		{"repeated", []step{
			{"1=edit 1", nil}, {"1=edit 1", change.ErrRepeated}, {"1=edit 2", change.ErrOther}, {"1=delete", change.ErrOther},
			{"2=edit 2", nil}, {"1=edit 1", change.ErrRepeated},
		}, `{"data":2,"edited":5}`},
		{"repeated after the deletion", []step{
			{"1=edit 1", nil}, {"2=delete", nil}, {"1=edit 1", change.ErrRepeated}, {"2=delete", change.ErrRepeated}, {"3=delete", change.ErrUnchanged},
			{"4=edit 1", change.ErrDeleted}, {"1=edit 2", change.ErrOther},
		}, `{"deleted":2}`},
		{"refused ones are not remembered", []step{{"on u a", nil}, {"1=on u a", change.ErrUnchanged}, {"1=edit 1", nil}}, `{"data":1,"edited":3,"reactions":{"a":{"count":1,"users":["u"]}}}`},
		{"without id", []step{{"edit 1", nil}, {"edit 1", nil}}, `{"data":1,"edited":2}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var st change.State
			changes := uint64(0)
			for i, s := range tc.steps {
				before, was := st.Clone(), st.Encode()
				if err := st.Apply(op(s.op), int64(i+1)); !errors.Is(err, s.want) {
					t.Errorf("%q returned %v, want %v", s.op, err, s.want)
				}
				if s.want == nil {
					changes++
				} else if !reflect.DeepEqual(&st, before) {
					t.Errorf("%q was refused and changed %+v to %+v", s.op, before, st)
				}
				if string(before.Encode()) != string(was) {
					t.Errorf("%q has changed a clone", s.op)
				}
			}
			if got := message(&st); got != tc.want || st.Count != changes {
				t.Errorf("after %d changes it is %s, want %s after %d", st.Count, got, tc.want, changes)
			}
			checkEncoded(t, &st)
		})
	}
}

// checkEncoded checks that a state survives the way through a log.
func checkEncoded(t *testing.T, st *change.State) {
	t.Helper()
	b := st.Encode()
	got, err := change.Decode(slices.Clone(b))
	if err != nil || string(got.Encode()) != string(b) || message(got) != message(st) {
		t.Fatalf("%s became %+v, %v", message(st), got, err)
	}
}

// What clients are told of a reaction has its first 20 users.
func TestShownUsers(t *testing.T) {
	var st change.State
	for i := range 25 {
		if err := st.Apply(op(fmt.Sprintf("on u%02d a", i)), 1); err != nil {
			t.Fatal(err)
		}
	}
	got := message(&st)
	if !strings.Contains(got, `"count":25`) || !strings.Contains(got, `"u19"]`) || strings.Contains(got, "u20") {
		t.Error(got)
	}
	if keys := st.Mine("u24"); !slices.Equal(keys, []string{"a"}) || st.Mine("u25") != nil {
		t.Errorf("u24 has set %v", keys)
	}
}

func TestReactionBounds(t *testing.T) {
	var keys change.State
	for i := range change.MaxKeys {
		if err := keys.Apply(op(fmt.Sprint("on u k", i)), 1); err != nil {
			t.Fatal(err)
		}
	}
	for s, want := range map[string]error{"on u more": change.ErrTooMany, "on v more": change.ErrTooMany, "on u k0": change.ErrUnchanged} {
		if err := keys.Apply(op(s), 1); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", s, err, want)
		}
	}
	for _, s := range []string{"on v k0", "off u k1", "on u more"} {
		if err := keys.Apply(op(s), 1); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}

	var pairs change.State
	for i := range change.MaxPairs {
		if err := pairs.Apply(op(fmt.Sprintf("on u%d k%d", i/2, i%2)), 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{"on v k0", "on v more"} {
		if err := pairs.Apply(op(s), 1); !errors.Is(err, change.ErrTooMany) {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"off u7 k1", "on v more", "edit 1"} {
		if err := pairs.Apply(op(s), 1); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	checkEncoded(t, &pairs)
}

// A state remembers operations for Window, and the newest MaxDone.
func TestRemembered(t *testing.T) {
	edit := func(id uint64) *change.Op { return &change.Op{Kind: change.Edit, Data: []byte("1"), ID: id, Sum: 1} }
	var st change.State
	apply := func(id uint64, now int64, want error) {
		t.Helper()
		if err := st.Apply(edit(id), now); !errors.Is(err, want) {
			t.Errorf("operation %d at %d: %v, want %v", id, now, err, want)
		}
	}
	apply(1, 0, nil)
	apply(2, 1, nil)
	apply(3, change.Window, nil)
	apply(1, change.Window, change.ErrRepeated)
	apply(4, change.Window+1, nil) // 1 is forgotten
	apply(2, change.Window+1, change.ErrRepeated)
	apply(1, change.Window+1, nil)

	st = change.State{}
	for i := range uint64(change.MaxDone) {
		apply(i+1, 5, nil)
	}
	apply(1, 5, change.ErrRepeated)
	size := len(st.Encode())
	apply(change.MaxDone+1, 5, nil)
	apply(2, 5, change.ErrRepeated)
	if now := len(st.Encode()); now > size+1 {
		t.Errorf("%d bytes became %d", size, now)
	}
	apply(1, 5, nil)
	checkEncoded(t, &st)
}

// No part of a state passes for a whole one, and neither does one with a byte
// more, of another version, or with lists that are longer than it is.
func TestDecodeDamaged(t *testing.T) {
	st := change.State{Head: []byte(`{"type":"room-message"}`), Seq: 9, Time: 8}
	for i, s := range []string{"1=edit 1", "2=on u a", "on v a", "on u b"} {
		if err := st.Apply(op(s), int64(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	checkEncoded(t, &st)
	b := st.Encode()
	for i := range b {
		if got, err := change.Decode(b[:i:i]); err == nil {
			t.Errorf("the first %d of %d bytes are read as %+v", i, len(b), got)
		}
	}
	for _, bad := range [][]byte{
		append(slices.Clone(b), 0), append([]byte{2}, b[1:]...),
		{1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0},
		{1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		if got, err := change.Decode(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
}

// What is decoded does not change with the bytes it came from.
func TestDecodeCopies(t *testing.T) {
	st := change.State{Head: []byte("head")}
	for _, s := range []string{"edit 1", "on user key"} {
		if err := st.Apply(op(s), 1); err != nil {
			t.Fatal(err)
		}
	}
	b := st.Encode()
	got, err := change.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if message(got) != message(&st) || string(got.Head) != "head" {
		t.Errorf("it became %s, %s", message(got), got.Head)
	}
}

// FuzzDecode: bytes from a log are refused, or mean the same when they are
// written again. Whatever was read can be changed.
func FuzzDecode(f *testing.F) {
	var st change.State
	f.Add(st.Encode())
	for i, s := range []string{"1=edit 1", "2=on u a", "on v a", "3=on u b", "4=delete"} {
		if err := st.Apply(op(s), int64(i+1)); err != nil {
			f.Fatal(err)
		}
		st.Head, st.Seq, st.Time = []byte("{}"), 7, 8
		f.Add(st.Encode())
	}
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := change.Decode(b)
		if err != nil {
			return
		}
		again, err := change.Decode(st.Encode())
		if err != nil || !reflect.DeepEqual(again, st) {
			t.Fatalf("%+v became %+v, %v", st, again, err)
		}
		if len(st.Encode()) > 2*len(b) {
			t.Errorf("%d bytes became %d", len(b), len(st.Encode()))
		}
		clone := st.Clone()
		for _, s := range []string{"5=on u a", "6=off u a", "off u", "7=edit 2", "8=delete"} {
			_ = clone.Apply(op(s), 10)
		}
		if !reflect.DeepEqual(again, st) {
			t.Error("a change of the clone has changed the state")
		}
		checkEncoded(t, clone)
	})
}
