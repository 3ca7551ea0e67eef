package note_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

var unal = note.User{ID: "u1", Name: "Ünal"}

// golden holds notes of each kind, with all their fields, and the bytes that
// nodes of earlier versions write and read for them.
var golden = []struct {
	note note.Note
	body string
}{
	{note.Note{Op: note.OpBeat, ID: 7, Seq: 1 << 40}, "@\x03n_1\a\x80\x80\x80\x80\x80 "},
	{note.Note{Op: note.OpBye}, "A\x03n_1\x00"},
	{
		note.Note{Op: note.OpState, Room: "red", Prev: 1, Seq: 2, Part: 3, More: true, Users: []note.Movement{
			{User: unal},
			{User: unal, How: note.Went},
			{User: unal, How: note.Left},
			{User: unal, How: note.Lingers, Age: 1500 * time.Millisecond},
		}},
		"B\x03n_1\x00\x03red\x01\x02\x03\x01\x04\x02u1\x05Ünal\x00\x00\x02u1\x05Ünal\x01\x00" +
			"\x02u1\x05Ünal\x02\x00\x02u1\x05Ünal\x03\xdc\v",
	},
	{
		note.Note{Op: note.OpState, Room: "red", Seq: 300, More: true, Users: []note.Movement{{User: note.User{ID: "u1"}}}},
		"B\x03n_1\x00\x03red\x00\xac\x02\x00\x01\x01\x02u1\x00\x00\x00",
	},
	{note.Note{Op: note.OpState, Seq: 1}, "B\x03n_1\x00\x00\x00\x01\x00\x00\x00"},
	{
		note.Note{Op: note.OpCheck, ID: 1, Fresh: true, Marks: []note.Mark{{Seq: 1}, {Room: "red"}}},
		"C\x03n_1\x01\x01\x02\x00\x01\x03red\x00",
	},
	{note.Note{Op: note.OpCheck}, "C\x03n_1\x00\x00\x00"},
	{
		note.Note{Op: note.OpTold, Room: "red", Users: []note.Movement{{User: unal}, {User: unal, How: note.Went}}},
		"I\x03n_1\x00\x03red\x02\x02u1\x05Ünal\x00\x02u1\x05Ünal\x01",
	},
	{
		note.Note{Op: note.OpInspect, ID: 2, Timeout: time.Second, Have: 3, Event: "rooms", Data: []byte(`{}`)},
		"J\x03n_1\x02\xe8\a\x03\x05rooms\x01\x02{}",
	},
	{note.Note{Op: note.OpCheckDone, ID: 1}, "D\x03n_1\x01"},
	{
		note.Note{
			Op: note.OpQuestion, ID: 2, Timeout: time.Second, Have: 3,
			Topics: []note.Topic{{}, {Room: "red"}, {User: "u1"}},
			Except: []string{"c_1"}, Clients: []string{"c_2", "c_3"}, Event: "ask", Data: []byte(`{}`),
		},
		"E\x03n_1\x02\xe8\a\x03\x03\x00\x00\x03red\x00\x00\x02u1\x01\x03c_1\x02\x03c_2\x03c_3\x03ask\x01\x02{}",
	},
	{note.Note{Op: note.OpQuestion, Event: "ask"}, "E\x03n_1\x00\x00\x00\x00\x00\x00\x03ask\x00"},
	{
		note.Note{Op: note.OpQuestion, ID: 1 << 35, Timeout: time.Millisecond, Data: []byte{}, Event: "ask"},
		"E\x03n_1\x80\x80\x80\x80\x80\x01\x01\x00\x00\x00\x00\x03ask\x01\x00",
	},
	{
		note.Note{Op: note.OpAnswers, ID: 2, Have: 4, Replies: []note.Reply{
			{Client: "c_1", User: unal},
			{Client: "c_2", User: unal, State: note.Answered, Data: []byte("1")},
			{Client: "c_3", User: unal, State: note.Refused, Code: "conflict", Message: "No"},
			{Client: "c_4", User: unal, State: note.Gone},
		}},
		"F\x03n_1\x02\x04\x04\x03c_1\x02u1\x05Ünal\x00\x00\x00\x00\x03c_2\x02u1\x05Ünal\x01\x01\x011\x00\x00" +
			"\x03c_3\x02u1\x05Ünal\x02\x00\bconflict\x02No\x03c_4\x02u1\x05Ünal\x03\x00\x00\x00",
	},
	{note.Note{Op: note.OpQuestionDone, ID: 2}, "G\x03n_1\x02"},
	{
		note.Note{Op: note.OpRevoke, ID: 3, Topics: []note.Topic{{User: "u1"}}, Rooms: []string{"red"}, Data: []byte("No")},
		"H\x03n_1\x03\x01\x00\x02u1\x00\x00\x01\x03red\x01\x02No",
	},
	{note.Note{Op: note.OpSettle, ID: 4, Room: "red", Seq: 300}, "K\x03n_1\x04\x03red\xac\x02"},
	{
		note.Note{Op: note.OpAway, Jobs: []note.Job{
			{Topic: note.Topic{Room: "red"}, Epoch: "e1", Seq: 300, User: "u1", Delay: 1500 * time.Millisecond},
			{State: note.JobDone, Topic: note.Topic{User: "u1"}, Epoch: "e1", Seq: 1},
			{State: note.JobYours, Topic: note.Topic{User: "u1"}, Epoch: "e1", Seq: 2},
			{State: note.JobNone},
		}},
		"L\x03n_1\x00\x04\x00\x03red\x00\x02e1\xac\x02\x02u1\xdc\v" +
			"\x01\x00\x02u1\x02e1\x01\x00\x00\x02\x00\x02u1\x02e1\x02\x00\x00\x03\x00\x00\x00\x00\x00\x00",
	},
}

