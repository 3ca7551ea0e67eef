package chathub_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// A client that answers every ping stays, even if its answer is older than
// PongTimeout when the hub checks again.
func TestAnsweredPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PresenceInterval: -1, PingInterval: time.Second, PongTimeout: time.Second})
		c := hubtest.Dial(t, hub, "ana") // it answers pings at once
		time.Sleep(time.Minute)
		c.Must(hubtest.Frame{Type: "ping"})
	})
}

// peerOf connects a peer as a user, and reads its welcome.
func peerOf(t *testing.T, hub *chathub.Hub, user string) *rawPeer {
	t.Helper()
	p := dialPeer(t, hub, handshake(t, "chathub.v1", "chathub.bearer."+user))
	if f := p.envelope(); f.Type != "welcome" {
		t.Fatalf("got %s %s", f.Type, f.Data)
	}
	return p
}

// expectAt checks that something happened the given time after start, or up to
// some sweeps later.
func expectAt(t *testing.T, what string, at, start time.Time, want time.Duration, sweeps int) {
	t.Helper()
	if late := at.Sub(start) - want; late < 0 || late > time.Duration(sweeps)*time.Second {
		t.Errorf("%s came %v after it was due", what, late)
	}
}

func TestPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := peerOf(t, hubtest.New(t, chathub.Config{}), "ana")
		heard := time.Now()
		for range 10 {
			ping := p.next(opPing)
			expectAt(t, "ping", ping.at, heard, 25*time.Second, 1)
			time.Sleep(9 * time.Second) // just in time
			p.write(maskedFrame(opPong, true, ping.data))
			heard = time.Now()
		}
		p.open()
	})
}

// Whatever comes from a peer shows that it is there.
func TestNoPingUnlessSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := peerOf(t, hubtest.New(t, chathub.Config{}), "ana")
		for i := range 30 {
			time.Sleep(24 * time.Second)
			switch i % 3 {
			case 0:
				p.send(`{"type":"ping"}`)
			case 1:
				p.write(maskedFrame(opPong, true, nil)) // unsolicited (RFC 6455 section 5.5.3)
			case 2:
				p.write(maskedFrame(opPing, true, []byte("?")))
			}
		}
		synctest.Wait()
		var ops []byte
		for range len(p.frames) {
			ops = append(ops, (<-p.frames).op)
		}
		if slices.Contains(ops, opPing) || slices.Contains(ops, opClose) || !slices.Contains(ops, opPong) {
			t.Errorf("got frames %v", ops)
		}
	})
}

func TestHeartbeatTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{PingInterval: 7 * time.Second, PongTimeout: 3 * time.Second})
		witness := hubtest.Dial(t, hub, "witness")
		start := time.Now()
		p := peerOf(t, hub, "ana")
		witness.Wait("user-online")
		code, at := p.closed()
		if code != 4002 {
			t.Errorf("closed with %d", code)
		}
		expectAt(t, "close", at, start, 10*time.Second, 2)
		if got := dataOf[usersData](t, witness.Wait("user-offline")); !slices.Equal(ids(got.Users), []string{"ana"}) {
			t.Errorf("offline: %v", got)
		}
		witness.Must(hubtest.Frame{Type: "ping"}) // a client that answers pings stays
	})
}

func TestHeartbeatOff(t *testing.T) {
	for name, cfg := range map[string]chathub.Config{
		"no pings":     {PingInterval: -1},
		"no timeout":   {PingInterval: time.Minute, PongTimeout: -1},
		"both are off": {PingInterval: -1, PongTimeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := peerOf(t, hubtest.New(t, cfg), "ana")
				time.Sleep(time.Hour)
				synctest.Wait()
				pings := 0
				for range len(p.frames) {
					if f := <-p.frames; f.op == opPing {
						pings++
					}
				}
				if want := map[bool]int{true: 1}[cfg.PingInterval > 0]; pings != want {
					t.Errorf("%d pings, want %d", pings, want)
				}
				p.open()
			})
		})
	}
}

