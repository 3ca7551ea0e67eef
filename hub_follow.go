package chathub

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Entry is a durable event in the log of a room, or of a user's inbox, as an
// application reads it.
type Entry struct {
	Position
	Time time.Time // when it was stored
	Type string    // such as "room-message" or "message-changed"
	Room string    // empty: it is in the inbox of a user
	To   string    // the user whom an event in an inbox was sent to
	ID   string
	From User // zero: the application
	// Re is the message that a room-message or private-message answers.
	Re MessageRef
	// Trace is a traceparent, or empty; see [Event].Trace.
	Trace string
	// Data is nil if the event has none, or was deleted. Its bytes must not be
	// modified.
	Data jsontext.Value

	// Edited and Deleted say when the message was, or are zero. Reactions has
	// the users of each key. They are set by [Hub.History] only, which returns
	// messages as they are now. Version is the position of their newest change.
	Edited, Deleted time.Time
	Reactions       map[string][]string
	Version         uint64

	// Gap reports that entries before this one may be missing, because the log
	// no longer has them, or is another one. It is set by [Hub.Follow] only.
	Gap bool
}

// Head returns the position of the newest event in the log of a room. Its Epoch
// is empty if the room has no log.
func (h *Hub) Head(ctx context.Context, room string) (Position, error) {
	return h.Tenant("").Head(ctx, room)
}

// Head returns the position of the newest event of a room. See [Hub.Head].
func (t Tenant) Head(ctx context.Context, room string) (Position, error) {
	page, err := t.readRoom(ctx, room, Range{})
	return page.Head, err
}

// History returns room-messages and the application's events from the log of a
// room, oldest first, as they are now. If there are more than r allows, more is
// true, and it returns the newest ones, or the oldest if r.Oldest is set. It
// needs neither membership nor a right.
func (h *Hub) History(ctx context.Context, room string, r Range) (entries []Entry, more bool, err error) {
	return h.Tenant("").History(ctx, room, r)
}

// History returns messages of a room. See [Hub.History].
func (t Tenant) History(ctx context.Context, room string, r Range) (entries []Entry, more bool, err error) {
	r.Ordinary = true
	page, err := t.readRoom(ctx, room, r)
	if err != nil || r.Limit <= 0 || len(page.Messages) == 0 && page.More {
		return nil, page.More, err
	}
	from, to := r.After+1, r.Before
	switch {
	case !page.More:
	case r.Oldest:
		to = page.Messages[len(page.Messages)-1].Seq + 1
	default:
		from = page.Messages[0].Seq
	}
	states, _, err := t.hub.statesOf(ctx, t.world.room(room), from, to)
	if err != nil {
		return nil, false, err
	}
	for m, st := range states.inOrder(page.Messages) {
		if m == nil {
			entries = appendDeleted(entries, page.Head.Epoch, st)
		} else if e, ok := entryOf(m, page.Head.Epoch); ok {
			e.present(st)
			entries = append(entries, e)
		}
	}
	return entries, page.More, nil
}

func (t Tenant) readRoom(ctx context.Context, room string, r Range) (Page, error) {
	topic, err := t.room(room)
	if err != nil {
		return Page{}, err
	}
	return t.hub.session.Read(ctx, topic, r)
}

// entryOf decodes a message of a log. It reports false if that is not an event.
func entryOf(m *Message, epoch string) (Entry, bool) {
	e, err := decodeEntry(eventIn(m))
	e.Position = Position{epoch, m.Seq}
	e.Time = time.UnixMilli(m.Time)
	return e, err == nil
}

func decodeEntry(body []byte) (Entry, error) {
	var env struct {
		Type  string         `json:"type"`
		ID    string         `json:"id"`
		Room  string         `json:"room"`
		To    string         `json:"to"`
		From  User           `json:"from"`
		Re    jsontext.Value `json:"re"`
		Trace string         `json:"trace"`
		Data  jsontext.Value `json:"data"`
	}
	err := json.Unmarshal(body, &env)
	e := Entry{Type: env.Type, ID: env.ID, Room: env.Room, To: env.To, From: env.From, Trace: env.Trace, Data: env.Data}
	switch {
	case err != nil || env.Re == nil:
	case env.Re.Kind() == '{':
		var re struct {
			ID     string `json:"id"`
			Author string `json:"author"`
		}
		err = json.Unmarshal(env.Re, &re)
		e.Re = MessageRef{ID: re.ID, Author: re.Author}
	default:
		err = json.Unmarshal(env.Re, &e.Re.Seq)
	}
	return e, err
}

