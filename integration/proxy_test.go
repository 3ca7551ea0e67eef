package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// nginx is a running nginx with deploy/nginx.conf.
type nginx struct {
	t        *testing.T
	url      string // of the hub
	roots    *x509.CertPool
	cmd      *exec.Cmd
	reloaded chan struct{} // gets a value when the old worker is told to end
}

// startNginx starts nginx in front of two or more servers.
func startNginx(t *testing.T, servers ...*httptest.Server) *nginx {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // which not everyone has in PATH
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("nginx is missing: %s", hint)
	}
	conf, err := os.ReadFile("../deploy/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}

	// nginx takes over sockets that already listen, as it does from a
	// predecessor. So no other program can take the port, and there is nothing
	// to wait for.
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
	text := string(conf)
	var others []string
	for _, s := range servers[1:] {
		others = append(others, "server "+s.Listener.Addr().String()+";")
	}
	for old, replacement := range map[string]string{
		"listen 443 ssl;":                       "listen " + l.Addr().String() + " ssl;",
		"/etc/ssl/certs/chat.example.com.pem":   write(t, dir, "cert.pem", cert),
		"/etc/ssl/private/chat.example.com.key": write(t, dir, "key.pem", key),
		"server 127.0.0.1:5000;":                "server " + servers[0].Listener.Addr().String() + ";",
		"server 127.0.0.1:5001;":                strings.Join(others, "\n"),
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
		_ = n.cmd.Wait() // nginx was told to end
	})
	return n
}

// certificate returns a certificate for 127.0.0.1 and its key, both as PEM, and
// a pool that trusts it.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	srv := httptest.NewTLSServer(nil) // it has one
	defer srv.Close()
	c := srv.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		roots
}