func TestNoteBytes(t *testing.T) {
	for _, tc := range golden {
		n := tc.note
		n.From = "n_1"
		body := n.Encode()
		if string(body) != tc.body {
			t.Errorf("%+v is written as %q, want %q", n, body, tc.body)
		}
		var got note.Note
		if err := got.Decode([]byte(tc.body)); err != nil || !reflect.DeepEqual(got, n) {
			t.Errorf("%q is read as %+v (%v), want %+v", tc.body, got, err, n)
		}
		if !note.IsNote(body) {
			t.Errorf("%+v is not taken for a note", n)
		}
		if err := new(note.Routed).Decode(body); !errors.Is(err, note.ErrBody) {
			t.Errorf("%+v is read as a routed body (%v)", n, err)
		}
	}
}

// TestNoteDamaged: no part of a note passes for a whole one, nor does one with
// a byte more or of an unknown operation.
func TestNoteDamaged(t *testing.T) {
	refuse := func(body []byte) {
		t.Helper()
		if err := new(note.Note).Decode(body); !errors.Is(err, note.ErrBody) {
			t.Errorf("%q is read (%v)", body, err)
		}
	}
	for _, tc := range golden {
		body := []byte(tc.body)
		for i := range body {
			refuse(body[:i:i])
		}
		refuse(append(body, 0))
	}
	refuse([]byte{byte(note.OpSettle) + 1, 0, 0})
	refuse([]byte{byte(note.OpBeat) - 1, 0, 0, 0})
}

