//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// limitFloods are about limits and budgets that users share, or that one user
// could get around.
var limitFloods = []scenario{
	{name: "a user who reconnects for each burst", provoke: beside(reconnects)},
	{name: "large messages to everyone", provoke: beside(broadcasts)},
	{name: "history, joins and resumes without end", provoke: beside(answers)},
	{name: "strangers hold connections", set: settings{MaxConns: strangersConns}, provoke: beside(strangers)},
	{name: "refusals, and what is logged", provoke: beside(refusals)},
}

// strangersConns is how many connections the hub may have, fewer than there are
// strangers.
const strangersConns = 200

// reconnects sends a burst over each of many connections, one after another.
func reconnects(t *trial) {
	const burst = 100
	began := time.Now()
	conns, sent := 0, 0
	for until := began.Add(t.floodTime()); t.flooding(until); {
		p, err := t.dialer.connect(t, "hostile")
		if err != nil {
			continue
		}
		b, last := text(hubtest.Frame{Type: "join-room", Room: "flood"}), ""
		for i := range burst - 1 {
			last = fmt.Sprintf("%d-%d", conns, i)
			b = append(b, text(hubtest.Frame{Type: "room-message", ID: last, Room: "flood", Data: hubtest.Data("flood")})...)
		}
		if p.write(b) == nil {
			sent += burst - 1
			for e, err := p.next(); err == nil && (e.ID != last || e.Type == "room-message"); e, err = p.next() {
			}
		}
		p.drop()
		conns++
	}
	witness := t.member("witness", "flood")
	took := time.Since(began).Seconds()
	witness.drop()
	accepted := witness.room.Seq // the room's last, and they have no gaps
	if most := userBurst + userRate*took; float64(accepted) > most || accepted == 0 {
		t.failf("%d messages accepted in %.1f s, want at most %.0f", accepted, took, most)
	}
	t.figure("One user, %s, %d connections one after another, each with %d messages at once: %d of %d accepted, %.0f/s with the burst (limit %d)",
		t.floodTime(), conns, burst-1, accepted, sent, float64(accepted)/took, userRate)
}

// listener is one of many clients that a message to everyone reaches.
type listener struct {
	messages, bytes atomic.Int64
}

func (l *listener) listen(p *peer) {
	for {
		op, b, err := p.read()
		switch {
		case err != nil:
			return
		case op == opPing:
			_ = p.write(masked(nil, opPong, true, b, -1))
		case bytes.HasPrefix(b, []byte(`{"type":"message"`)):
			l.messages.Add(1)
			l.bytes.Add(int64(len(b)))
		}
	}
}

// broadcasts sends messages to everyone: too large ones, the largest that are
// allowed, and small ones.
func broadcasts(t *trial) {
	n := t.scale(200, 20)
	listeners, peers := make([]listener, n), make([]*peer, n)
	var listening sync.WaitGroup
	t.each(n, func(i int) {
		p := t.connect(fmt.Sprint("listener", i))
		peers[i] = p
		listening.Go(func() { listeners[i].listen(p) })
	})
	sizes := []int{65_000, 4000, 2}
	data := make([]hubtest.Frame, len(sizes))
	for i, size := range sizes {
		data[i] = hubtest.Frame{Type: "message", Data: hubtest.Data(strings.Repeat("x", size))}
	}
	a := &attack{t: t, user: "hostile", conns: 6, next: func(i uint64) hubtest.Frame { return data[i%uint64(len(data))] }}
	a.run()
	perSecond := a.within("messages to everyone", a.acked.Load(), 10, 1)
	var out int64
	lost := 0
	for i := range listeners {
		l := &listeners[i]
		t.until("everyone to hear everything", func() bool { return l.messages.Load() >= a.acked.Load() })
		lost += int(a.acked.Load() - l.messages.Load())
		out += l.bytes.Load()
		peers[i].drop()
	}
	listening.Wait()
	if lost != 0 {
		t.failf("%d messages to everyone were lost or doubled", lost)
	}
	took := time.Since(a.began).Seconds()
	t.figure("One user, 6 connections, %s, with %d clients: sent %.0f kB/s in messages of 65 kB, 4 kB and 2 bytes; %d were too large, %d over a limit, %d accepted, %.1f/s with the burst (limit 1); %.0f kB/s sent out; each client heard all",
		t.floodTime(), n, float64(a.sent.Load())/took/1e3, a.refused.Load(), a.overRate.Load(), a.acked.Load(), perSecond, float64(out)/took/1e3)
}

