//go:build linux

package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/hubtest"
)

// closedWith lets n peers do something wrong, and checks how they are closed.
// It returns how long it took until the last one was closed.
func (t *trial) closedWith(what string, want, n int, wrong func(p *peer)) time.Duration {
	codes := make(map[int]int)
	var mu sync.Mutex
	peers := make([]*peer, n)
	t.each(n, func(i int) { peers[i] = t.connect(fmt.Sprint("wrong", i)) })
	began := time.Now()
	t.each(n, func(i int) {
		go wrong(peers[i])
		code := peers[i].end()
		mu.Lock()
		defer mu.Unlock()
		codes[code]++
	})
	if codes[want] != n {
		t.failf("%s: closed %s, want %d × %d", what, tallied(codes), n, want)
	}
	return time.Since(began)
}

// fragments sends messages of empty fragments without end.
func fragments(t *trial) {
	n := t.scale(50, 5)
	var sent atomic.Int64
	took := t.closedWith("fragments", 4501, n, func(p *peer) {
		if p.write(masked(nil, opText, false, []byte(`{"type":`), -1)) != nil {
			return
		}
		var b []byte
		for range 100 {
			b = masked(b, opContinuation, false, nil, -1)
		}
		for p.write(b) == nil {
			sent.Add(100)
		}
	})
	t.figure("%d clients sent %d empty fragments: closed %d × 4501, all within %s", n, sent.Load(), n, round(took))
}

// slowFrames leaves frames this much time to arrive.
var slowFrames = settings{Begun: 2 * time.Second, Ping: time.Second, Pong: time.Second}

// bytewise sends a frame byte by byte, slowly.
func bytewise(t *trial) {
	n, every := t.scale(200, 20), 250*time.Millisecond
	if !t.quick {
		every = time.Second
	}
	b := text(hubtest.Frame{Type: "message", Data: hubtest.Data(fmt.Sprintf("%1000d", 1))})
	took := t.closedWith("bytes", 4002, n, func(p *peer) {
		for i := range b {
			if p.write(b[i:i+1]) != nil {
				return
			}
			time.Sleep(every)
		}
	})
	if took > 3*(slowFrames.Begun+time.Second) {
		t.failf("given up after %v", took)
	}
	t.figure("%d clients that send a byte every %s: closed %d × 4002, all within %s (MessageTimeout %s)", n, every, n, round(took), slowFrames.Begun)
}

// lies sends frames with false lengths.
func lies(t *trial) {
	n := t.scale(500, 50)
	header := func(claim int64) func(p *peer) {
		// The reader sees the end.
		return func(p *peer) { _ = p.write(masked(nil, opText, true, nil, claim)) }
	}
	for _, lie := range []struct {
		what string
		want int
		do   func(p *peer)
	}{
		{"2^62 bytes", 1009, header(1 << 62)},
		{"one byte over the limit", 1009, header(64<<10 + 1)},
		{"64 kB, of which nothing comes", 4002, header(64 << 10)},
		{"a ping of 126 bytes", 1002, func(p *peer) { _ = p.write(masked(nil, opPing, true, make([]byte, 126), -1)) }},
		{"fragments of more than the limit together", 1009, func(p *peer) {
			_ = p.write(masked(nil, opText, false, make([]byte, 40<<10), -1))
			_ = p.write(masked(nil, opContinuation, false, nil, 40<<10))
		}},
	} {
		took := t.closedWith(lie.what, lie.want, n, lie.do)
		t.figure("%d × %s: closed %d, all within %s", n, lie.what, lie.want, round(took))
	}
}

// utf8 sends text that is not UTF-8, cut into fragments within a character.
func utf8(t *trial) {
	n := t.scale(50, 5)
	around := func(s string) string { return `{"type":"room-message","room":"texts","data":"` + s + `"}` }
	witness := t.member("witness", "texts")
	cut := func(s string, at int) func(p *peer) {
		return func(p *peer) {
			message := []byte(around(s))
			at := at + len(around("")) - 2
			_ = p.write(masked(masked(nil, opText, false, message[:at], -1), opContinuation, true, message[at:], -1))
		}
	}
	kinds := map[string]func(p *peer){
		"a character that does not end": cut("\xc3(", 1),
		"half of a surrogate pair":      cut("\xed\xa0\x80", 2),
		"beyond Unicode":                cut("\xf4\x90\x80\x80", 3),
		"longer than it need be":        cut("\xc0\xaf", 1),
		"cut off at the end": func(p *peer) {
			_ = p.write(masked(masked(nil, opText, false, []byte("\"\xe2\x82"), -1), opContinuation, true, nil, -1))
		},
	}
	for what, send := range kinds {
		t.closedWith(what, 1007, n, send)
	}
	// Valid text passes, wherever it is cut.
	speaker := t.member("speaker", "texts")
	const word = "Zürich 🚋"
	for at := range len(word) {
		cut(word, at)(speaker)
	}
	heard := 0
	for heard < len(word) {
		e, err := witness.next()
		t.must(err)
		if e.Type == "room-message" {
			if heard++; string(e.Data) != `"`+word+`"` || sender(e) != "speaker" {
				t.failf("a member of the room heard %s from %s", e.Data, sender(e))
			}
		}
	}
	speaker.drop()
	witness.drop()
	t.figure("%d kinds × %d clients: closed %d × 1007, nothing relayed; a valid text, cut at each of its %d bytes, arrives", len(kinds), n, len(kinds)*n, len(word))
}
