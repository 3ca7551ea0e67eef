package integration

import (
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/chathub-go/chathub/hubtest"
)

// haproxy is HAProxy with deploy/haproxy.cfg, in which some strings are
// replaced.
func haproxy(t *testing.T, servers []*httptest.Server, edits ...string) *front {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program = "/usr/sbin/haproxy" // not in everyone's PATH
	}
	// HAProxy takes over a socket that listens already.
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	dir := t.TempDir()
	cert, key, roots := certificate(t)
	conf := deployed(t, "haproxy.cfg", append([]string{
		"bind :443 ssl crt /etc/haproxy/certs/chat.example.com.pem", "bind fd@3 ssl crt " + write(t, dir, "both.pem", cert+key),
		"127.0.0.1:5000", servers[0].Listener.Addr().String(),
		"127.0.0.1:5001", servers[1].Listener.Addr().String(),
		"maxconn 20000", "maxconn 1000", // or it would need more files than every machine allows
	}, edits...)...)
	cmd := exec.CommandContext(t.Context(), program, "-W", "-db", "-f", write(t, dir, "haproxy.cfg", conf))
	cmd.ExtraFiles = []*os.File{socket}
	f := newFront(t, cmd, "https://"+l.Addr().String(), roots, "Loading success")
	f.reload = func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		f.awaitReady(t)
	}
	f.awaitReady(t)
	return f
}

// haproxyPrefixed makes haproxy use its part for a path with a prefix.
var haproxyPrefixed = []string{"#|", ""}

// TestHAProxy chats through HAProxy, with users on different servers.
func TestHAProxy(t *testing.T) {
	hubs, servers := pairReady(t, behindProxy())
	f := haproxy(t, servers)
	chat(t, hubs[0], f.from("127.0.0.1"), f.url+"/ws")
	for i, hub := range hubs {
		if got := hub.Stats().Accepted; got != 1 {
			t.Errorf("server %d had %d of the 2 users", i, got)
		}
	}
	checkHandshakes(t, f.from("127.0.0.1"), f.url+"/ws")
}

func TestHAProxyAddresses(t *testing.T) {
	srv := newServer(t, withReady(hubtest.New(t, twoPerAddress())))
	f := haproxy(t, []*httptest.Server{srv, srv})
	checkAddresses(t, f.from("127.0.0.2"), f.from("127.0.0.3"), f.url+"/ws")
	f.wantLog(t, "127.0.0.3:")
}

func TestHAProxyRollingRestart(t *testing.T) {
	hubs, servers := pairReady(t, quickDrain())
	f := haproxy(t, servers)
	checkRollingRestart(t, hubs, servers, f.from("127.0.0.1"), f.url+"/ws", false)
}

// TestHAProxyIdle checks that pings keep a connection open for longer than
// HAProxy's timeout, and that it is cut without them.
func TestHAProxyIdle(t *testing.T) {
	checkIdle(t, func(t *testing.T, servers []*httptest.Server) *front {
		return haproxy(t, servers, "timeout tunnel 75s", "timeout tunnel 3s")
	}, true)
}

// TestHAProxyPath checks that HAProxy shows nothing but the hub's path, though
// it asks servers whether they are ready.
func TestHAProxyPath(t *testing.T) {
	_, servers := pairReady(t, behindProxy())
	f := haproxy(t, servers)
	for _, path := range []string{"/readyz", "/metrics", "/ws/readyz"} {
		if got := status(t, f.from("127.0.0.1"), f.url+path); got != 503 {
			t.Errorf("%s got %d", path, got)
		}
	}
}
