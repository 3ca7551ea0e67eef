package chathub

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// logModel is a memoryLog in the plainest form.
type logModel struct {
	limits   memoryLimits
	topic    Topic
	kept     []Message // with removals
	erased   map[uint64]bool
	names    []Message
	keys     []Message
	head     uint64
	trimmed  uint64
	lastTime int64
}

func (l *logModel) append(m Message, now int64) (Receipt, error) {
	now = max(now, l.lastTime)
	l.age(now)
	for _, k := range l.keys {
		if k.Key == m.Key {
			if k.Sum*m.Sum != 0 && k.Sum != m.Sum {
				return Receipt{}, errOtherMessage
			}
			return Receipt{Epoch: "epoch", Seq: k.Seq, Time: k.Time, Duplicate: true}, nil
		}
	}
	if err := l.refuses(m); err != nil {
		return Receipt{}, err
	}
	l.head++
	l.lastTime = now
	m.Seq, m.Time = l.head, now
	if m.Key != "" && l.limits.window >= 0 {
		l.keys = append(l.keys, m)
	}
	if m.Name != "" {
		l.rename(m)
	}
	if m.Name != "" && !m.Remove {
		return Receipt{Epoch: "epoch", Seq: m.Seq, Time: m.Time}, nil
	}
	l.kept = append(l.kept, m)
	if costOf(m) > l.limits.log[byBytes] {
		l.drop(len(l.kept) - 1)
	}
	for by, limit := range l.limits.log {
		for l.size(by, func(Message) bool { return true }) > limit {
			l.drop(l.leaves(by, limit))
		}
	}
	return Receipt{Epoch: "epoch", Seq: m.Seq, Time: m.Time}, nil
}

func costOf(m Message) int {
	n := len(m.Body) + len(m.Key) + messageCost
	if m.Remove {
		n += len(m.Name) + 2
	}
	return n
}

func (l *logModel) drop(i int) {
	m := l.kept[i]
	l.trimmed = max(l.trimmed, m.Seq)
	l.kept = slices.Delete(l.kept, i, i+1)
	l.dropNames(func(name Message) bool { return name.Tied == m.Seq })
}

func (l *logModel) size(by int, of func(Message) bool) (n int) {
	for _, m := range l.kept {
		if of(m) {
			n += []int{byNumber: 1, byBytes: costOf(m)}[by]
		}
	}
	return n
}

// leaves returns the place of the message that leaves the full log.
func (l *logModel) leaves(by, limit int) int {
	most := make(map[int]int) // what the owner has of whom the message at this place is the oldest
	pay := func(notice, new bool) {
		for i, m := range l.kept {
			same := func(n Message) bool { return n.Owner == m.Owner && (n.Notice == m.Notice || l.topic.User == "") }
			if (m.Notice == notice || l.topic.User == "") && slices.IndexFunc(l.kept, same) == i && (new || m.Seq < l.head) {
				most[i] = l.size(by, same)
			}
		}
	}
	if l.topic.User == "" {
		pay(false, false)
		return max(0, largest(most, limit/2))
	}
	notices := l.size(by, func(m Message) bool { return m.Notice }) > limit/4
	if pay(notices, notices); len(most) == 0 {
		pay(true, true)
	}
	return largest(most, 0)
}

// largest returns the first place of those with the largest number, if that is
// over least, else -1.
func largest(of map[int]int, least int) int {
	place, most := -1, least
	for i, n := range of {
		if n > most || n == most && i < place {
			place, most = i, n
		}
	}
	return place
}

func (l *logModel) age(now int64) {
	l.keys = slices.DeleteFunc(l.keys, func(m Message) bool { return now-m.Time > l.limits.window })
	for len(l.kept) > 0 && now-l.kept[0].Time > l.limits.age {
		l.drop(0)
	}
}

func (l *logModel) read(r Range, now int64) Page {
	l.age(now)
	p := Page{Head: Position{"epoch", l.head}, Trimmed: l.trimmed}
	bytes := 0
	all := l.all()
	if !r.Oldest {
		slices.Reverse(all)
	}
	for _, m := range all {
		if m.Seq <= r.After || r.Before > 0 && m.Seq >= r.Before || r.Limit <= 0 || r.Ordinary && m.Name != "" {
			continue
		}
		bytes += len(m.Body)
		if p.More = len(p.Messages) == r.Limit || r.MaxBytes > 0 && bytes > r.MaxBytes; p.More {
			break
		}
		p.Messages = append(p.Messages, m)
	}
	if !r.Oldest {
		slices.Reverse(p.Messages)
	}
	return p
}

func equalMessages(a, b Message) bool {
	return a.Topic == b.Topic && a.Key == b.Key && string(a.Body) == string(b.Body) && a.Seq == b.Seq && a.Time == b.Time &&
		a.Owner == b.Owner && a.Notice == b.Notice && a.Name == b.Name && a.Remove == b.Remove && (a.Tied == b.Tied || a.Remove)
}

