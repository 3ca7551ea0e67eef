package chathub

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/wire"
)

// chatMessage is what a client of a chat sends.
const chatMessage = `{"type":"room-message","id":"m1234","room":"lobby","data":{"text":"` +
	`Sounds good. Shall we say half past seven, at the usual place?"}}`

func BenchmarkDecode(b *testing.B) {
	in := []byte(chatMessage)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, fault := decodeEvent(in); fault != nil {
			b.Fatal(fault)
		}
	}
}

// BenchmarkEncode is a message on its way: into the broker's form, and from it the
// frame for all recipients.
func BenchmarkEncode(b *testing.B) {
	user := User{ID: "u1234", Name: "Ana"}
	e := envelope{typ: "room-message", id: "m1234", room: "lobby", from: &user, data: []byte(chatMessage)}
	r := note.Routed{Except: []string{newID("c_")}}
	b.ReportAllocs()
	for b.Loop() {
		body := e.body(&r)
		var d note.Routed
		if err := d.Decode(body); err != nil {
			b.Fatal(err)
		}
		frameOf(d.Body, 1234, 1_790_000_000_000)
	}
}

// BenchmarkQueue is what the loop can take: commands that do nothing, from as many
// goroutines as there are processors.
func BenchmarkQueue(b *testing.B) {
	hub := newBenchHub(b, 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := hub.post(call(func(*loop) {})); err != nil {
				b.Error(err)
			}
		}
	})
	if err := hub.onLoop(func(*loop) {}); err != nil { // it has done them all
		b.Fatal(err)
	}
}

// BenchmarkSweep is how long, in each second, the loop looks at clients that idle.
func BenchmarkSweep(b *testing.B) {
	hub := newBenchHub(b, 0)
	for _, clients := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			idle := &loop{hub: hub, cfg: &hub.cfg}
			idle.nodes.init(hub)
			for range clients {
				c := &Client{hub: hub, conn: wire.New(struct{ net.Conn }{}, nil, wire.Limits{})}
				idle.everyone.members = append(idle.everyone.members, member{c: c})
			}
			later := time.Now().Add(2 * restAfter)
			for b.Loop() {
				for range clients / sweepPart {
					idle.sweep(later)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*clients), "ns/client")
		})
	}
}

// BenchmarkSleep is what it costs besides system calls that a connection sleeps and wakes:
// its websocket.Conn is closed, and made anew.
func BenchmarkSleep(b *testing.B) {
	server, client := net.Pipe()
	defer client.Close()
	r := &reader{conn: wire.New(server, nil, wire.Limits{})}
	defer r.conn.Abort()
	b.ReportAllocs()
	for b.Loop() {
		ws, err := reattach(r.conn)
		if err != nil {
			b.Fatal(err)
		}
		r.onRead.ws = ws
		r.Sleep()
	}
}

// BenchmarkRoom is the whole way of a message over TCP, from its sender to all
// members of a room, one message at a time.
func BenchmarkRoom(b *testing.B) {
	for _, compressFrom := range []int{0, 1} {
		for _, members := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("compressed=%t/members=%d", compressFrom > 0, members), func(b *testing.B) {
				p := newParlour(b, members, compressFrom)
				b.ReportAllocs()
				for b.Loop() {
					p.say(b)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/delivery")
			})
		}
	}
}

// TestAllocations bounds what a message costs the collector, counted over the whole
// process, so that the clients here allocate nothing.
func TestAllocations(t *testing.T) {
	// Of a plain message it is 8: the message, its event, type and room, the command, the
	// sender, and what the broker keeps and the frame. Of a compressed one it is two more:
	// what came and the compressed frame. With the race detector, a sync.Pool forgets one
	// thing in four, which of those for compression have many parts.
	t.Run("plain", func(t *testing.T) { testAllocations(t, 0, 13) })
	t.Run("compressed", func(t *testing.T) { testAllocations(t, 1, 25) })
}

