package client

import (
	"slices"
	"time"
)

// mode is how to send an event that the server does not keep in a log.
type mode int

const (
	once mode = iota // as soon as there is a connection, and never again
	read             // until there is an answer, on the next connection too
	now              // on this connection only; again if the server asks to wait
)

// pending is a request that has no answer yet.
type pending struct {
	id       string
	text     []byte
	mode     mode
	inFlight bool // sent on this connection
	settle   func(frame, error)
}

// requests sends events that the server does not keep in a log, and matches
// them with their answers. The loop owns it.
type requests struct {
	l    *loop
	all  []*pending // in the order in which they are sent
	pace pace
}

// ask sends an event, and calls settle once with its answer. The returned
// function forgets the request.
func (r *requests) ask(event request, m mode, settle func(frame, error)) (forget func()) {
	event.ID = newID()
	text, err := event.encode()
	switch {
	case err != nil:
	case r.l.tooLarge(text):
		err = errTooLarge
	case m != now && len(r.all) >= r.l.opts.MaxOutbox:
		err = ErrFull
	}
	if err != nil {
		settle(frame{}, err)
		return func() {}
	}
	p := &pending{id: event.ID, text: text, mode: m, settle: settle}
	r.all = append(r.all, p)
	r.flush(time.Now())
	return func() { r.remove(p) }
}

func (r *requests) remove(p *pending) {
	if i := slices.Index(r.all, p); i >= 0 {
		r.all = slices.Delete(r.all, i, i+1)
		r.flush(time.Now())
	}
}

// answer takes an answer, and ignores one with an unknown id.
func (r *requests) answer(at time.Time, id string, f frame, err error) {
	i := slices.IndexFunc(r.all, func(p *pending) bool { return p.inFlight && p.id == id })
	if i < 0 {
		return
	}
	p := r.all[i]
	r.all = slices.Delete(r.all, i, i+1)
	if wait, again := temporary(err); again && p.mode != once {
		p.inFlight = false
		r.all = append(r.all, p) // behind the others
		r.l.postpone(r.pace.refused(at, wait))
		return
	}
	p.settle(f, err)
	if p.mode != once {
		r.pace.answered(at, len(r.all))
	}
	r.flush(at)
}

// dropped notes that the connection is gone.
func (r *requests) dropped() {
	r.pace = pace{}
	all := r.all
	r.all = nil
	for _, p := range all {
		if p.mode == now || p.mode == once && p.inFlight {
			p.settle(frame{}, ErrDisconnected)
			continue
		}
		p.inFlight = false
		r.all = append(r.all, p)
	}
}

// end settles all requests with err.
func (r *requests) end(err error) {
	all := r.all
	r.all = nil
	for _, p := range all {
		p.settle(frame{}, err)
	}
}

// flush sends all that can be sent now.
func (r *requests) flush(at time.Time) {
	if r.l.conn == nil {
		return
	}
	waiting := 0
	for _, p := range r.all {
		if !p.inFlight {
			if p.mode != now && !r.l.ready {
				continue
			}
			// What was sent earlier is in front of it.
			if p.mode != once && !r.pace.allows(at, waiting) {
				continue
			}
			p.inFlight = true
			r.l.write(p.text)
		}
		if p.mode != once {
			waiting++
		}
	}
}
