package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestKilled kills the process again and again while messages are sent. The
// sender repeats messages without an ack. All messages are then saved once, in
// order.
func TestKilled(t *testing.T) {
	const lives, each = 4, 30 // few enough for Config.Burst
	name := file(t)
	var open []hubtest.Frame // not acked
	sent, heardTwice := 0, 0
	heard := make(map[string]bool)
	for range lives {
		p := start(t, name)
		ana, bob := dial(t, p.url, "ana"), dial(t, p.url, "bob")
		for _, c := range []client{ana, bob} {
			c.must(hubtest.Frame{Type: "join-room", Room: "red"})
		}
		for range each {
			sent++
			open = append(open, say(fmt.Sprint("m", sent), sent))
		}
		for _, f := range open {
			ana.send(f)
		}
		acks, enough := 0, each/2
		for {
			f, ok := ana.next()
			if !ok {
				break
			}
			if f.Type != "ack" {
				continue
			}
			open = slices.DeleteFunc(open, func(o hubtest.Frame) bool { return o.ID == f.ID })
			if acks++; acks == enough {
				if err := p.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for f, ok := bob.next(); ok; f, ok = bob.next() {
			if f.Type == "room-message" {
				if heard[f.ID] {
					heardTwice++
				}
				heard[f.ID] = true
			}
		}
		_ = p.Wait() // killed
	}

	p := start(t, name)
	ana, bob := dial(t, p.url, "ana"), dial(t, p.url, "bob")
	epoch := decode[chathub.Position](t, bob.must(hubtest.Frame{Type: "join-room", Room: "red"}))
	ana.must(hubtest.Frame{Type: "join-room", Room: "red"})
	for _, f := range open {
		ana.send(f)
	}
	ana.must(hubtest.Frame{Type: "typing", Room: "red"}) // handled after them
	var all []string
	before := chathub.Position{Epoch: epoch.Epoch, Seq: 1 << 50}
	for more := true; more; {
		got := decode[page](t, bob.must(hubtest.Frame{Type: "room-archive", Room: "red", Data: hubtest.Data(map[string]any{"before": before})}))
		var older []string
		for _, m := range got.Messages {
			older = append(older, string(m.Data))
		}
		all = append(older, all...)
		before, more = chathub.Position{Epoch: got.Messages[0].Epoch, Seq: got.Messages[0].Seq}, got.More
	}
	var want []string
	for i := range sent {
		want = append(want, fmt.Sprint(i+1))
	}
	equal(t, "saved", all, want)
	// Each process may have sent one message, but not yet saved it.
	if heardTwice > lives {
		t.Errorf("%d messages were sent twice by %d processes", heardTwice, lives)
	}
	t.Logf("%d messages, %d processes killed, %d messages sent twice", sent, lives, heardTwice)

	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for _, c := range []client{ana, bob} {
		for _, ok := c.next(); ok; _, ok = c.next() {
		}
	}
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// A request that hangs does not keep the hub from telling its clients.
func TestShutdownBesideRequest(t *testing.T) {
	p := start(t, file(t))
	slow, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	if _, err := slow.Write([]byte("GET / HTTP/1.1\r\nHost: chat\r\n")); err != nil { // and no more
		t.Fatal(err)
	}
	ana := dial(t, p.url, "ana") // accepted behind the other
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told := false
	for f, ok := ana.next(); ok; f, ok = ana.next() {
		told = told || f.Type == "reconnect"
	}
	if !told {
		t.Error("the client was cut off without a word")
	}
	// The server was not first: it still waits for the request.
	if err := slow.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the request ended before the client was told: %v", err)
	}
	_ = slow.Close()
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestRunFails(t *testing.T) {
	for _, args := range [][]string{
		{"-db", t.TempDir()},
		{"-db", file(t), "-addr", "256.0.0.1:1"},
		{"-nonsense"},
	} {
		if err := run(t.Context(), args, t.Output()); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
