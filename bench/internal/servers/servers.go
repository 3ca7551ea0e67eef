//go:build linux

// Package servers holds the servers that the benchmark compares, each written
// as its own documentation shows, and how a client talks to each.
//
// All of them are the same chat: everyone in a room receives every message that
// anyone in it sends. Compression is off, unless the name says otherwise.
package servers

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/chathub-go/chathub/bench/internal/load"
)

// Server is a server.
type Server struct {
	Name    string // in flags
	Title   string // in tables
	About   string // how it differs from the others; may be empty
	Dialect *load.Dialect
	// Serve serves until the process ends. It is nil if Command starts the
	// server.
	Serve func(net.Listener) error
	// Command returns a program that serves and writes its address, or says why
	// it cannot run here.
	Command func() (name string, args []string, err error)

	Extra bool // measured only if a flag names it
	Floor bool // no chat server, but the cost of its system calls
	TLS   bool // Serve accepts a TLS listener
	// Resume returns the steps with which a newly connected client rejoins a
	// room and gets what it missed since a frame that answered a Join. It is
	// nil if that is not possible.
	Resume func(room string, joined []byte) ([]load.Step, error)
}

// All returns the servers in the order of the tables.
func All() []Server {
	return []Server{
		bare(), joined(),
		chathubPlain(), chathubAcked(), chathubDeflate(), chathubLinger(),
		gorillaChat(), centrifugeNode(), gwsBroadcaster(), melodyChat(), nbioEngine(), coderWrite(), socketIO(),
	}
}

// byQuery is the dialect of servers that have neither rooms nor envelopes. The
// room is in the URL, and a message is its text alone.
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

// rooms is the table of rooms that an application adds to a library without
// rooms.
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

// each calls f for every member. f must not call join or leave.
func (r *rooms[C]) each(name string, f func(C)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for c := range r.m[name] {
		f(c)
	}
}
