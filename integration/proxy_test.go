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
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chathub-go/chathub/hubtest"
)

// nginx is a running nginx with deploy/nginx.conf.
type nginx struct {
	t        *testing.T
	url      string // of the hub
	roots    *x509.CertPool
	cmd      *exec.Cmd
	reloaded chan struct{} // gets one when the old worker has been told to end
}

// startNginx starts nginx in front of two servers, or more.
func startNginx(t *testing.T, servers ...*httptest.Server) *nginx {
	t.Helper()
	return startNginxEdited(t, func(conf string) string { return conf }, servers...)
}

// startNginxWithout is startNginx without the directives that begin in a
// certain way.
func startNginxWithout(t *testing.T, directive string, servers ...*httptest.Server) *nginx {
	t.Helper()
	lines := regexp.MustCompile(`(?m)^ *` + regexp.QuoteMeta(directive) + `.*$`)
	return startNginxEdited(t, func(conf string) string { return lines.ReplaceAllString(conf, "") }, servers...)
}

// startNginxEdited is startNginx with an edited configuration.
func startNginxEdited(t *testing.T, edit func(conf string) string, servers ...*httptest.Server) *nginx {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // not in everyone's PATH
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("nginx is missing: %s", hint)
	}
	conf, err := os.ReadFile("../deploy/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}

	// nginx takes over sockets that listen already, as it does from a
	// predecessor. So nobody can take the port, and there is nothing to wait
	// for.
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
	text := edit(string(conf))
	var others []string
	for _, s := range servers[1:] {
		others = append(others, "server "+s.Listener.Addr().String()+" max_fails=0;")
	}
	for old, replacement := range map[string]string{
		"listen 443 ssl;":                       "listen " + l.Addr().String() + " ssl;",
		"/etc/ssl/certs/chat.example.com.pem":   write(t, dir, "cert.pem", cert),
		"/etc/ssl/private/chat.example.com.key": write(t, dir, "key.pem", key),
		"server 127.0.0.1:5000 max_fails=0;":    "server " + servers[0].Listener.Addr().String() + " max_fails=0;",
		"server 127.0.0.1:5001 max_fails=0;":    strings.Join(others, "\n"),
	} {
		if strings.Count(text, old) != 1 {
			t.Fatalf("deploy/nginx.conf does not have %q once", old)
		}
		text = strings.ReplaceAll(text, old, replacement)
	}
	write(t, dir, "chathub.conf", text)
	main := write(t, dir, "nginx.conf", fmt.Sprintf(`
		daemon off;
		pid %[1]s/nginx.pid;
		error_log stderr notice;
		worker_processes 1; # or each would have its own idea of who is least loaded
		events {}
		http {
			access_log off;
			client_body_temp_path %[1]s/body;
			proxy_temp_path %[1]s/proxy;
			fastcgi_temp_path %[1]s/fastcgi;
			uwsgi_temp_path %[1]s/uwsgi;
			scgi_temp_path %[1]s/scgi;
			include %[1]s/chathub.conf;
		}`, dir))

	n := &nginx{
		t:        t,
		url:      "https://" + l.Addr().String() + "/ws",
		roots:    roots,
		cmd:      exec.CommandContext(t.Context(), program, "-p", dir, "-c", main, "-e", "stderr"),
		reloaded: make(chan struct{}, 10),
	}
	n.cmd.Cancel = func() error { return n.cmd.Process.Signal(syscall.SIGTERM) }
	n.cmd.WaitDelay = patience
	n.cmd.ExtraFiles = []*os.File{socket}
	n.cmd.Env = append(os.Environ(), "NGINX=3;")
	log, err := n.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			_, _ = fmt.Fprintln(t.Output(), lines.Text())
			if strings.Contains(lines.Text(), "gracefully shutting down") {
				n.reloaded <- struct{}{}
			}
		}
	}()
	t.Cleanup(func() {
		<-read
		_ = n.cmd.Wait() // it was told to end
	})
	return n
}

// from returns a client whose connections come from an address of 127.0.0.0/8.
func (n *nginx) from(addr string) *http.Client { return clientFrom(n.t, n.roots, addr) }

