package main

import (
	"fmt"
	"time"

	"github.com/coder/websocket"
)

// playBack, and those after it, are about the end of a connection.
func playBack(t *trial) {
	p := t.inRooms("lobby")
	for i, code := range []int{4000, 4001, 4002, 4005, 4099, int(websocket.StatusGoingAway), int(websocket.StatusInternalError)} {
		seq := uint64(8 + i)
		p.message("lobby", seq, fmt.Sprint(i))
		p.ping() // it has the message
		p.close(code, "for a test")
		p = t.welcomed(secEnd, fmt.Sprintf("it was closed with %d", code))
		p.resumes("lobby").from("lobby", "k3", seq).answer(nil)
	}
}

func playAway(t *trial) {
	for _, code := range []int{4500, 4501, 4503, 4504, 4505, 4599} {
		t.connect(order{})
		p := t.welcomed(secConnecting, "it was told to")
		p.ping() // it has the welcome
		p.close(code, "for a test")
		t.stays(secEnd, fmt.Sprintf("after the close code %d", code))
		t.close()
	}
}

func playRefused(t *trial) {
	n := t.connect(order{})
	p := t.accept(secConnecting, "it was told to")
	p.send(frame{Type: "connect-error", Data: encode(faultData{Code: "unauthenticated", Message: "Invalid token"})})
	p.close(4500, "Invalid token")
	t.stays(secConnecting, "after its token was refused")
	if t.done(n, "connecting with a bad token") == "" && !t.manual {
		t.wrong(secConnecting, "the client does not tell its program that its token is refused")
	}
	t.close()

	const wait = 700 * time.Millisecond
	t.connect(order{})
	p = t.accept(secConnecting, "it was told to")
	asked := time.Now()
	p.send(frame{Type: "connect-error", Data: encode(faultData{"unavailable", "Too many handshakes", 700})})
	p.close(4000, "Too many handshakes")
	p = t.welcomed(secConnecting, "the server was busy")
	if took := time.Since(asked); took < wait-jitter {
		t.wrong(secConnecting, "the client comes back after %v, although the server asked for %v", took.Round(time.Millisecond), wait)
	}
	p.ping()
}

func playExpired(t *trial) {
	t.connect(order{Tokens: []string{"token-1", "token-2", "token-3"}})
	p := t.welcomed(secConnecting, "it was told to")
	first := p.token
	p.ping()
	p.close(4003, "The token has expired")
	p = t.accept(secEnd, "it was closed with 4003")
	second := p.token
	if second == first {
		t.wrong(secEnd, "the client comes back with the expired token after 4003")
	}
	p.send(frame{Type: "connect-error", Data: encode(faultData{Code: "token_expired", Message: "The token has expired"})})
	p.close(4003, "The token has expired")
	if p = t.welcomed(secConnecting, "its token had expired"); p.token == second {
		t.wrong(secConnecting, "the client comes back with the expired token after connect-error")
	}
}

func playRestart(t *trial) {
	const wait = 1500 * time.Millisecond
	p := t.inRooms("lobby")
	asked := time.Now()
	p.raw(fmt.Sprintf(`{"type":"reconnect","data":{"afterMs":%d}}`, wait.Milliseconds()))
	p.ping()
	p.close(4000, "Shutting down")
	p = t.welcomed(secEnd, "the server asked it to come back")
	if took := time.Since(asked); took < wait-jitter {
		t.wrong(secEnd, "the client comes back after %v, although the server asked for %v", took.Round(time.Millisecond), wait)
	}
	p.resumes("lobby").from("lobby", "k3", 7).answer(nil)
}

// mostAttempts is how many attempts a second are too many.
const mostAttempts = 20

func playBackoff(t *trial) {
	p := t.inRooms("lobby")
	attempts := make(chan struct{}, 100_000) // all of them, at any speed
	t.refuse(attempts)
	p.cut()
	timer := time.NewTimer(t.quiet)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
		panic(abandoned{})
	}
	if n, most := len(attempts), int(mostAttempts*t.quiet.Seconds())+1; n > most {
		t.wrong(secEnd, "the client has tried to connect %d times within %v", n, t.quiet)
	}
	t.refuse(nil)
	t.welcomed(secEnd, "the server is up again").resumes("lobby").from("lobby", "k3", 7).answer(nil)
}

// refuse refuses all connections with 503 and counts them, or no longer.
func (t *trial) refuse(attempts chan<- struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refusing = attempts
}

func playPing(t *trial) {
	p := t.inRooms("lobby")
	if !p.ping() {
		t.wrong(secConnecting, "the client does not answer a WebSocket ping")
	}
}

func playSilence(t *trial) {
	t.connect(order{})
	p := t.accept(secConnecting, "it was told to")
	p.welcome(time.Second)
	n := t.order(order{Do: "join", Room: "lobby"})
	p.joins("lobby", "k3", 7)
	t.must(n, "joining")
	p.mute()
	t.welcomed(secConnecting, "the server has been silent").resumes("lobby").from("lobby", "k3", 7).answer(nil)
}