// FuzzNote: what another node sends is refused, or means the same when it is
// written again.
func FuzzNote(f *testing.F) {
	for _, tc := range golden {
		f.Add([]byte(tc.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var n, again note.Note
		if n.Decode(body) != nil {
			return
		}
		b := n.Encode()
		if err := again.Decode(b); err != nil || !bytes.Equal(again.Encode(), b) {
			t.Errorf("%+v becomes %+v, %v", n, again, err)
		}
	})
}

// users returns movements that take about 40 bytes each.
func users(n int) (users []note.Movement) {
	for i := range n {
		users = append(users, note.Movement{User: note.User{ID: fmt.Sprintf("user%05d", i), Name: strings.Repeat("x", 23)}})
	}
	return users
}

func TestSplit(t *testing.T) {
	var marks []note.Mark
	for i := range 2000 {
		marks = append(marks, note.Mark{Room: fmt.Sprintf("room%028d", i), Seq: 1})
	}
	large := make([]byte, note.MaxBytes)
	var replies []note.Reply
	for i := range 5 {
		replies = append(replies, note.Reply{Client: fmt.Sprint("c_", i), State: note.Answered, Data: large[:i%2*note.MaxBytes]})
	}
	var jobs []note.Job
	for i := range 2000 {
		jobs = append(jobs, note.Job{Topic: note.Topic{Room: "red"}, Epoch: "0123456789ab", Seq: uint64(i), User: "u1"})
	}
	for _, tc := range []struct {
		name  string
		note  note.Note
		notes int
	}{
		{"an empty whole", note.Note{Op: note.OpState, Room: "red", Seq: 5}, 1},
		{"a small whole", note.Note{Op: note.OpState, Room: "red", Seq: 5, Users: users(10)}, 1},
		{"a large whole", note.Note{Op: note.OpState, Room: "red", Seq: 5, Users: users(2000)}, 3},
		{"a large difference", note.Note{Op: note.OpState, Room: "red", Prev: 4, Users: users(2000)}, 3},
		{"a full note", note.Note{Op: note.OpState, Prev: 4, Users: users(note.MaxBytes / 40)}, 1},
		{"one more", note.Note{Op: note.OpState, Prev: 4, Users: users(note.MaxBytes/40 + 2)}, 2},
		{"a small check", note.Note{Op: note.OpCheck, ID: 9, Marks: marks[:1]}, 1},
		{"a large check", note.Note{Op: note.OpCheck, ID: 9, Fresh: true, Marks: marks}, 3},
		{"no answers", note.Note{Op: note.OpAnswers, ID: 9}, 1},
		{"large answers", note.Note{Op: note.OpAnswers, ID: 9, Have: 5, Replies: replies}, 3},
		{"a beat", note.Note{Op: note.OpBeat, ID: 9, Seq: 5}, 1},
		{"a job", note.Note{Op: note.OpAway, Jobs: jobs[:1]}, 1},
		{"many jobs", note.Note{Op: note.OpAway, Jobs: jobs}, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := tc.note
			var all note.Note
			notes := slices.Collect(tc.note.Split())
			if len(notes) != tc.notes {
				t.Errorf("%d notes, want %d", len(notes), tc.notes)
			}
			for i, n := range notes {
				for again := range n.Split() {
					if again != n {
						t.Errorf("note %d is split again", i)
					}
				}
				last := i == len(notes)-1
				if size := len(n.Encode()); size > note.MaxBytes+note.MaxBytes/8 {
					t.Errorf("note %d has %d bytes", i, size)
				}
				if whole := n.Op == note.OpState && n.Prev == 0; whole && (n.Part != uint64(i) || n.More == last) {
					t.Errorf("part %d is number %d, more=%t", i, n.Part, n.More)
				} else if !whole && (n.Part != 0 || n.More) {
					t.Errorf("note %d is part %d, more=%t", i, n.Part, n.More)
				}
				if n.Op == note.OpCheck && !last {
					if n.ID != 0 {
						t.Errorf("note %d has the id already", i)
					}
					n.ID = tc.note.ID
				}
				users, marks, replies := append(all.Users, n.Users...), append(all.Marks, n.Marks...), append(all.Replies, n.Replies...)
				jobs := append(all.Jobs, n.Jobs...)
				all = *n
				all.Users, all.Marks, all.Replies, all.Jobs = users, marks, replies, jobs
			}
			all.Part, all.More = 0, false
			if !reflect.DeepEqual(all, before) || !reflect.DeepEqual(tc.note, before) {
				t.Errorf("%d users, %d marks, %d replies became %d, %d, %d, or something else has changed", len(before.Users),
					len(before.Marks), len(before.Replies), len(all.Users), len(all.Marks), len(all.Replies))
			}
			for range tc.note.Split() { // a caller that has enough
				break
			}
		})
	}
}

func TestCeilMillis(t *testing.T) {
	for d, want := range map[time.Duration]int64{
		0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Second: 1000, time.Second - 1: 1000,
	} {
		if got := note.CeilMillis(d); got != want {
			t.Errorf("%v is %d ms, want %d", d, got, want)
		}
	}
}

// BenchmarkNote is a change of presence: 20 users who came or went.
func BenchmarkNote(b *testing.B) {
	n := note.Note{Op: note.OpState, From: "n_0123456789abcdef", Room: "lobby", Prev: 1000, Seq: 1001}
	for i := range 20 {
		u := note.User{ID: fmt.Sprint("user", i), Name: fmt.Sprint("Name ", i)}
		n.Users = append(n.Users, note.Movement{User: u, How: note.How(i % 2)})
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n.Encode()
		}
	})
	b.Run("decode", func(b *testing.B) {
		body := n.Encode()
		b.ReportAllocs()
		for b.Loop() {
			var n note.Note
			if err := n.Decode(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}
