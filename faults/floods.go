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
	want []int // the close codes, the first of which must come
	make func(i int) []byte
}

// What ends a flood. Bad input counts against the rate limits too, which a user
// uses up who comes back.
var overRate, badInput = []int{4005}, []int{4501, 4005}

var floods = []flood{
	{"messages to a room", overRate, func(i int) []byte {
		return text(hubtest.Frame{Type: "room-message", ID: fmt.Sprint(i), Room: "flood", Data: hubtest.Data("flood")})
	}},
	{"messages to everyone", overRate, func(int) []byte { return text(hubtest.Frame{Type: "message", Data: hubtest.Data("flood")}) }},
	{"typing", overRate, func(i int) []byte {
		return text(hubtest.Frame{Type: []string{"typing", "stop-typing"}[i%2], Room: "flood"})
	}},
	{"joins", overRate, func(i int) []byte {
		return text(hubtest.Frame{Type: []string{"join-room", "leave-room"}[i%2], Room: fmt.Sprint("room", i/2%50)})
	}},
	{"`ping` events", overRate, func(int) []byte { return text(hubtest.Frame{Type: "ping"}) }},
	{"ping frames", overRate, func(int) []byte { return masked(nil, opPing, true, []byte("flood"), -1) }},
	{"pong frames", overRate, func(int) []byte { return masked(nil, opPong, true, nil, -1) }},
	{"unknown events", overRate, func(int) []byte { return text(hubtest.Frame{Type: "nonsense"}) }},
	{"answers to no question", overRate, func(int) []byte { return text(hubtest.Frame{Type: "ack", ID: "none"}) }},
	{"what is not JSON", badInput, func(int) []byte { return masked(nil, opText, true, []byte("nonsense"), -1) }},
	{"binary messages", badInput, func(int) []byte { return masked(nil, opBinary, true, []byte("nonsense"), -1) }},
}

// flooding is a flood in progress.
type flooding struct {
	flood
	until         time.Time
	sent, refused atomic.Int64

	mu    sync.Mutex
	codes map[int]int // how often each close code came
}

// run floods the hub with several clients, which come back each time they are
// closed.
func (f flood) run(t *trial) {
	n, lasts := t.scale(8, 3), time.Duration(t.scale(5000, 700))*time.Millisecond
	witness := t.member("witness", "flood")
	var heard atomic.Int64
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		witness.readAll(func(hubtest.Frame) { heard.Add(1) })
	}()
	r := &flooding{flood: f, until: time.Now().Add(lasts), codes: make(map[int]int)}
	t.each(n, func(i int) {
		for first := true; first || time.Now().Before(r.until); first = false {
			r.attack(t, fmt.Sprint("flood", i), first)
		}
	})
	witness.drop()
	<-gone
	wrong := r.codes[f.want[0]] == 0
	for code := range r.codes {
		wrong = wrong || !slices.Contains(f.want, code)
	}
	if wrong {
		t.failf("closed %s, want %d", tallied(r.codes), f.want)
	}
	t.figure("%d clients for %s sent %d: %d errors, closed %s; %d envelopes reached a member of their room",
		n, lasts, r.sent.Load(), r.refused.Load(), tallied(r.codes), heard.Load())
}

// attack floods the hub over one connection until the hub closes it or the time
// is up. The first connection of a client goes on until it is closed.
func (r *flooding) attack(t *trial, user string, first bool) {
	p := t.connect(user)
	defer p.drop()
	if p.join("flood") != nil {
		return // the user's last connection has used up the rate
	}
	end := make(chan int, 1)
	go func() {
		end <- p.readAll(func(e hubtest.Frame) {
			if e.Type == "error" {
				r.refused.Add(1)
			}
		})
	}()
	if code, closed := r.pour(p, end, first); closed {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.codes[code]++
	}
}

// pour writes until the connection is closed, and returns the close code. If
// this is not the first connection of a client, pour also returns when the time
// is up.
func (r *flooding) pour(p *peer, end <-chan int, first bool) (code int, closed bool) {
	const batch = 32
	for i := 0; ; i += batch {
		var b []byte
		for k := range batch {
			b = append(b, r.make(i+k)...)
		}
		select {
		case code := <-end:
			return code, true
		default:
		}
		if p.write(b) != nil {
			return <-end, true // the reader has the reason
		}
		r.sent.Add(batch)
		if !first && time.Now().After(r.until) {
			return 0, false
		}
	}
}

// limits are small limits on connections.
var limits = settings{MaxConns: 60, ConnsPerUser: 5, ConnsPerAddress: 20}

// crowding is one of the limits on connections, and how to exceed it.
type crowding struct {
	name string
	want int // connections
	user func(i int) string
	from func(i int) net.IP
}

var crowdings = []crowding{
	{
		name: "of a user", want: limits.ConnsPerUser,
		user: func(int) string { return "one" },
		from: func(i int) net.IP { return net.IPv4(127, 0, 1, byte(1+i%20)) },
	},
	{
		name: "of an address", want: limits.ConnsPerAddress,
		user: func(i int) string { return fmt.Sprint("user", i) },
		from: func(int) net.IP { return net.IPv4(127, 0, 2, 1) },
	},
	{
		name: "in all", want: limits.MaxConns - 2, // the calm clients have two
		user: func(i int) string { return fmt.Sprint("user", i) },
		from: func(i int) net.IP { return net.IPv4(127, 0, 3, byte(1+i%20)) },
	},
}

// connections opens more connections than a user, an address or the hub may
// have.
func connections(t *trial) {
	tries := t.scale(1000, 150)
	for _, c := range crowdings {
		peers, refusals := c.open(t, tries)
		for why := range refusals {
			if why != "close 4504" && why != "HTTP 503" && why != "HTTP 429" {
				t.failf("%s: %d were refused with %s", c.name, refusals[why], why)
			}
		}
		if len(peers) != c.want {
			t.failf("%s: %d connections, want %d", c.name, len(peers), c.want)
		}
		for _, p := range peers {
			if r, err := p.request(hubtest.Frame{Type: "ping"}); err != nil || r.Type != "ack" {
				t.failf("%s: an admitted client: %s %v", c.name, r.Type, err)
			}
			p.drop()
		}
		t.until("the connections to be gone", func() bool { return t.order(order{Do: "stats"}).Connections == 2 })
		var why []string
		for _, k := range slices.Sorted(maps.Keys(refusals)) {
			why = append(why, fmt.Sprintf("%d × %s", refusals[k], k))
		}
		t.figure("%d %s: %d let in, refused %v", tries, c.name, len(peers), why)
	}
}

// open tries to open connections, all at once. It returns the peers that were
// welcomed, and how often each reason for a refusal came.
func (c crowding) open(t *trial, tries int) (peers []*peer, refusals map[string]int) {
	refusals = make(map[string]int)
	var mu sync.Mutex
	t.each(tries, func(i int) {
		d := t.dialer
		d.from = c.from(i)
		p, err := d.open(t, c.user(i))
		mu.Lock()
		defer mu.Unlock()
		if err != nil { // too many refusals: the hub spends no WebSocket on them
			refusals[err.Error()]++
			return
		}
		if e, err := p.next(); err == nil && e.Type == "welcome" {
			peers = append(peers, p)
			return
		}
		refusals[fmt.Sprint("close ", p.end())]++
	})
	return peers, refusals
}
