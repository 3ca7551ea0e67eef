package natsbroker

import (
	"context"
	"math"
	"slices"

	"github.com/chathub-go/chathub"
)

// Survey implements [chathub.BrokerSession]. It asks the leader for the head of
// each topic. A topic whose head is not after the position in question needs
// nothing else. Many requests are under way at a time.
func (s *session) Survey(ctx context.Context, queries []chathub.SurveyQuery) ([]chathub.Standing, error) {
	done, err := s.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	surveys := make([]*survey, len(queries))
	standings := make([]chathub.Standing, len(queries))
	for i := range queries {
		q := &queries[i]
		surveys[i] = &survey{s: s, SurveyQuery: q, place: s.broker.cfg.place(q.Topic), done: !q.Topic.Kept()}
	}
	// Each step is repeated until it succeeds, because all of them may take
	// longer than one attempt has.
	err = parallel(ctx, len(surveys), func(ctx context.Context, i int) error {
		v, fresh := surveys[i], *surveys[i]
		return s.persist(ctx, func(ctx context.Context) error {
			*v = fresh
			return v.begin(ctx)
		})
	})
	if err == nil {
		err = s.countAll(ctx, surveys)
	}
	if err != nil {
		return nil, err
	}
	for i, v := range surveys {
		standings[i] = v.Standing
	}
	return standings, nil
}

// survey is one query that is being answered.
type survey struct {
	s *session
	*chathub.SurveyQuery
	place place
	head  uint64
	last  uint64 // the highest position of a message that may be unread
	// until is the position from which on the messages have been counted.
	until uint64
	done  bool
	chathub.Standing
}

// counts reports whether a message is one of those that a Standing is about.
func (v *survey) counts(m *chathub.Message) bool {
	return m.Name == "" && !m.Notice && !v.s.erasures.has(m.Seq)
}

func (v *survey) isUnread(m *chathub.Message) bool {
	return m.Seq > v.After && m.Seq <= v.last && m.Owner != v.Reader && (v.From == "" || m.Owner == v.From) && v.counts(m)
}

// add counts a message if it is one of those that are asked for.
func (v *survey) add(m *chathub.Message) {
	if !v.done && v.isUnread(m) {
		v.Unread++
		v.done = v.Unread >= v.Most
	}
}

