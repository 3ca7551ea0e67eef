package integration

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// front is a running proxy in front of two servers.
type front struct {
	url    string                         // its origin
	from   func(addr string) *http.Client // its connections come from addr
	reload func()                         // waits until it is done
	log    *watchedLog
	ready  string // what it logs when it serves
	served int    // how often it has been waited for
}

// newFront starts a proxy that logs to stderr, or to stdout.
func newFront(t *testing.T, cmd *exec.Cmd, url string, roots *x509.CertPool, ready string) *front {
	t.Helper()
	f := &front{url: url, ready: ready, log: &watchedLog{}}
	f.from = func(addr string) *http.Client { return clientFrom(t, roots, addr) }
	f.log.changed = make(chan struct{})
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: %s", err, hint)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			_, _ = fmt.Fprintln(t.Output(), lines.Text())
			f.log.add(lines.Text())
		}
	}()
	t.Cleanup(func() {
		<-read
		_ = cmd.Wait() // it was told to end
	})
	return f
}

// awaitReady waits until the proxy serves, or serves anew.
func (f *front) awaitReady(t *testing.T) {
	t.Helper()
	f.served++
	f.log.await(t, fmt.Sprintf("%d times %q", f.served, f.ready), func(text string) bool { return strings.Count(text, f.ready) >= f.served })
}

// watchedLog is a log that can be waited for.
type watchedLog struct {
	logBuffer
	changed chan struct{} // closed and replaced when a line has come; guarded by mu
}

func (w *watchedLog) add(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.text.WriteString(line + "\n")
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits until the log is as it should be.
func (w *watchedLog) await(t *testing.T, what string, good func(text string) bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		w.mu.Lock()
		text, changed := w.text.String(), w.changed
		w.mu.Unlock()
		if good(text) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("the log does not have %s:\n%s", what, text)
		}
	}
}

// wantLog waits until the proxy has logged something.
func (f *front) wantLog(t *testing.T, want string) {
	t.Helper()
	f.log.await(t, want, func(text string) bool { return strings.Contains(text, want) })
}

// deployed returns a file of deploy with edits, each of which replaces one
// string by another.
func deployed(t *testing.T, name string, edits ...string) string {
	t.Helper()
	b, err := os.ReadFile("../deploy/" + name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("deploy/%s does not have %q", name, edits[i])
		}
		text = strings.ReplaceAll(text, edits[i], edits[i+1])
	}
	return text
}

// withReady serves a hub at /ws, and whether it is ready, as examples/chat
// does.
func withReady(hub *chathub.Hub) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/ws", hub)
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := hub.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux
}

// pairReady is pair with withReady.
func pairReady(t *testing.T, cfg chathub.Config) (hubs [2]*chathub.Hub, servers []*httptest.Server) {
	t.Helper()
	cfg.Broker = &chathub.MemoryBroker{}
	for i := range hubs {
		hubs[i] = hubtest.New(t, cfg)
		servers = append(servers, newServer(t, withReady(hubs[i])))
	}
	return hubs, servers
}

// checkPings checks that a silent connection is open until so many pings have
// come. If that is 0, it checks that it is cut before one has.
func checkPings(t *testing.T, hc *http.Client, url string, pings int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	n := 0
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient:   hc,
		HTTPHeader:   bearer("ana"),
		Subprotocols: []string{"chathub.v1"},
		OnPingReceived: func(ctx context.Context, _ []byte) bool {
			if n++; n == pings {
				cancel()
			}
			return true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	if _, _, err := ws.Read(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(ctx); errors.Is(err, context.DeadlineExceeded) || n != pings {
		t.Errorf("after %d pings: %v", n, err)
	}
}

// checkIdle checks a proxy with a timeout of 3 s for idle connections:
// that pings keep one open for longer, and that it is cut without them, or not
// even then.
func checkIdle(t *testing.T, start func(t *testing.T, servers []*httptest.Server) *front, cuts bool) {
	t.Helper()
	rare := 0
	if !cuts {
		rare = 1
	}
	for _, c := range []struct {
		name     string
		interval time.Duration
		pings    int // 0: it is cut before one
	}{
		{"pings are more frequent", time.Second / 2, 5}, // about one in a second
		{"pings are less frequent", 5 * time.Second, rare},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := behindProxy()
			cfg.PingInterval = c.interval
			cfg.PresenceInterval = -1 // or others' presence would be traffic
			_, servers := pairReady(t, cfg)
			f := start(t, servers)
			checkPings(t, f.from("127.0.0.1"), f.url+"/ws", c.pings)
		})
	}
}