func appendDeleted(entries []Entry, epoch string, st *present) []Entry {
	e, err := decodeEntry(st.Head)
	if err != nil {
		return entries
	}
	e.Position, e.Time = Position{epoch, st.Seq}, time.UnixMilli(st.Time)
	e.present(st)
	return append(entries, e)
}

// present adds what a message has become.
func (e *Entry) present(st *present) {
	if st == nil {
		return
	}
	e.Version = st.version
	if st.Data != nil {
		e.Data = st.Data
	}
	e.Edited, e.Deleted = timeOf(st.Edited), timeOf(st.Deleted)
	for _, r := range st.Reactions {
		if e.Reactions == nil {
			e.Reactions = make(map[string][]string, len(st.Reactions))
		}
		e.Reactions[r.Key] = r.Users
	}
}

// timeOf returns the zero time for 0.
func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// followPage is how many messages Follow reads at a time.
const followPage = 256

// followPause is how long Follow waits before it asks the broker again that
// could not answer.
const followPause = time.Second

// Follow calls fn for every event in the log of a room after a position, in
// order, from any node, until ctx or the hub ends, or fn returns an error. It
// returns ctx's error, [ErrClosed], or that of fn. It feeds a search index, a
// webhook, an archive or a bot.
//
// A caller that stores the Position of the last entry it has dealt with, and
// begins there after a restart, gets every entry at least once. If it stores
// both in one transaction, it has each exactly once. The zero Position begins
// at the oldest entry that the log has. [Hub.Head] returns where it ends.
//
// Of changed messages, Follow has the message as it was sent, unless it was
// deleted, and a message-changed at the place of the newest change, whose data
// is the message as it is now. If the log has dropped entries before they were
// read, the next entry has Gap set. So has the first entry of a log that has
// begun anew, or was restored to an older state. Follow then begins at its
// oldest entry, so entries may come again.
//
// Fn runs on the goroutine of the caller. If it is slow, nobody waits, and the
// log keeps what comes. While the broker is unavailable, Follow tries again
// once a second.
func (h *Hub) Follow(ctx context.Context, room string, from Position, fn func(ctx context.Context, e Entry) error) error {
	return h.Tenant("").Follow(ctx, room, from, fn)
}

// Follow calls fn for every event of a room. See [Hub.Follow].
func (t Tenant) Follow(ctx context.Context, room string, from Position, fn func(ctx context.Context, e Entry) error) error {
	topic, err := t.room(room)
	if err != nil {
		return err
	}
	return t.hub.follow(ctx, topic, from, fn)
}

func (h *Hub) follow(ctx context.Context, t Topic, from Position, fn func(ctx context.Context, e Entry) error) error {
	f := follower{hub: h, topic: t, at: from, fn: fn, progress: h.follows.add(t)}
	defer h.follows.remove(t, f.progress)
	for acquired := false; ; {
		if err := cmp.Or(ctx.Err(), h.checkOpen()); err != nil {
			return err
		}
		var err error
		if !acquired {
			_, err = h.subs.acquire(ctx, t)
			if acquired = err == nil; acquired {
				defer h.release(t)
			}
		}
		var more bool
		if err == nil {
			more, err = f.next(ctx)
		}
		var pause <-chan time.Time
		switch {
		case f.fnErr != nil:
			return f.fnErr
		case more && err == nil:
			continue
		case ctx.Err() != nil || h.checkOpen() != nil || err == nil:
		case hasCode(err, CodeUnavailable):
			pause = time.After(followPause)
		default:
			return err
		}
		select {
		case <-f.progress.wake:
		case <-pause:
		case <-ctx.Done():
		case <-h.life.done:
		}
	}
}

// follower is a running call of Follow.
type follower struct {
	hub      *Hub
	topic    Topic
	at       Position // after the last entry that fn has taken
	gap      bool     // before the next entry
	fn       func(context.Context, Entry) error
	fnErr    error
	progress *progress
}

