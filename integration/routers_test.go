package integration

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
)

// mounts are the ways in which applications put a hub at /ws. Echo's Gzip holds
// back every status until a body follows.
var mounts = []struct {
	name  string
	mount func(hub http.Handler) http.Handler
}{
	{"ServeMux", onServeMux},
	{"ServeMux with method and StripPrefix", func(hub http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("GET /", http.StripPrefix("/ws", hub))
		return mux
	}},
	{"chi", func(hub http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Use(chimiddleware.RequestID, chimiddleware.Logger, chimiddleware.Recoverer, chimiddleware.Compress(5))
		r.Handle("/ws", hub)
		return r
	}},
	{"gin", func(hub http.Handler) http.Handler {
		r := gin.New()
		r.Use(gin.LoggerWithWriter(io.Discard), gin.RecoveryWithWriter(io.Discard))
		r.GET("/ws", gin.WrapH(hub))
		return r
	}},
	{"echo", func(hub http.Handler) http.Handler {
		e := echo.New()
		e.Use(echomiddleware.Recover(), echomiddleware.Gzip())
		e.GET("/ws", echo.WrapHandler(hub))
		return e
	}},
	{"otelhttp", func(hub http.Handler) http.Handler {
		return otelhttp.NewHandler(onServeMux(hub), "chat")
	}},
	{"a ResponseWriter with only Unwrap", func(hub http.Handler) http.Handler {
		return onServeMux(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hub.ServeHTTP(unwrapper{w}, r)
		}))
	}},
	{"gin in otelhttp", func(hub http.Handler) http.Handler {
		r := gin.New()
		r.GET("/ws", gin.WrapH(hub))
		return otelhttp.NewHandler(r, "chat")
	}},
}

func onServeMux(hub http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/ws", hub)
	return mux
}

// unwrapper is the wrapper of a middleware that only looks at the status, as
// such wrappers are written today. http.ResponseController finds the rest.
type unwrapper struct{ w http.ResponseWriter }

func (u unwrapper) Header() http.Header         { return u.w.Header() }
func (u unwrapper) Write(p []byte) (int, error) { return u.w.Write(p) }
func (u unwrapper) WriteHeader(status int)      { u.w.WriteHeader(status) }
func (u unwrapper) Unwrap() http.ResponseWriter { return u.w }

// TestRouters chats through every mount.
func TestRouters(t *testing.T) {
	for _, m := range mounts {
		t.Run(m.name, func(t *testing.T) {
			hub := hubtest.New(t, chathub.Config{})
			srv := newServer(t, m.mount(hub))
			checkRefused(t, srv.Client(), srv.URL+"/ws")
			chat(t, hub, srv.Client(), srv.URL+"/ws")
		})
	}
}

// chat lets two users meet in a room, and disconnects one of them.
func chat(t *testing.T, hub *chathub.Hub, hc *http.Client, url string) {
	t.Helper()
	ana, ben := connect(t, hc, url, "ana/Ana"), connect(t, hc, url, "ben/Ben")
	if got := ana.ws.Subprotocol(); got != "chathub.v1" {
		t.Errorf("subprotocol %q", got)
	}
	join := hubtest.Frame{Type: "join-room", Room: "lobby"}
	ana.must(join)
	ben.must(join)
	ana.must(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("Hi")})
	m := ben.wait("room-message")
	if string(m.Data) != `"Hi"` || m.From == nil || m.From.Name != "Ana" || m.Seq == 0 {
		t.Errorf("Ben got %+v", m)
	}
	if err := hub.ToUser("ana").Disconnect(t.Context(), "logged out"); err != nil {
		t.Fatal(err)
	}
	if code, reason := ana.closed(); code != 4503 || reason != "logged out" {
		t.Errorf("Ana was closed with %d %q, want 4503", code, reason)
	}
	if err := ben.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("Ben's own close: %v", err)
	}
}

// checkRefused checks what clients without a token see.
func checkRefused(t *testing.T, hc *http.Client, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: hc})
	if err == nil || res == nil {
		t.Fatalf("let in without a token: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"code":"unauthenticated","message":"Authentication required"}`
	if res.StatusCode != http.StatusUnauthorized || string(body) != want {
		t.Errorf("refused with %d %s, want 401 %s", res.StatusCode, body, want)
	}
	if got := res.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
		t.Errorf("Content-Type is %q", got)
	}

	c := dial(t, hc, url, nil) // it offers chathub.v1
	if f := c.next(); f.Type != "connect-error" || string(f.Data) != want {
		t.Errorf("first frame is %s %s, want connect-error %s", f.Type, f.Data, want)
	}
	if code, _ := c.closed(); code != 4500 {
		t.Errorf("closed with %d, want 4500", code)
	}
}

// TestTLS chats over wss.
func TestTLS(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{})
	srv := httptest.NewTLSServer(onServeMux(hub))
	t.Cleanup(srv.Close)
	url := srv.URL + "/ws"
	checkRefused(t, srv.Client(), url)
	chat(t, hub, srv.Client(), url)

	header := bearer("cora")
	header.Set("Origin", srv.URL) // with https, the same origin only if the hub knows about TLS
	if f := dial(t, srv.Client(), url, header).next(); f.Type != "welcome" {
		t.Errorf("a page of the same https origin got %s", f.Type)
	}
	header.Set("Origin", "http"+strings.TrimPrefix(srv.URL, "https"))
	if _, err := tryDial(t, srv.Client(), url, header); err == nil {
		t.Error("a page of the http origin was let in")
	}
}

