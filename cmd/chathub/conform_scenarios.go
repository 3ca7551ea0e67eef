package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/protocol"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// scenarios are in the order in which they are played.
var scenarios = []scenario{
	{"connect", "it connects with the subprotocol and its token", playConnect},
	{"join", "it joins a room, shows its messages, and leaves it for good", playJoin},
	{"send", "it sends a message once, and shows it once", playSend},
	{"error", "it tells its program about an error, and does not send again", playError},
	{"wait", "it waits as long as the server asks", playWait},
	{"repeat", "it sends again what has no answer, with the same id", playRepeat},
	{"frames", "it bears every frame of protocol/frames.json", playFrames},
	{"unknown", "it ignores unknown events and fields", playUnknown},
	{"question", "it answers questions, also those that it does not know", playQuestion},
	{"large", "it takes large messages, and many at once", playLarge},
	{"resume", "it resumes after a lost connection, at the right positions", playResume},
	{"positions", "it resumes at the right position if it has seen no message", playPositions},
	{"early", "it ignores what comes before the answer to resume", playEarly},
	{"gap", "it says that messages are missing", playGap},
	{"epoch", "it takes another log for another log", playEpoch},
	{"removed", "it does not come back to a room that it was taken out of", playRemoved},
	{"back", "it comes back after the close codes up to 4499, and without one", playBack},
	{"away", "it stays away after the close codes from 4500 on", playAway},
	{"refused", "it stays away if its token is refused, and comes back if the server is busy", playRefused},
	{"expired", "it gets a new token when the old one has expired", playExpired},
	{"restart", "it comes back when the server asks it to", playRestart},
	{"backoff", "it does not hammer a server that is down", playBackoff},
	{"ping", "it answers pings", playPing},
	{"silence", "it notices that the server is gone without a word", playSilence},
}

// inRooms lets a client connect and join rooms, whose logs are at k3/7.
func (t *trial) inRooms(rooms ...string) *peer {
	n := t.connect(order{})
	p := t.welcomed(secConnecting, "it was told to")
	t.must(n, "connecting")
	for _, room := range rooms {
		n := t.order(order{Do: "join", Room: room})
		p.joins(room, "k3", 7)
		t.must(n, "joining")
	}
	return p
}

// resumption is what a client asks for when it comes back.
type resumption struct {
	*peer
	asked  map[string]client.Position // by room; the inbox is ""
	frames []frame
}

// resumes waits until the client has asked for what it missed in all of some
// rooms, where "" is the inbox.
func (p *peer) resumes(rooms ...string) *resumption {
	r := &resumption{peer: p, asked: make(map[string]client.Position)}
	for {
		if !slices.ContainsFunc(rooms, func(room string) bool { _, ok := r.asked[room]; return !ok }) {
			return r
		}
		f := p.next(secLogs, "resume", "join-room")
		r.frames = append(r.frames, f)
		if f.Type == "join-room" {
			var data struct {
				Since *client.Position `json:"since"`
			}
			_ = json.Unmarshal(f.Data, &data) // without data, there is no since
			if data.Since == nil {
				p.stop(secLogs, "the client joins %q again without its position", f.Room)
			}
			r.asked[f.Room] = *data.Since
			continue
		}
		inbox, asked := p.positions(f)
		maps.Copy(r.asked, asked)
		if inbox != nil {
			r.asked[""] = *inbox
		}
	}
}

// from checks the position that the client has asked with.
func (r *resumption) from(room, epoch string, seq uint64) *resumption {
	if want := (client.Position{Epoch: epoch, Seq: seq}); r.asked[room] != want {
		r.wrong(secLogs, "the client resumes %s at %s, and not at %s", named(room), positionText(r.asked[room]), positionText(want))
	}
	return r
}

// answer answers all that was asked. What is not in parts has missed nothing.
func (r *resumption) answer(parts map[string]string) {
	get := func(room string) jsontext.Value {
		if p := parts[room]; p != "" {
			return jsontext.Value(p)
		}
		return jsontext.Value(part(r.asked[room].Epoch, r.asked[room].Seq, true))
	}
	for _, f := range r.frames {
		if f.Type == "join-room" {
			r.ack(f, string(get(f.Room)))
			continue
		}
		data := map[string]any{}
		inbox, asked := r.positions(f)
		rooms := make(map[string]jsontext.Value)
		for room := range asked {
			rooms[room] = get(room)
		}
		data["rooms"] = rooms
		if inbox != nil {
			data["inbox"] = get("")
		}
		r.ack(f, string(encode(data)))
	}
}

