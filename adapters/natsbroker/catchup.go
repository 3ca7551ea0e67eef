package natsbroker

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
)

// fallBehind starts catchUp. The caller holds turn.
func (t *topic) fallBehind(target uint64) {
	t.behind = true
	t.s.broker.counters.catchUps.Add(1)
	t.target = max(t.target, target)
	t.s.start(t.catchUp)
}

// catchUp fetches and delivers the missing messages up to target.
func (t *topic) catchUp() {
	failed := false
	for pause := firstPause; ; {
		if hold(t.life, t.turn) != nil {
			return
		}
		if t.gone || t.seq >= t.target {
			t.behind = false
			for _, m := range t.pending {
				t.hand(m)
			}
			t.pending = nil
			<-t.turn
			return
		}
		from, target, before := t.seq+1, t.target, t.risks
		<-t.turn

		ctx, cancel := context.WithTimeout(t.life, t.s.broker.cfg.timeout)
		now := t.present()
		target, err := t.extend(ctx, target, before, now)
		if err == nil {
			err = t.s.scan(ctx, t.place, from, target, t.fetched)
		}
		cancel()
		if err == nil {
			t.reached(target, now)
			pause = firstPause
			continue
		}
		if t.life.Err() != nil {
			return
		}
		if !failed { // further failures would only repeat this
			t.s.log.Warn("natsbroker: catching up failed, will retry", "topic", t.name, "from", from, "err", err)
			failed = true
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, mostPause)
		case <-t.life.Done():
			return
		}
	}
}

// fetched delivers a message that catchUp has fetched. It returns false if the
// topic is gone.
func (t *topic) fetched(m entry) bool {
	if hold(t.life, t.turn) != nil {
		return false
	}
	defer func() { <-t.turn }()
	if !t.gone && m.seq > t.seq {
		t.deliverArrived(m.seq)
		t.durable(m.seq, m.header, m.data)
	}
	return !t.gone
}

// reached says that all messages up to seq have been delivered, and that these
// are all that risks may have lost.
func (t *topic) reached(seq uint64, risks risks) {
	if hold(t.life, t.turn) != nil {
		return
	}
	defer func() { <-t.turn }()
	if !t.gone {
		t.deliverArrived(seq + 1)
	}
	t.seq = max(t.seq, seq)
	t.tail.reached(t.seq)
	t.risks = risks
}

// keepArrived keeps a message until catchUp has fetched those before it. The
// caller holds turn.
func (t *topic) keepArrived(seq uint64, m *nats.Msg) {
	last := t.seq
	if n := len(t.arrived); n > 0 {
		last = t.arrived[n-1].seq
	}
	if len(t.arrived) < pendingSize && seq > last {
		t.arrived = append(t.arrived, entry{seq, m.Header.Get("Nats-Subject"), m.Header, m.Data})
	}
}

// deliverArrived delivers messages that have arrived in the meantime, before a
// position. The caller holds turn.
func (t *topic) deliverArrived(before uint64) {
	for len(t.arrived) > 0 && t.arrived[0].seq < before {
		if m := t.arrived[0]; m.seq > t.seq {
			t.durable(m.seq, m.header, m.data)
		}
		t.arrived[0] = entry{}
		t.arrived = t.arrived[1:]
	}
}

// check compares the topic with the head of its log, and starts catchUp if
// messages are missing. Otherwise this would not be noticed before the next
// message arrives.
func (t *topic) check(ctx context.Context) error {
	if !t.name.Kept() {
		return nil
	}
	risks := t.present()
	head, err := t.s.head(ctx, t.place)
	if err != nil {
		return err
	}
	if err := t.verify(ctx); err != nil {
		return err
	}
	if err := hold(ctx, t.turn); err != nil {
		return err
	}
	defer func() { <-t.turn }()
	switch {
	case t.gone || !t.live:
	case head <= t.seq:
		t.risks = risks
	case t.behind:
		t.target = max(t.target, head)
	default:
		t.fallBehind(head)
	}
	return nil
}

// verify looks for named messages that were lost between two servers, after
// which others were delivered. It delivers them late. A named message does not
// name its predecessor, and neither does the next ordinary one, so nothing else
// shows that it is missing.
func (t *topic) verify(ctx context.Context) error {
	if err := hold(ctx, t.turn); err != nil {
		return err
	}
	from, to := t.verified, t.seq
	idle := t.gone || !t.live || t.behind || from >= to || t.s.isDirect()
	<-t.turn
	if idle {
		return nil
	}
	var found []entry
	some, upTo, err := t.s.namesSince(ctx, t.place.filter, from+1)
	if err == nil && upTo < to && len(some) > 0 {
		return errLags
	}
	if errors.Is(err, errTooMany) {
		err = t.s.scan(ctx, t.place, from+1, to, func(e entry) bool { some = append(some, e); return true })
	}
	if err != nil {
		return err
	}
	for _, e := range some {
		if e.isNamed() && e.seq > from && e.seq <= to {
			found = append(found, e)
		}
	}
	if err := hold(ctx, t.turn); err != nil {
		return err
	}
	defer func() { <-t.turn }()
	if t.gone || t.verified != from {
		return nil
	}
	for _, e := range found {
		if _, delivered := t.named[e.seq]; !delivered {
			t.late(e)
		}
	}
	t.verified = to
	for seq := range t.named {
		if seq <= to {
			delete(t.named, seq)
		}
	}
	return nil
}

// late delivers a named message after later ones. The caller holds turn.
func (t *topic) late(e entry) {
	if msg, ok := t.s.stored(t.name, e); ok {
		t.s.log.Warn("natsbroker: a named message is delivered late", "topic", t.name, "name", msg.Name, "seq", e.seq)
		t.keep(msg)
		t.isNamed(&msg)
		t.hand(msg)
	}
}
