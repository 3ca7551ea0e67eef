package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	natsserver "github.com/nats-io/nats-server/v2/server"
)

// asProgram is the environment variable that turns the test's binary into the
// program.
const asProgram = "CHAT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// spawn runs the program in a process of its own.
func spawn(t *testing.T, args ...string) (s *server, kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "JWT_SECRET="+secret)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s = &server{logs: &logs{url: make(chan string, 1)}}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			_, _ = s.logs.Write(append(lines.Bytes(), '\n'))
		}
	}()
	kill = func() {
		_ = cmd.Process.Kill() // SIGKILL; an error means that it has ended
		<-read
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	select {
	case s.url = <-s.logs.url:
	case <-read:
		t.Fatalf("the program ended: %s", s.logs)
	}
	return s, kill
}

// natsServer runs a NATS server with JetStream and returns its URL.
func natsServer(t *testing.T) (url string) {
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

// history returns the texts of a room, oldest first.
func (c *client) history(room string) (texts []string) {
	c.t.Helper()
	c.send(envelope{Type: "history", ID: "h", Room: room, Data: []byte(`{"limit":500}`)})
	var page struct {
		Messages []struct {
			Data string `json:"data"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(c.await("ack").Data, &page); err != nil {
		c.t.Fatal(err)
	}
	for _, m := range page.Messages {
		texts = append(texts, m.Data)
	}
	return texts
}

// TestKilled: with -data, acked messages survive kill -9, each once and in
// order. A message without an ack can be sent again.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	var acked []string
	for life := range 3 {
		s, kill := spawn(t, "-data", dir)
		ana := s.connect(t, "Ana")
		ana.send(envelope{Type: "join-room", ID: "j", Room: "lobby"})
		ana.await("ack")
		if len(acked) > 0 { // repeat the last message of the previous process
			ana.send(envelope{Type: "room-message", ID: acked[len(acked)-1], Room: "lobby", Data: quote(acked[len(acked)-1])})
			if e := ana.await("ack"); !strings.Contains(string(e.Data), `"dup":true`) {
				t.Errorf("the repetition was acked with %s", e.Data)
			}
		}
		got := ana.history("lobby")
		if n := len(acked); len(got) < n || !slices.Equal(withoutExtra(got, acked), acked) {
			t.Fatalf("process %d: history %v, acked %v", life, got, acked)
		}
		for i := 1; i < len(got); i++ {
			if number(t, got[i]) <= number(t, got[i-1]) {
				t.Fatalf("process %d: %s after %s", life, got[i], got[i-1])
			}
		}
		acked = got // includes messages stored without an ack
		first := 1000 * (life + 1)
		for i := first; i < first+40; i++ {
			ana.send(envelope{Type: "room-message", ID: strconv.Itoa(i), Room: "lobby", Data: quote(strconv.Itoa(i))})
		}
		for range 20 {
			acked = append(acked, ana.await("ack").ID)
		}
		kill()
	}
}

func withoutExtra(got, want []string) []string {
	return slices.DeleteFunc(slices.Clone(got), func(s string) bool { return !slices.Contains(want, s) })
}

func quote(s string) []byte { return []byte(strconv.Quote(s)) }

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRestart: with -data, messages survive a restart, and so do tokens and
// positions.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	first := start(t, nil, "-data", dir)
	token := first.login(t, "Ana").Token
	ben := first.connect(t, "Ben")
	ben.send(envelope{Type: "join-room", ID: "j", Room: "lobby"})
	position := ben.await("ack").Data
	ben.send(envelope{Type: "room-message", ID: "m", Room: "lobby", Data: []byte(`"kept"`)})
	ben.await("ack")
	first.stop()
	if err := <-first.done; err != nil {
		t.Fatal(err)
	}
	s := start(t, nil, "-data", dir)
	conn, _, err := s.dial(t, token, strings.TrimSuffix(s.url, "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	ana := &client{t: t, conn: conn}
	ana.await("welcome")
	ana.send(envelope{Type: "resume", ID: "r", Data: fmt.Appendf(nil, `{"rooms":{"lobby":%s}}`, position)})
	if e := ana.await("ack"); !strings.Contains(string(e.Data), `"recovered":true`) {
		t.Errorf("resumed with %s", e.Data)
	}
	if e := ana.await("room-message"); string(e.Data) != `"kept"` {
		t.Errorf("then came %s", e.Data)
	}
}

// TestInstances: users of different instances meet in one room. When an
// instance is killed, its users go offline, and resume on another one.
func TestInstances(t *testing.T) {
	url := natsServer(t)
	one, kill := spawn(t, "-nats", url)
	two, three := start(t, nil, "-nats", url, "-rate", "-1"), start(t, nil, "-nats", url)
	ana, ben := one.connect(t, "Ana"), two.connect(t, "Ben")
	var position []byte
	for _, c := range []*client{ana, ben} {
		c.send(envelope{Type: "join-room", ID: "j", Room: "lobby"})
		position = c.await("ack").Data
	}
	ana.send(envelope{Type: "room-message", ID: "1", Room: "lobby", Data: []byte(`"from one"`)})
	ana.await("ack")
	if e := ben.await("room-message"); string(e.Data) != `"from one"` {
		t.Errorf("Ben got %s", e.Data)
	}
	// The instances tell each other a little later.
	for online := ""; !strings.Contains(online, `"Ana"`); {
		ben.send(envelope{Type: "online-users"})
		online = string(ben.await("online-users").Data)
	}
	kill()
	for e := ben.await("user-offline"); !strings.Contains(string(e.Data), `"Ana"`); {
		e = ben.await("user-offline")
	}
	ben.send(envelope{Type: "room-message", ID: "2", Room: "lobby", Data: []byte(`"from two"`)})
	ben.await("ack")

	ana = three.connect(t, "Ana")
	ana.send(envelope{Type: "resume", ID: "r", Data: fmt.Appendf(nil, `{"rooms":{"lobby":%s}}`, position)})
	if e := ana.await("ack"); !strings.Contains(string(e.Data), `"recovered":true`) {
		t.Errorf("resumed with %s", e.Data)
	}
	for _, want := range []string{`"from one"`, `"from two"`} {
		if e := ana.await("room-message"); string(e.Data) != want {
			t.Errorf("resumed with %s, want %s", e.Data, want)
		}
	}
}
