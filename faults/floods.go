//go:build linux

package main

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/hubtest"
)

// flood is what a client sends without end.
type flood struct {
	name string
	want int // the code that it is closed with
	make func(i int) []byte
}

var floods = []flood{
	{"messages to a room", 4005, func(i int) []byte {
		return text(hubtest.Frame{Type: "room-message", ID: fmt.Sprint(i), Room: "flood", Data: hubtest.Data("flood")})
	}},
	{"messages to everyone", 4005, func(int) []byte { return text(hubtest.Frame{Type: "message", Data: hubtest.Data("flood")}) }},
	{"typing", 4005, func(i int) []byte {
		return text(hubtest.Frame{Type: []string{"typing", "stop-typing"}[i%2], Room: "flood"})
	}},
	{"joins", 4005, func(i int) []byte {
		return text(hubtest.Frame{Type: []string{"join-room", "leave-room"}[i%2], Room: fmt.Sprint("room", i/2%50)})
	}},
	{"`ping` events", 4005, func(int) []byte { return text(hubtest.Frame{Type: "ping"}) }},
	{"ping frames", 4005, func(int) []byte { return masked(nil, opPing, true, []byte("flood"), -1) }},
	{"pong frames", 4005, func(int) []byte { return masked(nil, opPong, true, nil, -1) }},
	{"unknown events", 4005, func(int) []byte { return text(hubtest.Frame{Type: "nonsense"}) }},
	{"answers to no question", 4005, func(int) []byte { return text(hubtest.Frame{Type: "ack", ID: "none"}) }},
	{"what is not JSON", 4501, func(int) []byte { return masked(nil, opText, true, []byte("nonsense"), -1) }},
	{"binary messages", 4501, func(int) []byte { return masked(nil, opBinary, true, []byte("nonsense"), -1) }},
}

// run has several clients flood, and come back each time they are closed.
func (f flood) run(t *trial) {
	n, until := t.scale(8, 3), time.Now().Add(time.Duration(t.scale(5000, 700))*time.Millisecond)
	witness := t.member("witness", "flood")
	var heard atomic.Int64
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			if _, err := witness.next(); err != nil {
				return
			}
			heard.Add(1)
		}
	}()
	var sent, refused atomic.Int64
	var mu sync.Mutex
	codes := make(map[int]int)
	t.each(n, func(i int) {
		for first := true; first || time.Now().Before(until); first = false { // each is closed once at least
			p := t.connect(fmt.Sprint("flood", i))
			err := p.join("flood")
			ends := make(chan int, 1)
			if err == nil {
				go func() {
					for {
						e, err := p.next()
						if err != nil {
							ends <- endOf(err)
							return
						}
						if e.Type == "error" {
							refused.Add(1)
						}
					}
				}()
				code, closed := f.pour(p, ends, until, first, &sent)
				if closed {
					mu.Lock()
					codes[code]++
					mu.Unlock()
				}
			} // else the user's rate was used up by the last connection
			p.drop()
		}
	})
	witness.drop()
	<-gone
	if len(codes) == 0 || len(codes) > 1 || codes[f.want] == 0 {
		t.failf("closed %s, want %d", tallied(codes), f.want)
	}
	t.figure("%d clients for %s sent %d: %d errors, closed %s; %d envelopes reached a member of their room",
		n, time.Duration(t.scale(5000, 700))*time.Millisecond, sent.Load(), refused.Load(), tallied(codes), heard.Load())
}

// pour writes until the connection is closed, and returns the code, or, unless it is the first,
// until it is time.
func (f flood) pour(p *peer, ends <-chan int, until time.Time, first bool, sent *atomic.Int64) (code int, closed bool) {
	const batch = 32
	for i := 0; ; i += batch {
		var b []byte
		for k := range batch {
			b = append(b, f.make(i+k)...)
		}
		select {
		case code := <-ends:
			return code, true
		default:
		}
		if p.write(b) != nil {
			return <-ends, true // who reads has the reason
		}
		sent.Add(batch)
		if !first && time.Now().After(until) {
			return 0, false
		}
	}
}

// limits are small ones on connections.
var limits = settings{MaxConns: 60, ConnsPerUser: 5, ConnsPerAddress: 20}

// connections: more of them than a user, an address or the hub may have.
func connections(t *trial) {
	tries := t.scale(1000, 150)
	for _, kind := range []struct {
		name string
		want int // connections
		user func(i int) string
		from func(i int) net.IP
	}{
		{"of a user", limits.ConnsPerUser, func(int) string { return "one" },
			func(i int) net.IP { return net.IPv4(127, 0, 1, byte(1+i%20)) }},
		{"of an address", limits.ConnsPerAddress, func(i int) string { return fmt.Sprint("user", i) },
			func(int) net.IP { return net.IPv4(127, 0, 2, 1) }},
		{"in all", limits.MaxConns - 2, func(i int) string { return fmt.Sprint("user", i) }, // two are the calm ones'
			func(i int) net.IP { return net.IPv4(127, 0, 3, byte(1+i%20)) }},
	} {
		var mu sync.Mutex
		var peers []*peer
		refusals := make(map[string]int)
		t.each(tries, func(i int) {
			d := t.dialer
			d.from = kind.from(i)
			p, err := d.open(t, kind.user(i))
			mu.Lock()
			defer mu.Unlock()
			if err != nil { // a crowd of the refused gets no WebSocket to be told it over
				refusals[err.Error()]++
				return
			}
			if e, err := p.next(); err == nil && e.Type == "welcome" {
				peers = append(peers, p)
				return
			}
			refusals[fmt.Sprint("close ", p.end())]++
		})
		for why := range refusals {
			if why != "close 4504" && why != "HTTP 503" && why != "HTTP 429" {
				t.failf("%s: %d were refused with %s", kind.name, refusals[why], why)
			}
		}
		if len(peers) != kind.want {
			t.failf("%s: %d connections, want %d", kind.name, len(peers), kind.want)
		}
		for _, p := range peers {
			if r, err := p.request(hubtest.Frame{Type: "ping"}); err != nil || r.Type != "ack" {
				t.failf("%s: one that was let in: %s %v", kind.name, r.Type, err)
			}
			p.drop()
		}
		t.until("the connections to be gone", func() bool { return t.order(order{Do: "stats"}).Connections == 2 })
		var why []string
		for _, k := range slices.Sorted(maps.Keys(refusals)) {
			why = append(why, fmt.Sprintf("%d × %s", refusals[k], k))
		}
		t.figure("%d %s: %d let in, refused %v", tries, kind.name, len(peers), why)
	}
}
