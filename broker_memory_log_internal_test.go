package chathub

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// FuzzRing compares a ring with a slice. Each byte pushes (even) or pops (odd)
// a few elements.
func FuzzRing(f *testing.F) {
	f.Add([]byte{20, 41, 6, 3, 200, 255, 255})
	f.Add([]byte{2, 3, 2, 3, 18, 5, 20, 7, 20, 7})
	f.Fuzz(func(t *testing.T, steps []byte) {
		steps = steps[:min(len(steps), 100)] // each step checks everything
		var r ring[int]
		var model []int
		next := 0
		for _, step := range steps {
			for range int(step) / 2 {
				if step%2 == 0 {
					next++
					r.push(next)
					model = append(model, next)
				} else if len(model) > 0 {
					if got := r.pop(); got != model[0] {
						t.Fatalf("pop: %d, want %d", got, model[0])
					}
					model = model[1:]
				}
				if r.len() != len(model) || len(r.buf) > max(4, 4*len(model)) || len(model) == 0 && r.buf != nil {
					t.Fatalf("%d elements in a buffer of %d, want %d", r.len(), len(r.buf), len(model))
				}
			}
			for i := range r.buf {
				want := 0 // elements that were popped are not kept
				if i < len(model) {
					want = model[i]
				}
				if got := *r.at(i); got != want {
					t.Fatalf("element %d is %d, want %d", i, got, want)
				}
			}
		}
	})
}

// logModel is a memoryLog in its simplest form.
type logModel struct {
	limits   memoryLimits
	all      []Message
	trimmed  int // number of messages trimmed from all
	keys     []Message
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
	m.Seq, m.Time = uint64(len(l.all)+1), now
	l.lastTime = now
	l.all = append(l.all, m)
	if m.Key != "" && l.limits.window >= 0 {
		l.keys = append(l.keys, m)
		l.keys = l.keys[max(0, len(l.keys)-l.limits.keys):]
	}
	for l.bytes() > l.limits.bytes || len(l.all)-l.trimmed > l.limits.messages {
		l.trimmed++
	}
	return Receipt{Epoch: "epoch", Seq: m.Seq, Time: m.Time}, nil
}

func (l *logModel) bytes() int {
	n := 0
	for _, m := range l.all[l.trimmed:] {
		n += len(m.Body) + len(m.Key) + messageCost
	}
	return n
}

func (l *logModel) age(now int64) {
	l.keys = slices.DeleteFunc(l.keys, func(m Message) bool { return now-m.Time > l.limits.window })
	for l.trimmed < len(l.all) && now-l.all[l.trimmed].Time > l.limits.age {
		l.trimmed++
	}
}

func (l *logModel) read(r Range, now int64) Page {
	l.age(now)
	p := Page{Head: Position{"epoch", uint64(len(l.all))}, Trimmed: uint64(l.trimmed)}
	for _, m := range l.all[l.trimmed:] {
		if m.Seq > r.After && (r.Before == 0 || m.Seq < r.Before) && r.Limit > 0 {
			p.Messages = append(p.Messages, m)
		}
	}
	if len(p.Messages) > r.Limit && r.Limit > 0 {
		p.Messages = p.Messages[len(p.Messages)-r.Limit:]
		p.More = true
	}
	return p
}

func equalMessages(a, b Message) bool {
	return a.Topic == b.Topic && a.Key == b.Key && string(a.Body) == string(b.Body) && a.Seq == b.Seq && a.Time == b.Time
}

// FuzzMemoryLog compares a log with its model over random calls.
func FuzzMemoryLog(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(seed, uint16(400))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		random := rand.New(rand.NewPCG(seed, 0))
		pick := func(values ...int) int { return values[random.IntN(len(values))] }
		limits := memoryLimits{
			messages: pick(1, 2, 7, 64, math.MaxInt),
			bytes:    pick(50, 1000, 5000, math.MaxInt),
			keys:     pick(1, 4, 50),
			age:      int64(pick(1, 30, 500, math.MaxInt)),
			window:   int64(pick(-1, 1, 30, 500)),
		}
		topic := Topic{Room: "r"}
		l := newMemoryLog(topic, "epoch")
		model := &logModel{limits: limits}
		now, total := int64(1e12), 0
		for step := range int(steps) {
			now += int64(pick(0, 0, 1, 5, -3, random.IntN(100)))
			if random.IntN(3) == 0 {
				r := Range{After: uint64(random.IntN(step + 2)), Before: uint64(random.IntN(step + 2)), Limit: pick(-1, 0, 1, 2, 10, math.MaxInt)}
				if random.IntN(2) == 0 {
					r.Before = 0
				}
				got, shrunk := l.read(r, now, &limits)
				total -= shrunk
				want := model.read(r, now)
				if !slices.EqualFunc(got.Messages, want.Messages, equalMessages) || got.Head != want.Head ||
					got.Trimmed != want.Trimmed || got.More != want.More {
					t.Fatalf("step %d, %+v, read %+v:\n%+v, want\n%+v", step, limits, r, got, want)
				}
			} else {
				m := Message{Topic: topic, Key: fmt.Sprint(random.IntN(40)), Body: make([]byte, random.IntN(300)), Sum: random.Uint64N(3)}
				if random.IntN(3) == 0 {
					m.Key = ""
				}
				got, _, grown, err := l.append(m, now, &limits)
				total += grown
				if want, wantErr := model.append(m, now); got != want || !errors.Is(err, wantErr) {
					t.Fatalf("step %d, %+v, append %q: %+v, %v, want %+v, %v", step, limits, m.Key, got, err, want, wantErr)
				}
			}
			if total != l.cost() || l.bytes != model.bytes() || len(l.index) != l.keys.len() || l.keys.len() != len(model.keys) {
				t.Fatalf("step %d, %+v: cost %d, counted %d; %d bytes, want %d; %d of %d keys, want %d", step, limits,
					l.cost(), total, l.bytes, model.bytes(), len(l.index), l.keys.len(), len(model.keys))
			}
		}
	})
}