func testAllocations(t *testing.T, compressFrom int, most float64) {
	const few, many = 2, 102 // so far apart that what a pool forgets does not count
	var perMessage [2]float64
	for i, members := range []int{few, many} {
		p := newParlour(t, members, compressFrom)
		perMessage[i] = testing.AllocsPerRun(500, func() { p.say(t) })
	}
	if perMessage[0] > most {
		t.Errorf("%v allocations for a message, want at most %v", perMessage[0], most)
	}
	if perDelivery := (perMessage[1] - perMessage[0]) / (many - few); perDelivery > 0.05 {
		t.Errorf("%v allocations for each delivery, want none", perDelivery)
	}
}

// TestCompressionIdle: a connection that has sent and got compressed messages holds no
// more memory for it afterwards than one that has not, when it does nothing.
func TestCompressionIdle(t *testing.T) {
	const members = 200
	perMember := func(compressFrom int) int {
		before := liveHeap()
		p := newParlour(t, members, compressFrom)
		for i := range p.members {
			p.members[0], p.members[i] = p.members[i], p.members[0] // who speaks
			p.say(t)
		}
		defer runtime.KeepAlive(p)
		return int(liveHeap()-before) / members
	}
	plain, compressed := perMember(0), perMember(1)
	t.Logf("bytes of heap for a client, at both ends: %d plain, %d compressed", plain, compressed)
	if compressed > plain+512 {
		t.Errorf("%d bytes for an idle client with compression, %d without", compressed, plain)
	}
}

// parlour is a room over TCP.
type parlour struct {
	members []*guest
	message []byte // of the first member
}

// guest is a member who allocates nothing for what it reads.
type guest struct {
	conn net.Conn
	in   *bufio.Reader
}

func newBenchHub(t testing.TB, compressFrom int) *Hub {
	hub, err := New(Config{Auth: Anonymous{}, PresenceInterval: -1, Rate: -1, UserRate: -1, CompressFrom: compressFrom})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	return hub
}

// newParlour lets members in, who offer compression; with compressFrom, it is agreed on, and
// they compress what they say.
func newParlour(t testing.TB, members, compressFrom int) *parlour {
	srv := httptest.NewServer(newBenchHub(t, compressFrom))
	t.Cleanup(srv.Close)
	message := strings.Replace(chatMessage, `"id":"m1234",`, "", 1)
	p := &parlour{message: maskedText(message)}
	if compressFrom > 0 {
		small := wire.Deflate(wire.Seal(append(make([]byte, wire.HeaderRoom), message...)))
		p.message = maskedText(string(wire.Payload(small)))
		p.message[0] |= 0x40
	}
	for range members {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		const handshake = "GET / HTTP/1.1\r\nHost: hub.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chathub.v1\r\n" +
			"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
		if _, err := io.WriteString(conn, handshake); err != nil {
			t.Fatal(err)
		}
		g := &guest{conn, bufio.NewReader(conn)}
		for line := []byte("-"); len(bytes.TrimSpace(line)) > 0; {
			if line, err = g.in.ReadSlice('\n'); err != nil {
				t.Fatal(err)
			}
		}
		g.read(t) // welcome
		if _, err := conn.Write(maskedText(`{"type":"join-room","id":"j","room":"lobby"}`)); err != nil {
			t.Fatal(err)
		}
		g.read(t) // its ack
		p.members = append(p.members, g)
	}
	return p
}

// say sends a message and waits until all have it.
func (p *parlour) say(t testing.TB) {
	if _, err := p.members[0].conn.Write(p.message); err != nil {
		t.Fatal(err)
	}
	for _, g := range p.members {
		g.read(t)
	}
}

// read reads a frame of a server, and forgets it.
func (g *guest) read(t testing.TB) {
	h, err := g.in.Peek(4) // no frame here is shorter
	if err != nil {
		t.Fatal(err)
	}
	n := 2 + int(h[1])
	if h[1] == 126 {
		n = 4 + int(binary.BigEndian.Uint16(h[2:]))
	}
	if _, err := g.in.Discard(n); err != nil {
		t.Fatal(err)
	}
}

// maskedText returns a text frame of a client (RFC 6455 section 5.2), masked with
// zeros, which change nothing.
func maskedText(s string) []byte {
	b := []byte{0x81, 0x80 | 126}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(append(b, 0, 0, 0, 0), s...)
}
