package natsbroker_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// link is a TCP proxy. It simulates a network that can be cut, with or without
// resetting connections, and that can be slow.
type link struct {
	t      testing.TB
	target string
	ln     net.Listener

	mu     sync.Mutex
	down   bool
	frozen chan struct{} // if not nil, nothing passes until it is closed
	back   bool          // only data from the target is frozen
	delay  time.Duration
	conns  map[net.Conn]bool
}

func newLink(t testing.TB, target string) *link {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{t: t, target: target, ln: ln, conns: make(map[net.Conn]bool)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { l.carry(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		l.thaw()
		l.cut()
		wg.Wait()
	})
	return l
}

func (l *link) addr() string { return l.ln.Addr().String() }
func (l *link) url() string  { return "nats://" + l.addr() }

func (l *link) carry(in net.Conn) {
	defer in.Close()
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return
	}
	out, err := new(net.Dialer).DialContext(context.WithoutCancel(l.t.Context()), "tcp", l.target)
	if err != nil {
		return
	}
	defer out.Close()
	l.mu.Lock()
	l.conns[in], l.conns[out] = true, true
	if l.down {
		in.Close()
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, in)
		delete(l.conns, out)
	}()
	var wg sync.WaitGroup
	wg.Go(func() { l.copy(out, in, false) })
	l.copy(in, out, true)
	wg.Wait()
}

func (l *link) copy(to, from net.Conn, back bool) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		l.mu.Lock()
		frozen, delay := l.frozen, l.delay
		if l.back && !back {
			frozen = nil
		}
		l.mu.Unlock()
		if frozen != nil {
			<-frozen
		}
		time.Sleep(delay)
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut resets all connections and refuses others.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.conns {
		c.Close()
	}
}

// freeze stops all data. Both sides keep their connections.
func (l *link) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen == nil {
		l.frozen = make(chan struct{})
	}
}

// freezeBack stops the data that the target sends.
func (l *link) freezeBack() {
	l.freeze()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.back = true
}

// thaw undoes freeze and freezeBack.
func (l *link) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		close(l.frozen)
		l.frozen, l.back = nil, false
	}
}

// slow delays all data.
func (l *link) slow(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

// heal undoes cut, freeze and slow.
func (l *link) heal() {
	l.thaw()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.delay = false, 0
}
