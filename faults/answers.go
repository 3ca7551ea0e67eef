//go:build linux

package main

import (
	"bytes"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

const (
	answerRooms = 128
	// What a user may have read from logs; see Config.ReplayLimit.
	answerRate, answerBurst = 512 << 10, 8 << 20
)

// answers requests what is in logs, much more than it sends.
func answers(t *trial) {
	size, n := t.scale(16_000, 4000), t.scale(60, 20)
	rooms := make([]roomful, answerRooms)
	none := make(map[string]chathub.Position)
	for i := range rooms {
		rooms[i] = roomful{Room: fmt.Sprint("large", i), Messages: n, Bytes: size}
		none[rooms[i].Room] = chathub.Position{Epoch: "none"}
	}
	if r := t.order(order{Do: "fill", Rooms: rooms}); r.Err != "" {
		t.must(fmt.Errorf("fill: %s", r.Err))
	}
	resume := hubtest.Data(map[string]any{"rooms": none})
	limit := hubtest.Data(map[string]int{"limit": 256})
	history := hubtest.Data(map[string]int{"history": 256})
	h := &hoarder{t: t, next: func(i int) hubtest.Frame {
		switch room := rooms[i/3%answerRooms].Room; i % 3 {
		case 0:
			return hubtest.Frame{Type: "join-room", Room: room, Data: history}
		case 1:
			return hubtest.Frame{Type: "history", Room: room, Data: limit}
		default:
			return hubtest.Frame{Type: "resume", Data: resume}
		}
	}}
	honest := newReturner(t, rooms)
	before := t.order(order{Do: "stats"})
	began := time.Now()
	until := began.Add(t.floodTime())
	const conns = 2
	var returns []time.Duration
	t.each(conns+1, func(i int) {
		if i == conns {
			for t.flooding(until) {
				returns = append(returns, honest.comeBack(t))
				time.Sleep(time.Second)
			}
			return
		}
		for t.flooding(until) {
			h.press(until)
		}
	})
	took := time.Since(began).Seconds()
	after := t.order(order{Do: "stats"})
	// Each connection may have got what waited for it.
	const outbox = 1 << 20
	if got, most := h.got.Load(), answerBurst+answerRate*took+float64(h.conns.Load())*outbox; float64(got) > most {
		t.failf("%d bytes of answers in %.1f s, want at most %.0f", got, took, most)
	}
	t.figure("One user, %d connections with 48 requests/s each, %s, %d rooms of %d messages of %d bytes: %d answers, %d `rate_limited`; sent %.0f kB/s, got %.0f kB/s with the burst (limit %d); the server used %.0f %% of a processor",
		conns, t.floodTime(), answerRooms, n, size, h.answered.Load(), h.overRate.Load(),
		float64(h.sent.Load())/took/1e3, float64(h.got.Load())/took/1e3, answerRate/1000, (after.CPU-before.CPU).Seconds()/took*100)
	slices.Sort(returns)
	t.figure("Another user came back %d times, with %d rooms and a message missed in each: recovered within %s, at most %s",
		len(returns), answerRooms, round(returns[len(returns)/2]), round(returns[len(returns)-1]))
}

// hoarder is a hostile user who requests more than the hub is ready to read.
type hoarder struct {
	t    *trial
	next func(i int) hubtest.Frame

	conns, sent, got   atomic.Int64
	answered, overRate atomic.Int64
}

// press sends 48 requests a second over one connection, if so many are
// answered.
func (h *hoarder) press(until time.Time) {
	p, err := h.t.dialer.connect(h.t, "hostile")
	if err != nil {
		time.Sleep(20 * time.Millisecond)
		return
	}
	h.conns.Add(1)
	const perSecond = 48
	open := make(chan struct{}, perSecond)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for h.take(p, open) == nil {
		}
	}()
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for i := 0; h.t.flooding(until); i++ {
		e := h.next(i)
		e.ID = fmt.Sprint(i)
		b := text(e)
		select {
		case open <- struct{}{}:
		case <-read:
		case <-time.After(time.Until(until)):
		}
		if p.write(b) != nil {
			break
		}
		h.sent.Add(int64(len(b)))
		<-tick.C
	}
	p.drop()
	<-read
	h.got.Add(p.received.Load())
}

// take reads a frame, without the work of decoding it. An answer makes room
// for another request.
func (h *hoarder) take(p *peer, open <-chan struct{}) error {
	op, b, err := p.read()
	switch {
	case err != nil || op == opClose:
		return ended{}
	case op == opPing:
		return p.write(masked(nil, opPong, true, b, -1))
	case bytes.HasPrefix(b, []byte(`{"type":"error"`)):
		if bytes.Contains(b, []byte(chathub.CodeRateLimited)) {
			h.overRate.Add(1)
		} else {
			h.t.failf("a request for messages: %s", b)
		}
	case bytes.HasPrefix(b, []byte(`{"type":"ack"`)):
		h.answered.Add(1)
	default:
		return nil
	}
	<-open
	return nil
}

// returner is an honest user who comes back to many rooms, and has missed the
// last message of each.
type returner map[string]chathub.Position

func newReturner(t *trial, rooms []roomful) returner {
	r := make(returner)
	p := t.connect("honest")
	for _, room := range rooms {
		for p.join(room.Room) != nil { // over the rate limit
			time.Sleep(20 * time.Millisecond)
		}
		r[room.Room] = chathub.Position{Epoch: p.room.Epoch, Seq: p.room.Seq - 1}
	}
	p.drop()
	return r
}

// comeBack resumes, and returns how long it took until everything was there.
func (r returner) comeBack(t *trial) time.Duration {
	began := time.Now()
	p := t.connect("honest")
	defer p.drop()
	a, err := p.request(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{"rooms": r})})
	t.must(err)
	t.must(p.send(hubtest.Frame{Type: "ping"}))
	heard := 0
	for {
		e, err := p.next()
		t.must(err)
		if e.Type == "pong" {
			break
		}
		if e.Type == "room-message" {
			heard++
		}
	}
	took := time.Since(began)
	if recovered := bytes.Count(a.Data, []byte(`"recovered":true`)); heard != len(r) || recovered != len(r) {
		t.failf("an honest user came back to %d rooms: %d messages, %d recovered; %s", len(r), heard, recovered, a.Code())
	}
	return took
}
