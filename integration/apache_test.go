package integration

import (
	"bufio"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chathub-go/chathub/hubtest"
)

// apache is a running Apache.
type apache struct {
	t     *testing.T
	url   string // of the virtual host
	roots *x509.CertPool
	cmd   *exec.Cmd
	ready chan struct{} // gets one whenever Apache says that it serves
	ended chan struct{} // closed when it has ended
}

// apacheModules are what Debian loads by default, as far as it could matter,
// and what deploy/apache.conf asks for.
var apacheModules = []string{
	"mpm_event", "authz_core", "deflate", "filter", "reqtimeout", "status",
	"proxy", "proxy_http", "proxy_wstunnel", "ssl", "headers",
}

// startApache starts Apache with a virtual host like that of
// deploy/apache.conf, in which some strings are replaced.
func startApache(t *testing.T, conf string, replace map[string]string, modules ...string) *apache {
	t.Helper()
	program, err := exec.LookPath("apache2")
	if err != nil {
		program = "/usr/sbin/apache2" // not in everyone's PATH
	}
	const dirOfModules = "/usr/lib/apache2/modules"
	if _, err := os.Stat(dirOfModules); err != nil {
		t.Fatalf("apache2 is missing: %s", hint)
	}
	// Apache cannot take over a socket, so another process might take the port.
	for try := 1; ; try++ {
		a := &apache{t: t, ready: make(chan struct{}, 10), ended: make(chan struct{})}
		a.start(program, dirOfModules, conf, replace, modules)
		select {
		case <-a.ready:
			return a
		case <-a.ended:
			if try == 3 {
				t.Fatal("Apache has ended")
			}
		case <-time.After(patience):
			t.Fatal("Apache does not serve")
		}
	}
}

func (a *apache) start(program, dirOfModules, conf string, replace map[string]string, modules []string) {
	t := a.t
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()

	dir := t.TempDir()
	cert, key, roots := certificate(t)
	a.url, a.roots = "https://"+addr, roots
	replacements := map[string]string{
		"*:443":                                 addr,
		"ServerName chat.example.com":           "ServerName 127.0.0.1",
		"/etc/ssl/certs/chat.example.com.pem":   write(t, dir, "cert.pem", cert),
		"/etc/ssl/private/chat.example.com.key": write(t, dir, "key.pem", key),
	}
	for old, replacement := range replace {
		replacements[old] = replacement
	}
	for old, replacement := range replacements {
		if strings.Count(conf, old) != 1 {
			t.Fatalf("the configuration does not have %q once:\n%s", old, conf)
		}
		conf = strings.ReplaceAll(conf, old, replacement)
	}
	var main strings.Builder
	for _, m := range slices.Concat(apacheModules, modules) {
		fmt.Fprintf(&main, "LoadModule %s_module %s/mod_%s.so\n", m, dirOfModules, m)
	}
	if os.Getuid() == 0 { // as which Apache does not serve
		fmt.Fprintln(&main, "User #65534\nGroup #65534")
	}
	fmt.Fprintf(&main, `
		ServerRoot %[1]s
		DefaultRuntimeDir %[1]s
		PidFile %[1]s/apache.pid
		ErrorLog /dev/stderr
		LogLevel warn mpm_event:notice
		ServerName 127.0.0.1
		RequestReadTimeout header=20-40,minrate=500 body=10,minrate=500
		Listen %[2]s
		StartServers 1
		GracefulShutdownTimeout 5
		%[3]s`, dir, addr, conf)

	a.cmd = exec.CommandContext(t.Context(), program, "-D", "FOREGROUND", "-f", write(t, dir, "apache2.conf", main.String()))
	// Gracefully, that is once all connections have ended. Told to end at once,
	// it would close sockets under its threads, and kill them ten seconds
	// later.
	a.cmd.Cancel = func() error { return a.cmd.Process.Signal(syscall.SIGWINCH) }
	a.cmd.WaitDelay = patience
	log, err := a.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.ended)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			_, _ = fmt.Fprintln(t.Output(), lines.Text())
			if strings.Contains(lines.Text(), "resuming normal operations") {
				a.ready <- struct{}{}
			}
		}
		_ = a.cmd.Wait() // it was told to end, or has said why
	}()
	t.Cleanup(func() { <-a.ended })
}