func playConnect(t *trial) {
	n := t.connect(order{})
	t.welcomed(secConnecting, "it was told to")
	t.must(n, "connecting")
}

func playJoin(t *trial) {
	p := t.inRooms("lobby")
	p.message("lobby", 8, `"one"`)
	t.shows(secReceives, "lobby", `"one"`)
	n := t.order(order{Do: "leave", Room: "lobby"})
	f := p.next(secSends, "leave-room")
	p.ack(f, "{}")
	t.must(n, "leaving")
	p.cut()
	q := t.welcomed(secEnd, "the connection broke")
	t.order(order{Do: "join", Room: "hall"})
	q.joins("hall", "k5", 0) // stops at a resume of the lobby
}

func playSend(t *trial) {
	p := t.inRooms("lobby")
	n := t.order(order{Do: "send", Room: "lobby", Data: jsontext.Value(`{"text":"one"}`)})
	f := p.next(secSends, "room-message")
	switch {
	case f.Room != "lobby":
		t.wrong(secSends, "the message is for %q, and not for the lobby", f.Room)
	case f.ID == "":
		t.stop(secAnswers, "the message has no id, so it gets no answer")
	case !t.manual && string(f.Data) != `{"text":"one"}`:
		t.wrong(secEnvelope, `the data is %s, and not {"text":"one"}`, f.Data)
	}
	p.stored(f, 8)
	t.must(n, "sending")
	p.message("lobby", 9, `"end"`)
	t.shows(secReceives, "lobby", string(f.Data), `"end"`)
}

// stored delivers a message of the client, and acknowledges it.
func (p *peer) stored(f frame, seq uint64) {
	p.echo(f, seq)
	p.receipt(f, seq, false)
}

func (p *peer) echo(f frame, seq uint64) {
	f.Seq, f.TS, f.From = seq, time.Now().UnixMilli(), &client.User{ID: "u1", Name: "Ana"}
	p.send(f)
}

func (p *peer) receipt(f frame, seq uint64, dup bool) {
	now := time.Now().UnixMilli()
	data := map[string]any{"seq": seq, "ts": now}
	if dup {
		data["dup"] = true
	}
	p.send(frame{Type: "ack", ID: f.ID, Room: f.Room, Seq: seq, TS: now, Data: encode(data)})
}

func playError(t *trial) {
	p := t.inRooms("lobby")
	n := t.order(order{Do: "send", Room: "lobby", Data: jsontext.Value(`"one"`)})
	f := p.next(secSends, "room-message")
	p.send(frame{Type: "error", ID: f.ID, Data: encode(faultData{Code: "forbidden", Message: "Not here"})})
	if code := t.done(n, "sending"); code != "forbidden" && !t.manual {
		t.wrong(secAnswers, "an error with the code forbidden reaches the program as %q", code)
	}
	n = t.order(order{Do: "send", Room: "lobby", Data: jsontext.Value(`"two"`)})
	again := p.next(secSends, "room-message")
	if again.ID == f.ID {
		t.stop(secAnswers, "the client sends again what was refused")
	}
	p.stored(again, 8)
	t.must(n, "sending")
}

func playWait(t *trial) {
	const wait = 700 * time.Millisecond
	p := t.inRooms("lobby")
	n := t.order(order{Do: "send", Room: "lobby", Data: jsontext.Value(`"one"`)})
	f := p.next(secSends, "room-message")
	asked := time.Now()
	p.send(frame{Type: "error", ID: f.ID, Data: encode(faultData{"rate_limited", "Too many events", 700})})
	again, ok := p.nextOr(secAnswers, n, "room-message")
	if !ok {
		return // the program may try again itself
	}
	if took := time.Since(asked); took < wait-jitter {
		t.wrong(secAnswers, "the client sends again after %v, although the server asked for %v", took.Round(time.Millisecond), wait)
	}
	if again.ID != f.ID {
		t.wrong(secAnswers, "the client sends the message again with another id")
	}
	p.stored(again, 8)
	t.must(n, "sending")
}

// jitter is how inexact clocks and timers may be.
const jitter = 20 * time.Millisecond

