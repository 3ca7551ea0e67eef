package chathub

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The names of logModel.

func (l *logModel) all() []Message {
	var all []Message
	for _, m := range l.kept {
		if !l.erased[m.Seq] {
			all = append(all, m)
		}
	}
	all = append(all, l.names...)
	slices.SortFunc(all, func(m, n Message) int { return cmp.Compare(m.Seq, n.Seq) })
	return all
}

func (l *logModel) newest(name string) (m Message) {
	if i := slices.IndexFunc(l.names, func(m Message) bool { return m.Name == name }); i >= 0 {
		m = l.names[i]
	}
	return m
}

func (l *logModel) dropNames(gone func(Message) bool) {
	l.names = slices.DeleteFunc(l.names, func(m Message) bool {
		if gone(m) {
			l.trimmed = max(l.trimmed, m.Seq)
			return true
		}
		return false
	})
}

func nameCostOf(m Message) int { return len(m.Body) + len(m.Name) + len(m.Key) + nameCost }

func (l *logModel) refuses(m Message) error {
	if m.Name == "" {
		return nil
	}
	old := l.newest(m.Name)
	if m.Expect != nil && *m.Expect != old.Seq {
		return errOtherVersion
	}
	if m.Tied > 0 && !slices.ContainsFunc(l.kept, func(n Message) bool { return n.Seq == m.Tied && !n.Remove }) {
		return errNotTied
	}
	if m.Remove || m.Erase && !l.erased[m.Tied] {
		return nil
	}
	var has, ofOwner measure // without the old one
	for _, n := range l.names {
		if n.Name == m.Name {
			continue
		}
		has.add(1, nameCostOf(n))
		if n.Owner == m.Owner {
			ofOwner.add(1, nameCostOf(n))
		}
	}
	is := measure{1, nameCostOf(m)}
	for by, limit := range l.limits.names {
		was, wasOfOwner := 0, 0
		if old.Seq > 0 {
			was = []int{1, nameCostOf(old)}[by]
			if by == byNumber || old.Owner == m.Owner {
				wasOfOwner = was
			}
		}
		if has[by]+is[by] > limit && is[by] > was ||
			m.Owner != "" && ofOwner[by]+is[by] > limit-limit/2 && is[by] > wasOfOwner {
			return errTooManyNames
		}
	}
	return nil
}

func (l *logModel) rename(m Message) {
	if m.Erase {
		for i := range l.kept {
			if n := &l.kept[i]; n.Seq == m.Tied {
				l.erased[m.Tied] = true
				n.Body, n.Key = nil, ""
			}
		}
	}
	l.names = slices.DeleteFunc(l.names, func(n Message) bool { return n.Name == m.Name })
	if !m.Remove {
		l.names = append(l.names, m)
	}
}

// name makes m a named message, of a few names.
func (l *logModel) name(random *rand.Rand, m *Message) {
	m.Name = fmt.Sprint([]string{"a", "ab"}[random.IntN(2)], "/", random.IntN(8))
	m.Remove = random.IntN(6) == 0
	if random.IntN(2) == 0 && l.head > 0 {
		m.Tied = max(1, l.head-min(l.head, random.Uint64N(20)))
		m.Erase = random.IntN(2) == 0
	}
	if random.IntN(4) == 0 {
		seq := l.newest(m.Name).Seq
		if random.IntN(3) == 0 {
			seq = random.Uint64N(l.head + 2)
		}
		m.Expect = &seq
	}
	if random.IntN(4) == 0 {
		m.Owner = ""
	}
}

// checkQueries compares what a log and its model say of names, and of where
// they stand.
func checkQueries(t *testing.T, random *rand.Rand, l *memoryLog, model *logModel, now int64) {
	t.Helper()
	some := func() uint64 {
		return []uint64{0, random.Uint64N(l.head + 2), random.Uint64N(l.head + 2), math.MaxUint64}[random.IntN(4)]
	}
	survey := SurveyQuery{After: some(), Most: random.IntN(4) * random.IntN(9), Last: random.IntN(2) == 0}
	survey.Reader, survey.From = fmt.Sprint(random.IntN(3)), []string{"", "0", "1"}[random.IntN(3)]
	var got, want Standing
	l.survey(&survey, &got, now, &model.limits)
	want.Head = Position{"epoch", l.head}
	// The log has not expired yet, the model has.
	model.age(now)
	for _, m := range model.all() {
		if m.Name != "" || m.Notice {
			continue
		}
		if survey.Last {
			want.Last = m
		}
		if m.Seq > survey.After && m.Owner != survey.Reader && (survey.From == "" || survey.From == m.Owner) && want.Unread < survey.Most {
			want.Unread++
		}
	}
	if got.Head != want.Head || got.Unread != want.Unread || !equalMessages(got.Last, want.Last) {
		t.Fatalf("survey %+v: %+v, want %+v", survey, got, want)
	}

	q := NameQuery{Kind: []string{"a", "ab", "b"}[random.IntN(3)], From: some(), To: some()}
	if random.IntN(3) == 0 {
		q.Names = []string{"a/1", "ab/1", "b/1", "a/2", "a/1"}
	}
	var names []Message
	for _, m := range model.names {
		kind, _, _ := strings.Cut(m.Name, "/")
		if len(q.Names) > 0 && slices.Contains(q.Names, m.Name) ||
			len(q.Names) == 0 && kind == q.Kind && (q.To == 0 || m.Tied > 0 && q.From <= m.Tied && m.Tied <= q.To) {
			names = append(names, m)
		}
	}
	if got := l.readNamed(&q, now, &model.limits); !slices.EqualFunc(got, names, equalMessages) {
		t.Fatalf("names %+v:\n%+v, want\n%+v", q, got, names)
	}
}