// reload has nginx read its configuration anew, and waits until a new worker
// serves.
func (n *nginx) reload() {
	n.t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		n.t.Fatal(err)
	}
	select {
	case <-n.reloaded:
	case <-time.After(patience):
		n.t.Fatal("nginx did not reload")
	}
}

// TestNginx chats through nginx, with users on different servers.
func TestNginx(t *testing.T) {
	hubs, servers := pair(t, behindProxy())
	n := startNginx(t, servers...)
	hc := n.from("127.0.0.1")
	chat(t, hubs[0], hc, n.url)
	for i, hub := range hubs {
		if got := hub.Stats().Accepted; got != 1 {
			t.Errorf("server %d had %d of the 2 users", i, got)
		}
	}
	checkHandshakes(t, hc, n.url)
}

func TestNginxAddresses(t *testing.T) {
	srv := newServer(t, onServeMux(hubtest.New(t, twoPerAddress())))
	n := startNginx(t, srv, srv)
	checkAddresses(t, n.from("127.0.0.2"), n.from("127.0.0.3"), n.url)
}

func TestNginxReload(t *testing.T) {
	_, servers := pair(t, behindProxy())
	n := startNginx(t, servers...)
	checkReload(t, n.from("127.0.0.1"), n.url, n.reload)
}

func TestNginxRollingRestart(t *testing.T) {
	hubs, servers := pair(t, quickDrain())
	n := startNginx(t, servers...)
	checkRollingRestart(t, hubs, servers, n.from("127.0.0.1"), n.url, false)
}

// TestNginxMistakes checks what happens without some directives of
// deploy/nginx.conf, and that the hub's log says what.
func TestNginxMistakes(t *testing.T) {
	for _, c := range []struct {
		without string
		status  int
		log     []string
	}{
		{"proxy_set_header Upgrade", 426, []string{"level=WARN", `reason="Bad handshake"`, "there is no Upgrade header", "proxy_set_header Upgrade $http_upgrade"}},
		{"proxy_set_header Connection", 426, []string{"level=WARN", `reason="Bad handshake"`, "Connection", `proxy_set_header Connection \"upgrade\"`}},
		{"proxy_set_header Host", 403, []string{"level=WARN", `reason="Origin not allowed"`, "own=https://chathub ", "a proxy has changed Host: ", "proxy_set_header Host $http_host (nginx)"}},
		{"proxy_set_header X-Forwarded-Proto", 403, []string{"level=WARN", `reason="Origin not allowed"`, "own=http://127.0.0.1:", "TLS seems to end at a proxy", "proxy_set_header X-Forwarded-Proto $scheme (nginx)"}},
		{"proxy_read_timeout", 101, nil},
	} {
		t.Run(c.without, func(t *testing.T) {
			log := &logBuffer{}
			cfg := behindProxy()
			cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
			srv := newServer(t, onServeMux(hubtest.New(t, cfg)))
			n := startNginxWithout(t, c.without, srv, srv)
			checkPage(t, n.from("127.0.0.1"), n.url, c.status, log, c.log...)
		})
	}
}

// TestNginxHeaders checks which tokens get through with nginx's default limit
// for a line of the header, 8 KiB.
func TestNginxHeaders(t *testing.T) {
	srv := newServer(t, onServeMux(hubtest.New(t, behindProxy())))
	n := startNginxWithout(t, "large_client_header_buffers", srv, srv)
	checkLongest(t, n.from("127.0.0.1"), n.url, 8139, 6102)
}

// TestNginxIdle checks that pings keep a connection open for longer than
// nginx's timeout, and that it is cut without them.
func TestNginxIdle(t *testing.T) {
	checkIdle(t, func(t *testing.T, servers []*httptest.Server) *front {
		n := startNginxEdited(t, func(conf string) string { return strings.ReplaceAll(conf, "_timeout 75s;", "_timeout 3s;") }, servers...)
		return &front{url: strings.TrimSuffix(n.url, "/ws"), from: n.from}
	}, true)
}
