package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// watchInterval is how often a session requests the state of the stream.
	watchInterval = time.Second
	// checkers is how many topics are compared with the stream concurrently.
	checkers = 32
)

// watch looks for reasons why messages may not have arrived: a lost connection,
// a new leader, or an overflow. It then compares all topics with the stream. In
// a cluster of servers it does so all the time, a few topics at a time.
func (s *session) watch() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	away := false
	lost := 0
	sweep := sweeper{}
	looks := 0
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.resync:
			s.checkAll(s.list())
			continue
		case <-tick.C:
		}
		before := s.state.Load()
		if err := s.observe(s.life); err != nil {
			if !away && s.life.Err() == nil {
				s.log.Warn("natsbroker: the stream does not answer", "err", err)
			}
			away = true
			s.answering.Store(false)
			continue
		}
		s.answering.Store(true)
		if looks++; looks <= 5 && s.broker.server == nil {
			_ = s.findOld(s.life) // a process of an earlier version may have stored more until now
		}
		_ = s.auditLargest(s.life) // or at the next look
		now := s.state.Load()
		if now.leader != before.leader {
			s.log.Info("natsbroker: the stream has a new leader", "leader", now.leader)
		}
		if away || now.leader != before.leader {
			away = false
			s.suspect()
		}
		// Of several drops in a row, nats.go only reports the first. As long as
		// the sum grows, there may have been drops after the topics were
		// compared.
		if s.overflow.Load() {
			if sum := s.sumDropped(); sum != lost {
				lost = sum
				s.suspect()
			} else {
				s.overflow.Store(false)
			}
		}
		if now.clustered {
			s.checkAll(sweep.part(s))
		}
	}
}

// suspect makes watch compare all topics with the stream soon.
func (s *session) suspect() {
	select {
	case s.resync <- struct{}{}:
	default:
	}
}

// observe renews the state of the stream and the offset of its leader's clock.
func (s *session) observe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	began, reconnects := s.broker.cfg.clock(), s.nc.Stats().Reconnects
	s.owners.asking()
	info, err := s.info(ctx, "")
	if err != nil {
		return err
	}
	took := s.broker.cfg.clock().Sub(began)
	st, known := newState(info), s.state.Load()
	if st.epoch != known.epoch {
		err := fmt.Errorf("stream %q was created anew; restart the process", s.broker.cfg.name)
		s.log.Error("natsbroker: the positions of all clients are invalid", "err", err)
		s.broken.Store(&err)
		return err
	}
	s.state.Store(st)
	s.owners.observe(st)
	direct := uint64(0)
	if st.alone != "" && st.alone == s.nc.ConnectedServerName() && !s.broker.cfg.indirect {
		direct = reconnects + 1
	}
	s.direct.Store(direct)
	if st.firstSeq > s.old.Load() {
		s.old.Store(0)
	}
	if !info.TimeStamp.IsZero() {
		s.offset.Store(info.TimeStamp.Sub(began.Add(took / 2)).Milliseconds())
	}
	return nil
}

// findOld finds the newest message that an earlier version has stored.
func (s *session) findOld(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	seq, err := s.last(ctx, s.broker.cfg.name+logTree+oldTokens)
	if err == nil {
		s.old.Store(seq)
	}
	return err
}

// info asks the leader about the stream. The request is empty, or in JSON.
func (s *session) info(ctx context.Context, request string) (*jetstream.StreamInfo, error) {
	var info struct {
		answer
		jetstream.StreamInfo
	}
	if err := s.request(ctx, s.api.info, request, &info); err != nil {
		return nil, err
	}
	return &info.StreamInfo, nil
}

// list returns all topics of the session.
func (s *session) list() []*topic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*topic, 0, len(s.topics))
	for _, t := range s.topics {
		all = append(all, t)
	}
	return all
}

// sumDropped returns how many messages were dropped, of all present topics.
func (s *session) sumDropped() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sum := 0
	for sub := range s.bySub {
		if n, err := sub.Dropped(); err == nil {
			sum += n
		}
	}
	return sum
}

// checkAll compares topics with the stream. If it fails, all topics are
// compared again soon.
func (s *session) checkAll(topics []*topic) {
	var failed atomic.Bool
	var wg sync.WaitGroup
	next := make(chan *topic)
	for range min(checkers, len(topics)) {
		wg.Go(func() {
			for t := range next {
				ctx, cancel := context.WithTimeout(t.life, attemptTimeout)
				if t.check(ctx) != nil && t.life.Err() == nil {
					failed.Store(true)
				}
				cancel()
			}
		})
	}
	for _, t := range topics {
		if failed.Load() || s.life.Err() != nil {
			break
		}
		next <- t
	}
	close(next)
	wg.Wait()
	if failed.Load() {
		time.AfterFunc(mostPause, s.suspect)
	}
}

// sweeper goes through all topics once in every SweepEvery.
type sweeper struct {
	topics []*topic
	step   int
}

// part returns the next topics to compare with the stream. Those that had a
// message lately are among them, because that message does not show that a
// named one before it is missing.
func (w *sweeper) part(s *session) (some []*topic) {
	if len(w.topics) == 0 {
		w.topics = s.list()
		ticks := max(1, int(s.broker.cfg.sweep/watchInterval))
		w.step = (len(w.topics) + ticks - 1) / ticks
	}
	n := min(w.step, len(w.topics))
	some = w.topics[:n]
	w.topics = w.topics[n:]
	return some
}

func (s *session) reconnected(nc *nats.Conn) {
	s.newLink()
	s.broker.counters.reconnects.Add(1)
	s.log.Info("natsbroker: connected again", "server", nc.ConnectedServerName())
	s.suspect()
}

func (s *session) disconnected(_ *nats.Conn, err error) {
	s.hazards.Add(1)
	s.link.Load().lost()
	if s.life.Err() == nil {
		s.broker.counters.disconnects.Add(1)
		s.log.Warn("natsbroker: connection lost", "err", err)
	}
}

// failed handles errors of the connection that are not the result of a call.
func (s *session) failed(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) {
		s.hazards.Add(1)
		s.overflow.Store(true)
		s.broker.counters.overflows.Add(1)
		return // not logged, because there may be thousands
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	s.log.Error("natsbroker: error of the connection", "subject", subject, "err", err)
}