// next hands the next entries to fn. It reports whether there may be more.
func (f *follower) next(ctx context.Context) (more bool, err error) {
	r := Range{After: f.at.Seq, Limit: followPage, MaxBytes: f.hub.cfg.answerBytes(), Oldest: true}
	page, err := readSome(r, func(r Range) (Page, error) { return f.hub.session.Read(ctx, f.topic, r) })
	if err != nil || page.Head.Epoch == "" {
		return false, err
	}
	switch head := page.Head; {
	case f.at == Position{}:
		// What was dropped before is not missed.
		f.at = Position{head.Epoch, min(page.Trimmed, head.Seq)}
		if len(page.Messages) > 0 {
			f.at.Seq = page.Messages[0].Seq - 1
		}
	case f.at.Epoch != head.Epoch || 0 < head.Seq && head.Seq < f.at.Seq:
		isLater := f.at.Seq > 0
		f.at, f.gap = Position{Epoch: head.Epoch}, true
		if isLater {
			return true, nil // the page begins too late
		}
	}
	for i := range page.Messages {
		m := &page.Messages[i]
		if ctx.Err() != nil || f.hub.checkOpen() != nil {
			return false, nil
		}
		// A log need not drop its oldest message first.
		f.gap = f.gap || f.at.Seq < page.Trimmed && f.at.Seq+1 < m.Seq
		if e, ok := entryOf(m, page.Head.Epoch); ok {
			e.Gap = f.gap
			if f.fnErr = f.fn(ctx, e); f.fnErr != nil {
				return false, nil
			}
			f.gap = false
		}
		f.at.Seq = m.Seq
		f.hub.follows.took(f.topic, f.progress, f.at.Seq)
	}
	if !page.More {
		f.hub.follows.took(f.topic, f.progress, max(f.at.Seq, page.Head.Seq))
	}
	return page.More && len(page.Messages) > 0, nil
}

// follows are the running calls of Follow, and those of settled that wait for
// them. Any goroutine may use it.
type follows struct {
	count, watchers atomic.Int64

	mu     sync.Mutex
	topics map[Topic][]*progress
}

// progress is how far a call of Follow is.
type progress struct {
	wake    chan struct{} // has room for one value, since everything new is read
	watches bool          // it is a call of settled: it takes nothing
	taken   atomic.Uint64 // position up to which Follow is done
}

// add begins a call of Follow. Its wake gets a value when the topic has a new
// message. It must be removed.
func (fs *follows) add(t Topic) *progress { return fs.register(t, false) }

// watch is add for a call of settled, whose wake also gets a value when a call
// of Follow has gone on.
func (fs *follows) watch(t Topic) *progress {
	fs.watchers.Add(1)
	return fs.register(t, true)
}

func (fs *follows) register(t Topic, watches bool) *progress {
	p := &progress{wake: make(chan struct{}, 1), watches: watches}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.topics == nil {
		fs.topics = make(map[Topic][]*progress)
	}
	fs.topics[t] = append(fs.topics[t], p)
	fs.count.Add(1)
	return p
}

func (fs *follows) remove(t Topic, p *progress) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.count.Add(-1)
	if p.watches {
		fs.watchers.Add(-1)
	}
	fs.topics[t] = slices.DeleteFunc(fs.topics[t], func(other *progress) bool { return other == p })
	if len(fs.topics[t]) == 0 {
		delete(fs.topics, t)
	}
	fs.wakeSome(t, true) // they may have waited for p
}

// took notes that a call of Follow is done up to a position.
func (fs *follows) took(t Topic, p *progress, seq uint64) {
	p.taken.Store(seq)
	if fs.watchers.Load() == 0 {
		return
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.wakeSome(t, true)
}

// behind reports whether a call of Follow is not done up to a position.
func (fs *follows) behind(t Topic, seq uint64) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return slices.ContainsFunc(fs.topics[t], func(p *progress) bool { return !p.watches && p.taken.Load() < seq })
}

// wake tells the calls for a topic of a new message.
func (fs *follows) wake(t Topic) {
	if fs.count.Load() == 0 {
		return
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.wakeSome(t, false)
}

// wakeSome wakes the calls for a topic, or only those that watch. The caller
// holds the mutex.
func (fs *follows) wakeSome(t Topic, watching bool) {
	for _, p := range fs.topics[t] {
		if watching && !p.watches {
			continue
		}
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}
