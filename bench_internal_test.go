package chathub

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/wire"
)

// chatMessage is a message as a chat client sends it.
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

// BenchmarkEncode measures the encoding of a message into the broker's form,
// and from that into the frame for all recipients.
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

// BenchmarkQueue measures how many commands the loop can take. The commands do
// nothing, and come from as many goroutines as there are processors.
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
	if err := hub.onLoop(func(*loop) {}); err != nil { // the loop has run them all
		b.Fatal(err)
	}
}

// BenchmarkSweep measures how long the loop checks idle clients in each second.
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

// BenchmarkSleep measures what it costs, besides system calls, that a
// connection is parked and woken: its websocket.Conn is closed, and a new one
// is made.
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

// BenchmarkRoom measures the whole way of a message over TCP, from its sender
// to all members of a room, one message at a time.
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

// BenchmarkMetrics compares what is counted for a message with its whole way,
// in one run. The part that grows with the audience is one counter for each
// burst, and is in both.
func BenchmarkMetrics(b *testing.B) {
	for _, members := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			p := newParlour(b, members, 0)
			hub := newBenchHub(b, 0)
			const batch = 100
			var said, counted time.Duration
			for b.Loop() {
				began := time.Now()
				p.say(b)
				between := time.Now()
				for range batch {
					hub.session.count(callPublish, time.Now(), nil)
					hub.countEvent(eventRoomMessage, time.Millisecond, nil)
				}
				said += between.Sub(began)
				counted += time.Since(between) / batch
			}
			b.ReportMetric(float64(counted.Nanoseconds())/float64(b.N), "ns/counting")
			b.ReportMetric(float64(said.Nanoseconds())/float64(b.N*members), "ns/delivery")
			b.ReportMetric(100*float64(counted)/float64(said), "%counting")
		})
	}
}

// TestAllocations bounds the allocations for a message. They are counted over
// the whole process, so the clients here allocate nothing.
func TestAllocations(t *testing.T) {
	// A plain message takes 9: the message, its event, type and room, the id
	// that it gets, the command, the sender, the broker's copy, and the frame.
	// A compressed one takes two more: the compressed input and the compressed
	// frame. With the race detector, a sync.Pool drops one item in four, and
	// those for compression have many parts.
	t.Run("plain", func(t *testing.T) { testAllocations(t, 0, 15) })
	t.Run("compressed", func(t *testing.T) { testAllocations(t, 1, 27) })
}

func testAllocations(t *testing.T, compressFrom int, most float64) {
	const few, many = 2, 102 // far enough apart that dropped pool items do not matter
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

// After an idle connection has sent and received compressed messages, it holds
// no more memory than one that has not.
func TestCompressionIdle(t *testing.T) {
	const members = 200
	plain, compressed := int64(math.MaxInt64), int64(math.MaxInt64)
	measure := func(compressFrom int, least *int64) {
		// Each is a test of its own, so that nothing of the one before is left,
		// which could go in the midst of a measurement.
		t.Run("", func(t *testing.T) {
			before := settledHeap()
			p := newParlour(t, members, compressFrom)
			for i := range p.members {
				p.members[0], p.members[i] = p.members[i], p.members[0] // takes its turn to send
				p.say(t)
			}
			*least = min(*least, (settledHeap()-before)/members)
			runtime.KeepAlive(p)
		})
	}
	// What a busy machine adds to one measurement is not in all of them.
	for range 3 {
		measure(0, &plain)
		measure(1, &compressed)
	}
	t.Logf("bytes of heap for a client, at both ends: %d plain, %d compressed", plain, compressed)
	if compressed > plain+512 {
		t.Errorf("an idle client takes %d bytes with compression, %d without", compressed, plain)
	}
}

// TestIdleSizes bounds what an idle connection holds. Most bounds are size
// classes of Go's allocator, so one more byte costs the next class.
func TestIdleSizes(t *testing.T) {
	if strconv.IntSize != 64 {
		t.Skip("the bounds are for 64 bits")
	}
	for _, held := range []struct {
		of   reflect.Type
		most uintptr
	}{
		{reflect.TypeFor[Client](), 416},
		{reflect.TypeFor[userLimits](), 48},
		{reflect.TypeFor[user](), 96},
		{reflect.TypeFor[subscription](), 48},
		{reflect.TypeFor[memoryLog](), 160},
		{reflect.TypeFor[wire.Conn](), 416},
	} {
		if size := held.of.Size(); size > held.most {
			t.Errorf("%v takes %d bytes, want at most %d", held.of, size, held.most)
		}
	}

	hub := newBenchHub(t, 0)
	id := Identity{User: User{ID: "u1", Name: "Ana"}, Claims: []byte("{}")}
	clients := make([]*Client, 10_000)
	before := liveHeap()
	for i := range clients {
		clients[i] = newClient(hub, id, place{}, nil, nil)
		clients[i].mu.preWelcome = nil // as once it is registered
	}
	perClient := (liveHeap() - before) / int64(len(clients))
	runtime.KeepAlive(clients)
	if most := int64(416 + 24 + 8); perClient > most { // the Client, its id, and a margin
		t.Errorf("a client takes %d bytes with what it refers to, want at most %d", perClient, most)
	}
}

// A user whose rates are off has no budget for what is read: nobody asks for
// it.
func TestIdleLimits(t *testing.T) {
	for _, rate := range []float64{-1, 0} { // off, and the default
		hub, err := New(Config{Auth: Anonymous{}, UserRate: rate})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = hub.Close() })
		place, refused := hub.admission.enter(netip.Addr{})
		if refused == nil {
			refused = place.admit("", "u1")
		}
		if refused != nil {
			t.Fatal(refused)
		}
		c := &Client{hub: hub, place: place}
		c.chargeReplay(100) // as a join does, for its list of users
		c.place.release()
		if made := place.user.rare.Load() != nil; made != (rate == 0) {
			t.Errorf("UserRate %v: a budget was made: %t", rate, made)
		}
	}
}

// parlour is a room over TCP.
type parlour struct {
	members []*guest
	message []byte // of the first member
}

// guest is a member that allocates nothing for what it reads.
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

// newParlour connects members that offer compression. If compressFrom is set,
// the hub accepts it, and they compress what they send.
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
		g := dialBench(t, srv.Listener.Addr().String())
		g.read(t) // welcome
		if _, err := g.conn.Write(maskedText(`{"type":"join-room","id":"j","room":"lobby"}`)); err != nil {
			t.Fatal(err)
		}
		g.read(t) // the ack
		p.members = append(p.members, g)
	}
	return p
}

// dialBench makes a handshake that offers compression.
func dialBench(t testing.TB, addr string) *guest {
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
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
	return g
}

// say sends a message and waits until all members have it.
func (p *parlour) say(t testing.TB) {
	if _, err := p.members[0].conn.Write(p.message); err != nil {
		t.Fatal(err)
	}
	for _, g := range p.members {
		g.read(t)
	}
}

// read reads a frame from the server and drops it.
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

// maskedText returns a text frame from a client (RFC 6455 section 5.2). Its
// mask is all zeros, which changes nothing.
func maskedText(s string) []byte {
	b := []byte{0x81, 0x80 | 126}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(append(b, 0, 0, 0, 0), s...)
}
