//go:build linux

package main

import (
	"fmt"
	"net"
	"time"

	"github.com/chathub-go/chathub/hubtest"
)

// panics provokes a panic in each callback, again and again.
func panics(t *trial) {
	rounds := t.scale(100, 10)
	internal := func(where string, e hubtest.Frame) {
		if e.Code() != "internal" {
			t.failf("%s was answered with %s %s", where, e.Type, e.Data)
		}
	}
	ask := func(p *peer, where string, e hubtest.Frame) {
		r, err := p.request(e)
		t.must(err)
		internal(where, r)
	}
	refused := func(where string, round int) {
		p, err := t.open(t, fmt.Sprintf("panic-%s#%d", where, round))
		t.must(err)
		e, err := p.next()
		t.must(err)
		internal(where, e)
		if code := p.end(); code < 4000 || code > 4499 {
			t.failf("%s: closed with %d", where, code)
		}
	}
	p, began := t.connect("steady"), time.Now()
	for i := range rounds {
		refused("authenticate", i)
		refused("connect", i)
		t.connect(fmt.Sprint("panic-disconnect#", i)).drop()
		t.connect(fmt.Sprint("panic-connected#", i)).drop()
		handled := t.connect(fmt.Sprint("panic-handled#", i))
		_, err := handled.request(hubtest.Frame{Type: "online-users"})
		t.must(err)
		handled.drop()
		ask(p, "authorize", hubtest.Frame{Type: "join-room", Room: "panic-authorize"})
		ask(p, "middleware", hubtest.Frame{Type: "message", Data: hubtest.Data("panic-middleware")})
		ask(p, "handler", hubtest.Frame{Type: "handler", Data: hubtest.Data("panic-handler")})
	}
	r, err := p.request(hubtest.Frame{Type: "ping"})
	t.must(err)
	if r.Type != "ack" {
		t.failf("the client is answered with %s", r.Data)
	}
	p.drop()
	t.errors = 5 * rounds // one for each answer "internal"
	const callbacks = 8
	const atOnce = 10 // lines of each kind, and then one a second
	stacks := 0
	t.until("the stacks of panics", func() bool {
		stacks = t.order(order{Do: "stats"}).Stacks
		return stacks >= callbacks*min(rounds, atOnce)
	})
	if most := callbacks * (atOnce + time.Since(began).Seconds()); float64(stacks) > most {
		t.failf("%d panics were logged with their stacks, want at most %.0f", stacks, most)
	}
	t.figure("%d panics in each of %d callbacks (Authenticate, OnConnect, OnDisconnect, Trace.Connected, Trace.Handled, Authorize, middleware, handler): %d stacks logged, each an `internal` of its own client if there is an answer",
		rounds, callbacks, stacks)
}

// knock sends a handshake and does not wait for the answer.
func (d dialer) knock(t *trial, token string) net.Conn {
	var nd net.Dialer
	c, err := nd.DialContext(t, "tcp", d.addr)
	t.must(err)
	_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chathub.v1\r\nAuthorization: Bearer %s\r\n\r\n", d.addr, token)
	t.must(err)
	return c
}

// hangs lets each callback wait forever, for many clients at once. The clients
// go after a while, which ends the contexts that most callbacks wait for.
func hangs(t *trial) {
	n := t.scale(50, 5)
	var knocks []net.Conn
	var peers []*peer
	for i := range n {
		knocks = append(knocks, t.knock(t, fmt.Sprint("hang-authenticate#", i)), t.knock(t, fmt.Sprint("hang-connect#", i)))
		t.connect(fmt.Sprint("hang-disconnect#", i)).drop()
		for _, e := range []hubtest.Frame{
			{Type: "join-room", Room: "hang-authorize"},
			{Type: "message", Data: hubtest.Data("hang-middleware")},
			{Type: "handler", Data: hubtest.Data("hang-handler")},
		} {
			p := t.connect(fmt.Sprint("hanging", i))
			t.must(p.join("elsewhere"))
			t.must(p.send(e))
			peers = append(peers, p)
		}
	}
	began := time.Now()
	time.Sleep(time.Duration(t.scale(5000, 1500)) * time.Millisecond)
	// Only the requests of these clients wait. Everything else goes on.
	head, err := pump(t, t.dialer, "pump", "elsewhere", 10, 10)
	t.must(err)
	for _, p := range peers {
		t.must(p.send(hubtest.Frame{Type: "ping"}))
		messages, pongs := uint64(0), 0
		for messages < head || pongs < 1 {
			e, err := p.next()
			t.must(err)
			switch e.Type {
			case "room-message":
				messages++
			case "pong":
				pongs++
			}
		}
	}
	lasted := time.Since(began)
	for _, p := range peers {
		p.drop()
	}
	for _, c := range knocks {
		_ = c.Close()
	}
	t.codes("hanging", n)
	t.order(order{Do: "release"})
	t.figure("%d clients in each of 6 callbacks (Authenticate, OnConnect, OnDisconnect, Authorize, middleware, handler) for %s: those that are connected hear their rooms and get pongs meanwhile; once they go, and OnConnect and OnDisconnect return, no goroutine is left",
		n, round(lasted))
}

// round rounds a duration for the figures.
func round(d time.Duration) time.Duration {
	switch {
	case d > 10*time.Second:
		return d.Round(time.Second)
	case d > 100*time.Millisecond:
		return d.Round(10 * time.Millisecond)
	default:
		return d.Round(10 * time.Microsecond)
	}
}
