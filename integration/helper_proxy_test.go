package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// certificate returns a certificate for 127.0.0.1 with its key, both in PEM,
// and who trusts it.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	srv := httptest.NewTLSServer(nil) // which has one
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

// clientFrom returns a client whose connections come from an address of
// 127.0.0.0/8.
func clientFrom(t *testing.T, roots *x509.CertPool, addr string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	tr := &http.Transport{
		DialContext:     d.DialContext,
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// padded is an Authenticator for long tokens: a user's id and padding.
type padded struct{}

func (padded) Authenticate(ctx context.Context, token string, r *http.Request) (chathub.Identity, error) {
	id, _, _ := strings.Cut(token, "~")
	return hubtest.Auth{}.Authenticate(ctx, id, r)
}

// behindProxy is the part of a hub's Config that has to do with the proxy.
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

// twoPerAddress is behindProxy with two connections for each address.
func twoPerAddress() chathub.Config {
	cfg := behindProxy()
	cfg.MaxConnsPerAddress = 2
	return cfg
}

// quickDrain is behindProxy for hubs that shut down at once.
func quickDrain() chathub.Config {
	cfg := behindProxy()
	cfg.DrainWindow = -1
	return cfg
}

// checkHandshakes checks who gets in through a proxy that is the origin of url,
// in front of hubs with behindProxy.
func checkHandshakes(t *testing.T, hc *http.Client, url string) {
	t.Helper()
	checkRefused(t, hc, url)

	origin := strings.TrimSuffix(url, "/ws")
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
		_, err := tryDial(t, hc, url, header)
		if ok := err == nil; ok != c.ok {
			t.Errorf("origin %s: let in is %t (%v)", c.origin, ok, err)
		}
	}
	for _, protocol := range longestTokens("ben") {
		if f := dial(t, hc, url, nil, protocol).next(); f.Type != "welcome" {
			t.Errorf("with a token of 8 KiB, %.20s..., came %s %s", protocol, f.Type, f.Data)
		}
	}
	if got := status(t, hc, url); got != http.StatusUpgradeRequired {
		t.Errorf("a request without an upgrade was answered with %d", got)
	}
}

// longestTokens returns the longest tokens of a user of padded, as a browser
// offers them.
func longestTokens(id string) []string {
	plain := id + "~" + strings.Repeat("x", 8<<10-len(id+"~"))
	other := id + "~" + strings.Repeat("/+=", 8<<10)[:8<<10-len(id+"~")]
	return []string{
		"chathub.bearer." + plain,
		"chathub.bearer64." + base64.RawURLEncoding.EncodeToString([]byte(other)),
	}
}

// checkLongest checks that tokens of these lengths are the longest that get
// through a proxy, as they are and in base64url, and that longer ones get 400
// from the proxy.
func checkLongest(t *testing.T, hc *http.Client, url string, plain, encoded int) {
	t.Helper()
	for _, c := range []struct {
		bytes int
		offer func(token string) string
	}{
		{plain, func(token string) string { return "chathub.bearer." + token }},
		{encoded, func(token string) string {
			return "chathub.bearer64." + base64.RawURLEncoding.EncodeToString([]byte(token))
		}},
	} {
		token := "ben~" + strings.Repeat("x", c.bytes-len("ben~"))
		// Browsers put a space after the comma.
		if f := dial(t, hc, url, nil, " "+c.offer(token)).next(); f.Type != "welcome" {
			t.Errorf("with a token of %d bytes came %s %s", c.bytes, f.Type, f.Data)
		}
		if _, err := tryDial(t, hc, url, nil, " "+c.offer(token+"x")); err == nil || !strings.Contains(err.Error(), "got 400") {
			t.Errorf("with a token of %d bytes: %v", c.bytes+1, err)
		}
	}
}

// checkPage checks the status of a handshake by a page of the proxy's own, 101
// if it is let in, and what the hub's log has of it.
func checkPage(t *testing.T, hc *http.Client, url string, want int, log *logBuffer, lines ...string) {
	t.Helper()
	u, err := neturl.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	header := bearer("ana")
	header.Set("Origin", u.Scheme+"://"+u.Host)
	got := http.StatusSwitchingProtocols
	if _, err := tryDial(t, hc, url, header); err != nil {
		const format = "failed to WebSocket dial: expected handshake response status code 101 but got %d"
		if _, notThat := fmt.Sscanf(err.Error(), format, &got); notThat != nil {
			t.Fatal(err)
		}
	}
	if got != want {
		t.Errorf("a page's handshake was answered with %d, want %d", got, want)
	}
	for _, line := range lines {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log does not have %s:\n%s", line, log)
		}
	}
	if lines == nil && log.String() != "" {
		t.Errorf("logged %s", log)
	}
}

