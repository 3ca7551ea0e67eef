//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"
)

// short has timeouts with which a silent client is found within seconds.
var short = settings{
	Outbox: 256 << 10, Message: 16 << 10, Replay: 500, Log: 100_000, LogBytes: 64 << 20, Rate: -1,
	Ping: time.Second, Pong: time.Second, Write: 2 * time.Second, Grace: 300 * time.Millisecond,
}

// foundOut is how soon a silent client must be disconnected: after the
// heartbeat and its timeout, the sweep that looks for it once a second, and the
// time to answer the close. A busy machine gets twice as long.
var foundOut = 2 * (short.Ping + short.Pong + time.Second + short.Write)

// neverReads has clients that are in a busy room and read nothing.
func neverReads(t *trial) {
	n, messages := t.scale(50, 8), t.scale(5000, 1500)
	victims := make([]*peer, n)
	d := t.dialer
	d.receive = 4 << 10
	t.each(n, func(i int) {
		p, err := d.connect(t, fmt.Sprint("victim", i))
		t.must(err)
		t.must(p.join("busy"))
		victims[i] = p
	})
	reader := t.member("reader", "busy")
	read := newSeen(reader, "busy")
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			e, err := reader.next()
			if err != nil {
				t.failf("a member that reads was closed with %d", endOf(err))
				return
			}
			if read.note(e); e.Type == "room-message" && e.Seq == uint64(messages) {
				return
			}
		}
	})
	head, err := pump(t, t.dialer, "pump", "busy", messages, 1000)
	t.must(err)
	codes := t.codes("victim", n)
	reading.Wait()
	reader.drop()
	if want := fmt.Sprintf("%d × 4001", n); codes != want {
		t.failf("closed with %s, want %s", codes, want)
	}
	if lost, doubled := read.count(head); lost+doubled > 0 {
		t.failf("a member that reads: %d lost, %d doubled", lost, doubled)
	}
	if grown := int64(t.peak() - t.row.Before); grown > int64(n*short.Outbox+messages*2000+32<<20) {
		t.failf("memory grew by %d bytes", grown)
	}
	lost, doubled := t.comeBack(victims, "victim", "busy", head)
	t.figure("%d clients in a room with %d messages of 1 kB: closed %s. A member that reads: 0 lost, 0 doubled. Come back, the %d have %d lost, %d doubled",
		n, messages, codes, n, lost, doubled)
}

// comeBack lets clients whose connections the server has ended read the rest of
// them, and resume. It returns how many messages they lost, and how many came
// twice.
func (t *trial) comeBack(victims []*peer, user, room string, head uint64) (lost, doubled int) {
	have := make([]*seen, len(victims))
	t.each(len(victims), func(i int) {
		have[i] = newSeen(victims[i], room)
		// With the small buffer, the server's kernel sends the rest in small
		// parts.
		_ = victims[i].conn.SetReadBuffer(1 << 20)
		victims[i].readAll(have[i].note)
		victims[i].drop()
	})
	return t.resumeAll(have, user, head)
}

// deafen makes the kernel drop every packet for a socket before TCP sees it. To
// the other side, it is as if the network or the machine had gone without a
// word. It needs no privilege.
func deafen(p *peer) error {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return err
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K} // returns 0: keep no byte
	set := error(nil)
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	return errors.Join(err, set)
}

// hear makes the kernel deliver packets again.
func hear(p *peer) error {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return err
	}
	set := error(nil)
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
	return errors.Join(err, set)
}

// vanish has connections that vanish: nothing comes from them and nothing
// reaches them, neither FIN nor reset nor ack. Half of them have traffic.
func vanish(t *trial) {
	n, messages := t.scale(40, 6), t.scale(3000, 600)
	idle, busy := make([]*peer, n), make([]*peer, n)
	t.each(n, func(i int) {
		idle[i] = t.member(fmt.Sprint("idle", i), "quiet")
		busy[i] = t.member(fmt.Sprint("busy", i), "busy")
	})
	for i := range n {
		t.must(deafen(idle[i]))
		t.must(deafen(busy[i]))
	}
	began := time.Now()
	head, err := pump(t, t.dialer, "pump", "busy", messages, 1000)
	t.must(err)
	quietCodes, busyCodes := t.codes("idle", n), t.codes("busy", n)
	took := time.Since(began)
	if want := fmt.Sprintf("%d × 4002", n); quietCodes != want {
		t.failf("those without traffic were closed with %s, want %s", quietCodes, want)
	}
	if took > foundOut {
		t.failf("closed after %v, want at most %v", took, foundOut)
	}
	t.toldOffline(n, "idle", "busy")
	for i := range n { // the network is back, the old connections are not
		t.must(hear(idle[i]))
		idle[i].drop()
		t.must(hear(busy[i]))
		t.must(busy[i].send(hubtest.Frame{Type: "ping"})) // the kernel answers with a reset
	}
	lost, doubled := t.comeBack(busy, "busy", "busy", head)
	t.figure("%d connections without traffic, %d in a room with %d messages of 1 kB: closed %s and %s, all within %s; presence told it. Come back: %d lost, %d doubled",
		n, n, messages, quietCodes, busyCodes, round(took), lost, doubled)
}

