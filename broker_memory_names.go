package chathub

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// names are the named messages of a log, the newest of each name.
type names struct {
	messages queue[named]
	// index has the seq of each name, and tied the names that are tied to a
	// message, by its seq. There are none while there are few names.
	index  shrinkingMap[string, uint64]
	tied   shrinkingMap[uint64, []string]
	size   measure
	owners []nameOwner // in no order
}

// named is what a named message has besides an ordinary one.
type named struct {
	body []byte
	name string
	tied uint64
}

// nameOwner is a share that has names.
type nameOwner struct {
	share *share
	size  measure
	next  uint64 // no name of the share has a lower seq
}

// nameCost is what a named message occupies besides its bytes: its place in a
// ring, in the index, and in the index of what is tied.
const nameCost = 224

func costOfName(e *entry[named]) int {
	return len(e.value.body) + len(e.value.name) + len(e.key) + nameCost
}

var (
	errName    = errors.New("chathub: a name is a kind of 1 to 16 lower-case letters, a slash, and up to 256 bytes of UTF-8")
	errNoName  = errors.New("chathub: Tied, Erase, Remove and Expect need a Name")
	errEraseOf = errors.New("chathub: Erase needs Tied")

	errOtherVersion = &Error{Code: CodeConflict, Message: "It has changed in the meantime"}
	errNotTied      = &Error{Code: CodeConflict, Message: "The message that this is about is not kept any more"}
	errTooManyNames = &Error{Code: CodeLimitExceeded, Message: "Too much of this kind is kept here already"}
)

const (
	maxKindBytes = 16
	maxNameBytes = 256 // after the slash
)

// checkNamed returns an error if the fields of m that have to do with names
// have no meaning.
func checkNamed(m *Message) error {
	switch {
	case m.Name == "":
		if m.Tied > 0 || m.Erase || m.Remove || m.Expect != nil {
			return errNoName
		}
	case !validName(m.Name):
		return errName
	case m.Erase && m.Tied == 0:
		return errEraseOf
	}
	return nil
}

func validName(name string) bool {
	kind, rest, found := strings.Cut(name, "/")
	return found && 0 < len(kind) && len(kind) <= maxKindBytes && len(rest) <= maxNameBytes && utf8.ValidString(rest) &&
		!strings.ContainsFunc(kind, func(r rune) bool { return r < 'a' || 'z' < r })
}

// joinName makes the key of the entry of a removal: the length of the name in
// two bytes, the name, and the key of the message.
func joinName(name, key string) string {
	return string([]byte{byte(len(name) >> 8), byte(len(name))}) + name + key
}

func splitName(joined string) (name, key string) {
	n := int(joined[0])<<8 | int(joined[1])
	return joined[2 : 2+n], joined[2+n:]
}

// find returns the place of a name, or -1.
func (n *names) find(name string) int {
	if n == nil {
		return -1
	}
	if n.index.m != nil {
		if seq, ok := n.index.m[name]; ok {
			return n.messages.find(seq)
		}
		return -1
	}
	for i := range n.messages.len() {
		if n.messages.at(i).value.name == name {
			return i
		}
	}
	return -1
}

// names returns what the names of a share come to.
func (s *share) names() measure {
	if s == nil || s.named == 0 {
		return measure{}
	}
	return s.log.names.owners[s.named-1].size
}

// refuses returns an error if a message with a name cannot be stored.
func (log *memoryLog) refuses(m *Message, limits *memoryLimits) error {
	var newest *entry[named]
	if i := log.names.find(m.Name); i >= 0 {
		newest = log.names.messages.at(i)
	}
	if m.Expect != nil {
		seq := uint64(0)
		if newest != nil {
			seq = newest.seq
		}
		if seq != *m.Expect {
			return errOtherVersion
		}
	}
	if m.Tied > 0 {
		e := log.messages.entry(m.Tied)
		if e == nil || e.when.is(isRemoval) {
			return errNotTied
		}
		if m.Erase && !e.when.is(isErased) {
			return nil // there are no more such names than messages
		}
	}
	if m.Remove {
		return nil
	}
	return log.refusesName(m, newest, limits)
}

