package natsbroker

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
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
			var err error
			if results[i], err = s.namesOfKind(ctx, q); err != nil {
				return nil, err
			}
		}
	}
	if len(exact) == 0 {
		return results, nil
	}
	done, err := s.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	err = s.persist(ctx, func(ctx context.Context) error {
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
		var head uint64
		if err := s.persist(ctx, func(ctx context.Context) (err error) {
			head, err = s.head(ctx, t.place)
			return err
		}); err != nil {
			return nil, err
		}
		if head > t.tail.newest() {
			return s.readKind(ctx, q) // something is on its way
		}
	}
	if found, ok := t.names.find(q, s.oldestTime()); ok {
		return found, nil
	}
	// Clients that come back all at once need the same names.
	if err := hold(ctx, t.indexing); err != nil {
		return nil, err
	}
	defer func() { <-t.indexing }()
	if found, ok := t.names.find(q, s.oldestTime()); ok {
		return found, nil
	}
	done, err := s.turn(ctx)
	if err != nil {
		return nil, err
	}
	err = t.readIndex(ctx, q.Kind)
	done()
	if err != nil {
		return nil, err
	}
	if found, ok := t.names.find(q, s.oldestTime()); ok {
		return found, nil
	}
	return s.readKind(ctx, q)
}

// noteOlder returns a function to be called for the messages of names, in
// order. It notes those that are not the newest of a name that is tied to a
// message, and should have been erased.
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

// readKind reads the names of a kind from the stream.
func (s *session) readKind(ctx context.Context, q *chathub.NameQuery) ([]chathub.Message, error) {
	done, err := s.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	filter := s.broker.cfg.kindFilter(q.Topic, q.Kind)
	newest := make(map[string]chathub.Message)
	add := func(e entry) bool {
		if m, ok := s.stored(q.Topic, e); ok {
			newest[m.Name] = m // an older one may have been left behind
		}
		return true
	}
	var some []entry
	tooMany := false
	err = s.persist(ctx, func(ctx context.Context) (err error) {
		if some, err = s.kindAtOnce(ctx, filter); errors.Is(err, errTooMany) {
			tooMany, err = true, nil
		}
		return err
	})
	for _, e := range some {
		add(e)
	}
	if tooMany {
		err = s.scanAll(ctx, filter, add)
	}
	var found []chathub.Message
	for _, m := range newest {
		if !m.Remove && selects(q, &m) {
			found = append(found, m)
		}
	}
	return inOrder(found), err
}

// kindAtOnce returns the newest messages of the subjects that a filter matches.
// It fails with errTooMany if there are too many for that, or perhaps.
func (s *session) kindAtOnce(ctx context.Context, filter string) ([]entry, error) {
	least, err := s.least(ctx)
	if err != nil {
		return nil, err
	}
	some, upTo, err := s.namesSince(ctx, filter, 0)
	switch {
	case err != nil:
		return nil, err
	case upTo >= least:
		return some, nil
	case upTo > 0:
		return nil, errLags
	}
	last, err := s.last(ctx, filter)
	if err == nil && last != 0 {
		err = errTooMany
	}
	return nil, err
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
