package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// truth is what the broker below the model has accepted of one tenant. Its
// topics have plain names. Calls that concern them can be slow, and fail.
type truth struct {
	tenant string
	reader chathub.BrokerSession // looks at the logs; subscribes nothing
	keys   bool                  // all keys are remembered for the window, and all names kept

	mu       sync.Mutex
	rand     *rand.Rand
	lag      time.Duration // the longest pause before and after a call
	fail     map[fault]int // how many calls will fail
	topics   map[chathub.Topic]*topicLog
	accepted map[string]bool // "connection/id" of stored messages
	markers  map[markerOf][]marker
	calls    int // under way
	findings []string
	silent   [][2]string // users and rooms, see silence
	hesitant bool
}

// fault is a way in which a call of a broker's session fails.
type fault string

const (
	failPublish   fault = "publish" // nothing is stored
	failReceipt   fault = "receipt" // it is stored, but the caller gets an error
	failSubscribe fault = "subscribe"
	failRead      fault = "read"
	slowSend      fault = "send takes 2s"
)

var faults = []fault{failPublish, failReceipt, failSubscribe, failRead, slowSend}

// topicLog is everything that was published in a topic, in all lives of its
// log.
type topicLog struct {
	turn  chan struct{} // publishers hold it (full)
	lives []*life
}

// life is one life of a log. Entry i has the position i+1.
type life struct {
	epoch   string // "" if it cannot be known
	entries []*entry
	changes map[uint64][]*entry // what messages have become, by their positions
	checked int                 // how many entries checkChanges has seen
}

func (l *life) head() uint64 { return uint64(len(l.entries)) }

// at returns the entry of a position, or nil.
func (l *life) at(seq uint64) *entry {
	if l == nil || seq < 1 || seq > l.head() {
		return nil
	}
	return l.entries[seq-1]
}

// entry is a stored message.
type entry struct {
	seq  uint64
	time int64
	*origin
	id   string // of the envelope, which the server may have chosen
	name string // of a named message
	tied uint64
	// Of a named message: its envelope, and the connections that it is not for.
	envelope hubtest.Frame
	except   []string
	state    []byte // which is for the hubs alone
	marker   marker // of a read
	change   change // of a message-changed
	// replaced says that there is a newer message of the name.
	replaced bool
}

// origin is the cause of a message: a client or the application. It travels in
// the context of the publish.
type origin struct {
	tenant string
	client string // of the connection
	user   chathub.User
	event  chathub.Event
	id     string // in all logs; the server may have chosen it

	emit *emission // not nil if the application sent it
}

type originKey struct{}

// complain notes a finding. Any goroutine may call it.
func (t *truth) complain(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.findings = append(t.findings, fmt.Sprintf(format, args...))
}

// pause sometimes waits.
func (t *truth) pause() {
	t.mu.Lock()
	var d time.Duration
	if t.lag > 0 && t.rand.IntN(2) == 0 {
		d = time.Duration(t.rand.Int64N(int64(t.lag)))
	}
	t.mu.Unlock()
	time.Sleep(d)
}

// hesitate waits as long as the application takes to answer.
func (t *truth) hesitate() {
	t.mu.Lock()
	var d time.Duration
	if t.hesitant {
		d = time.Duration(t.rand.IntN(50)) * time.Millisecond
	}
	t.mu.Unlock()
	time.Sleep(d)
}

// yield sometimes lets other goroutines run first. It does not sleep: the hub
// holds a mutex while it subscribes, and virtual time stands still while a
// goroutine waits for a mutex.
func (t *truth) yield() {
	t.mu.Lock()
	n := 0
	if t.lag > 0 {
		n = t.rand.IntN(100)
	}
	t.mu.Unlock()
	for range n {
		runtime.Gosched()
	}
}

// fails reports whether a call is to fail.
func (t *truth) fails(f fault) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fail[f] == 0 {
		return false
	}
	t.fail[f]--
	return true
}

// willFail makes some of the next calls fail.
func (t *truth) willFail(f fault, calls int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail[f] += calls
}

// failing reports whether there are calls left to fail.
func (t *truth) failing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.fail) > 0
}

// call counts a call until the returned function is called.
func (t *truth) call() (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.calls--
	}
}

// busy reports whether calls are under way.
func (t *truth) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls > 0
}

// recover makes all calls succeed from now on, and returns the findings.
func (t *truth) recover() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.fail)
	return t.findings
}

func (t *truth) topic(name chathub.Topic) *topicLog {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.topics[name]
	if l == nil {
		l = &topicLog{turn: make(chan struct{}, 1)}
		t.topics[name] = l
	}
	return l
}

