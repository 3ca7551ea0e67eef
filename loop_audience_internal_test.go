package chathub

import (
	"strings"
	"testing"
)

// TestJoin: what is pending becomes one chunk for each kind of member that there is, the
// compressed one of compressed frames where there are any.
func TestJoin(t *testing.T) {
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
			t.Errorf("%s: members get those of the others", tt.name)
		}
	}
}

// TestShrinkShared: nothing is compressed for many while nobody takes that; who does is
// counted, in the hub and in its rooms.
func TestShrinkShared(t *testing.T) {
	hub := newBenchHub(t, 1)
	e := envelope{typ: "news", data: []byte(`"` + strings.Repeat("again ", 50) + `"`)}
	if hub.compressShared(e.frame()) != nil {
		t.Error("compressed for nobody")
	}
	hub.compressedClients.Add(1)
	if hub.compressShared(e.frame()) == nil {
		t.Error("not compressed for one who takes it")
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
			t.Errorf("%d have gone: %d are counted, want %d", i, a.compressed, want)
		}
		l.remove(clients[i], 0)
	}
}