// refusesName returns an error if there is no room for a message in the place
// of the newest one of its name, which may be nil.
func (log *memoryLog) refusesName(m *Message, newest *entry[named], limits *memoryLimits) error {
	s := log.shares.of(m.Owner, false)
	more := measure{1, len(m.Body) + len(m.Name) + len(m.Key) + nameCost}
	moreOfOwner := more
	if newest != nil {
		cost := costOfName(newest)
		more.add(-1, -cost)
		moreOfOwner[byNumber] = 0 // whoever had the name
		if newest.share == s {
			moreOfOwner[byBytes] -= cost
		}
	}
	var all measure
	if log.names != nil {
		all = log.names.size
	}
	ofOwner := s.names()
	for by, limit := range limits.names {
		half := limit - limit/2
		if more[by] > 0 && all[by]+more[by] > limit ||
			m.Owner != "" && moreOfOwner[by] > 0 && ofOwner[by]+moreOfOwner[by] > half {
			return errTooManyNames
		}
	}
	return nil
}

// rename gives a name of share s to m, or to nobody if m removes it, and erases
// what m erases. The caller settles what s is charged for.
func (log *memoryLog) rename(m *Message, when stamp, s *share) {
	if m.Erase {
		log.erase(m.Tied, s)
	}
	if i := log.names.find(m.Name); i >= 0 {
		log.forgetName(i, s)
	}
	if m.Remove {
		log.endNames()
		return
	}
	if log.names == nil {
		log.names = &names{}
	}
	n := log.names
	e := entry[named]{key: m.Key, seq: log.head, when: when, share: s, value: named{body: m.Body, name: m.Name, tied: m.Tied}}
	*n.messages.push() = e
	if n.index.m != nil {
		n.enter(&e)
	} else if n.messages.size() > fewKeys {
		for i := range n.messages.len() {
			if e := n.messages.at(i); e.share != nil {
				n.enter(e)
			}
		}
	}
	n.add(s, costOfName(&e), e.seq)
}

// enter puts a name into the index.
func (n *names) enter(e *entry[named]) {
	n.index.set(e.value.name, e.seq)
	if to := e.value.tied; to > 0 {
		n.tied.set(to, append(n.tied.m[to], e.value.name))
	}
}

// leave undoes enter.
func (n *names) leave(e *entry[named]) {
	n.index.remove(e.value.name)
	to := e.value.tied
	if to == 0 {
		return
	}
	list := n.tied.m[to]
	if len(list) == 1 {
		n.tied.remove(to)
		return
	}
	i := len(list) - 1 // which dropTied begins with
	for list[i] != e.value.name {
		i--
	}
	n.tied.set(to, slices.Delete(list, i, i+1))
}

// add counts a name of share s.
func (n *names) add(s *share, cost int, seq uint64) {
	if s.named == 0 {
		n.owners = append(n.owners, nameOwner{share: s, next: seq})
		s.named = int32(len(n.owners))
	}
	n.owners[s.named-1].size.add(1, cost)
	n.size.add(1, cost)
}

// subtract undoes add.
func (n *names) subtract(s *share, cost int) {
	n.size.add(-1, -cost)
	o := &n.owners[s.named-1]
	if o.size.add(-1, -cost); o.size[byNumber] > 0 {
		return
	}
	last := n.owners[len(n.owners)-1]
	*o = last
	last.share.named = s.named
	s.named = 0
	n.owners = shorten(n.owners)
}

// forgetName forgets the named message at place i, as if there had been none.
// The caller settles what share unsettled is charged for, and calls endNames if
// there may be no name any more.
func (log *memoryLog) forgetName(i int, unsettled *share) {
	n := log.names
	e := n.messages.at(i)
	s, cost := e.share, costOfName(e)
	if n.index.m != nil {
		n.leave(e)
	}
	n.messages.remove(i)
	n.subtract(s, cost)
	if s != unsettled {
		s.account.charge(-cost)
		log.closeIfEmpty(s)
	}
}

