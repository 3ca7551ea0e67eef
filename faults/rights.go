//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// expiry lets tokens expire on many connections at once.
func expiry(t *trial) {
	n, ttl := t.scale(500, 30), 1500*time.Millisecond
	codes := make(map[int]int)
	var last time.Time
	var mu sync.Mutex
	t.each(n, func(i int) {
		began := time.Now() // the token is made after that
		p := t.connect(fmt.Sprintf("expiring%d~%d", i, ttl.Milliseconds()))
		code := p.end()
		mu.Lock()
		defer mu.Unlock()
		codes[code]++
		if late := time.Now(); late.After(last) {
			last = late
		}
		if took := time.Since(began); took < ttl-100*time.Millisecond {
			t.failf("closed after %v", took)
		}
	})
	stays := t.connect("staying~1000")
	r, err := stays.request(hubtest.Frame{Type: "refresh-token", Data: hubtest.Data(map[string]string{"token": "staying~3600000"})})
	t.must(err)
	other, err := stays.request(hubtest.Frame{Type: "refresh-token", Data: hubtest.Data(map[string]string{"token": "someone~3600000"})})
	t.must(err)
	time.Sleep(2500 * time.Millisecond)
	still, err := stays.request(hubtest.Frame{Type: "ping"})
	if err != nil || r.Type != "ack" || other.Code() != "forbidden" || still.Type != "ack" {
		t.failf("a user that refreshed its token: %s %s %s %v", r.Data, other.Data, still.Type, err)
	}
	stays.drop()
	if codes[4003] != n {
		t.failf("closed %s, want %d × 4003", tallied(codes), n)
	}
	t.figure("%d tokens of %s: closed %s; one refreshed in time stays, a refresh with another user's token is `forbidden`", n, ttl, tallied(codes))
}

// logout logs a user out on all connections.
func logout(t *trial) {
	const n = 32 // the most that a user may have
	var peers []*peer
	for range n {
		peers = append(peers, t.member("leaving", "calm"))
	}
	codes := make(map[int]int)
	r := t.order(order{Do: "logout", User: "leaving"})
	began := time.Now()
	for _, p := range peers {
		codes[p.end()]++
	}
	if codes[4503] != n {
		t.failf("closed %s, want %d × 4503", tallied(codes), n)
	}
	t.figure("%d connections of a user: the call took %s, the last was closed %s later, %s", n, round(r.Took), round(time.Since(began)), tallied(codes))
}

// revoked takes a room from its users while someone speaks in it.
func revoked(t *trial) {
	n := t.scale(100, 10)
	speaker := t.member("speaker", "private")
	peers := make([]*peer, n)
	for i := range n {
		peers[i] = t.member(fmt.Sprint("member", i), "private")
	}
	say := func() uint64 {
		r, err := speaker.request(hubtest.Frame{Type: "room-message", Room: "private", Data: hubtest.Data("words")})
		t.must(err)
		return r.Seq
	}
	late := 0
	for i, p := range peers {
		before := say()
		t.order(order{Do: "revoke", User: fmt.Sprint("member", i), Room: "private"})
		say()
		say()
		for _, try := range []hubtest.Frame{
			{Type: "join-room", Room: "private", Data: hubtest.Data(map[string]int{"history": 100})},
			{Type: "history", Room: "private"},
			{Type: "room-message", Room: "private", Data: hubtest.Data("words")},
			{Type: "resume", Data: hubtest.Data(map[string]any{"rooms": map[string]any{"private": p.room}})},
			{Type: "ping"},
		} {
			try.ID = "try"
			t.must(p.send(try))
			for {
				e, err := p.next()
				t.must(err)
				if e.Type == "room-message" && e.Seq > before {
					late++
				}
				if e.ID != "try" {
					continue
				}
				switch {
				case try.Type == "ping" && e.Type == "ack":
				case try.Type == "resume" && strings.Contains(string(e.Data), `"forbidden"`) && !strings.Contains(string(e.Data), `"epoch"`):
				case slices.Contains([]chathub.Code{"forbidden", "not_in_room"}, e.Code()):
				default:
					t.failf("after the revocation, %s was answered with %s %s", try.Type, e.Type, e.Data)
				}
				break
			}
		}
		p.drop()
	}
	speaker.drop()
	if late > 0 {
		t.failf("%d messages arrived after the room was revoked", late)
	}
	t.figure("%d users lose a room in which others speak: 0 messages after the call has returned; join, resume, history and sending are refused to all", n)
}