// FuzzMemoryLog compares a log with its model over random calls.
func FuzzMemoryLog(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed, uint16(400))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		random := rand.New(rand.NewPCG(seed, 0))
		pick := func(values ...int) int { return values[random.IntN(len(values))] }
		limits := memoryLimits{
			log: measure{
				byNumber: pick(1, 2, 7, 64, math.MaxInt),
				byBytes:  pick(50, 1000, 5000, math.MaxInt),
			},
			names: measure{
				byNumber: pick(1, 4, 9, math.MaxInt),
				byBytes:  pick(500, 2000, math.MaxInt),
			},
			age:    int64(pick(1, 30, 500, math.MaxInt)),
			window: int64(pick(-1, 1, 30, 500)),
		}
		topic := Topic{Room: "r"}
		if random.IntN(3) > 0 {
			topic = Topic{User: "u"}
		}
		var ledger ledger
		l := newMemoryLog(topic, "epoch")
		model := &logModel{limits: limits, topic: topic, erased: make(map[uint64]bool)}
		withNames := pick(0, 3, 8) // of ten messages
		isKept := func(seq uint64) bool {
			i := l.messages.find(seq)
			return i < l.messages.len() && l.messages.at(i).seq == seq && l.messages.at(i).share != nil
		}
		owners, heavy := pick(1, 3, 20), pick(0, 2, 9) // of ten messages, how many are of one owner
		now := int64(1e12)
		for step := range int(steps) {
			now += int64(pick(0, 0, 1, 5, -3, random.IntN(100)))
			switch random.IntN(8) {
			case 0, 1:
				r := Range{
					After:    uint64(random.IntN(step + 2)),
					Before:   uint64(random.IntN(step + 2)),
					Limit:    pick(-1, 0, 1, 2, 10, math.MaxInt),
					MaxBytes: pick(0, 0, 1, 200, 1000, math.MaxInt),
					Oldest:   random.IntN(3) == 0,
					Ordinary: random.IntN(3) == 0,
				}
				if random.IntN(2) == 0 {
					r.Before = 0
				}
				got, want := l.read(r, now, &limits), model.read(r, now)
				if !slices.EqualFunc(got.Messages, want.Messages, equalMessages) || got.Head.Seq != want.Head.Seq ||
					got.Trimmed != want.Trimmed || got.More != want.More {
					t.Fatalf("step %d, %+v, read %+v:\n%+v, want\n%+v", step, limits, r, got, want)
				}
			case 2:
				if len(l.shares.list) == 0 || random.IntN(10) > 0 {
					continue
				}
				// Of one share, the oldest goes, as in a full store, and
				// names last.
				s := l.shares.list[random.IntN(len(l.shares.list))]
				amount, before := random.IntN(2000), s.held()
				free := l.cut(s, amount)
				if free != before-s.held() || free < min(amount, before) {
					t.Fatalf("step %d: %d of %d is free, of a share of %d", step, free, amount, before)
				}
				for len(model.keys) > l.keys.size() {
					model.keys = slices.DeleteFunc(model.keys, func(m Message) bool { return l.remembered(m.Key) == nil })
				}
				for i := 0; i < len(model.kept); {
					if m := model.kept[i]; isKept(m.Seq) {
						i++
					} else if m.Owner != s.account.owner {
						t.Fatalf("step %d: %q pays with a message of %q", step, s.account.owner, m.Owner)
					} else {
						model.drop(i)
					}
				}
				model.dropNames(func(m Message) bool {
					isGone := l.names.find(m.Name) < 0
					if isGone && (m.Owner != s.account.owner || s.size[byNumber] > 0 || s.keys > 0) {
						t.Fatalf("step %d: %q pays with the name %q of %q", step, s.account.owner, m.Name, m.Owner)
					}
					return isGone
				})
			case 3:
				checkQueries(t, random, l, model, now)
			default:
				m := Message{
					Topic:  topic,
					Key:    fmt.Sprint(random.IntN(40)),
					Body:   make([]byte, random.IntN(300)),
					Sum:    random.Uint64N(3),
					Owner:  fmt.Sprint(random.IntN(owners)),
					Notice: random.IntN(3) == 0,
				}
				if random.IntN(10) < heavy {
					m.Owner = "heavy"
				}
				if random.IntN(3) == 0 {
					m.Key = ""
				}
				if random.IntN(10) < withNames {
					model.name(random, &m)
				}
				got, _, err := l.append(&m, now, &limits, &ledger)
				if want, wantErr := model.append(m, now); got != want || !errors.Is(err, wantErr) {
					t.Fatalf("step %d, %+v, append %q: %+v, %v, want %+v, %v", step, limits, m.Key, got, err, want, wantErr)
				}
			}
			checkMemoryLog(t, l, &limits)
			held := 0
			for _, s := range l.shares.list {
				held += s.held()
			}
			every := func(Message) bool { return true }
			if int(ledger.total.Load()) != held || l.size[byBytes] != model.size(byBytes, every) ||
				l.keys.size() != len(model.keys) || t.Failed() {
				t.Fatalf("step %d, %+v: cost %d, counted %d; %d bytes, want %d; %d keys, want %d", step, limits,
					held, ledger.total.Load(), l.size[byBytes], model.size(byBytes, every), l.keys.size(), len(model.keys))
			}
		}
	})
}
