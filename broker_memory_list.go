package chathub

// chain is a linked list of values that contain their links.
type chain[T any] struct {
	first, last *T
	n           int
}

// links are the links of a value, which is in one list at most.
type links[T any] struct {
	in         *chain[T] // nil: in none
	prev, next *T
}

type linked[T any] interface {
	*T
	link() *links[T]
}

// push makes v the last one of a list.
func push[T any, P linked[T]](to *chain[T], v P) {
	l := v.link()
	l.in, l.prev = to, to.last
	if l.prev != nil {
		P(l.prev).link().next = v
	} else {
		to.first = v
	}
	to.last = v
	to.n++
}

// unlink takes v out of its list.
func unlink[T any, P linked[T]](v P) {
	l := v.link()
	if l.prev != nil {
		P(l.prev).link().next = l.next
	} else {
		l.in.first = l.next
	}
	if l.next != nil {
		P(l.next).link().prev = l.prev
	} else {
		l.in.last = l.prev
	}
	l.in.n--
	*l = links[T]{}
}

// shrinkingMap is a map whose memory shrinks with what is in it.
type shrinkingMap[K comparable, V any] struct {
	m    map[K]V // nil: empty
	peak int     // the largest size of m
}

func (l *shrinkingMap[K, V]) set(k K, v V) {
	if l.m == nil {
		l.m = make(map[K]V)
	}
	l.m[k] = v
	l.peak = max(l.peak, len(l.m))
}

func (l *shrinkingMap[K, V]) remove(k K) {
	delete(l.m, k)
	if n := len(l.m); n <= l.peak/4 { // a map does not shrink
		old := l.m
		*l = shrinkingMap[K, V]{}
		for k, v := range old {
			l.set(k, v)
		}
	}
}