// logBuffer is the text of a log. It may be used concurrently.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// status returns the status of a plain request.
func status(t *testing.T, hc *http.Client, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Error(err)
	}
	return res.StatusCode
}

// checkAddresses checks that connections are counted by the address that the
// proxy has seen, whatever the client says. The hub has twoPerAddress, and the
// clients come from different addresses.
func checkAddresses(t *testing.T, ana, ben *http.Client, url string) {
	t.Helper()
	first := connect(t, ana, url, "ana")
	connect(t, ana, url, "ana")
	for _, forged := range []string{"", "192.0.2.7", "127.0.0.1", "192.0.2.7, 127.0.0.1"} {
		header := bearer("ana")
		if forged != "" {
			header.Set("X-Forwarded-For", forged)
		}
		c := dial(t, ana, url, header)
		if f := c.next(); f.Code() != chathub.CodeLimitExceeded {
			t.Errorf("the third connection, with X-Forwarded-For %q, got %s %s", forged, f.Type, f.Data)
		}
		if code, _ := c.closed(); code != 4504 {
			t.Errorf("the third connection was closed with %d", code)
		}
	}
	connect(t, ben, url, "ben")

	// The place becomes free once the hub has noticed.
	_ = first.ws.CloseNow()
	for deadline := time.Now().Add(patience); ; {
		f := dial(t, ana, url, bearer("ana")).next()
		if f.Type == "welcome" {
			break
		}
		if f.Code() != chathub.CodeLimitExceeded || time.Now().After(deadline) {
			t.Fatalf("instead of the place that was given back: %s %s", f.Type, f.Data)
		}
	}
}

// checkReload checks that connections outlive a reload of the proxy, and speak
// to those that come after it.
func checkReload(t *testing.T, hc *http.Client, url string, reload func()) {
	t.Helper()
	join := hubtest.Frame{Type: "join-room", Room: "lobby"}
	all := []*client{connect(t, hc, url, "ana"), connect(t, hc, url, "ben")}
	for _, c := range all {
		c.must(join)
	}
	reload()
	after := connect(t, hc, url, "cora")
	after.must(join)
	all = append(all, after)
	for _, from := range all {
		text := hubtest.Data(string(from.welcome.Data))
		from.send(hubtest.Frame{Type: "room-message", Room: "lobby", Data: text})
		for _, to := range all {
			if m := to.wait("room-message"); string(m.Data) != string(text) {
				t.Errorf("got %s, want %s", m.Data, text)
			}
		}
	}
}

// checkRollingRestart checks that a client whose server shuts down gets to the
// other one, while the first still answers and when it has gone, and misses
// nothing. With lateToSee, the proxy may only see that a server is leaving when
// it turns a client away.
func checkRollingRestart(t *testing.T, hubs [2]*chathub.Hub, servers []*httptest.Server, hc *http.Client, url string, lateToSee bool) {
	t.Helper()
	ana := connect(t, hc, url, "ana")
	first := 0 // ana's server
	if hubs[0].Stats().Connections == 0 {
		first = 1
	}
	ben := connect(t, hc, url, "ben")
	join := hubtest.Frame{Type: "join-room", Room: "lobby"}
	var head struct {
		Epoch string `json:"epoch"`
		Seq   uint64 `json:"seq"`
	}
	if err := json.Unmarshal(ana.must(join).Data, &head); err != nil {
		t.Fatal(err)
	}
	ben.must(join)
	leaving, staying := hubs[first], hubs[1-first]
	if staying.Stats().Connections != 1 || leaving.Stats().Connections != 1 {
		t.Fatal("both are on one server")
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := leaving.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	ana.wait("reconnect")
	if code, _ := ana.closed(); code != 4000 {
		t.Errorf("closed with %d", code)
	}
	ben.must(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("missed")})
	if lateToSee {
		if _, err := tryDial(t, hc, url, bearer("ana")); err != nil && !strings.Contains(err.Error(), "got 503") {
			t.Errorf("the first handshake after the shutdown: %v", err)
		}
	}
	for _, gone := range []bool{false, true} {
		if gone {
			servers[first].Close()
		}
		ana = connect(t, hc, url, "ana")
		ana.send(hubtest.Frame{Type: "join-room", Room: "lobby", Data: hubtest.Data(map[string]any{"since": head})})
		if m := ana.wait("room-message"); string(m.Data) != `"missed"` {
			t.Errorf("resumed with %s", m.Data)
		}
	}
}
