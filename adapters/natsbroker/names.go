package natsbroker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/chathub-go/chathub"
)

// Named messages. Each name has a subject of its own, and the newest message of
// the subject is that of the name. See docs/design.md for how they are kept,
// replaced and erased.

const (
	maxKind     = 16  // bytes of a kind
	maxNameRest = 256 // bytes of what follows the slash
	// namesPerRequest is how many subjects one request asks for. The server
	// answers with 1,024 messages at most.
	namesPerRequest = 1000
	// namesKept is how many names of a kind an index may have.
	namesKept = 20_000
)

var errBadName = errors.New("natsbroker: a name is a kind of 1 to 16 lower-case letters, a slash, and up to 256 bytes of UTF-8")

// checkNamed returns an error if the fields of a message that have to do with
// names have no meaning.
func checkNamed(m *chathub.Message) error {
	switch {
	case m.Name == "" && (m.Tied != 0 || m.Erase || m.Remove || m.Expect != nil):
		return errors.New("natsbroker: Tied, Erase, Remove and Expect need a Name")
	case m.Erase && m.Tied == 0:
		return errors.New("natsbroker: Erase needs Tied")
	case m.Name != "":
		return checkName(m.Name)
	}
	return nil
}

func checkName(name string) error {
	kind, rest, found := strings.Cut(name, "/")
	if !found || !isKind(kind) || len(rest) > maxNameRest || !utf8.ValidString(rest) {
		return errBadName
	}
	return nil
}

func isKind(kind string) bool {
	return kind != "" && len(kind) <= maxKind && !strings.ContainsFunc(kind, func(r rune) bool { return r < 'a' || r > 'z' })
}

func kindOf(name string) string {
	kind, _, _ := strings.Cut(name, "/")
	return kind
}

// index has the newest messages of the names of a topic, of the kinds that were
// asked for. Deliveries keep it up to date. Its methods may be called
// concurrently.
type index struct {
	mu    sync.Mutex
	kinds map[string]*kindIndex
	bytes int
}

// kindIndex is the part of an index for one kind. Names that were removed are
// in it, so that an older message does not bring them back.
type kindIndex struct {
	complete bool // false while the names are being read
	names    map[string]chathub.Message
}

// begin starts to keep a kind, before its names are read.
func (x *index) begin(kind string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.kinds == nil {
		x.kinds = make(map[string]*kindIndex)
	}
	if x.kinds[kind] == nil {
		x.kinds[kind] = &kindIndex{names: make(map[string]chathub.Message)}
	}
}

// completed says that all names of a kind have been put. It reports false if
// the index has been forgotten since it began.
func (x *index) completed(kind string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.kinds[kind]
	if k != nil {
		k.complete = true
	}
	return k != nil
}

// put takes note of a named message, if its kind is kept. It returns by how
// many bytes the index has grown.
func (x *index) put(m chathub.Message) (grown int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.kinds[kindOf(m.Name)]
	if k == nil {
		return 0
	}
	old, there := k.names[m.Name]
	if there && old.Seq >= m.Seq {
		return 0
	}
	if m.Remove {
		m.Body, m.Key, m.Owner = nil, "", ""
	}
	k.names[m.Name] = m
	grown = cost(&m)
	if there {
		grown -= cost(&old)
	}
	x.bytes += grown
	return grown
}

// forget drops everything, and returns how many bytes that has freed.
func (x *index) forget() (freed int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	freed = x.bytes
	x.kinds, x.bytes = nil, 0
	return freed
}

// find returns the names of one kind that a query selects, if the index has
// them. Names that are tied to messages have gone if they are older than the
// time oldest.
func (x *index) find(q *chathub.NameQuery, oldest int64) (found []chathub.Message, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.kinds[q.Kind]
	if k == nil || !k.complete {
		return nil, false
	}
	for _, m := range k.names {
		if !m.Remove && (m.Tied == 0 || m.Time >= oldest) && selects(q, &m) {
			found = append(found, m)
		}
	}
	return inOrder(found), true
}

// selects reports whether a name of the kind is in the range of a query.
func selects(q *chathub.NameQuery, m *chathub.Message) bool {
	return q.To == 0 || m.Tied != 0 && q.From <= m.Tied && m.Tied <= q.To
}

