// Command server is a chat server for the tests of the TypeScript client and of
// the page. They control it with POST requests to /do/... and with signals. It
// exits when its standard input ends.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run() error {
	s := &server{broker: &chathub.MemoryBroker{}, conns: make(map[net.Conn]struct{})}
	flag.BoolVar(&s.limited, "limited", false, "limit rates as a hub does by default")
	page := flag.String("page", "", "URL of the server of all other paths")
	flag.Parse()
	origin, err := url.Parse(*page)
	if err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s.routes(origin), ConnState: s.track, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // an error ends it too
		_ = srv.Close()                      // the process is about to exit
	}()
	if _, err := fmt.Fprintln(os.Stdout, ln.Addr()); err != nil {
		return err
	}
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type server struct {
	limited bool

	mu     sync.Mutex
	hub    *chathub.Hub
	broker *chathub.MemoryBroker
	conns  map[net.Conn]struct{} // of WebSockets
}

// sessions also accepts tokens of the form opaque:USER:HASH:REST, which are no
// JWTs. HASH is the SHA-256 of REST, so a token that was changed on the way is
// refused.
type sessions struct{ chathub.Authenticator }

func (s sessions) Authenticate(ctx context.Context, token string, r *http.Request) (chathub.Identity, error) {
	parts := strings.SplitN(token, ":", 4)
	if len(parts) < 4 || parts[0] != "opaque" {
		return s.Authenticator.Authenticate(ctx, token, r)
	}
	if fmt.Sprintf("%x", sha256.Sum256([]byte(parts[3]))) != parts[2] {
		return chathub.Identity{}, &chathub.Error{Code: chathub.CodeUnauthenticated, Message: "Damaged token"}
	}
	return chathub.Identity{User: chathub.User{ID: parts[1], Name: parts[1]}}, nil
}

// begin starts a hub on the broker.
func (s *server) begin() error {
	rate := -1.0
	if s.limited {
		rate = 0 // the default
	}
	hub, err := chathub.New(chathub.Config{
		Auth:             sessions{&chathub.JWT{Key: []byte(os.Getenv("JWT_SECRET"))}},
		Broker:           s.broker,
		Rate:             rate,
		MaxMessageBytes:  8 << 10,
		PresenceInterval: 20 * time.Millisecond,
		PresenceGrace:    200 * time.Millisecond,
		DrainWindow:      300 * time.Millisecond,
		Logger:           slog.New(slog.DiscardHandler),
		ClientState:      func(context.Context, *chathub.Client, string, string) bool { return true },
		Authorize: func(_ context.Context, _ *chathub.Client, a chathub.Action) error {
			if a.Room == "members" {
				return &chathub.Error{Code: chathub.CodeForbidden, Message: "Members only"}
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	chathub.OnAck(hub, "sum", func(_ context.Context, _ *chathub.Client, numbers []int) (int, error) {
		sum := 0
		for _, n := range numbers {
			sum += n
		}
		return sum, nil
	})
	s.hub = hub
	return nil
}

// track keeps the connections of WebSockets, so that cut can break them.
func (s *server) track(conn net.Conn, state http.ConnState) {
	if state == http.StateHijacked {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conns[conn] = struct{}{}
	}
}

func (s *server) current() *chathub.Hub {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hub
}

func (s *server) routes(page *url.URL) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", httputil.NewSingleHostReverseProxy(page))
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) { s.current().ServeHTTP(w, r) })
	for name, do := range map[string]func(*http.Request, jsontext.Value) (any, error){
		"cut": s.cut, "restart": s.restart, "emit": s.emit, "ask": s.ask, "remove": s.remove, "disconnect": s.disconnect,
	} {
		mux.HandleFunc("POST /do/"+name, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			result, err := do(r, body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.MarshalWrite(w, result)
		})
	}
	return mux
}

// cut breaks all WebSockets without a close frame.
func (s *server) cut(*http.Request, jsontext.Value) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
	clear(s.conns)
	return nil, nil
}

// restart shuts the hub down and starts another, on the same broker or, with
// ?forget, on a new one, like a program that keeps its logs in memory.
func (s *server) restart(r *http.Request, _ jsontext.Value) (any, error) {
	old := s.current()
	if err := old.Shutdown(r.Context()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Query().Has("forget") {
		s.broker = &chathub.MemoryBroker{}
	}
	return nil, s.begin()
}

// target returns the target that ?room or ?user names.
func (s *server) target(r *http.Request) chathub.Target {
	if q := r.URL.Query(); q.Has("user") {
		return s.current().ToUser(q.Get("user"))
	}
	return s.current().To(r.URL.Query().Get("room"))
}

func (s *server) emit(r *http.Request, data jsontext.Value) (any, error) {
	return nil, s.target(r).Emit(r.Context(), r.URL.Query().Get("event"), data)
}

// ask returns the data of all answers. A failure becomes the text of its error.
func (s *server) ask(r *http.Request, data jsontext.Value) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	replies, err := s.target(r).EmitWithAck(ctx, r.URL.Query().Get("event"), data)
	if err != nil {
		return nil, err
	}
	results := []any{}
	for _, reply := range replies {
		if reply.Err != nil {
			results = append(results, reply.Err.Error())
		} else {
			results = append(results, reply.Data)
		}
	}
	return results, nil
}

// remove takes ?user out of ?room, for ?reason if there is one.
func (s *server) remove(r *http.Request, _ jsontext.Value) (any, error) {
	q := r.URL.Query()
	return nil, s.target(r).Remove(r.Context(), q.Get("reason"), q.Get("room"))
}

func (s *server) disconnect(r *http.Request, _ jsontext.Value) (any, error) {
	return nil, s.target(r).Disconnect(r.Context(), "logged out")
}