func playRepeat(t *trial) {
	p := t.inRooms("lobby")
	n := t.order(order{Do: "send", Room: "lobby", Data: jsontext.Value(`"one"`)})
	f := p.next(secSends, "room-message")
	p.cut()
	p = t.welcomed(secEnd, "the connection broke")
	p.resumes("lobby").from("lobby", "k3", 7).answer(map[string]string{"lobby": part("k3", 8, true)})
	p.echo(f, 8) // it had been stored
	again, ok := p.nextOr(secAnswers, n, "room-message")
	if !ok {
		t.wrong(secAnswers, "the client does not send again what has no answer")
		return
	}
	if again.ID != f.ID || string(again.Data) != string(f.Data) {
		t.wrong(secAnswers, "the client sends %s with the id %q, and then again %s with the id %q, which stores it twice",
			f.Data, f.ID, again.Data, again.ID)
	}
	p.receipt(again, 8, true)
	t.must(n, "sending")
	p.message("lobby", 9, `"end"`)
	t.shows(secLogs, "lobby", string(f.Data), `"end"`)
}

func playFrames(t *trial) {
	var golden struct {
		Frames []struct {
			Name      string         `json:"name"`
			Direction string         `json:"direction"`
			Frame     jsontext.Value `json:"frame"`
		} `json:"frames"`
	}
	if err := json.Unmarshal(protocol.Frames, &golden); err != nil {
		panic(err) // a test reads them, too
	}
	p := t.inRooms("check", "lobby")
	for _, g := range golden.Frames {
		var f frame
		if json.Unmarshal(g.Frame, &f) != nil || g.Direction != "server" ||
			slices.Contains([]string{"welcome", "connect-error", "reconnect", "removed"}, f.Type) {
			continue // these have scenarios of their own
		}
		p.raw(string(g.Frame))
	}
	p.message("check", 8, `"end"`)
	t.shows(secReceives, "check", `"end"`)
	n := t.order(order{Do: "send", Room: "check", Data: jsontext.Value(`"still here"`)})
	p.stored(p.next(secReceives, "room-message"), 9)
	t.must(n, "sending after all frames")
}

func playUnknown(t *trial) {
	p := t.inRooms("lobby")
	for _, raw := range []string{
		`{"type":"no-such-event","room":"lobby","data":{"a":1}}`,
		`{"type":"no-such-event","room":"lobby","seq":8,"ts":946684800000,"data":{"a":1}}`,
		`{"type":"no-such-event"}`,
		`{"type":"room-message","Type":"removed","room":"lobby","Room":"x","id":"s9","from":{"id":"u2","name":"Ben","new":1},` +
			`"seq":9,"SEQ":1,"ts":946684800000,"data":"one","new":{"deep":[[[{}]]]}}`,
		`{"type":"ack","id":"no such id","data":{"new":1}}`,
		`{"type":"error","data":{"code":"bad_request","message":"Without an id","new":true}}`,
		`{"type":"room-message","room":"never joined","id":"s1","seq":1,"ts":946684800000,"data":1}`,
	} {
		p.raw(raw)
	}
	p.message("lobby", 10, `"end"`)
	t.shows(secEnvelope, "lobby", `"one"`, `"end"`)
	p.cut()
	t.welcomed(secEnd, "the connection broke").resumes("lobby").from("lobby", "k3", 10).answer(nil)
}

func playQuestion(t *trial) {
	p := t.inRooms("lobby")
	p.raw(`{"type":"no-such-question","id":"q1","ack":true,"ts":946684800000,"data":1}`)
	if f := p.next(secAnswers, "ack", "error"); f.ID != "q1" {
		t.wrong(secAnswers, "the answer to the question q1 has the id %q", f.ID)
	}
}

func playLarge(t *trial) {
	p := t.inRooms("lobby")
	want := []string{`"` + strings.Repeat("x", 400<<10) + `"`}
	p.message("lobby", 8, want[0])
	t.shows(secReceives, "lobby", want[0])
	for i := range uint64(1000) {
		want = append(want, fmt.Sprint(i))
		p.message("lobby", 9+i, fmt.Sprint(i))
	}
	t.shows(secReceives, "lobby", want...)
	p.cut()
	t.welcomed(secEnd, "the connection broke").resumes("lobby").from("lobby", "k3", 1008).answer(nil)
}

