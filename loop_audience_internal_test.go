package chathub

import (
	"strings"
	"testing"
)

// Pending frames become one chunk for each kind of member that there is. The
// chunk for compressing members has the compressed form of each frame that has
// one.
func TestChunks(t *testing.T) {
	plain, deflating := &Client{id: "p"}, &Client{id: "d", takesCompressed: true}
	one := delivery{frame: []byte("one ")}
	two := delivery{frame: []byte("two "), compressed: []byte("2")}
	three := delivery{frame: []byte("three "), compressed: []byte("3")}
	for _, tt := range []struct {
		name         string
		members      []*Client
		pending      []delivery
		plain, small string
	}{
		{"all plain", []*Client{plain, plain}, []delivery{one, two}, "one two ", ""},
		{"all compressed", []*Client{deflating}, []delivery{one, two, three}, "", "one 23"},
		{"both", []*Client{plain, deflating}, []delivery{two, one, three}, "two one three ", "2one 3"},
		{"both, nothing compressed", []*Client{plain, deflating}, []delivery{one, one}, "one one ", "one one "},
		{"one alone", []*Client{plain, deflating}, []delivery{two}, "two ", "2"},
		{"one alone, not compressed", []*Client{plain, deflating}, []delivery{one}, "one ", "one "},
	} {
		a := &audience{pending: tt.pending}
		for _, c := range tt.members {
			a.members = append(a.members, member{c: c})
			if c.takesCompressed {
				a.compressed++
			}
		}
		for i := range a.pending {
			a.bytes += len(a.pending[i].frame)
		}
		s := a.chunks()
		if string(s.plain) != tt.plain || string(s.compressed) != tt.small {
			t.Errorf("%s: %q and %q, want %q and %q", tt.name, s.plain, s.compressed, tt.plain, tt.small)
		}
		if string(s.of(plain)) != tt.plain || string(s.of(deflating)) != tt.small {
			t.Errorf("%s: members get the chunk of the other kind", tt.name)
		}
	}
}

// A shared frame is compressed only while some client accepts compressed
// frames. These clients are counted, in the hub and in its rooms.
func TestCompressShared(t *testing.T) {
	hub := newBenchHub(t, 1)
	e := envelope{typ: "news", data: []byte(`"` + strings.Repeat("again ", 50) + `"`)}
	if hub.compressShared(e.frame()) != nil {
		t.Error("compressed although no client accepts it")
	}
	hub.compressedClients.Add(1)
	if hub.compressShared(e.frame()) == nil {
		t.Error("not compressed although a client accepts it")
	}
	hub.compressedClients.Add(-1)

	l := &loop{hub: hub, cfg: &hub.cfg, clients: map[string]*Client{}}
	a := &audience{}
	var clients []*Client
	for i := range 4 {
		c := &Client{takesCompressed: i%2 == 0}
		clients = append(clients, c)
		l.add(a, c, nil)
	}
	for i, want := range []int{2, 1, 1, 0} {
		if a.compressed != want {
			t.Errorf("after %d clients have gone, %d are counted, want %d", i, a.compressed, want)
		}
		l.remove(clients[i], 0)
	}
}
