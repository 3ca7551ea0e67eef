package chathub

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Entry is a durable event in the log of a room, as an application reads it.
type Entry struct {
	Position
	Time time.Time // when it was stored
	Type string    // such as "room-message" or "message-changed"
	Room string
	ID   string
	From User // zero: the application
	// Re is the message that a room-message answers.
	Re MessageRef
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
	page, err := h.readRoom(ctx, room, Range{})
	return page.Head, err
}

// History returns room-messages and the application's events from the log of a
// room, oldest first, as they are now. If there are more than r allows, more is
// true, and it returns the newest ones, or the oldest if r.Oldest is set. It
// needs neither membership nor a right.
func (h *Hub) History(ctx context.Context, room string, r Range) (entries []Entry, more bool, err error) {
	r.Ordinary = true
	page, err := h.readRoom(ctx, room, r)
	if err != nil || len(page.Messages) == 0 {
		return nil, page.More, err
	}
	from, to := r.After+1, r.Before
	if first, last := page.Messages[0].Seq, page.Messages[len(page.Messages)-1].Seq; page.More {
		if r.Oldest {
			to = last + 1
		} else {
			from = first
		}
	}
	states, _, err := h.statesOf(ctx, Topic{Room: room}, from, to)
	if err != nil {
		return nil, false, err
	}
	deleted := states.deleted()
	for i := range page.Messages {
		m := &page.Messages[i]
		for len(deleted) > 0 && deleted[0].Seq <= m.Seq {
			entries = appendDeleted(entries, page.Head.Epoch, deleted[0])
			deleted = deleted[1:]
		}
		if st := states[m.Seq]; st == nil || st.Deleted == 0 {
			if e, ok := entryOf(m, page.Head.Epoch); ok {
				e.present(st)
				entries = append(entries, e)
			}
		}
	}
	for _, st := range deleted {
		entries = appendDeleted(entries, page.Head.Epoch, st)
	}
	return entries, page.More, nil
}

func (h *Hub) readRoom(ctx context.Context, room string, r Range) (Page, error) {
	if err := h.checkOpen(); err != nil {
		return Page{}, err
	}
	if err := checkRoom(room); err != nil {
		return Page{}, err
	}
	return h.session.Read(ctx, Topic{Room: room}, r)
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
		Type string         `json:"type"`
		ID   string         `json:"id"`
		Room string         `json:"room"`
		From User           `json:"from"`
		Re   uint64         `json:"re"`
		Data jsontext.Value `json:"data"`
	}
	err := json.Unmarshal(body, &env)
	return Entry{Type: env.Type, ID: env.ID, Room: env.Room, From: env.From, Re: MessageRef{Seq: env.Re}, Data: env.Data}, err
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
// order, from any node, until ctx or the hub ends, or fn returns an error,
// which Follow then returns. It feeds a search index, a webhook, an archive or
// a bot. It returns ctx's error, [ErrClosed], or that of fn.
//
// A caller that stores the Position of the last entry it has dealt with, and
// begins there after a restart, gets every entry at least once. If it stores
// both in one transaction, it has each exactly once. The zero Position begins
// at the oldest entry that the log has. [Hub.Head] returns where it ends.
//
// Of changed messages, Follow has the message as it was sent, unless it was
// deleted, and a message-changed at the place of the newest change, whose data
// is the message as it is now. If the log has dropped entries before they were
// read, or has begun anew, the next entry has Gap set.
//
// Fn runs on the goroutine of the caller. If it is slow, nobody waits, and the
// log keeps what comes. While the broker is unavailable, Follow tries again
// once a second.
func (h *Hub) Follow(ctx context.Context, room string, from Position, fn func(ctx context.Context, e Entry) error) error {
	if err := checkRoom(room); err != nil {
		return err
	}
	t := Topic{Room: room}
	wake, stop := h.follows.add(t)
	defer stop()
	for acquired, gap := false, false; ; {
		err := h.checkOpen()
		if err == nil && !acquired {
			_, err = h.subs.acquire(ctx, t)
			if acquired = err == nil; acquired {
				defer h.release(t)
			}
		}
		if err == nil {
			var more bool
			if more, err = h.followOn(ctx, t, &from, &gap, fn); err == nil && more {
				continue
			}
		}
		var pause <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
		case hasCode(err, CodeUnavailable) && h.checkOpen() == nil:
			pause = time.After(followPause)
		default:
			return err
		}
		select {
		case <-wake:
		case <-pause:
		case <-ctx.Done():
			return ctx.Err()
		case <-h.life.done:
			return ErrClosed
		}
	}
}

// followOn reads the next entries after a position, which moves with each that
// fn has taken. It reports whether there may be more.
func (h *Hub) followOn(ctx context.Context, t Topic, from *Position, gap *bool, fn func(context.Context, Entry) error) (more bool, err error) {
	page, err := h.session.Read(ctx, t, Range{After: from.Seq, Limit: followPage, MaxBytes: h.cfg.answerBytes(), Oldest: true})
	if err != nil {
		return false, err
	}
	if page.Head.Epoch == "" {
		return false, nil
	}
	if from.Epoch != page.Head.Epoch {
		*gap = from.Epoch != ""
		isAnew := from.Seq > 0
		*from = Position{Epoch: page.Head.Epoch}
		if isAnew {
			return true, nil
		}
	} else {
		*gap = *gap || page.Trimmed > from.Seq && from.Seq > 0
	}
	for i := range page.Messages {
		m := &page.Messages[i]
		if e, ok := entryOf(m, page.Head.Epoch); ok {
			e.Gap, *gap = *gap, false
			if err := fn(ctx, e); err != nil {
				return false, err
			}
		}
		from.Seq = m.Seq
	}
	return page.More && len(page.Messages) > 0, nil
}

// follows are the running calls of Follow. Any goroutine may use it.
type follows struct {
	count atomic.Int64

	mu     sync.Mutex
	topics map[Topic][]chan struct{}
}

// add returns a channel that gets a value when a topic has a new message, and
// a function that ends this.
func (fs *follows) add(t Topic) (<-chan struct{}, func()) {
	wake := make(chan struct{}, 1) // one is enough: everything new is read
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.topics == nil {
		fs.topics = make(map[Topic][]chan struct{})
	}
	fs.topics[t] = append(fs.topics[t], wake)
	fs.count.Add(1)
	return wake, func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fs.count.Add(-1)
		fs.topics[t] = slices.DeleteFunc(fs.topics[t], func(c chan struct{}) bool { return c == wake })
		if len(fs.topics[t]) == 0 {
			delete(fs.topics, t)
		}
	}
}

// wake tells the calls that follow a topic of a new message.
func (fs *follows) wake(t Topic) {
	if fs.count.Load() == 0 {
		return
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, c := range fs.topics[t] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
