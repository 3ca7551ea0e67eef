package note_test

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/chathub-go/chathub/internal/note"
)

// goldenRouted holds a body of each operation, and the bytes that nodes of
// earlier versions write and read for it. Logs keep them, too.
var goldenRouted = []struct {
	routed note.Routed
	body   string
}{
	{note.Routed{Body: []byte(`{"type":"message"}`)}, "\x00\x00\x00\x00\x00" + `{"type":"message"}`},
	{
		note.Routed{Op: note.OpEmit, Once: 1<<64 - 1, Except: []string{"c_1"}, Clients: []string{"c_2", ""}, Body: []byte("{}")},
		"\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x03c_1\x02\x03c_2\x00\x00{}",
	},
	{
		note.Routed{Op: note.OpJoin, Clients: []string{"c_1"}, Rooms: []string{"red", "blue"}, Body: []byte{}},
		"\x01\x00\x00\x01\x03c_1\x02\x03red\x04blue",
	},
	{note.Routed{Op: note.OpLeave, Once: 300, Rooms: []string{"red"}, Body: []byte{}}, "\x02\xac\x02\x00\x00\x01\x03red"},
	{
		note.Routed{Op: note.OpDisconnect, Except: []string{"c_1", "c_2"}, Body: []byte("logged out")},
		"\x03\x00\x02\x03c_1\x03c_2\x00\x00logged out",
	},
	{
		note.Routed{Op: note.OpChange, Except: []string{"c_1"}, State: []byte("st\x00te"), Body: []byte("{}")},
		"\x04\x00\x01\x03c_1\x00\x00\x05st\x00te{}",
	},
	{note.Routed{Op: note.OpChange, State: []byte{}, Body: []byte("{}")}, "\x04\x00\x00\x00\x00\x00{}"},
}

func TestRoutedBytes(t *testing.T) {
	for _, tc := range goldenRouted {
		body := tc.routed.Encode(0)
		if string(body) != tc.body {
			t.Errorf("%+v is written as %q, want %q", tc.routed, body, tc.body)
		}
		var got note.Routed
		if err := got.Decode([]byte(tc.body)); err != nil || !reflect.DeepEqual(got, tc.routed) {
			t.Errorf("%q is read as %+v (%v), want %+v", tc.body, got, err, tc.routed)
		}
		if note.IsNote(body) || note.IsNote(nil) {
			t.Errorf("%+v is taken for a note", tc.routed)
		}
		if err := new(note.Note).Decode(body); !errors.Is(err, note.ErrBody) {
			t.Errorf("%+v is read as a note (%v)", tc.routed, err)
		}
	}
}

// TestRoutedRoom: what is appended to a body within the room that was asked for
// needs no new memory.
func TestRoutedRoom(t *testing.T) {
	r := note.Routed{Once: 1<<64 - 1, Except: []string{"c_0123456789abcdefghijkl"}}
	const room = 224
	allocs := testing.AllocsPerRun(100, func() { _ = append(r.Encode(room), make([]byte, room)...) })
	if allocs != 1 {
		t.Errorf("%v allocations, want 1", allocs)
	}
}

// TestRoutedCutOff: no part of a body passes for a whole one, except for the
// end of Body.
func TestRoutedCutOff(t *testing.T) {
	whole := note.Routed{Op: note.OpLeave, Once: 300, Except: []string{"c_1"}, Clients: []string{"c_2", "c_3"}, Rooms: []string{"lobby"}}
	b := whole.Encode(0)
	change := note.Routed{Op: note.OpChange, Once: 300, Except: []string{"c_1"}, State: []byte("state")}
	for _, b := range [][]byte{b, change.Encode(0)} {
		for n := range b {
			var r note.Routed
			if err := r.Decode(b[:n]); err == nil {
				t.Errorf("the first %d of %d bytes were read as %+v", n, len(b), r)
			}
		}
	}
	if err := new(note.Routed).Decode(append([]byte{byte(note.OpChange) + 1}, b[1:]...)); err == nil {
		t.Error("an unknown operation was accepted")
	}
}

// FuzzRouted: what nodes hand to each other survives the way, and a body from
// elsewhere is refused or understood, in memory of its own size.
func FuzzRouted(f *testing.F) {
	for _, tc := range goldenRouted {
		f.Add([]byte(tc.body))
	}
	long := note.Routed{Op: note.OpJoin, Rooms: []string{"a", "", strings.Repeat("r", 128)}, Clients: []string{"c_1"}}
	f.Add(long.Encode(0))
	f.Add([]byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{byte(note.OpChange) + 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r note.Routed
		if r.Decode(b) != nil {
			return
		}
		items := 0
		for _, list := range [][]string{r.Except, r.Clients, r.Rooms} {
			items += len(list)
			for _, s := range list {
				items += len(s)
			}
		}
		if size := items + len(r.State) + len(r.Body); size > len(b) {
			t.Fatalf("%d bytes became %d", len(b), size)
		}
		var again note.Routed
		if err := again.Decode(r.Encode(0)); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if again.Op != r.Op || again.Once != r.Once || !slices.Equal(again.Except, r.Except) || !slices.Equal(again.Clients, r.Clients) ||
			!slices.Equal(again.Rooms, r.Rooms) || !bytes.Equal(again.State, r.State) ||
			!bytes.Equal(again.Body, r.Body) {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}

// BenchmarkRouted is what every message costs, at its sender's node and at each
// that gets it.
func BenchmarkRouted(b *testing.B) {
	body := []byte(strings.Repeat("x", 140))
	for name, r := range map[string]note.Routed{
		"plain":  {Body: body},
		"except": {Body: body, Except: []string{"c_0123456789abcdefghijkl"}},
	} {
		b.Run("encode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Encode(0)
			}
		})
		b.Run("decode/"+name, func(b *testing.B) {
			encoded := r.Encode(0)
			b.ReportAllocs()
			for b.Loop() {
				var r note.Routed
				if err := r.Decode(encoded); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