// TestTLSOfHTTP2Server checks that a server that prefers HTTP/2 serves
// WebSockets over HTTP/1.1, and says so to a client that asks over HTTP/2.
func TestTLSOfHTTP2Server(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{})
	srv := httptest.NewUnstartedServer(onServeMux(hub))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 || res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("%s %d, want HTTP/2.0 426", res.Proto, res.StatusCode)
	}

	h1 := srv.Client().Transport.(*http.Transport).Clone()
	h1.ForceAttemptHTTP2 = false
	h1.TLSClientConfig.NextProtos = []string{"http/1.1"}
	t.Cleanup(h1.CloseIdleConnections)
	chat(t, hub, &http.Client{Transport: h1}, srv.URL+"/ws")
}

// TestSeveralHubs checks that hubs on paths of one mux share nothing.
func TestSeveralHubs(t *testing.T) {
	mux := http.NewServeMux()
	hubs := map[string]*chathub.Hub{}
	for _, path := range []string{"/chat/ws", "/support/ws"} {
		hubs[path] = hubtest.New(t, chathub.Config{})
		mux.Handle(path, hubs[path])
	}
	srv := newServer(t, mux)
	for path, hub := range hubs {
		chat(t, hub, srv.Client(), srv.URL+path)
	}

	chatter, asker := connect(t, srv.Client(), srv.URL+"/chat/ws", "ana"), connect(t, srv.Client(), srv.URL+"/support/ws", "ana")
	for _, c := range []*client{chatter, asker} {
		c.must(hubtest.Frame{Type: "join-room", Room: "lobby"})
	}
	chatter.must(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("of chat")})
	chatter.must(hubtest.Frame{Type: "private-message", To: "ana", Data: hubtest.Data("of chat")})
	asker.send(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("of support")})
	if m := asker.wait("room-message"); string(m.Data) != `"of support"` {
		t.Errorf("the other hub's message came: %s", m.Data)
	}
	if err := hubs["/chat/ws"].Close(); err != nil {
		t.Fatal(err)
	}
	chatter.closed()
	asker.must(hubtest.Frame{Type: "ping"})
}

// TestOnConnectOfRouter checks that OnConnect can read values that the router
// and middleware have put into the request. chi reuses its values once its
// handler has returned.
func TestOnConnectOfRouter(t *testing.T) {
	rooms := make(chan string, 1)
	hub := hubtest.New(t, chathub.Config{
		OnConnect: func(_ context.Context, _ *chathub.Client, r *http.Request) error {
			if err := r.Context().Err(); err != nil {
				t.Errorf("the request's context has ended: %v", err)
			}
			rooms <- chi.URLParam(r, "room")
			return nil
		},
	})
	r := chi.NewRouter()
	r.Handle("/rooms/{room}/ws", hub)
	srv := newServer(t, r)
	for _, room := range []string{"red", "green", "blue"} {
		connect(t, srv.Client(), srv.URL+"/rooms/"+room+"/ws", "ana")
		if got := <-rooms; got != room {
			t.Errorf("chi's URL parameter is %q in OnConnect, want %q", got, room)
		}
	}
}

// TestNotHijackable checks that the client and the log are told if a middleware
// makes WebSockets impossible, whatever the middleware offers.
func TestNotHijackable(t *testing.T) {
	hide := func(next http.Handler) http.Handler {
		return http.TimeoutHandler(next, time.Minute, "too late")
	}
	mounts := map[string]func(hub http.Handler) http.Handler{
		"TimeoutHandler": func(hub http.Handler) http.Handler { return hide(onServeMux(hub)) },
		"an embedded ResponseWriter": func(hub http.Handler) http.Handler {
			return onServeMux(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				hub.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
			}))
		},
		// These have a Hijack method that calls one that does not exist.
		"gin in TimeoutHandler": func(hub http.Handler) http.Handler {
			r := gin.New()
			r.GET("/ws", gin.WrapH(hub))
			return hide(r)
		},
		"echo in TimeoutHandler": func(hub http.Handler) http.Handler {
			e := echo.New()
			e.GET("/ws", echo.WrapHandler(hub))
			return hide(e)
		},
	}
	for name, mount := range mounts {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			hub := hubtest.New(t, chathub.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			srv := newServer(t, mount(hub))
			for _, header := range []http.Header{bearer("ana"), nil} {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				_, res, err := websocket.Dial(ctx, srv.URL+"/ws", &websocket.DialOptions{
					HTTPClient:   srv.Client(),
					HTTPHeader:   header,
					Subprotocols: []string{"chathub.v1"},
				})
				cancel()
				if err == nil || res == nil {
					t.Fatalf("handshake: %v", err)
				}
				body, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				if res.StatusCode != http.StatusNotImplemented || !strings.Contains(string(body), `"code":"internal"`) {
					t.Errorf("answer is %d %s, want 501 and JSON", res.StatusCode, body)
				}
			}
			srv.Close() // so that nothing writes to the log any more
			if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "Hijack") {
				t.Errorf("the log does not say what is wrong: %q", log.String())
			}
			if n := hub.Stats().Connections; n != 0 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestServerShutdown ends the server and the hub together, as applications do.
func TestServerShutdown(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{DrainWindow: -1})
	srv := httptest.NewServer(onServeMux(hub))
	ana := connect(t, srv.Client(), srv.URL+"/ws", "ana")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- hub.Shutdown(ctx) }()
	if err := errors.Join(srv.Config.Shutdown(ctx), <-drained); err != nil {
		t.Fatal(err)
	}
	ana.wait("reconnect")
	if code, _ := ana.closed(); code != 4000 {
		t.Errorf("closed with %d, want 4000", code)
	}
	srv.Close()
}
