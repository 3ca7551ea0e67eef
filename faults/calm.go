//go:build linux

package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/chathub-go/chathub/hubtest"
)

// calmEvery is how often the calm client speaks. That is within the hub's rate
// limit.
const calmEvery = 25 * time.Millisecond

// calm is two clients that talk during a fault and must not notice it. One
// speaks, and the other listens.
type calm struct {
	speaker, listener *peer
	stop              chan struct{} // closed to end the speaker
	done              sync.WaitGroup

	mu       sync.Mutex
	spoke    []time.Time // by message number
	acked    map[int]bool
	heard    map[int]int
	last     int // the last number heard
	disorder int
	waits    []time.Duration // from sending to receiving
	offline  map[string]time.Time
	ends     []error
}

func startCalm(ctx context.Context, d dialer) (c *calm, err error) {
	c = &calm{stop: make(chan struct{}), acked: make(map[int]bool), heard: make(map[int]int), last: -1, offline: make(map[string]time.Time)}
	if c.speaker, err = d.connect(ctx, "calm-speaker"); err != nil {
		return nil, err
	}
	if c.listener, err = d.connect(ctx, "calm-listener"); err != nil {
		return nil, err
	}
	for _, p := range []*peer{c.speaker, c.listener} {
		if err := p.join("calm"); err != nil {
			return nil, err
		}
	}
	c.done.Go(func() { c.listen(c.listener, c.hear) })
	c.done.Go(func() {
		c.listen(c.speaker, func(e hubtest.Frame) {
			if n, err := strconv.Atoi(e.ID); err == nil && e.Type == "ack" {
				c.acked[n] = true
			}
		})
	})
	c.done.Go(c.speak)
	return c, nil
}

func (c *calm) speak() {
	tick := time.NewTicker(calmEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		c.spoke = append(c.spoke, time.Now())
		c.mu.Unlock()
		if c.speaker.send(hubtest.Frame{Type: "room-message", ID: strconv.Itoa(n), Room: "calm"}) != nil {
			return // the listener has the reason
		}
	}
}

func (c *calm) listen(p *peer, hear func(hubtest.Frame)) {
	for {
		e, err := p.next()
		c.mu.Lock()
		if err != nil {
			c.ends = append(c.ends, err)
			c.mu.Unlock()
			return
		}
		hear(e)
		c.mu.Unlock()
	}
}

// hear notes what the listener hears. The caller holds mu.
func (c *calm) hear(e hubtest.Frame) {
	switch e.Type {
	case "room-message":
		n, _ := strconv.Atoi(e.ID) // only the speaker is in this room
		c.heard[n]++
		if n <= c.last {
			c.disorder++
		}
		c.last = n
		c.waits = append(c.waits, time.Since(c.spoke[n]))
	case "user-offline":
		for _, id := range usersOf(e) {
			c.offline[id] = time.Now()
		}
	}
}

// mark returns the number of measurements so far.
func (c *calm) mark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waits)
}

// offlineAt returns when the listener was told that a user is offline, or zero
// if it was not told yet.
func (c *calm) offlineAt(user string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offline[user]
}

// finish ends the talk once everything has arrived, and returns its figures.
// The fault began at the measurement since.
func (c *calm) finish(since int) (f calmFigures, problems []string) {
	close(c.stop)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		c.mu.Lock()
		all := len(c.acked) >= len(c.spoke) && len(c.heard) >= len(c.spoke) || len(c.ends) > 0
		c.mu.Unlock()
		if all {
			break
		}
	}
	f, problems = c.sum(since)
	c.speaker.drop()
	c.listener.drop()
	c.done.Wait()
	return f, problems
}

func (c *calm) sum(since int) (f calmFigures, problems []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.Sent = len(c.spoke)
	for n := range c.spoke {
		if c.heard[n] == 0 || !c.acked[n] {
			f.Lost++
		}
		f.Doubled += max(c.heard[n]-1, 0)
	}
	f.Before, f.During = quantiles(c.waits[:since]), quantiles(c.waits[since:])
	if c.disorder > 0 || len(c.ends) > 0 {
		problems = append(problems, fmt.Sprintf("the calm clients: %d out of order, ended by %v", c.disorder, c.ends))
	}
	if f.Lost > 0 || f.Doubled > 0 {
		problems = append(problems, fmt.Sprintf("of the calm clients %d lost, %d doubled", f.Lost, f.Doubled))
	}
	return f, problems
}
