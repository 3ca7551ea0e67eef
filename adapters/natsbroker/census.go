package natsbroker

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
)

var errTooManyNames = &chathub.Error{Code: chathub.CodeLimitExceeded, Message: "Too much of this kind is kept here already"}

const (
	// bytesPerName, times MaxNames, bounds the bytes of the named messages of a
	// topic.
	bytesPerName = 2 << 10
	// nameCost is what a name takes in addition to its bytes.
	nameCost = 200
	// censusEvery is how often the names of a topic are counted at most.
	censusEvery = 5 * time.Second
	// topicsCounted bounds the topics that a census remembers.
	topicsCounted = 1024
	// ordinaryChecked is how many messages with names are looked for in a
	// count.
	ordinaryChecked = 1000
)

// census estimates how many names the topics have. JetStream does not count
// them. A session begins with the number of all messages of a topic, and adds
// what it stores itself. When that comes near the bound, it reads the names and
// counts them. Its methods may be called concurrently.
type census struct {
	turn chan struct{} // held (full) while names are counted

	mu     sync.Mutex
	topics map[chathub.Topic]*count
}

// amount is a number of names and their bytes.
type amount struct{ names, bytes int }

func (a *amount) add(names, bytes int) { a.names += names; a.bytes += bytes }

func (a amount) exceeds(b amount) bool { return a.names > b.names || a.bytes > b.bytes }

// count is what a session knows of the names of a topic. The mutex of the
// census guards it.
type count struct {
	all    amount
	owners map[string]amount // nil: unknown
	taken  time.Time         // when they were counted
}

// of returns the count of a topic, or nil.
func (c *census) of(t chathub.Topic) *count {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topics[t]
}

func (c *census) set(t chathub.Topic, n *count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.topics == nil {
		c.topics = make(map[chathub.Topic]*count)
	}
	if _, known := c.topics[t]; !known && len(c.topics) >= topicsCounted {
		for other := range c.topics { // any
			delete(c.topics, other)
			break
		}
	}
	c.topics[t] = n
}

// add counts a message with a new name.
func (c *census) add(m *chathub.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.topics[m.Topic]
	if n == nil {
		return
	}
	n.all.add(1, sizeOfName(m))
	if n.owners != nil {
		a := n.owners[m.Owner]
		a.add(1, sizeOfName(m))
		n.owners[m.Owner] = a
	}
}

func sizeOfName(m *chathub.Message) int { return len(m.Body) + len(m.Name) + len(m.Key) + nameCost }

// refuses reports whether there is no room for a message with a new name. If
// half of the bound is in use, near is set. Sure is not set if the owners would
// have to be known.
func (n *count) refuses(m *chathub.Message, bound amount) (refused, near, sure bool) {
	half := amount{bound.names - bound.names/2, bound.bytes - bound.bytes/2}
	all := n.all
	all.add(1, sizeOfName(m))
	near = all.exceeds(half)
	if n.owners == nil {
		return all.exceeds(bound), near, !near
	}
	own := n.owners[m.Owner]
	own.add(1, sizeOfName(m))
	return all.exceeds(bound) || m.Owner != "" && own.exceeds(half), near, true
}

// admitName refuses a message with a new name if its topic, or its owner, has
// too many. A removal or an erasure is never refused.
func (s *session) admitName(ctx context.Context, n *naming) error {
	most := s.broker.cfg.maxNames
	m := n.m
	if most <= 0 || m.Remove || m.Erase || m.Expect != nil && *m.Expect != 0 {
		return nil
	}
	bound := amount{most, most * bytesPerName}
	c := s.census.of(m.Topic)
	if c == nil {
		var all oldest
		if err := s.persist(ctx, func(ctx context.Context) (err error) {
			all, err = s.oldest(ctx, s.broker.cfg.filter(m.Topic))
			return err
		}); err != nil {
			return err
		}
		c = &count{all: amount{names: int(all.count)}}
		s.census.set(m.Topic, c)
	}
	judge := func() (refused, near, sure bool) {
		s.census.mu.Lock()
		defer s.census.mu.Unlock()
		return c.refuses(m, bound)
	}
	refused, near, sure := judge()
	n.isNew = m.Expect != nil || !s.versions.has(m)
	if n.isNew && near && m.Expect == nil {
		var last entry
		if err := s.persist(ctx, func(ctx context.Context) (err error) {
			last, err = s.get(ctx, `{"last_by_subj":`+quote(n.subject)+`}`)
			return err
		}); err != nil {
			return err
		}
		n.isNew = last.seq == 0
	}
	if !n.isNew || !refused && sure {
		return nil
	}
	if err := hold(ctx, s.census.turn); err != nil {
		return err
	}
	defer func() { <-s.census.turn }()
	if now := s.census.of(m.Topic); now != nil {
		c = now // somebody else has counted them
	}
	if refused, _, sure = judge(); !refused && sure {
		return nil
	}
	if time.Since(c.taken) >= censusEvery {
		var err error
		if c, err = s.countNames(ctx, m.Topic); err != nil {
			return err
		}
		s.census.set(m.Topic, c)
		refused, _, _ = judge()
	}
	if refused {
		return errTooManyNames
	}
	return nil
}

// countNames reads the names of a topic and counts them. It removes those that
// are tied to messages that the log has dropped because it is full. The server
// only removes what has become too old.
func (s *session) countNames(ctx context.Context, t chathub.Topic) (*count, error) {
	c := &count{owners: make(map[string]amount), taken: time.Now()}
	p := s.broker.cfg.place(t)
	newest := make(map[string]chathub.Message)
	ordinary := uint64(0)
	err := s.scanAll(ctx, p.filter, func(e entry) bool {
		if !e.isNamed() {
			ordinary++
			return true
		}
		if m, ok := s.stored(t, e); ok {
			newest[m.Name] = chathub.Message{Owner: m.Owner, Tied: m.Tied, Seq: m.Seq, Erase: m.Erase, Remove: m.Remove, Time: int64(sizeOfName(&m))}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if st := s.state.Load(); st.isFull(ordinary) {
		if err := s.persist(ctx, func(ctx context.Context) error { return s.dropTied(ctx, newest) }); err != nil {
			return nil, err
		}
	}
	for _, m := range newest {
		a := c.owners[m.Owner]
		a.add(1, int(m.Time))
		c.owners[m.Owner] = a
		c.all.add(1, int(m.Time))
	}
	return c, nil
}

// dropTied removes names whose messages are gone, from the stream and from a
// list, beginning with those of the oldest messages. Names of erased messages
// stay, since these are not gone.
func (s *session) dropTied(ctx context.Context, names map[string]chathub.Message) error {
	var tied []string
	for name, m := range names {
		if m.Tied != 0 && !m.Erase {
			tied = append(tied, name)
		}
	}
	slices.SortFunc(tied, func(a, b string) int { return cmp.Compare(names[a].Tied, names[b].Tied) })
	tied = tied[:min(len(tied), ordinaryChecked)]
	gone := make([]atomic.Bool, len(tied))
	err := parallel(ctx, len(tied), func(ctx context.Context, i int) error {
		m := names[tied[i]]
		e, err := s.get(ctx, `{"seq":`+formatSeq(m.Tied)+`}`)
		if err != nil || e.seq != 0 {
			return err
		}
		gone[i].Store(true)
		return s.delete(ctx, m.Seq)
	})
	for i, name := range tied {
		if gone[i].Load() {
			delete(names, name)
		}
	}
	return err
}
