package wire

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the tests if they leave a goroutine of this package behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks of this package's goroutines except the caller's.
// It gives those that are about to end time to do so.
func leaked() string {
	var left []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		buf := make([]byte, 1<<20)
		stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		left = left[:0]
		for _, s := range stacks[1:] { // the first is the caller's
			if strings.Contains(s, "internal/wire.") {
				left = append(left, s)
			}
		}
		if len(left) == 0 {
			break
		}
	}
	return strings.Join(left, "\n\n")
}

// await waits for a condition that other goroutines bring about. In a bubble,
// synctest.Wait does that better.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for: %s", what)
		}
	}
}

// closeGrace is the grace of the connections under test.
const closeGrace = 5 * time.Second

// opContinuation is an opcode that only tests use by name.
const opContinuation = 0x0

// clientFrame returns a frame as a client sends it, masked.
func clientFrame(op byte, fin bool, payload []byte) []byte {
	b := []byte{op, maskBit}
	if fin {
		b[0] |= finBit
	}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n <= 0xffff:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	key := [4]byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, key[:]...)
	for i, x := range payload {
		b = append(b, x^key[i%4])
	}
	return b
}

// text returns a complete text message from a client.
func text(payload string) []byte { return clientFrame(opText, true, []byte(payload)) }

// frame is a frame from a server.
type frame struct {
	op      byte
	payload []byte
}

// readFrame reads one frame, and refuses what this server may not send (RFC
// 6455 sections 5.2 and 5.5). It returns io.EOF only between two frames.
func readFrame(r io.Reader) (f frame, err error) {
	var h [10]byte
	if _, err := io.ReadFull(r, h[:1]); err != nil {
		return f, err
	}
	if err := readAll(r, h[1:2]); err != nil {
		return f, err
	}
	f.op = h[0] & 0x0f
	n := uint64(h[1])
	switch {
	case h[0]&finBit == 0 || h[0]&0x70 != 0:
		return f, fmt.Errorf("first byte %#x", h[0])
	case f.op != opText && f.op != opClose && f.op != opPing && f.op != opPong:
		return f, fmt.Errorf("opcode %#x", f.op)
	case n&maskBit != 0:
		return f, fmt.Errorf("masked")
	case f.op >= opClose && n > maxControlPayload:
		return f, fmt.Errorf("long control frame")
	case n == 126:
		err = readAll(r, h[2:4])
		if n = uint64(binary.BigEndian.Uint16(h[2:])); n < 126 {
			return f, fmt.Errorf("length %d in two bytes", n)
		}
	case n == 127:
		err = readAll(r, h[2:10])
		if n = binary.BigEndian.Uint64(h[2:]); n <= 0xffff || n > 1<<30 {
			return f, fmt.Errorf("length %d in eight bytes", n)
		}
	}
	if err != nil {
		return f, err
	}
	f.payload = make([]byte, n)
	return f, readAll(r, f.payload)
}

// readAll fills p. It returns io.ErrUnexpectedEOF instead of io.EOF.
func readAll(r io.Reader, p []byte) error {
	_, err := io.ReadFull(r, p)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseAll parses a whole stream of frames.
func parseAll(t *testing.T, stream []byte) (frames []frame) {
	t.Helper()
	for r := bytes.NewReader(stream); r.Len() > 0; {
		at := len(stream) - r.Len()
		f, err := readFrame(r)
		if err != nil {
			t.Fatalf("frame %d, at byte %d of %d: %v", len(frames), at, len(stream), err)
		}
		frames = append(frames, f)
	}
	return frames
}

// sealed returns a text frame with a copy of payload.
func sealed[T string | []byte](payload T) []byte {
	return Seal(append(make([]byte, HeaderRoom), payload...))
}

// transport is a kind of connection that a Conn can be put over.
type transport struct {
	name string
	pair func(t *testing.T) (server, client net.Conn)
}

// transports are the kinds of connections that make a difference to a Conn: it
// can write to them without blocking, or it cannot.
var transports = []transport{
	{"tcp", tcpPair},
	{"unix", unixPair},
	{"tls", tlsPair},
	{"pipe", func(t *testing.T) (_, _ net.Conn) { return pipe(t) }},
}

func overTransports(t *testing.T, test func(t *testing.T, server, client net.Conn)) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			server, client := tr.pair(t)
			test(t, server, client)
		})
	}
}

func pipe(t *testing.T) (server, client net.Conn) {
	server, client = net.Pipe()
	t.Cleanup(func() {
		server.Close()
		client.Close()
	})
	return server, client
}

func tcpPair(t *testing.T) (server, client net.Conn) {
	return socketPair(t, "tcp", "127.0.0.1:0")
}

func unixPair(t *testing.T) (server, client net.Conn) {
	return socketPair(t, "unix", filepath.Join(t.TempDir(), "s"))
}

// socketPair returns connected sockets with small buffers, so that a peer that
// does not read is noticed soon.
func socketPair(t testing.TB, network, addr string) (server, client net.Conn) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = new(net.Dialer).DialContext(t.Context(), network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Close()
		client.Close()
	})
	// A test that would wait forever fails then.
	if err := client.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	const buffer = 32 << 10
	if err := server.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(buffer); err != nil {
		t.Fatal(err)
	}
	if err := client.(interface{ SetReadBuffer(int) error }).SetReadBuffer(buffer); err != nil {
		t.Fatal(err)
	}
	return server, client
}

func tlsPair(t *testing.T) (server, client net.Conn) {
	https := httptest.NewTLSServer(nil) // for its certificate
	https.Close()
	s, c := tcpPair(t)
	srv := tls.Server(s, &tls.Config{Certificates: https.TLS.Certificates})
	cl := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // the certificate is the test's own
	shaken := make(chan error, 1)
	go func() { shaken <- srv.HandshakeContext(t.Context()) }()
	if err := cl.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return srv, cl
}

// send enqueues b, and flushes if it has to.
func send(c *Conn, b []byte) Result {
	res := c.Enqueue(b, Durable)
	if res == Ready {
		c.Flush()
	}
	return res
}

// atRest reports whether c holds nothing and nobody flushes it.
func atRest(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting == 0 && !c.owned
}