func write(t *testing.T, dir, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// from returns a client whose connections come from an address in 127.0.0.0/8.
func (n *nginx) from(addr string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	tr := &http.Transport{
		DialContext:     d.DialContext,
		TLSClientConfig: &tls.Config{RootCAs: n.roots},
	}
	n.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// reload makes nginx read its configuration again, and waits until a new worker
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

// padded is an Authenticator for long tokens: a user's id and padding.
type padded struct{}

func (padded) Authenticate(ctx context.Context, token string, r *http.Request) (chathub.Identity, error) {
	id, _, _ := strings.Cut(token, "~")
	return hubtest.Auth{}.Authenticate(ctx, id, r)
}

// behindProxy is the part of a hub's Config for a proxy.
func behindProxy() chathub.Config {
	return chathub.Config{
		Auth:           padded{},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	}
}

// pair returns two hubs that share a broker, each served on a port of its own.
func pair(t *testing.T, cfg chathub.Config) (hubs [2]*chathub.Hub, servers []*httptest.Server) {
	t.Helper()
	cfg.Broker = &chathub.MemoryBroker{}
	for i := range hubs {
		hubs[i] = hubtest.New(t, cfg)
		servers = append(servers, newServer(t, onServeMux(hubs[i])))
	}
	return hubs, servers
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
	checkRefused(t, hc, n.url)

	origin := strings.TrimSuffix(n.url, "/ws")
	for _, c := range []struct {
		origin string
		ok     bool
	}{
		{origin, true},
		{"http" + strings.TrimPrefix(origin, "https"), false},
		{"https://127.0.0.1", false},
		{"https://evil.example", false},
	} {
		header := bearer("ana")
		header.Set("Origin", c.origin)
		_, err := tryDial(t, hc, n.url, header)
		if ok := err == nil; ok != c.ok {
			t.Errorf("origin %s: let in is %t (%v)", c.origin, ok, err)
		}
	}

	// The longest token that a hub accepts, where browsers have to put it.
	token := "ben~" + strings.Repeat("x", 8<<10-len("ben~"))
	if f := dial(t, hc, n.url, nil, "chathub.bearer."+token).next(); f.Type != "welcome" {
		t.Errorf("with a token of 8 KiB came %s %s", f.Type, f.Data)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a request without an upgrade was answered with %s (%v)", res.Status, err)
	}
}

// TestNginxAddresses checks that connections are counted by the address that
// nginx sees, whatever the client claims.
func TestNginxAddresses(t *testing.T) {
	cfg := behindProxy()
	cfg.MaxConnsPerAddress = 2
	hub := hubtest.New(t, cfg)
	srv := newServer(t, onServeMux(hub))
	n := startNginx(t, srv, srv)
	ana, ben := n.from("127.0.0.2"), n.from("127.0.0.3")
	first := connect(t, ana, n.url, "ana")
	connect(t, ana, n.url, "ana")

	for _, forged := range []string{"", "192.0.2.7", "127.0.0.1", "192.0.2.7, 127.0.0.1"} {
		header := bearer("ana")
		if forged != "" {
			header.Set("X-Forwarded-For", forged)
		}
		c := dial(t, ana, n.url, header)
		if f := c.next(); f.Code() != chathub.CodeLimitExceeded {
			t.Errorf("the third connection, with X-Forwarded-For %q, got %s %s", forged, f.Type, f.Data)
		}
		if code, _ := c.closed(); code != 4504 {
			t.Errorf("the third connection was closed with %d", code)
		}
	}
	connect(t, ben, n.url, "ben")

	// A place is free once the hub has noticed the end of its connection.
	_ = first.ws.CloseNow()
	for deadline := time.Now().Add(patience); ; {
		f := dial(t, ana, n.url, bearer("ana")).next()
		if f.Type == "welcome" {
			break
		}
		if f.Code() != chathub.CodeLimitExceeded || time.Now().After(deadline) {
			t.Fatalf("the place of who has gone: %s %s", f.Type, f.Data)
		}
	}
}

// TestNginxReload checks that connections outlive a reload, and reach those
// that come after it.
func TestNginxReload(t *testing.T) {
	_, servers := pair(t, behindProxy())
	n := startNginx(t, servers...)
	hc := n.from("127.0.0.1")
	join := hubtest.Frame{Type: "join-room", Room: "lobby"}
	before := []*client{connect(t, hc, n.url, "ana"), connect(t, hc, n.url, "ben")}
	for _, c := range before {
		c.must(join)
	}
	n.reload()
	after := connect(t, hc, n.url, "cora")
	after.must(join)
	for _, from := range append(before, after) {
		text := hubtest.Data(string(from.welcome.Data))
		from.send(hubtest.Frame{Type: "room-message", Room: "lobby", Data: text})
		for _, to := range append(before, after) {
			if m := to.wait("room-message"); string(m.Data) != string(text) {
				t.Errorf("got %s, want %s", m.Data, text)
			}
		}
	}
}

// TestNginxRollingRestart checks that a client whose server shuts down gets to
// the other one, both while the first still answers and after its end, and
// misses nothing.
func TestNginxRollingRestart(t *testing.T) {
	cfg := behindProxy()
	cfg.DrainWindow = -1
	hubs, servers := pair(t, cfg)
	n := startNginx(t, servers...)
	hc := n.from("127.0.0.1")
	ana, ben := connect(t, hc, n.url, "ana"), connect(t, hc, n.url, "ben")
	join := hubtest.Frame{Type: "join-room", Room: "lobby"}
	var head struct {
		Epoch string `json:"epoch"`
		Seq   uint64 `json:"seq"`
	}
	if err := json.Unmarshal(ana.must(join).Data, &head); err != nil {
		t.Fatal(err)
	}
	ben.must(join)
	leaving, staying := hubs[0], hubs[1]
	if staying.Stats().Connections != 1 || leaving.Stats().Connections != 1 {
		t.Fatal("both are on one server")
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := leaving.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	// Ana came first, so she is on the first server.
	ana.wait("reconnect")
	if code, _ := ana.closed(); code != 4000 {
		t.Errorf("closed with %d", code)
	}
	ben.must(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("missed")})
	for _, gone := range []bool{false, true} {
		if gone {
			servers[0].Close()
		}
		ana = connect(t, hc, n.url, "ana")
		ana.send(hubtest.Frame{Type: "join-room", Room: "lobby", Data: hubtest.Data(map[string]any{"since": head})})
		if m := ana.wait("room-message"); string(m.Data) != `"missed"` {
			t.Errorf("resumed with %s", m.Data)
		}
	}
}
