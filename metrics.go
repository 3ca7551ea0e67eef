package chathub

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Metrics are the [Stats] of a hub, and the figures that are split by what they
// are about. All of them count from the start of the hub. Clients cannot make
// keys: what they choose freely is counted under one key. The maps belong to
// the caller.
type Metrics struct {
	Stats
	// RefusedBy has the handshakes that were refused, by the code that the
	// client was told. A code that is not one of this package is "other".
	RefusedBy map[Code]uint64
	// Events has what clients sent and a handler was asked for, by type. Types
	// without a handler are [UnknownEvents]. Input that was rejected before
	// that is in Stats.Malformed and Stats.RateLimited.
	Events map[string]Calls
	// Disconnects has the connections that were welcomed and have ended.
	Disconnects map[End]uint64
	// Recoveries has the logs that a client wanted to continue from a position,
	// by a resume or by a join with since.
	Recoveries map[Recovery]uint64
	// Broker has the calls of the Broker, by method in lower case, such as
	// "publish".
	Broker map[string]Calls
}

// UnknownEvents stands in [Metrics] for all types of events that have no
// handler. It is no valid type itself.
const UnknownEvents = "_unknown"

// Calls are the results of calls of one kind, and how long they took.
type Calls struct {
	// Results has the number of calls by code. "" stands for success.
	Results  map[Code]uint64
	Duration Histogram
}

// Histogram is a distribution of durations.
type Histogram struct {
	// Bounds are the upper bounds of the buckets, ascending and inclusive. They
	// are the same for all histograms.
	Bounds []time.Duration
	// Counts has the number of durations in each bucket. The last one is for
	// those above all bounds, so there is one more than Bounds.
	Counts []uint64
	Sum    time.Duration
}

// Count returns the number of durations.
func (d *Histogram) Count() (n uint64) {
	for _, c := range d.Counts {
		n += c
	}
	return n
}

// End is how a connection ended.
type End struct {
	// Code is the WebSocket close code. It is 0 if the client closed with a
	// code that RFC 6455 does not define.
	Code int
	// Remote reports whether the client closed the connection, or the
	// connection broke.
	Remote bool
}

// Recovery is how a client could continue from a position in a log.
type Recovery struct {
	Inbox  bool // else a room
	Result RecoveryResult
}

// RecoveryResult says whether a client got everything that it had missed in a
// log, and if not, why.
type RecoveryResult string

// The results of recoveries.
const (
	RecoveryComplete RecoveryResult = "complete" // nothing was missed for good
	RecoveryNewLog   RecoveryResult = "new_log"  // the position was of another epoch
	RecoveryAhead    RecoveryResult = "ahead"    // the log was restored to an older state
	RecoveryDropped  RecoveryResult = "dropped"  // the log has dropped some of it
	RecoveryTooMuch  RecoveryResult = "too_much" // more than an answer may have
	RecoveryOff      RecoveryResult = "off"      // ReplayLimit is negative
	RecoveryFailed   RecoveryResult = "failed"   // the log could not be read
)

// Metrics returns the figures of this moment. It does not wait for anything,
// and takes some microseconds.
func (h *Hub) Metrics() Metrics {
	n := &h.counters
	m := Metrics{
		Stats:       h.Stats(),
		RefusedBy:   n.refusedBy.counts(),
		Events:      make(map[string]Calls),
		Disconnects: n.disconnects.counts(),
		Recoveries:  n.recoveries.counts(),
		Broker:      make(map[string]Calls),
	}
	for name, c := range n.events.all() {
		m.Events[name] = c.read()
	}
	for i := range n.broker {
		if c := n.broker[i].read(); c.Duration.Count() > 0 {
			m.Broker[brokerMethod(i).String()] = c
		}
	}
	return m
}

// tally has figures by key. Any goroutine may use it. A key never goes, so keys
// must be of a set that clients cannot extend.
type tally[K comparable, V any] struct {
	mu  sync.Mutex // held to add a key
	now atomic.Pointer[map[K]*V]
}

// all returns the figures of all keys. The map must not be changed.
func (t *tally[K, V]) all() map[K]*V {
	if m := t.now.Load(); m != nil {
		return *m
	}
	return nil
}

// of returns the figures of a key, which it adds if it is new.
func (t *tally[K, V]) of(key K) *V {
	if v := t.all()[key]; v != nil {
		return v
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if v := t.all()[key]; v != nil {
		return v
	}
	next := maps.Clone(t.all())
	if next == nil {
		next = make(map[K]*V)
	}
	v := new(V)
	next[key] = v
	t.now.Store(&next)
	return v
}

// counts is a tally of numbers.
type counts[K comparable] struct{ tally[K, atomic.Uint64] }

func (t *counts[K]) add(key K) { t.of(key).Add(1) }

func (t *counts[K]) counts() map[K]uint64 {
	all := t.all()
	m := make(map[K]uint64, len(all))
	for key, n := range all {
		m[key] = n.Load()
	}
	return m
}

// calls are what [Calls] reports.
type calls struct {
	results  counts[Code]
	duration histogram
}

func (c *calls) add(err *Error, took time.Duration) {
	c.results.add(codeOf(err))
	c.duration.add(took)
}

func (c *calls) read() Calls { return Calls{c.results.counts(), c.duration.read()} }

// codeOf returns the code of an error as it is counted: "" if there is none.
func codeOf(err *Error) Code {
	switch {
	case err == nil:
		return ""
	case slices.Contains(codes, err.Code):
		return err.Code
	}
	return "other"
}

var durationBounds = []time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// histogram counts durations. Any goroutine may use it.
type histogram struct {
	buckets [17]atomic.Uint64 // one more than durationBounds
	sum     atomic.Int64      // in nanoseconds
}

func (d *histogram) add(took time.Duration) {
	i, _ := slices.BinarySearch(durationBounds, took)
	d.buckets[i].Add(1)
	d.sum.Add(int64(took))
}

func (d *histogram) read() Histogram {
	r := Histogram{Bounds: slices.Clone(durationBounds), Counts: make([]uint64, len(d.buckets)), Sum: time.Duration(d.sum.Load())}
	for i := range d.buckets {
		r.Counts[i] = d.buckets[i].Load()
	}
	return r
}

// countEvent counts an event of a client that has been handled. kind is the
// type as the client sent it.
func (h *Hub) countEvent(kind string, took time.Duration, err *Error) {
	n := &h.counters.events
	c := n.all()[kind]
	if c == nil {
		if _, known := builtin[kind]; !known && h.handlers.current.Load().own[kind] == nil {
			kind = UnknownEvents
		}
		c = n.of(kind)
	}
	c.add(err, took)
}

// countDisconnect counts the end of a connection that was welcomed.
func (h *Hub) countDisconnect(d Disconnect) {
	end := End{Code: d.Code, Remote: d.Remote}
	if end.Remote && (end.Code < 1000 || end.Code > 1015) { // the client chooses it
		end.Code = 0
	}
	h.counters.disconnects.add(end)
}
