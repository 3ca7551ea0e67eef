package natsbroker

import (
	"context"
	"slices"

	"github.com/chathub-go/chathub"
)

// Survey implements [chathub.BrokerSession]. It asks the leader for the head of
// each topic. A topic whose head is not after the position in question needs
// nothing else. Many requests are under way at a time.
func (s *session) Survey(ctx context.Context, queries []chathub.SurveyQuery) ([]chathub.Standing, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	standings := make([]chathub.Standing, len(queries))
	err := s.persist(ctx, func(ctx context.Context) error {
		return parallel(ctx, len(queries), func(ctx context.Context, i int) (err error) {
			if queries[i].Topic.Kept() {
				v := survey{s: s, SurveyQuery: &queries[i], place: s.broker.cfg.place(queries[i].Topic)}
				standings[i], err = v.answer(ctx)
			}
			return err
		})
	})
	return standings, err
}

// survey is one query that is being answered.
type survey struct {
	s *session
	*chathub.SurveyQuery
	place place
	head  uint64
	last  uint64 // the highest position of a message that may be unread
	chathub.Standing
}

// counts reports whether a message is one of those that a Standing is about.
func (v *survey) counts(m *chathub.Message) bool {
	return m.Name == "" && !m.Notice && !v.s.erasures.has(m.Seq)
}

func (v *survey) isUnread(m *chathub.Message) bool {
	return m.Seq > v.After && m.Seq <= v.last && m.Owner != v.Reader && (v.From == "" || m.Owner == v.From) && v.counts(m)
}

func (v *survey) answer(ctx context.Context) (chathub.Standing, error) {
	newest, err := v.s.newestOf(ctx, v.place)
	if err != nil || newest.seq == 0 {
		return v.Standing, err
	}
	v.head, v.last = newest.seq, newest.seq
	if v.Before > 0 {
		v.last = min(v.last, v.Before-1)
	}
	v.Head = chathub.Position{Epoch: v.s.state.Load().epoch, Seq: v.head}
	wantsCount := v.Most > 0 && v.After < v.last
	if v.SurveyQuery.Last {
		if m, ok := v.s.stored(v.Topic, newest); ok && v.counts(&m) {
			v.Standing.Last = m
		}
	}
	wantsLast := v.SurveyQuery.Last && v.Standing.Last.Seq == 0
	if !wantsCount && !wantsLast {
		return v.Standing, nil
	}
	if t := v.s.subscribed(v.Topic); t != nil && v.s.broker.cfg.cache >= 0 {
		tail, first, ok := t.tail.copy(v.head, v.s.oldestTime())
		if ok && wantsCount && first <= v.After {
			wantsCount = false
			for i := range tail {
				if v.Unread < v.Most && v.isUnread(&tail[i]) {
					v.Unread++
				}
			}
		}
		for _, m := range slices.Backward(tail) {
			if wantsLast && v.counts(&m) {
				v.Standing.Last, wantsLast = m, false
			}
		}
	}
	if wantsLast {
		if err := v.findLast(ctx); err != nil {
			return v.Standing, err
		}
	}
	if wantsCount {
		err = v.count(ctx)
	}
	return v.Standing, err
}

// findLast finds the newest message that counts.
func (v *survey) findLast(ctx context.Context) error {
	found := newest{limit: 1, size: bodyBound(0), decode: func(e entry) (m chathub.Message, ok bool) {
		if !e.isNamed() {
			m, ok = v.s.stored(v.Topic, e)
		}
		return m, ok && v.counts(&m)
	}}
	e, err := v.s.get(ctx, `{"last_by_subj":`+quote(v.s.broker.cfg.filterOfMessages(v.Topic))+`}`)
	if err != nil {
		return err
	}
	if e.seq >= v.s.old.Load() {
		if e.seq == 0 || found.add(e) && len(found.messages) > 0 {
			v.Standing.Last = found.last()
			return nil
		}
	}
	p := v.place
	p.filter = p.ordinary
	_, err = v.s.search(ctx, p, 0, v.head, &found)
	v.Standing.Last = found.last()
	return err
}

// last returns the newest message that was collected, or one with Seq 0.
func (n *newest) last() (m chathub.Message) {
	if len(n.messages) > 0 {
		m = n.messages[len(n.messages)-1]
	}
	return m
}

// count counts the messages after the position in the stream.
func (v *survey) count(ctx context.Context) error {
	v.Unread = 0
	add := func(e entry) bool {
		if !e.isNamed() {
			if m, ok := v.s.stored(v.Topic, e); ok && v.isUnread(&m) {
				v.Unread++
			}
		}
		return v.Unread < v.Most
	}
	if v.After < v.s.old.Load() {
		p := v.place
		p.filter = p.ordinary
		return v.s.scan(ctx, p, v.After+1, v.last, add)
	}
	b := bounds{min(pageSize, v.Most+v.Most/8), pageBytes}
	return v.s.scanSubject(ctx, v.s.broker.cfg.filterOfMessages(v.Topic), v.After+1, v.last, b, add)
}

// newestOf returns the newest message of a topic, or one with seq 0.
func (s *session) newestOf(ctx context.Context, p place) (entry, error) {
	m, err := s.get(ctx, `{"last_by_subj":`+quote(p.filter)+`}`)
	if err != nil || m.seq >= s.old.Load() {
		return m, err
	}
	old, err := s.get(ctx, `{"last_by_subj":`+quote(p.old)+`}`)
	if old.seq > m.seq {
		m = old
	}
	return m, err
}
