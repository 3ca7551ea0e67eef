package chathub

import "sort"

// entry is a message in a log, whose value is its body, or a remembered key,
// whose value is the sum of its message.
type entry[T any] struct {
	key   string
	seq   uint64
	when  stamp
	share *share // nil: a gap, whose entry was removed
	value T
}

// stamp is when an entry was stored, in Unix milliseconds, with marks in the
// bits below.
type stamp int64

const (
	isNotice stamp = 1 << iota
	isErased
	isRemoval // of a name; the key is one of joinName
	stampBits = iota
)

func stampOf(time int64) stamp { return stamp(time << stampBits) }

func (s stamp) time() int64 { return int64(s >> stampBits) }

// is reports whether s has one of the marks.
func (s stamp) is(marks stamp) bool { return s&marks != 0 }

// queue holds entries in the order of their seq. They come at the end, and go
// anywhere, mostly at the front. The first one is never a gap. At most half of
// all are gaps.
type queue[T any] struct {
	ring[entry[T]]
	gaps int
}

// size returns the number of entries that are not gaps.
func (q *queue[T]) size() int { return q.len() - q.gaps }

// find returns the place of the first entry that has seq or a higher one, or
// len if there is none.
func (q *queue[T]) find(seq uint64) int {
	n := q.len()
	if n == 0 || seq <= q.at(0).seq {
		return 0
	}
	// Without gaps, this is the place.
	if i := seq - q.at(0).seq; i < uint64(n) && q.at(int(i)).seq == seq {
		return int(i)
	}
	return sort.Search(n, func(i int) bool { return q.at(i).seq >= seq })
}

// entry returns the entry that has seq, or nil.
func (q *queue[T]) entry(seq uint64) *entry[T] {
	i := q.find(seq)
	if i == q.len() {
		return nil
	}
	if e := q.at(i); e.seq == seq && e.share != nil {
		return e
	}
	return nil
}

// next returns the place of the first entry of a share that has seq or a higher
// one. There must be one.
func (q *queue[T]) next(s *share, seq uint64) int {
	i := q.find(seq)
	for q.at(i).share != s {
		i++
	}
	return i
}

// remove makes the entry at i a gap.
func (q *queue[T]) remove(i int) {
	if i == 0 {
		q.pop()
	} else {
		e := q.at(i)
		*e = entry[T]{seq: e.seq}
		q.gaps++
	}
	for q.len() > 0 && q.at(0).share == nil {
		q.pop()
		q.gaps--
	}
	if q.gaps > q.len()/2 {
		q.filter(func(e *entry[T]) bool { return e.share != nil })
		q.gaps = 0
	}
}

// ring is a queue whose memory follows what is in it.
type ring[T any] struct {
	buf   []T // its length is 0 or a power of two
	first int
	n     int
}

func (q *ring[T]) len() int { return q.n }

// at returns the element at place i. The oldest one is at 0.
func (q *ring[T]) at(i int) *T { return &q.buf[(q.first+i)&(len(q.buf)-1)] }

// push appends a zero element, for the caller to fill in.
func (q *ring[T]) push() *T {
	if q.n == len(q.buf) {
		q.resize(max(2, 2*q.n))
	}
	q.n++
	return q.at(q.n - 1)
}

// pop removes the oldest element.
func (q *ring[T]) pop() {
	var zero T
	*q.at(0) = zero
	q.first = (q.first + 1) & (len(q.buf) - 1)
	if q.n--; q.n <= len(q.buf)/4 {
		q.shrink()
	}
}

// filter removes all elements but those to keep.
func (q *ring[T]) filter(keep func(*T) bool) {
	var zero T
	kept := 0
	for i := range q.n {
		e := q.at(i)
		if !keep(e) {
			continue
		}
		if kept < i {
			*q.at(kept) = *e
		}
		kept++
	}
	for i := kept; i < q.n; i++ {
		*q.at(i) = zero
	}
	q.n = kept
	q.shrink()
}

// shrink gives up memory if most of it is unused.
func (q *ring[T]) shrink() {
	if q.n == 0 {
		*q = ring[T]{}
		return
	}
	size := len(q.buf)
	for q.n <= size/4 && size > 2 {
		size /= 2
	}
	if size < len(q.buf) {
		q.resize(size)
	}
}

func (q *ring[T]) resize(size int) {
	buf := make([]T, size)
	for i := range q.n {
		buf[i] = *q.at(i)
	}
	q.buf, q.first = buf, 0
}
