package natsbroker_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/nats-server/v2/server"
)

// Separate processes run the binary of the test with one of these variables
// set.
const (
	asServer = "NATSBROKER_TEST_SERVER" // runs a NATS server; has a process
	asNode   = "NATSBROKER_TEST_NODE"   // runs a node that publishes; has a URL
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asServer) != "":
		runServer(os.Getenv(asServer))
	case os.Getenv(asNode) != "":
		runNode(os.Getenv(asNode))
	default:
		os.Exit(m.Run())
	}
}

// process describes a NATS server in a separate process, which can be killed.
type process struct {
	Name    string
	Dir     string
	Port    int
	Cluster int      // port; 0: not in a cluster
	Routes  []string // to all servers of the cluster
	// DiskBytes is the size of a file system to mount at Dir. 0: none.
	DiskBytes int64

	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts the server, and returns when it accepts connections.
func (p *process) start() {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	description, err := json.Marshal(p)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.CommandContext(context.WithoutCancel(p.t.Context()), self)
	p.cmd.Env = append(os.Environ(), asServer+"="+string(description))
	p.cmd.Stderr = os.Stderr
	if p.DiskBytes > 0 {
		p.cmd.SysProcAttr = ownMounts()
	}
	// If this process is killed, the pipe ends, and with it the server.
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.expect("ready")
}

// tell sends a command to the server, see runServer.
func (p *process) tell(command string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		p.t.Fatal(err)
	}
	p.expect(command)
}

func (p *process) expect(word string) {
	p.t.Helper()
	if line, err := p.out.ReadString('\n'); err != nil || strings.TrimSpace(line) != word {
		p.t.Fatalf("server %s said %q, %v, want %s", p.Name, line, err, word)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// kill kills the server with SIGKILL.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

func (p *process) addr() string { return fmt.Sprintf("127.0.0.1:%d", p.Port) }

// freePort returns a port that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startCluster starts three servers that form a cluster. Unless diskBytes is 0,
// each has a disk of that size, whose content is lost with the process.
func startCluster(t testing.TB, diskBytes int64) []*process {
	t.Helper()
	var all []*process
	var routes []string
	for i := range 3 {
		p := &process{Name: fmt.Sprintf("s%d", i), Dir: t.TempDir(), Port: freePort(t), Cluster: freePort(t), DiskBytes: diskBytes, t: t}
		all = append(all, p)
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", p.Cluster))
	}
	for _, p := range all {
		p.Routes = routes
		t.Cleanup(p.kill)
		p.start()
	}
	return all
}

// runServer is the main function of a server's process. It reads commands from
// its standard input:
//
//	fill     fill the file system
//	free     undo fill
//	restart  stop the server and start it again
func runServer(description string) {
	var p process
	if err := json.Unmarshal([]byte(description), &p); err != nil {
		panic(err)
	}
	if p.DiskBytes > 0 {
		mountMemory(p.Dir, p.DiskBytes)
	}
	opts := &server.Options{
		ServerName: p.Name, Host: "127.0.0.1", Port: p.Port, JetStream: true, StoreDir: filepath.Join(p.Dir, "js"), NoLog: true, NoSigs: true,
	}
	if p.Cluster != 0 {
		opts.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: p.Cluster}
		for _, r := range p.Routes {
			u, err := url.Parse(r)
			if err != nil {
				panic(err)
			}
			opts.Routes = append(opts.Routes, u)
		}
	}
	start := func() *server.Server {
		s, err := server.NewServer(opts.Clone())
		if err != nil {
			panic(err)
		}
		s.Start()
		if !s.ReadyForConnections(patience) {
			panic("the server does not start")
		}
		return s
	}
	s := start()
	say := func(word string) { _, _ = fmt.Fprintln(os.Stdout, word) }
	say("ready")
	filler := filepath.Join(p.Dir, "filler")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); say(lines.Text()) {
		switch lines.Text() {
		case "fill":
			f, err := os.Create(filler)
			if err != nil {
				panic(err)
			}
			for block := make([]byte, 4096); err == nil; {
				_, err = f.Write(block)
			}
			_ = f.Close()
		case "free":
			if err := os.Remove(filler); err != nil {
				panic(err)
			}
		case "restart":
			s.Shutdown()
			s.WaitForShutdown()
			s = start()
		}
	}
}

// runNode is the main function of a node's process. It publishes as fast as it
// can, and prints the key of each message that is acked.
func runNode(url string) {
	b, err := natsbroker.Connect(url, natsbroker.Name(os.Getenv("NAME")), natsbroker.Replicas(3), natsbroker.MaxMessages(-1), quiet)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	s, err := b.Attach(ctx, func(chathub.Message) {})
	if err != nil {
		panic(err)
	}
	for {
		m := chathub.Message{Topic: faultRooms[0], Key: "killed-" + rand.Text()}
		if _, err := s.Publish(ctx, m); err == nil {
			_, _ = fmt.Fprintln(os.Stdout, m.Key)
		}
	}
}

// eventually waits until f returns true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}
