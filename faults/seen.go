//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// seen is what a client has seen of a room. The seqs of a room have no gaps,
// since the broker in memory numbers them so.
type seen struct {
	room  string
	since chathub.Position // of the join; what comes later must be seen
	have  map[uint64]int
}

func newSeen(p *peer, room string) *seen {
	return &seen{room: room, since: p.room, have: make(map[uint64]int)}
}

func (s *seen) note(e hubtest.Frame) {
	if e.Type == "room-message" && e.Room == s.room {
		s.have[e.Seq]++
	}
}

// count returns how many messages up to head are missing, and how many came
// more than once.
func (s *seen) count(head uint64) (lost, doubled int) {
	for seq := s.since.Seq + 1; seq <= head; seq++ {
		if s.have[seq] == 0 {
			lost++
		}
	}
	for _, n := range s.have {
		doubled += n - 1
	}
	return lost, doubled
}

// top returns the seq of the last message that has no gap before it.
func (s *seen) top() uint64 {
	seq := s.since.Seq
	for s.have[seq+1] > 0 {
		seq++
	}
	return seq
}

// resume continues from s on another connection, with the messages that the hub
// recovers and pages of history for the rest. It returns the seq of the room's
// last message.
func (s *seen) resume(p *peer) (head uint64, recovered bool, err error) {
	at := chathub.Position{Epoch: s.since.Epoch, Seq: s.top()}
	r, err := p.request(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{"rooms": map[string]any{s.room: at}})})
	if err != nil {
		return 0, false, err
	}
	var answer struct {
		Rooms map[string]struct {
			chathub.Position `json:",inline"`
			Recovered        bool `json:"recovered"`
		} `json:"rooms"`
	}
	if err := json.Unmarshal(r.Data, &answer); err != nil {
		return 0, false, err
	}
	room := answer.Rooms[s.room]
	if r.Type != "ack" || room.Epoch != at.Epoch {
		return 0, false, fmt.Errorf("resume was answered with %s %s", r.Type, r.Data)
	}
	oldest := room.Seq + 1
	// The pong comes after the messages that are recovered.
	if err := p.send(hubtest.Frame{Type: "ping"}); err != nil {
		return 0, false, err
	}
	for {
		e, err := p.next()
		if err != nil {
			return 0, false, err
		}
		if e.Type == "pong" {
			break
		}
		s.note(e)
		if e.Type == "room-message" {
			oldest = min(oldest, e.Seq)
		}
	}
	for oldest > at.Seq+1 {
		page, err := s.page(p, oldest)
		if err != nil {
			return 0, false, err
		}
		if len(page) == 0 || page[0].Seq >= oldest {
			return room.Seq, room.Recovered, errors.New("history does not reach back far enough")
		}
		for _, e := range page {
			if e.Seq > at.Seq {
				s.note(e)
			}
		}
		oldest = page[0].Seq
	}
	return room.Seq, room.Recovered, nil
}

// resumeAll connects users again, each of which resumes from its part of have.
// It returns how many messages up to head they lost, and how many came twice.
// Either is a problem.
func (t *trial) resumeAll(have []*seen, user string, head uint64) (lost, doubled int) {
	var mu sync.Mutex
	t.each(len(have), func(i int) {
		p := t.connect(fmt.Sprint(user, i))
		defer p.drop()
		_, _, err := have[i].resume(p)
		t.must(err)
		l, d := have[i].count(head)
		mu.Lock()
		defer mu.Unlock()
		lost, doubled = lost+l, doubled+d
	})
	if lost+doubled > 0 {
		t.failf("after the return of clients: %d lost, %d doubled", lost, doubled)
	}
	return lost, doubled
}

// page requests the messages before one. It notes live messages that arrive
// meanwhile.
func (s *seen) page(p *peer, before uint64) ([]hubtest.Frame, error) {
	ask := hubtest.Frame{Type: "history", ID: "page", Room: s.room, Data: hubtest.Data(map[string]any{"before": before, "limit": 1000})}
	if err := p.send(ask); err != nil {
		return nil, err
	}
	for {
		e, err := p.next()
		if err != nil {
			return nil, err
		}
		if e.ID != "page" {
			s.note(e)
			continue
		}
		var d struct {
			Messages []hubtest.Frame `json:"messages"`
		}
		if e.Type != "ack" {
			return nil, fmt.Errorf("history: %s", e.Code())
		}
		return d.Messages, json.Unmarshal(e.Data, &d)
	}
}

// pump sends n messages of a size to a room. It returns the seq of the room's
// last message once all are acked. It waits for its own copies, so that it does
// not send faster than it reads.
func pump(ctx context.Context, d dialer, user, room string, n, size int) (head uint64, err error) {
	p, err := d.connect(ctx, user)
	if err != nil {
		return 0, err
	}
	defer p.drop()
	if err := p.join(room); err != nil {
		return 0, err
	}
	words := hubtest.Data(fmt.Sprintf("%*d", size, n))
	const window = 32
	free := make(chan struct{}, window)
	failed := make(chan error, 1)
	go func() {
		for acked, heard := 0, 0; acked < n || heard < n; {
			e, err := p.next()
			if err == nil && e.Type == "error" {
				err = fmt.Errorf("pump: %s", e.Code())
			}
			if err != nil {
				failed <- err
				return
			}
			switch e.Type {
			case "ack":
				acked++
				head = max(head, e.Seq)
			case "room-message":
				heard++
				<-free
			}
		}
		failed <- nil
	}()
	for i := range n {
		select {
		case free <- struct{}{}:
		case err := <-failed:
			return 0, err
		}
		if err := p.send(hubtest.Frame{Type: "room-message", ID: fmt.Sprint(i), Room: room, Data: words}); err != nil {
			return 0, err
		}
	}
	if err := <-failed; err != nil {
		return 0, err
	}
	return head, nil
}