func playResume(t *trial) {
	const odd = "__proto__"
	p := t.inRooms("lobby", odd)
	p.message("lobby", 8, `"one"`)
	p.message("lobby", 9, `"two"`)
	t.shows(secReceives, "lobby", `"one"`, `"two"`)
	p.cut()
	p = t.welcomed(secEnd, "the connection broke")
	p.resumes("lobby", odd).from("lobby", "k3", 9).from(odd, "k3", 7).answer(map[string]string{"lobby": part("k3", 12, true)})
	p.message("lobby", 11, `"three"`)
	p.message("lobby", 12, `"four"`)
	p.message("lobby", 20, `"five"`) // live; gaps mean nothing
	t.shows(secLogs, "lobby", `"one"`, `"two"`, `"three"`, `"four"`, `"five"`)
	p.cut()
	p = t.welcomed(secEnd, "the connection broke again")
	p.resumes("lobby", odd).from("lobby", "k3", 20).from(odd, "k3", 7).answer(nil)
}

func playPositions(t *trial) {
	p := t.inRooms("lobby")
	p.cut()
	p = t.welcomed(secEnd, "the connection broke")
	// All that is missed is lost on the way, three times.
	p.resumes("lobby").from("lobby", "k3", 7).answer(map[string]string{"lobby": part("k3", 9, true)})
	p.cut()
	p = t.welcomed(secEnd, "the connection broke again")
	p.resumes("lobby").from("lobby", "k3", 7).answer(map[string]string{"lobby": part("k3", 20, false)})
	p.cut()
	p = t.welcomed(secEnd, "the connection broke once more")
	p.resumes("lobby").from("lobby", "k3", 0).answer(map[string]string{"lobby": part("k3", 20, true)})
	p.message("lobby", 20, `"end"`)
	t.shows(secLogs, "lobby", "gap", `"end"`)
	p.cut()
	t.welcomed(secEnd, "the connection broke").resumes("lobby").from("lobby", "k3", 20).answer(nil)
}

func playEarly(t *trial) {
	n := t.connect(order{Inbox: true})
	p := t.welcomed(secConnecting, "it was told to")
	t.must(n, "connecting")
	p.private(5, `"one"`)
	t.shows(secReceives, "", `"one"`)
	p.cut()
	p = t.welcomed(secEnd, "the connection broke")
	p.private(7, `"three"`)
	r := p.resumes("").from("", "a1", 5)
	p.private(8, `"four"`)
	r.answer(map[string]string{"": `{"epoch":"a1","seq":8,"recovered":true}`})
	p.private(6, `"two"`)
	p.private(7, `"three"`)
	p.private(8, `"four"`)
	p.private(9, `"five"`)
	t.shows(secLogs, "", `"one"`, `"two"`, `"three"`, `"four"`, `"five"`)
	p.cut()
	t.welcomed(secEnd, "the connection broke again").resumes("").from("", "a1", 9).answer(nil)
}

func playGap(t *trial) {
	p := t.inRooms("lobby")
	p.message("lobby", 8, `"one"`)
	t.shows(secReceives, "lobby", `"one"`)
	p.cut()
	p = t.welcomed(secEnd, "the connection broke")
	p.resumes("lobby").from("lobby", "k3", 8).answer(map[string]string{"lobby": part("k3", 500, false)})
	p.message("lobby", 499, `"two"`)
	p.message("lobby", 500, `"three"`)
	t.shows(secLogs, "lobby", `"one"`, "gap", `"two"`, `"three"`)
}

func playEpoch(t *trial) {
	p := t.inRooms("lobby")
	p.message("lobby", 8, `"one"`)
	t.shows(secReceives, "lobby", `"one"`)
	p.cut()
	p = t.welcomed(secEnd, "the connection broke")
	p.resumes("lobby").from("lobby", "k3", 8).answer(map[string]string{"lobby": part("k4", 2, false)})
	p.message("lobby", 1, `"two"`)
	p.message("lobby", 2, `"three"`)
	t.shows(secLogs, "lobby", `"one"`, "gap", `"two"`, `"three"`)
	p.cut()
	t.welcomed(secEnd, "the connection broke again").resumes("lobby").from("lobby", "k4", 2).answer(nil)
}

func playRemoved(t *trial) {
	p := t.inRooms("lobby", "hall")
	p.raw(`{"type":"removed","room":"lobby","ts":946684800000,"data":{"reason":"Please read the rules"}}`)
	p.message("hall", 8, `"one"`)
	t.shows(secReceives, "hall", `"one"`)
	p.cut()
	p = t.welcomed(secEnd, "the connection broke")
	r := p.resumes("hall").from("hall", "k3", 8)
	if _, ok := r.asked["lobby"]; ok {
		t.wrong(secReceives, "the client comes back to a room that it was taken out of")
	}
	r.answer(nil)
}
