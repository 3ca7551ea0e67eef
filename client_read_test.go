package chathub_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// When several frames come together, none waits for later input, whatever their
// lengths.
func TestFramesThatComeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dialPeer(t, hubtest.New(t, chathub.Config{Auth: chathub.Anonymous{}}), handshake(t, "chathub.v1"))
		for pad := range 40 {
			for payload := range 20 {
				message := maskedFrame(opText, true, []byte(`{"type":"ping"}`+strings.Repeat(" ", pad)))
				ping := bytes.Repeat([]byte{'p'}, payload)
				time.Sleep(time.Second) // within the limits
				p.write(slices.Concat(message, maskedFrame(opPing, true, ping)))
				if f := p.next(opPong); !bytes.Equal(f.data, ping) {
					t.Fatalf("pong of %q", f.data)
				}
			}
		}
	})
}

// An idle connection gives up what reading needs, and gets it back for the next
// message, as often as that happens.
func TestSleepAndWake(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{Auth: chathub.Anonymous{}, Rate: -1, UserRate: -1})
	p := dialPeerTCP(t, hub, handshake(t, "chathub.v1"))
	p.next(opText) // welcome
	cycle := func(i int) {
		// The text comes in one frame or in two, at once or with a pause in
		// between.
		text := fmt.Sprintf(`{"type":"leave-room","id":"%d","room":"r"}`, i)
		switch i % 3 {
		case 0:
			p.send(text)
		case 1:
			p.write(slices.Concat(maskedFrame(opText, false, []byte(text[:9])), maskedFrame(opContinuation, true, []byte(text[9:]))))
		case 2:
			p.write(maskedFrame(opText, false, []byte(text[:9])))
			p.write(maskedFrame(opPing, true, []byte("between"))) // this is no reason to park
			if f := p.next(opPong); string(f.data) != "between" {
				t.Fatalf("pong of %q", f.data)
			}
			p.write(maskedFrame(opContinuation, true, []byte(text[9:])))
		}
		for p.envelope().ID != fmt.Sprint(i) { // presence events come too
		}
		p.write(maskedFrame(opPing, true, fmt.Append(nil, i))) // after this, it is parked
		if f := p.next(opPong); string(f.data) != fmt.Sprint(i) {
			t.Fatalf("pong of %q", f.data)
		}
	}
	for i := range 10 {
		cycle(i)
	}
	before := chathub.LiveHeap()
	const more = 200
	for i := range more {
		time.Sleep(15 * time.Millisecond) // pings are limited to 100 a second
		cycle(i)
	}
	if grown := chathub.LiveHeap() - before; grown > more*1_000 {
		t.Errorf("%d more bytes in use after parking %d times", grown, more)
	}
	p.write(maskedFrame(opClose, true, []byte{3, 0xe8}))
	if code, _ := p.closed(); code != 1000 {
		t.Errorf("closed with %d", code)
	}
}