// inOrder sorts messages, and leaves out those that occur twice.
func inOrder(messages []chathub.Message) []chathub.Message {
	slices.SortFunc(messages, func(a, b chathub.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	return slices.CompactFunc(messages, func(a, b chathub.Message) bool { return a.Seq == b.Seq })
}

// ReadNamed implements [chathub.BrokerSession]. Names that are tied to a range
// of messages are taken from the index of a topic that the session has. That is
// what a page of history needs, and later changes will be delivered. All others
// are as new as the stream is when ReadNamed is called. Single names of all
// queries are read together.
func (s *session) ReadNamed(ctx context.Context, queries []chathub.NameQuery) ([][]chathub.Message, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	results := make([][]chathub.Message, len(queries))
	var exact []int // queries for single names
	for i := range queries {
		q := &queries[i]
		switch {
		case !q.Topic.Kept():
		case len(q.Names) > 0:
			exact = append(exact, i)
		case isKind(q.Kind):
			if err := s.persist(ctx, func(ctx context.Context) (err error) {
				results[i], err = s.namesOfKind(ctx, q)
				return err
			}); err != nil {
				return nil, err
			}
		}
	}
	if len(exact) == 0 {
		return results, nil
	}
	err := s.persist(ctx, func(ctx context.Context) error {
		for _, i := range exact {
			results[i] = nil
		}
		return s.readExact(ctx, queries, exact, results)
	})
	return results, err
}

// namesOfKind returns names of one kind, from the topic's index if possible.
func (s *session) namesOfKind(ctx context.Context, q *chathub.NameQuery) ([]chathub.Message, error) {
	t := s.subscribed(q.Topic)
	if t == nil || s.broker.cfg.cache < 0 {
		return s.readKind(ctx, q)
	}
	if q.To == 0 {
		head, err := s.head(ctx, t.place)
		if err != nil {
			return nil, err
		}
		if head > t.tail.newest() {
			return s.readKind(ctx, q) // something is on its way
		}
	}
	if found, ok := t.names.find(q, s.oldestTime()); ok {
		return found, nil
	}
	if err := t.readIndex(ctx, q.Kind); err != nil {
		return nil, err
	}
	if found, ok := t.names.find(q, s.oldestTime()); ok {
		return found, nil
	}
	return s.readKind(ctx, q)
}

// noteOlder returns a function to be called for the messages of names, in order.
// It notes those that are not the newest of a name that is tied to a message,
// and should have been erased.
func (s *session) noteOlder() func(m *chathub.Message, e entry) {
	tied := make(map[string]entry)
	return func(m *chathub.Message, e entry) {
		if m.Tied == 0 {
			return
		}
		if older, there := tied[m.Name]; there {
			s.erasures.addOlder(&older)
		}
		tied[m.Name] = entry{seq: e.seq, subject: e.subject}
	}
}

// validNames returns a query without names that there cannot be.
func validNames(q *chathub.NameQuery) *chathub.NameQuery {
	if !slices.ContainsFunc(q.Names, func(name string) bool { return checkName(name) != nil }) {
		return q
	}
	valid := *q
	valid.Names = nil
	for _, name := range q.Names {
		if checkName(name) == nil {
			valid.Names = append(valid.Names, name)
		}
	}
	return &valid
}

// subscribed returns a topic that is being delivered, or nil.
func (s *session) subscribed(name chathub.Topic) *topic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.topics[name]; t != nil && t.delivers.Load() {
		return t
	}
	return nil
}

// oldestTime is the time before which the stream has dropped ordinary messages,
// in Unix milliseconds.
func (s *session) oldestTime() int64 {
	if st := s.state.Load(); st.maxAge > 0 {
		return s.now() - st.maxAge.Milliseconds()
	}
	return math.MinInt64
}

// readIndex reads the names of a kind into the topic's index.
func (t *topic) readIndex(ctx context.Context, kind string) error {
	t.names.begin(kind)
	n := 0
	older := t.s.noteOlder()
	if err := t.s.scanSubject(ctx, t.s.broker.cfg.kindFilter(t.name, kind), 1, math.MaxInt64, fullPage, func(e entry) bool {
		if m, ok := t.s.stored(t.name, e); ok {
			older(&m, e)
			t.s.cached(t.names.put(m))
		}
		n++
		return n < namesKept
	}); err != nil {
		return err
	}
	if n == namesKept || !t.names.completed(kind) {
		t.s.cached(-t.names.forget())
	}
	return nil
}

// cached counts what the caches have grown by. If they become too large
// together, it empties some of them.
func (s *session) cached(grown int) {
	bound := int64(s.broker.cfg.cache)
	if s.cacheBytes.Add(int64(grown)) <= bound || grown <= 0 {
		return
	}
	for _, other := range s.list() { // in random order
		if s.cacheBytes.Add(-int64(other.tail.forget()+other.names.forget())) <= bound/8*7 {
			return
		}
	}
}

// readKind reads the names of a kind from the stream.
func (s *session) readKind(ctx context.Context, q *chathub.NameQuery) ([]chathub.Message, error) {
	newest := make(map[string]chathub.Message)
	older := s.noteOlder()
	err := s.scanSubject(ctx, s.broker.cfg.kindFilter(q.Topic, q.Kind), 1, math.MaxInt64, fullPage, func(e entry) bool {
		if m, ok := s.stored(q.Topic, e); ok {
			older(&m, e)
			newest[m.Name] = m // an older one may have been left behind
		}
		return true
	})
	var found []chathub.Message
	for _, m := range newest {
		if !m.Remove && selects(q, &m) {
			found = append(found, m)
		}
	}
	return inOrder(found), err
}

// readExact reads the names of some queries from the stream.
func (s *session) readExact(ctx context.Context, queries []chathub.NameQuery, which []int, results [][]chathub.Message) error {
	var subjects []string
	asked := make(map[string][]int) // the queries that want a subject
	for _, i := range which {
		q := validNames(&queries[i])
		for _, name := range q.Names {
			subject := s.broker.cfg.nameSubject(q.Topic, name)
			if asked[subject] == nil {
				subjects = append(subjects, subject)
			}
			asked[subject] = append(asked[subject], i)
		}
	}
	messages, err := s.lastOf(ctx, subjects)
	if err != nil {
		return err
	}
	for _, e := range messages {
		for _, i := range asked[e.subject] {
			if m, ok := s.stored(queries[i].Topic, e); ok && !m.Remove {
				results[i] = append(results[i], m)
			}
		}
	}
	for _, i := range which {
		results[i] = inOrder(results[i])
	}
	return nil
}

// lastOf returns the newest message of each literal subject, in any order.
// Subjects without one are absent. The answer is as new as the stream was when
// the call began.
func (s *session) lastOf(ctx context.Context, subjects []string) (messages []entry, err error) {
	least := uint64(0)
	if s.state.Load().clustered {
		// A replica may lag behind, and only the leader knows by how much.
		st, err := s.refresh(ctx)
		if err != nil {
			return nil, err
		}
		least = st.lastSeq
	}
	for part := range slices.Chunk(subjects, namesPerRequest) {
		for len(part) > 0 {
			some, upTo, more, err := s.multi(ctx, part, len(part), 0)
			if err != nil {
				return nil, err
			}
			if upTo < least {
				if upTo > 0 {
					return nil, errLags
				}
				// It has none of them, and does not say how far it is.
				some, err = s.lastOneByOne(ctx, part)
				if err != nil {
					return nil, err
				}
				more = false
			}
			messages = append(messages, some...)
			if !more {
				break
			}
			have := make(map[string]bool, len(some))
			for _, e := range some {
				have[e.subject] = true
			}
			part = slices.DeleteFunc(slices.Clone(part), func(subject string) bool { return have[subject] })
		}
	}
	return messages, nil
}

var errLags = errors.New("a replica of the stream lags behind")

// lastOneByOne asks the leader for the newest messages of subjects.
func (s *session) lastOneByOne(ctx context.Context, subjects []string) (messages []entry, err error) {
	found := make([]entry, len(subjects))
	err = parallel(ctx, len(subjects), func(ctx context.Context, i int) (err error) {
		found[i], err = s.get(ctx, `{"last_by_subj":`+quote(subjects[i])+`}`)
		return err
	})
	return slices.DeleteFunc(found, func(e entry) bool { return e.seq == 0 }), err
}

// inFlight is how many requests of one call are under way at a time.
const inFlight = 32

// parallel calls f for 0 to n-1, several at a time, until one fails.
func parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(inFlight, n) {
		wg.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		next <- i
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// namesSince returns the newest messages of the subjects that a filter matches,
// from a position on, and the end of the stream on the server that answered.
// It fails if there are more than 1,024 subjects.
func (s *session) namesSince(ctx context.Context, filter string, first uint64) (messages []entry, upTo uint64, err error) {
	for {
		some, end, more, err := s.multi(ctx, []string{filter}, 1024, first)
		if err != nil || len(some) == 0 {
			return messages, max(upTo, end), err
		}
		messages, upTo = append(messages, some...), end
		if !more {
			return messages, upTo, nil
		}
		first = some[len(some)-1].seq + 1
	}
}

// multi returns the newest messages of subjects from a position on, in order.
// One answer has up to most messages and may lack some. It also returns the end
// of the stream on the server that answered. If none of the subjects has a
// message, the end is not known, and 0.
func (s *session) multi(ctx context.Context, subjects []string, most int, first uint64) (messages []entry, upTo uint64, more bool, err error) {
	reply, answers, forget := s.replies.expect(most + 1)
	defer forget()
	request := make([]byte, 0, 64+len(subjects)*64)
	request = append(request, `{"multi_last":[`...)
	for i, subject := range subjects {
		if i > 0 {
			request = append(request, ',')
		}
		request = append(append(append(request, '"'), subject...), '"')
	}
	request = fmt.Appendf(request, `],"seq":%d,"max_bytes":%d}`, first, pageBytes)
	if err := s.nc.PublishRequest(s.api.direct, reply, request); err != nil {
		return nil, 0, false, err
	}
	messages, end, err := s.collect(ctx, answers)
	if err != nil || end == nil {
		return nil, 0, false, err
	}
	pending, err := number(end, "Nats-Num-Pending")
	if err != nil {
		return nil, 0, false, err
	}
	upTo, err = number(end, "Nats-UpTo-Sequence")
	return messages, upTo, pending > 0, err
}