// from returns a client whose connections come from an address of 127.0.0.0/8.
func (a *apache) from(addr string) *http.Client { return clientFrom(a.t, a.roots, addr) }

// deployApache starts Apache with deploy/apache.conf in front of a server.
func deployApache(t *testing.T, srv *httptest.Server) *apache {
	t.Helper()
	return deployApacheWith(t, srv, "timeout=75")
}

// deployApacheWith is deployApache with something in the place of the timeout.
func deployApacheWith(t *testing.T, srv *httptest.Server, timeout string) *apache {
	t.Helper()
	conf, err := os.ReadFile("../deploy/apache.conf")
	if err != nil {
		t.Fatal(err)
	}
	return startApache(t, string(conf), map[string]string{
		"ws://127.0.0.1:5000/ws timeout=75": "ws://" + srv.Listener.Addr().String() + "/ws " + timeout,
	})
}

// balanceApache starts Apache with the part of deploy/apache.conf for several
// servers, in which some strings are replaced.
func balanceApache(t *testing.T, servers []*httptest.Server, edits ...string) *apache {
	t.Helper()
	conf := deployed(t, "apache.conf", append([]string{
		"#|", "",
		"ProxyPass /ws ws://127.0.0.1:5000/ws timeout=75", "",
		"ws://127.0.0.1:5000", "ws://" + servers[0].Listener.Addr().String(),
		"ws://127.0.0.1:5001", "ws://" + servers[1].Listener.Addr().String(),
	}, edits...)...)
	return startApache(t, conf, nil, "proxy_balancer", "lbmethod_bybusyness", "slotmem_shm")
}

// reload has Apache read its configuration anew, and waits until it serves.
func (a *apache) reload() {
	a.t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		a.t.Fatal(err)
	}
	select {
	case <-a.ready:
	case <-time.After(patience):
		a.t.Fatal("Apache did not reload")
	}
}

// TestApache chats through Apache with deploy/apache.conf.
func TestApache(t *testing.T) {
	hub := hubtest.New(t, behindProxy())
	a := deployApache(t, newServer(t, onServeMux(hub)))
	chat(t, hub, a.from("127.0.0.1"), a.url+"/ws")
	checkHandshakes(t, a.from("127.0.0.1"), a.url+"/ws")
}

func TestApacheAddresses(t *testing.T) {
	a := deployApache(t, newServer(t, onServeMux(hubtest.New(t, twoPerAddress()))))
	checkAddresses(t, a.from("127.0.0.2"), a.from("127.0.0.3"), a.url+"/ws")
}

func TestApacheReload(t *testing.T) {
	a := deployApache(t, newServer(t, onServeMux(hubtest.New(t, behindProxy()))))
	checkReload(t, a.from("127.0.0.1"), a.url+"/ws", a.reload)
}

// TestApacheRollingRestart checks the part of deploy/apache.conf for several
// servers.
func TestApacheRollingRestart(t *testing.T) {
	hubs, servers := pair(t, quickDrain())
	a := balanceApache(t, servers)
	checkRollingRestart(t, hubs, servers, a.from("127.0.0.1"), a.url+"/ws", true)
}