// toldOffline waits until the calm listener was told that all users are
// offline.
func (t *trial) toldOffline(n int, users ...string) {
	for i := range n {
		for _, user := range users {
			t.until("presence to tell about "+user, func() bool { return !t.calm.offlineAt(fmt.Sprint(user, i)).IsZero() })
		}
	}
}

// stopped stops client processes with SIGSTOP, half of them with traffic, and
// continues them later.
func stopped(t *trial) {
	n, messages := t.scale(4, 2), t.scale(3000, 600)
	type client struct {
		*process
		user, room string
	}
	var clients []client
	for i := range 2 * n {
		c := client{user: fmt.Sprint("idle", i/2), room: "quiet"}
		if i%2 == 1 {
			c.user, c.room = fmt.Sprint("busy", i/2), "busy"
		}
		var err error
		c.process, err = startProcess(t, "client")
		t.must(err)
		var ok tally
		t.must(c.ask(clientOrder{Addr: t.addr, User: c.user, Room: c.room}, &ok))
		clients = append(clients, c)
	}
	for _, c := range clients {
		t.must(c.Signal(syscall.SIGSTOP))
	}
	began := time.Now()
	head, err := pump(t, t.dialer, "pump", "busy", messages, 1000)
	t.must(err)
	quietCodes, busyCodes := t.codes("idle", n), t.codes("busy", n)
	took := time.Since(began)
	if want := fmt.Sprintf("%d × 4002", n); quietCodes != want {
		t.failf("those without traffic were closed with %s, want %s", quietCodes, want)
	}
	if took > foundOut {
		t.failf("closed after %v, want at most %v", took, foundOut)
	}
	t.toldOffline(n, "idle", "busy")
	lost, doubled := 0, 0
	for _, c := range clients {
		t.must(c.Signal(syscall.SIGCONT))
		upTo := head
		if c.room == "quiet" {
			upTo = 0
		}
		var r tally
		t.until("a client to have everything after SIGCONT", func() bool {
			t.must(c.ask(clientOrder{UpTo: upTo}, &r))
			return r.Resumed > 0 && r.Lost == 0
		})
		lost, doubled = lost+r.Lost, doubled+r.Doubled
		t.must(c.stop())
	}
	if doubled > 0 {
		t.failf("%d doubled", doubled)
	}
	t.figure("%d processes without traffic, %d in a room with %d messages of 1 kB: closed %s and %s, all within %s; presence told it. After SIGCONT: %d lost, %d doubled",
		n, n, messages, quietCodes, busyCodes, round(took), lost, doubled)
}

// clientOrder is a line for a client process. The first one says where to
// connect; the others request a tally.
type clientOrder struct {
	Addr, User, Room string
	UpTo             uint64
}

type tally struct{ Lost, Doubled, Resumed int }

// runClient is a client process. It reads, and comes back when its connection
// ends.
func runClient(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	var first clientOrder
	if !lines.Scan() {
		return lines.Err()
	}
	if err := json.Unmarshal(lines.Bytes(), &first); err != nil {
		return err
	}
	d := dialer{addr: first.Addr}
	p, err := d.connect(ctx, first.User)
	if err != nil {
		return err
	}
	if err := p.join(first.Room); err != nil {
		return err
	}
	var mu sync.Mutex
	s, resumed := newSeen(p, first.Room), 0
	go func() {
		for {
			e, err := p.next()
			if err != nil {
				p.drop()
				if p, err = d.connect(ctx, first.User); err == nil {
					mu.Lock()
					_, _, err = s.resume(p)
					resumed++
					mu.Unlock()
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, "client:", err)
					return
				}
				continue
			}
			mu.Lock()
			s.note(e)
			mu.Unlock()
		}
	}()
	var o clientOrder
	for ok := true; ok; ok = lines.Scan() {
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		mu.Lock()
		r := tally{Resumed: resumed}
		r.Lost, r.Doubled = s.count(o.UpTo)
		mu.Unlock()
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return lines.Err()
}