// has reports whether a message that a connection sent with an id was stored.
func (t *truth) has(client, id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.accepted[client+id]
}

// life returns the life of a log that an epoch names. Nothing may have been
// published in it yet.
func (t *truth) life(name chathub.Topic, epoch string) *life {
	log := t.topic(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	return log.life(epoch)
}

func (l *topicLog) life(epoch string) *life {
	for _, life := range l.lives {
		if life.epoch == epoch {
			return life
		}
	}
	life := &life{epoch: epoch}
	l.lives = append(l.lives, life)
	return life
}

// lives returns all lives of a log, newest first.
func (t *truth) lives(name chathub.Topic) []*life {
	log := t.topic(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.Clone(log.lives)
	slices.Reverse(all)
	return all
}

// latest returns the newest known life of a log, and its head.
func (t *truth) latest(name chathub.Topic) (*life, uint64) {
	log := t.topic(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(log.lives) == 0 {
		return nil, 0
	}
	life := log.lives[len(log.lives)-1]
	return life, life.head()
}

// upTo returns what a life is like up to now. A message may be stored while
// that is looked at.
func (t *truth) upTo(l *life) *life {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &life{epoch: l.epoch, entries: l.entries}
}

// all returns the topics that have ever had a log, in order.
func (t *truth) all() []chathub.Topic {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Keys(t.topics), compareTopics)
}

// trimmed returns the last position that a life of a log has dropped.
func (t *truth) trimmed(name chathub.Topic, l *life) uint64 {
	page, err := t.read(name, chathub.Range{})
	if err != nil || page.Head.Epoch != l.epoch {
		return math.MaxUint64
	}
	return page.Trimmed
}

// duplicateWindow is the default of MemoryBroker.DuplicateWindow.
const duplicateWindow = 5 * time.Minute

// record notes that m was stored.
func (t *truth) record(ctx context.Context, m chathub.Message, r chathub.Receipt, head chathub.Position) {
	m.Topic = plain(m.Topic)
	log := t.topic(m.Topic)
	t.mu.Lock()
	defer t.mu.Unlock()
	var l *life
	switch {
	case head.Seq == r.Seq:
		l = log.life(head.Epoch)
	case r.Seq == 1: // and the log is already gone
		l = &life{}
		log.lives = append(log.lives, l)
	default:
		l = log.lives[len(log.lives)-1]
	}
	o, _ := ctx.Value(originKey{}).(*origin)
	e := &entry{seq: r.Seq, time: r.Time, name: m.Name, tied: m.Tied}
	if err := e.decode(m); err != nil {
		t.findings = append(t.findings, fmt.Sprintf("%v: %d cannot be read: %v", m.Topic, r.Seq, err))
	}
	switch {
	case m.Name != "":
		if r.Seq != l.head()+1 {
			t.findings = append(t.findings, fmt.Sprintf("%v: position %d after %d", m.Topic, r.Seq, l.head()))
		}
		t.recordNamed(m.Topic, l, e)
		e.origin = &origin{}
		l.entries = append(l.entries, e)
		return
	case o == nil:
		t.findings = append(t.findings, fmt.Sprintf("%v: nobody published %q", m.Topic, m.Body))
		o = &origin{}
	case r.Seq != l.head()+1:
		t.findings = append(t.findings, fmt.Sprintf("%v: position %d after %d", m.Topic, r.Seq, l.head()))
	case o.emit == nil && o.event.ID != "" && t.keys:
		for _, e := range l.entries {
			if e.emit == nil && e.user == o.user && e.event.ID == o.event.ID &&
				r.Time-e.time < duplicateWindow.Milliseconds() {
				t.findings = append(t.findings, fmt.Sprintf("%v: id %q of %s stored at %d and %d", m.Topic, o.event.ID, o.user.ID, e.seq, r.Seq))
			}
		}
	}
	if o.id == "" {
		o.id = e.id
	}
	if e.id != o.id || o.event.ID != "" && e.id != o.event.ID || o.event.ID == "" && o.emit == nil && !strings.HasPrefix(e.id, "m_") {
		t.findings = append(t.findings, fmt.Sprintf("%v: position %d has the id %q", m.Topic, r.Seq, e.id))
	}
	if o.tenant != t.tenant {
		t.findings = append(t.findings, fmt.Sprintf("%v: position %d is from tenant %q", m.Topic, r.Seq, o.tenant))
	}
	t.accepted[o.client+o.event.ID] = true
	e.origin = o
	t.checkSilent(m.Topic, e)
	l.entries = append(l.entries, e)
}