// TestApacheMistakes checks what happens with virtual hosts that lack
// something, and that the hub's log says what.
func TestApacheMistakes(t *testing.T) {
	const host, scheme = "ProxyPreserveHost On", "RequestHeader set X-Forwarded-Proto expr=%{REQUEST_SCHEME}"
	const pass = "ProxyPass /ws ws://BACKEND/ws"
	for _, c := range []struct {
		name   string
		lines  []string
		path   string // default /ws
		status int    // of a handshake by the host's own page
		log    []string
	}{
		{"as the manual says", []string{pass}, "", 403,
			[]string{"level=WARN", `reason="Origin not allowed"`, "origin=PAGE", "own=http://BACKEND", `hint="a proxy has changed Host: ProxyPreserveHost On (Apache)`}},
		{"without the scheme", []string{host, pass}, "", 403,
			[]string{"level=WARN", `reason="Origin not allowed"`, "origin=PAGE", `hint="TLS seems to end at a proxy, which must say so: ` + scheme}},
		{"without the host", []string{scheme, pass}, "", 403,
			[]string{"level=WARN", "origin=PAGE", "own=https://BACKEND", `hint="a proxy has changed Host: ProxyPreserveHost On (Apache)`}},
		{"both", []string{host, scheme, pass}, "", 101, nil},
		{"over http with an upgrade", []string{host, scheme, "ProxyPass /ws http://BACKEND/ws upgrade=websocket"}, "", 101, nil},
		{"over http without an upgrade", []string{host, scheme, "ProxyPass /ws http://BACKEND/ws"}, "", 426,
			[]string{"level=WARN", `reason="Bad handshake"`, "there is no Upgrade header", "upgrade=websocket (Apache)"}},
		{"after everything else", []string{host, scheme, "ProxyPass / http://BACKEND/", pass}, "", 426,
			[]string{"level=WARN", `reason="Bad handshake"`, "there is no Upgrade header"}},
		{"before everything else", []string{host, scheme, pass, "ProxyPass / http://BACKEND/"}, "", 101, nil},
		{"with a prefix", []string{host, scheme, "ProxyPass /chat/ws ws://BACKEND/ws"}, "/chat/ws", 101, nil},
		{"with a prefix that stays", []string{host, scheme, "ProxyPass /chat/ws ws://BACKEND/chat/ws"}, "/chat/ws", 101, nil},
		{"to a wrong path", []string{host, scheme, "ProxyPass /ws ws://BACKEND/"}, "", 404, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // Apache takes a second to end
			log := &logBuffer{}
			cfg := behindProxy()
			cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
			hub := hubtest.New(t, cfg)
			mux := http.NewServeMux()
			mux.Handle("/ws", hub)
			mux.Handle("/chat/ws", hub)
			srv := newServer(t, mux)
			a := startApache(t, apacheHost(srv, c.lines...), nil)
			path := c.path
			if path == "" {
				path = "/ws"
			}
			var want []string
			for _, s := range c.log {
				want = append(want, strings.NewReplacer("BACKEND", srv.Listener.Addr().String(), "PAGE", a.url).Replace(s))
			}
			checkPage(t, a.from("127.0.0.1"), a.url+path, c.status, log, want...)
		})
	}
}

// apacheHost returns a virtual host with lines in which BACKEND is a server.
func apacheHost(srv *httptest.Server, lines ...string) string {
	text := strings.ReplaceAll(strings.Join(lines, "\n\t"), "BACKEND", srv.Listener.Addr().String())
	return fmt.Sprintf(`
<VirtualHost *:443>
	ServerName chat.example.com
	SSLEngine on
	SSLCertificateFile /etc/ssl/certs/chat.example.com.pem
	SSLCertificateKeyFile /etc/ssl/private/chat.example.com.key
	%s
</VirtualHost>`, text)
}

// TestApacheHeaders checks which tokens get through with Apache's default limit
// for a line of the header, 8,190 bytes.
func TestApacheHeaders(t *testing.T) {
	srv := newServer(t, onServeMux(hubtest.New(t, behindProxy())))
	a := startApache(t, apacheHost(srv, "ProxyPass /ws ws://BACKEND/ws"), nil)
	checkLongest(t, a.from("127.0.0.1"), a.url+"/ws", 8140, 6103)
}

// TestApacheIdle checks that pings keep a connection open for longer than
// Apache's timeouts, of which the longer one counts, and that it is cut without
// them.
func TestApacheIdle(t *testing.T) {
	for _, c := range []struct {
		name              string
		interval          time.Duration
		proxying, general int // Apache's timeouts in seconds
		pings             int // 0: it is cut before one
	}{
		{"pings are more frequent", time.Second / 2, 4, 4, 6}, // in 6 s
		{"pings are less frequent", time.Hour, 4, 4, 0},
		{"only the timeout for proxying is longer", 5 * time.Second, 60, 4, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := behindProxy()
			cfg.PingInterval = c.interval
			cfg.PresenceInterval = -1 // or others' presence would be traffic
			a := deployApacheWith(t, newServer(t, onServeMux(hubtest.New(t, cfg))),
				fmt.Sprintf("timeout=%d\nTimeout %d", c.proxying, c.general))

			checkPings(t, a.from("127.0.0.1"), a.url+"/ws", c.pings)
		})
	}
}