// A message that never ends closes its connection, even with a sign of life in
// each second.
func TestSlowMessage(t *testing.T) {
	message := maskedFrame(opText, true, make([]byte, 200))
	for _, tc := range []struct {
		name   string
		begin  []byte // of the message
		middle func(i int) []byte
		cfg    chathub.Config
		want   time.Duration // 0: not closed
	}{
		{"byte by byte", message[:1], func(i int) []byte { return message[i+1 : i+2] }, chathub.Config{}, 30 * time.Second},
		{"byte by byte, shorter", message[:1], func(i int) []byte { return message[i+1 : i+2] }, chathub.Config{MessageTimeout: 5 * time.Second}, 5 * time.Second},
		{"fragment by fragment", maskedFrame(opText, false, []byte("{")), func(int) []byte { return maskedFrame(opContinuation, false, []byte(" ")) }, chathub.Config{}, 30 * time.Second},
		{"pings within a message", maskedFrame(opText, false, []byte("{")), func(int) []byte { return maskedFrame(opPing, true, nil) }, chathub.Config{}, 30 * time.Second},
		{"no timeout", message[:1], func(i int) []byte { return message[i+1 : i+2] }, chathub.Config{MessageTimeout: -1}, 0},
		{"whole messages", nil, func(int) []byte { return maskedFrame(opText, true, []byte(`{"type":"stop"}`)) }, chathub.Config{}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := peerOf(t, hubtest.New(t, tc.cfg), "ana")
				start := time.Now()
				p.write(tc.begin)
				for i := range 120 {
					time.Sleep(time.Second)
					p.write(tc.middle(i))
					if p.seen(opClose) {
						break
					}
				}
				if tc.want == 0 {
					if p.seen(opClose) {
						t.Error("closed")
					}
					return
				}
				code, at := p.closed()
				if code != 4002 {
					t.Errorf("closed with %d", code)
				}
				expectAt(t, "close", at, start, tc.want, 1)
			})
		})
	}
}

// A client that hangs is given up, and the others are told that it left, within
// heartbeat, timeout and grace.
func TestVanished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan chathub.Disconnect, 1)
		hub := hubtest.New(t, chathub.Config{OnDisconnect: func(c *chathub.Client, d chathub.Disconnect) {
			if c.User().ID == "ana" {
				gone <- d
			}
		}})
		witness := hubtest.Dial(t, hub, "witness")
		ana := hubtest.Dial(t, hub, "ana")
		witness.Wait("user-online")
		start := time.Now()
		ana.Pause()
		ana.Send(hubtest.Frame{Type: "ping"}) // the client still reads the pong
		d := <-gone
		// It does not even take a close frame, so it does not matter which of
		// the two bounds strikes first.
		if d.Code != 4001 && d.Code != 4002 || d.Remote {
			t.Errorf("ended with %+v", d)
		}
		// Including the bound on the close handshake.
		expectAt(t, "end", time.Now(), start, 45*time.Second, 2)
		witness.Wait("user-offline")
	})
}

// A slow handler does not keep its client from showing that it is there.
func TestHeartbeatWhileHandling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := hubtest.New(t, chathub.Config{BroadcastRate: -1})
		chathub.On(hub, "work", func(ctx context.Context, _ *chathub.Client, n int) error {
			select {
			case <-time.After(time.Duration(n) * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		c := hubtest.Dial(t, hub, "ana")
		c.Send(hubtest.Frame{Type: "work", ID: "w", Data: hubtest.Data(600)})
		for i := range 12 { // fewer than are read ahead
			c.Send(hubtest.Frame{Type: "message", ID: fmt.Sprint(i)})
		}
		time.Sleep(10 * time.Minute)
		got := ofType(arrived(c), "ack")
		if len(got) != 13 || got[0].ID != "w" || got[12].ID != "11" {
			t.Errorf("got %+v", got)
		}
	})
}
