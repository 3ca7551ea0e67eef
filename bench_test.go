package chathub

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
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
	r := routed{except: []string{newID("c_")}}
	b.ReportAllocs()
	for b.Loop() {
		body := r.emit(&e)
		var d routed
		if err := d.decode(body); err != nil {
			b.Fatal(err)
		}
		frameOf(d.body, 1234, 1_790_000_000_000)
	}
}

// BenchmarkQueue is what the loop can take: commands that do nothing, from as many
// goroutines as there are processors.
func BenchmarkQueue(b *testing.B) {
	hub := newBenchHub(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := hub.post(call(func(*loop) {})); err != nil {
				b.Error(err)
			}
		}
	})
	if err := hub.ask(func(*loop) {}); err != nil { // it has done them all
		b.Fatal(err)
	}
}

// BenchmarkRoom is the whole way of a message over TCP, from its sender to all
// members of a room, one message at a time.
func BenchmarkRoom(b *testing.B) {
	for _, members := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			p := newParlour(b, members)
			b.ReportAllocs()
			for b.Loop() {
				p.say(b)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/delivery")
		})
	}
}

// TestAllocations bounds what a message costs the collector, counted over the whole
// process, so that the clients here allocate nothing.
func TestAllocations(t *testing.T) {
	const few, many = 2, 42
	var perMessage [2]float64
	for i, members := range []int{few, many} {
		p := newParlour(t, members)
		perMessage[i] = testing.AllocsPerRun(500, func() { p.say(t) })
	}
	// It is 8: the message, its event, type and room, the command, the sender, and
	// what the broker keeps and the frame. With the race detector, a sync.Pool forgets one
	// thing in four.
	if most := 13.0; perMessage[0] > most {
		t.Errorf("%v allocations for a message, want at most %v", perMessage[0], most)
	}
	if perDelivery := (perMessage[1] - perMessage[0]) / (many - few); perDelivery > 0.05 {
		t.Errorf("%v allocations for each delivery, want none", perDelivery)
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

func newBenchHub(t testing.TB) *Hub {
	hub, err := New(Config{Auth: Anonymous{}, PresenceInterval: -1, Rate: -1, UserRate: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	return hub
}

func newParlour(t testing.TB, members int) *parlour {
	srv := httptest.NewServer(newBenchHub(t))
	t.Cleanup(srv.Close)
	p := &parlour{message: maskedText(strings.Replace(chatMessage, `"id":"m1234",`, "", 1))}
	for range members {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		const handshake = "GET / HTTP/1.1\r\nHost: hub.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chathub.v1\r\n\r\n"
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
