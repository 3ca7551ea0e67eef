package integration

import (
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chathub-go/chathub/hubtest"
)

// caddy is Caddy with deploy/Caddyfile, in which some strings are replaced.
func caddy(t *testing.T, servers []*httptest.Server, edits ...string) *front {
	t.Helper()
	// Caddy cannot take over a socket.
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	dir := t.TempDir()
	cert, key, roots := certificate(t)
	admin := "unix/" + filepath.Join(dir, "admin.sock")
	conf := deployed(t, "Caddyfile", append([]string{
		"\nchat.example.com {", "\n{\n\tadmin " + admin + "\n\tauto_https disable_redirects\n}\nhttps://" + addr + " {\n\tbind 127.0.0.1\n\ttls " +
			write(t, dir, "cert.pem", cert) + " " + write(t, dir, "key.pem", key),
		"127.0.0.1:5000", servers[0].Listener.Addr().String(),
		"127.0.0.1:5001", servers[1].Listener.Addr().String(),
	}, edits...)...)
	path := write(t, dir, "Caddyfile", conf)
	run := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "caddy", args...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
		return cmd
	}
	f := newFront(t, run("run", "--config", path, "--adapter", "caddyfile"), "https://"+addr, roots, "serving initial configuration")
	f.reload = func() {
		t.Helper()
		if out, err := run("reload", "--config", path, "--adapter", "caddyfile", "--address", admin, "--force").CombinedOutput(); err != nil {
			t.Fatalf("caddy reload: %v\n%s", err, out)
		}
	}
	f.awaitReady(t)
	return f
}

// caddyPrefixed makes caddy remove a prefix of the path.
var caddyPrefixed = []string{"\thandle /ws {", "\thandle_path /chat/* {"}

// TestCaddy chats through Caddy, with users on different servers.
func TestCaddy(t *testing.T) {
	hubs, servers := pairReady(t, behindProxy())
	f := caddy(t, servers)
	chat(t, hubs[0], f.from("127.0.0.1"), f.url+"/ws")
	for i, hub := range hubs {
		if got := hub.Stats().Accepted; got != 1 {
			t.Errorf("server %d had %d of the 2 users", i, got)
		}
	}
	checkHandshakes(t, f.from("127.0.0.1"), f.url+"/ws")
}

func TestCaddyAddresses(t *testing.T) {
	srv := newServer(t, withReady(hubtest.New(t, twoPerAddress())))
	f := caddy(t, []*httptest.Server{srv, srv})
	checkAddresses(t, f.from("127.0.0.2"), f.from("127.0.0.3"), f.url+"/ws")
	f.wantLog(t, `"remote_ip":"127.0.0.2"`)
}

func TestCaddyRollingRestart(t *testing.T) {
	hubs, servers := pairReady(t, quickDrain())
	f := caddy(t, servers)
	checkRollingRestart(t, hubs, servers, f.from("127.0.0.1"), f.url+"/ws", true)
}

// TestCaddyIdle checks that a connection outlives Caddy's timeout for idle ones
// of HTTP, and that it is not cut even without pings.
func TestCaddyIdle(t *testing.T) {
	checkIdle(t, func(t *testing.T, servers []*httptest.Server) *front {
		return caddy(t, servers, "auto_https disable_redirects", "auto_https disable_redirects\n\tservers {\n\t\ttimeouts {\n\t\t\tidle 3s\n\t\t}\n\t}")
	}, false)
}

// TestCaddyPath checks that Caddy shows nothing but the hub's path.
func TestCaddyPath(t *testing.T) {
	_, servers := pairReady(t, behindProxy())
	f := caddy(t, servers)
	for _, path := range []string{"/readyz", "/metrics", "/ws/readyz"} {
		// An empty page of Caddy's own.
		if got := status(t, f.from("127.0.0.1"), f.url+path); got != 200 {
			t.Errorf("%s got %d", path, got)
		}
	}
}