// begin answers what takes few requests. It sets done if that is all.
func (v *survey) begin(ctx context.Context) error {
	if v.done {
		return nil
	}
	newest, err := v.s.newestOf(ctx, v.place)
	if err != nil || newest.seq == 0 {
		v.done = err == nil
		return err
	}
	v.head, v.last = newest.seq, newest.seq
	if v.Before > 0 {
		v.last = min(v.last, v.Before-1)
	}
	v.until = v.last + 1
	v.Head = chathub.Position{Epoch: v.s.state.Load().epoch, Seq: v.head}
	v.done = v.Most <= 0 || v.After >= v.last
	if v.SurveyQuery.Last {
		if m, ok := v.s.stored(v.Topic, newest); ok && v.counts(&m) {
			v.Standing.Last = m
		}
	}
	wantsLast := v.SurveyQuery.Last && v.Standing.Last.Seq == 0
	if v.done && !wantsLast {
		return nil
	}
	if t := v.s.subscribed(v.Topic); t != nil && v.s.broker.cfg.cache >= 0 {
		tail, first, ok := t.tail.copy(v.head, v.s.oldestTime())
		for _, m := range slices.Backward(tail) {
			v.add(&m)
			if wantsLast && v.counts(&m) {
				v.Standing.Last, wantsLast = m, false
			}
		}
		if ok {
			v.until = first + 1
			v.done = v.done || first <= v.After
		}
	}
	if wantsLast {
		return v.findLast(ctx)
	}
	return nil
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

const (
	// sweepFrom is how many topics have to be counted for one sweep to be less
	// work than one search for each. The server finds the messages of a topic
	// by looking at all messages around them.
	sweepFrom = 16
	// sweepSpan is how many positions a sweep goes back.
	sweepSpan = 1 << 16
	// sweepPart is how many positions are read before it is looked whether that
	// is enough.
	sweepPart = 1 << 12
	// everything is a filter that the server does not have to apply.
	everything = ">"
)

// countAll counts the messages of those topics that are not done.
func (s *session) countAll(ctx context.Context, surveys []*survey) error {
	groups := make(map[chathub.Topic][]*survey)
	rooms := 0
	for _, v := range surveys {
		if !v.done {
			if groups[v.Topic] == nil && v.Topic.Room != "" {
				rooms++
			}
			groups[v.Topic] = append(groups[v.Topic], v)
		}
	}
	if rooms >= sweepFrom {
		if err := s.sweep(ctx, groups); err != nil {
			return err
		}
	}
	var left [][]*survey
	for _, group := range groups {
		if group = slices.DeleteFunc(group, func(v *survey) bool { return v.done }); len(group) > 0 {
			left = append(left, group)
		}
	}
	return parallel(ctx, len(left), func(ctx context.Context, i int) error {
		fresh := make([]survey, len(left[i]))
		for k, v := range left[i] {
			fresh[k] = *v
		}
		return s.persist(ctx, func(ctx context.Context) error {
			for k, v := range left[i] {
				*v = fresh[k]
			}
			return s.count(ctx, left[i])
		})
	})
}

// sweep reads the newest messages of the stream, and counts those of many
// rooms.
func (s *session) sweep(ctx context.Context, groups map[chathub.Topic][]*survey) error {
	begin, end := uint64(math.MaxUint64), uint64(0)
	bySubject := make(map[string][]*survey)
	for t, group := range groups {
		if t.Room == "" {
			continue
		}
		bySubject[s.broker.cfg.filterOfMessages(t)] = group
		for _, v := range group {
			begin, end = min(begin, v.After+1), max(end, v.until-1)
		}
	}
	if end >= sweepSpan {
		begin = max(begin, end-sweepSpan+1)
	}
	begin = max(begin, s.old.Load()+1)
	if begin > end {
		return nil
	}
	// The newest part comes first, because that may be enough. Several requests
	// at a time would not be faster.
	for last := end; ; {
		first := begin
		if last-begin >= sweepPart {
			first = last - sweepPart + 1
		}
		var found []chathub.Message
		if err := s.persist(ctx, func(ctx context.Context) error {
			found = nil
			return s.scanSubject(ctx, everything, first, last, fullPage, func(e entry) bool {
				if group := bySubject[e.subject]; group != nil {
					if m, ok := s.stored(group[0].Topic, e); ok {
						m.Body = nil // so that a page is not kept
						found = append(found, m)
					}
				}
				return true
			})
		}); err != nil {
			return err
		}
		for i := range found {
			for _, v := range groups[found[i].Topic] {
				if found[i].Seq < v.until {
					v.add(&found[i])
				}
			}
		}
		left := false
		for _, group := range bySubject {
			for _, v := range group {
				v.until = min(v.until, first)
				v.done = v.done || v.After+1 >= first
				left = left || !v.done
			}
		}
		if !left || first == begin {
			return nil
		}
		last = first - 1
	}
}

// count counts the messages of one topic in the stream.
func (s *session) count(ctx context.Context, group []*survey) error {
	begin, end, most := uint64(math.MaxUint64), uint64(0), 0
	for _, v := range group {
		begin, end, most = min(begin, v.After+1), max(end, v.until-1), max(most, v.Most)
	}
	add := func(e entry) bool {
		if e.isNamed() {
			return true
		}
		left := false
		m, ok := s.stored(group[0].Topic, e)
		for _, v := range group {
			if ok && e.seq < v.until {
				v.add(&m)
			}
			left = left || !v.done
		}
		return left
	}
	if begin <= s.old.Load() {
		p := group[0].place
		p.filter = p.ordinary
		return s.scan(ctx, p, begin, end, add)
	}
	b := bounds{min(pageSize, most+most/8), pageBytes}
	return s.scanSubject(ctx, s.broker.cfg.filterOfMessages(group[0].Topic), begin, end, b, add)
}
