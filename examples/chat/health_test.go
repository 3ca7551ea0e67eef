package main

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// awaitReady waits until /readyz has a status, and returns what it says.
func (s *server) awaitReady(t *testing.T, status int) string {
	t.Helper()
	var a answer
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if a = s.request(t, http.MethodGet, "readyz", "", nil); a.status == status {
			return a.body
		}
	}
	t.Fatalf("/readyz: %d %s, want %d", a.status, a.body, status)
	return ""
}

// TestMonitoring: on every broker, the program says that it lives, that it is
// ready, and its figures.
func TestMonitoring(t *testing.T) {
	for name, tt := range map[string]struct {
		args    []string
		metrics []string
	}{
		"memory": {nil, nil},
		"data":   {[]string{"-data", t.TempDir()}, []string{"chathub_nats_connected_sessions 1", "chathub_nats_disk_free_bytes "}},
		"nats":   {[]string{"-nats", natsServer(t)}, []string{"chathub_nats_connected_sessions 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, nil, tt.args...)
			s.connect(t, "Ana")
			if a := s.request(t, http.MethodGet, "healthz", "", nil); a.status != http.StatusOK {
				t.Errorf("/healthz: %d %s", a.status, a.body)
			}
			if a := s.request(t, http.MethodGet, "readyz", "", nil); a.status != http.StatusOK || !strings.Contains(a.body, `"ready":true`) {
				t.Errorf("/readyz: %d %s", a.status, a.body)
			}
			for path, ok := range map[string]bool{"readyz": true, "nowhere": false} {
				err := run(t.Context(), []string{"-probe", s.url + path}, func(string) string { return "" }, t.Output())
				if (err == nil) != ok {
					t.Errorf("a probe of %s: %v", path, err)
				}
			}
			a := s.request(t, http.MethodGet, "metrics", "", nil)
			for _, want := range append(tt.metrics, "chathub_connections 1", `chathub_handshakes_total{result="accepted"} 1`, "go_goroutines ", "process_open_fds ") {
				if !strings.Contains(a.body, want) {
					t.Errorf("/metrics lacks %s: %d %s", want, a.status, a.body)
				}
			}
		})
	}
}

// TestReadyWithoutBroker: while the NATS server is away, the program is not
// ready, and lives.
func TestReadyWithoutBroker(t *testing.T) {
	opts := natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true}
	var nats *natsserver.Server
	begin := func() {
		var err error
		if nats, err = natsserver.NewServer(&opts); err != nil {
			t.Fatal(err)
		}
		nats.Start()
		if !nats.ReadyForConnections(patience) {
			t.Fatal("the NATS server did not start")
		}
		opts.Port = nats.Addr().(*net.TCPAddr).Port
	}
	end := func() {
		nats.Shutdown()
		nats.WaitForShutdown()
	}
	begin()
	defer func() { end() }()
	s := start(t, nil, "-nats", nats.ClientURL())
	s.awaitReady(t, http.StatusOK)
	end()
	if body := s.awaitReady(t, http.StatusServiceUnavailable); !strings.Contains(body, "the broker does not store messages") {
		t.Errorf("/readyz says %s", body)
	}
	if a := s.request(t, http.MethodGet, "healthz", "", nil); a.status != http.StatusOK {
		t.Errorf("/healthz: %d %s", a.status, a.body)
	}
	begin()
	s.awaitReady(t, http.StatusOK)
}

func TestVersion(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), []string{"-version", "-nats", "nats://127.0.0.1:1"}, func(string) string { return "" }, &out); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.HasPrefix(s, "chat ") || !strings.Contains(s, "go1.") {
		t.Errorf("the version is %q", s)
	}
}
