package main

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/chathub-go/chathub/hubtest"
	natsserver "github.com/nats-io/nats-server/v2/server"
)

// asProgram is an environment variable. If it is set, the binary of the test
// runs the program itself.
const asProgram = "CHATHUB_SERVICE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// patience bounds the start of a server.
const patience = 20 * time.Second

// natsServer runs a NATS server with JetStream and returns its URL.
func natsServer(t testing.TB) (url string) {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server did not start")
	}
	return s.ClientURL()
}

// natsHub returns a hub on a NATS server, as a chat server has.
func natsHub(t testing.TB, url string) *chathub.Hub {
	t.Helper()
	broker, err := natsbroker.Connect(url, natsbroker.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	return hubtest.New(t, chathub.Config{Broker: broker})
}

// process is the program in a separate process.
type process struct {
	*exec.Cmd
	lines *bufio.Scanner
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), os.Args[0], args...)}
	p.Env = append(os.Environ(), asProgram+"=1")
	p.Stderr = t.Output()
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(stdout)
	return p
}

// kill kills the process with SIGKILL, and waits for its end.
func (p *process) kill() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

func post(t *testing.T, hub *chathub.Hub, p chathub.Post) chathub.Receipt {
	t.Helper()
	r, err := hub.To("lobby").Post(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// texts returns the texts of the room, oldest first.
func texts(t *testing.T, hub *chathub.Hub) (all []string) {
	t.Helper()
	entries, more, err := hub.History(t.Context(), "lobby", chathub.Range{Limit: 1 << 20})
	if err != nil || more {
		t.Fatal(more, err)
	}
	for _, e := range entries {
		all = append(all, textOf(e.Data))
	}
	return all
}
