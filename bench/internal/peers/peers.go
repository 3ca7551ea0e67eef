//go:build linux

// Package peers has the servers that the benchmark compares, each written as its
// own documentation shows, and how a client speaks with each.
//
// All of them are one chat: whoever is in a room hears every message that anyone
// in it sends. Compression is off, but where a name says so.
package peers

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/chathub-go/chathub/bench/internal/load"
)

// Peer is a server.
type Peer struct {
	Name    string // in flags
	Title   string // in tables
	About   string // what it does that others do not, or the other way round; may be empty
	Dialect *load.Dialect
	// Serve serves until the process ends. Nil where Command starts the server.
	Serve func(net.Listener) error
	// Command returns a program that serves on the port that it is given, or says
	// why it cannot run here.
	Command func() (name string, args []string, err error)

	Extra bool // measured only where it is named
	Floor bool // no chat server: what the system calls alone cost
	TLS   bool // Serve works on a TLS listener
	// Resume returns the steps with which a client that has just connected rejoins a room and gets
	// what it missed since a frame that answered a Join. Nil: not possible.
	Resume func(room string, joined []byte) ([]load.Step, error)
}

// All returns the peers in the order of the tables.
func All() []Peer {
	return []Peer{
		bare(), joined(),
		chathubPlain(), chathubAcked(), chathubDeflate(), chathubLinger(),
		gorillaChat(), centrifugeNode(), gwsBroadcaster(), melodyChat(), nbioEngine(), coderWrite(), socketIO(),
	}
}

// byQuery is the dialect of servers that know neither rooms nor envelopes: the
// room is in the URL, and a message is its own text.
func byQuery() *load.Dialect {
	return &load.Dialect{
		Path:    func(room string) string { return "/ws?room=" + room },
		Publish: func(_, data string) string { return data },
	}
}

func roomOf(r *http.Request) string { return r.URL.Query().Get("room") }

func serveHTTP(ln net.Listener, pattern string, h http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle(pattern, h)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return s.Serve(ln)
}

// rooms is the table of rooms that an application writes over a library that
// has none.
type rooms[C comparable] struct {
	mu sync.RWMutex
	m  map[string]map[C]struct{}
}

func (r *rooms[C]) join(name string, c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = make(map[string]map[C]struct{})
	}
	if r.m[name] == nil {
		r.m[name] = make(map[C]struct{})
	}
	r.m[name][c] = struct{}{}
}

func (r *rooms[C]) leave(name string, c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.m[name], c)
	if len(r.m[name]) == 0 {
		delete(r.m, name)
	}
}

// each calls f, which must not join or leave, for every member.
func (r *rooms[C]) each(name string, f func(C)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for c := range r.m[name] {
		f(c)
	}
}