// strangers hold as many connections as they can, without a token. They read
// nothing, and do not answer when they are closed.
func strangers(t *trial) {
	until := time.Now().Add(t.floodTime())
	var held, refused atomic.Int64
	n := t.scale(400, 300)
	var waits []time.Duration
	turnedAway := 0
	t.each(n+1, func(i int) {
		for t.flooding(until) {
			if i == n {
				took, tries := t.getIn("good")
				waits = append(waits, took)
				turnedAway += tries - 1
				time.Sleep(50 * time.Millisecond)
				continue
			}
			p, err := t.dialer.open(t, "")
			if err != nil {
				refused.Add(1)
				time.Sleep(200 * time.Millisecond)
				continue
			}
			held.Add(1)
			_, _ = io.Copy(io.Discard, p.br) // until the hub gives it up
			p.drop()
		}
	})
	slices.Sort(waits)
	if turnedAway > 0 {
		t.failf("a user with a good token was turned away %d times", turnedAway)
	}
	t.figure("%d strangers, %s: %d connections held until the hub gave them up, %d refused in HTTP (MaxConns %d); a user with a good token got in %d times and was turned away %d times: within %s, at most %s",
		n, t.floodTime(), held.Load(), refused.Load(), strangersConns, len(waits), turnedAway, round(waits[len(waits)/2]), round(waits[len(waits)-1]))
}

// getIn connects a user, as often as it takes.
func (t *trial) getIn(user string) (took time.Duration, tries int) {
	began := time.Now()
	for tries = 1; ; tries++ {
		p, err := t.dialer.connect(t, user)
		if err == nil {
			p.drop()
			return time.Since(began), tries
		}
		if time.Since(began) > patience {
			t.must(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// refusals provokes refusals of each kind by the thousand.
func refusals(t *trial) {
	var full []*peer // as many connections as a user may have
	var tokens atomic.Int64
	var reading sync.WaitGroup
	for range 32 {
		p := t.connect("full")
		full = append(full, p)
		reading.Go(func() {
			p.readAll(func(e hubtest.Frame) {
				if e.Code() == chathub.CodeUnauthenticated {
					tokens.Add(1)
				}
			})
		})
	}
	foreign := t.dialer
	foreign.origin = "http://elsewhere.example"
	kinds := []struct {
		dialer
		token string
	}{
		{t.dialer, ""}, {t.dialer, "someone~bad"}, {t.dialer, "someone~-1000"}, {t.dialer, "full"}, {foreign, "someone"},
	}
	before, began := t.order(order{Do: "stats"}), time.Now()
	until := began.Add(t.floodTime())
	var handshakes atomic.Int64
	t.each(4, func(i int) {
		for k := i; t.flooding(until); k++ {
			kind := kinds[k%len(kinds)]
			p, err := kind.open(t, kind.token)
			if err == nil {
				if e, err := p.next(); err == nil && e.Type != "connect-error" {
					t.failf("%q was let in", kind.token)
				}
				p.drop()
			}
			handshakes.Add(1)
		}
	})
	bad := hubtest.Frame{Type: "refresh-token", Data: hubtest.Data(map[string]string{"token": "full~bad"})}
	const each = 5
	for _, p := range full {
		for i := range each {
			bad.ID = fmt.Sprint(i)
			t.must(p.send(bad))
		}
	}
	t.until("bad tokens to be refused", func() bool { return tokens.Load() == int64(len(full)*each) })
	for _, p := range full {
		p.drop()
	}
	reading.Wait()
	took := time.Since(began).Seconds()
	after := t.order(order{Do: "stats"})
	lines := after.Lines - before.Lines
	most := float64(len(kinds)+1) * (10 + took)
	if float64(lines) > most || lines == 0 {
		t.failf("%d lines in the log, want at most %.0f", lines, most)
	}
	if refused := int64(after.Refused - before.Refused); refused != handshakes.Load() {
		t.failf("%d handshakes were refused, %d of them counted", handshakes.Load(), refused)
	}
	t.figure("%s: %d handshakes refused without a token, with a bad or an expired one, a foreign origin, and over the limit of a user; %d bad tokens of connected clients: %d lines in the log",
		t.floodTime(), handshakes.Load(), tokens.Load(), lines)
}