// dropName drops the named message at place i. The caller settles what share
// unsettled is charged for.
func (log *memoryLog) dropName(i int, unsettled *share) {
	log.trimmed = max(log.trimmed, log.names.messages.at(i).seq)
	log.forgetName(i, unsettled)
	log.endNames()
}

// dropTied drops the names that are tied to a message.
func (log *memoryLog) dropTied(seq uint64, unsettled *share) {
	for log.names != nil {
		i := log.names.findTied(seq)
		if i < 0 {
			return
		}
		log.dropName(i, unsettled)
	}
}

// findTied returns the place of a name that is tied to a message, or -1.
func (n *names) findTied(seq uint64) int {
	if n.index.m != nil {
		if list := n.tied.m[seq]; len(list) > 0 {
			return n.find(list[len(list)-1])
		}
		return -1
	}
	for i := range n.messages.len() {
		if n.messages.at(i).value.tied == seq {
			return i
		}
	}
	return -1
}

// endNames frees the memory of names if there are none.
func (log *memoryLog) endNames() {
	if log.names != nil && log.names.messages.size() == 0 {
		log.names = nil
	}
}

// oldestName returns the place of the oldest name of a share, which has one.
func (log *memoryLog) oldestName(s *share) int {
	o := &log.names.owners[s.named-1]
	i := log.names.messages.next(s, o.next)
	o.next = log.names.messages.at(i).seq
	return i
}

// erase takes away all of a message but its place in the log. The caller
// settles what share unsettled is charged for.
func (log *memoryLog) erase(seq uint64, unsettled *share) {
	e := log.messages.entry(seq)
	if e.when.is(isErased) {
		return
	}
	before := costOfMessage(e)
	e.key, e.value, e.when = "", nil, e.when|isErased // readers may still have the body
	more := costOfMessage(e) - before
	e.share.add(0, more)
	if e.share != unsettled {
		e.share.account.charge(more)
	}
}

// readNamed returns the newest messages of names.
func (log *memoryLog) readNamed(q *NameQuery, now int64, limits *memoryLimits) []Message {
	log.mu.Lock()
	defer log.mu.Unlock()
	log.expire(now, limits)
	if log.names == nil {
		return nil
	}
	places := log.names.places(q, &log.messages)
	if len(places) == 0 {
		return nil
	}
	found := make([]Message, len(places))
	for i, place := range places {
		m := record{named: log.names.messages.at(place)}
		m.message(log, &found[i])
	}
	return found
}

// places returns where the names are that a query selects, in order.
func (n *names) places(q *NameQuery, messages *queue[[]byte]) (places []int) {
	add := func(i int) {
		if i >= 0 && (len(q.Names) > 0 || n.messages.at(i).value.is(q)) {
			places = append(places, i)
		}
	}
	from, to := 0, math.MaxInt
	if q.To > 0 {
		from, to = messages.find(q.From), messages.len()
		if q.To < math.MaxUint64 {
			to = messages.find(q.To + 1)
		}
	}
	switch {
	case len(q.Names) > 0:
		for _, name := range q.Names {
			add(n.find(name))
		}
	case n.index.m != nil && to-from < n.messages.len():
		// Look at the messages that they are tied to.
		for i := from; i < to; i++ {
			for _, name := range n.tied.m[messages.at(i).seq] {
				add(n.find(name))
			}
		}
	default:
		for i := range n.messages.len() {
			if n.messages.at(i).share != nil {
				add(i)
			}
		}
		return places
	}
	slices.SortFunc(places, cmp.Compare[int])
	return slices.Compact(places)
}

// is reports whether a message is of the kind that q selects.
func (m *named) is(q *NameQuery) bool {
	kind, _, _ := strings.Cut(m.name, "/")
	return kind == q.Kind && (q.To == 0 || m.tied > 0 && q.From <= m.tied && m.tied <= q.To)
}