// forged is a client that pretends to be others, and asks for things that it
// may not have.
func forged(t *trial) {
	rounds := t.scale(200, 15)
	owner, victim := t.member("owner", "secret"), t.member("victim", "open")
	attacker := t.member("attacker", "open")
	head := uint64(0)
	for range 5 {
		r, err := owner.request(hubtest.Frame{Type: "room-message", Room: "secret", Data: hubtest.Data("secret")})
		t.must(err)
		head = r.Seq
		_, err = owner.request(hubtest.Frame{Type: "private-message", To: "victim", Data: hubtest.Data("secret")})
		t.must(err)
	}
	tries := 0
	try := func(e hubtest.Frame, allowed ...string) {
		tries++
		e.ID = "same" // as the victim's; each user has ids of its own
		t.must(attacker.send(e))
		for {
			r, err := attacker.next()
			t.must(err)
			if strings.Contains(string(r.Data), `"secret"`) && !strings.Contains(string(r.Data), `"forbidden"`) || sender(r) == "owner" {
				t.failf("%s got %s %s", e.Type, r.Type, r.Data)
			}
			if r.ID != "same" || r.Type != "ack" && r.Type != "error" {
				continue
			}
			if got := r.Type + string(r.Code()); !slices.Contains(allowed, got) {
				t.failf("%s %s was answered with %s %s", e.Type, e.Room, r.Type, r.Data)
			}
			return
		}
	}
	first := hubtest.Frame{Type: "room-message", ID: "same", Room: "open", Data: hubtest.Data("victim's")}
	t.must(victim.send(first))
	secret := chathub.Position{Epoch: owner.room.Epoch}
	for i := range rounds {
		e := hubtest.Frame{Type: "room-message", Room: "open", Seq: 1 << 40, Data: hubtest.Data("attacker's")}
		e.From = &chathub.User{ID: "victim"}
		try(e, "ack")
		for _, typ := range []string{"room-message", "typing", "stop-typing", "history", "leave-room"} {
			try(hubtest.Frame{Type: typ, Room: "secret", Data: hubtest.Data(map[string]any{"before": head - uint64(i)%head, "limit": 5})}, "errornot_in_room", "errorforbidden", "ack")
		}
		try(hubtest.Frame{Type: "join-room", Room: "secret", Data: hubtest.Data(map[string]any{"history": 5})}, "errorforbidden")
		try(hubtest.Frame{Type: "join-room", Room: "secret", Data: hubtest.Data(map[string]any{"since": secret})}, "errorforbidden")
		try(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{
			"rooms": map[string]any{"secret": secret, "\x00victim": secret}, "inbox": chathub.Position{Epoch: "guess"},
		})}, "ack")
		t.must(attacker.send(hubtest.Frame{Type: "ack", ID: "s1"})) // which answers nothing
	}
	t.must(victim.send(hubtest.Frame{Type: "ping"}))
	heard, foreign := 0, 0
	for pong := false; !pong; {
		e, err := victim.next()
		t.must(err)
		switch {
		case e.Type == "pong":
			pong = true
		case e.Type == "room-message":
			heard++
			if sender(e) == "victim" != (string(e.Data) == `"victim's"`) || e.Seq > 1<<30 {
				foreign++
			}
		}
	}
	if foreign > 0 || heard != 2 { // the attacker's messages have one id
		t.failf("the victim heard %d messages, %d of them forged", heard, foreign)
	}
	r, err := owner.request(hubtest.Frame{Type: "ping"})
	t.must(err)
	if stored := t.order(order{Do: "stored", Room: "secret"}).Keys; len(stored) != int(head) && r.Type == "ack" {
		t.failf("%d messages in the secret room, want %d", len(stored), head)
	}
	for _, p := range []*peer{owner, victim, attacker} {
		p.drop()
	}
	t.figure("%d attempts (`from`, `seq` and ids of others; sending, typing, history, join, resume, inbox without the right): 0 foreign messages received, 0 sent", tries)
}
