package chathub

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/text"
)

const (
	// maxMembers bounds the users that are taken from Config.Members.
	maxMembers = 50_000
	// awayBatch is how many members of a room are looked at at once.
	awayBatch = 500
	// awayFresh is how long before a call it was found out that the user is
	// away and has not read the message, at most. Otherwise that is done again.
	awayFresh = 100 * time.Millisecond
	// awayPatience is for how long a call may go on after its ctx has ended,
	// before nobody waits for it any more. Of these there may be mostLost. A
	// call beyond them is waited for.
	awayPatience = time.Second
	mostLost     = 64
)

var (
	errAwayEnds  = errors.New("chathub: the hub ends")
	errAwayHangs = errors.New("chathub: the call did not return in time")
)

// absentee is a user for whom OnAway is to be called.
type absentee struct {
	user   string // plain
	unread int
}

// do carries out a job: it calls OnAway for everyone whom the message is for
// and who needs it. If it returns nil, the job is done. Calls for members of a
// room that fail have become jobs of their own.
func (a *away) do(job *awayKey) error {
	users := []string{job.user}
	switch {
	case job.user != "":
	case job.topic.User != "":
		users[0] = plain(job.topic.User)
	default:
		var err error
		if users, err = a.members(job.topic); err != nil {
			return err
		}
	}
	if len(users) == 1 {
		return a.doOne(job, users[0])
	}
	var calls sync.WaitGroup
	defer calls.Wait()
	for i, batch := range slices.Collect(slices.Chunk(users, awayBatch)) {
		e, absent, err := a.look(job, batch)
		switch {
		case err != nil && i == 0: // nobody was called for
			return err
		case err != nil || a.isStopping():
			a.putEach(job, batch, err)
			continue
		}
		at := time.Now()
		for _, to := range absent {
			if !a.take() {
				a.putEach(job, []string{to.user}, nil)
				continue
			}
			calls.Go(func() {
				if err := a.tell(job, e, to, at); err != nil {
					a.putEach(job, []string{to.user}, err)
				}
			})
		}
	}
	return nil
}

// doOne carries out a job for one user.
func (a *away) doOne(job *awayKey, user string) error {
	e, absent, err := a.look(job, []string{user})
	if err != nil || len(absent) == 0 {
		return err
	}
	at := time.Now()
	if !a.take() {
		return errAwayEnds
	}
	return a.tell(job, e, absent[0], at)
}

// take waits for one of the calls that may run. It reports false if none may
// begin any more.
func (a *away) take() bool {
	select {
	case <-a.stopping:
		return false
	default:
	}
	select {
	case a.calls <- struct{}{}:
		return true
	case <-a.stopping:
		return false
	}
}

// putEach adds a job for each of some members of a room, for whom the call has
// not begun, or has failed.
func (a *away) putEach(job *awayKey, users []string, err error) {
	for _, user := range users {
		one := awayJob{awayKey: *job, due: time.Now()}
		one.user = user
		if err != nil {
			one.due = one.due.Add(awayPause(1))
		}
		if _, ok := errors.AsType[*awayError](err); ok {
			one.tries = 1
		}
		a.put(one)
	}
}

// awayError is the error of a call of the application.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }

// tell calls OnAway for one user, unless that is not right any more. The caller
// has taken one of the calls, and looked at the user at some time.
func (a *away) tell(job *awayKey, e *Entry, to absentee, at time.Time) error {
	defer func() { <-a.calls }()
	if time.Since(at) > awayFresh {
		now, absent, err := a.look(job, []string{to.user})
		if err != nil || now == nil || len(absent) == 0 {
			return err
		}
		e, to = now, absent[0]
	}
	away := Away{Tenant: string(job.topic.world()), User: to.user, Message: *e, Unread: to.unread}
	err := a.call("OnAway", func(ctx context.Context) error { return a.hub.cfg.OnAway(ctx, away) })
	if err == nil {
		a.hub.counters.away.Add(1)
	}
	return err
}

// call calls a function of the application, with a timeout, and logs its error.
func (a *away) call(what string, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(a.hub.life.ctx, awayTimeout)
	defer cancel()
	result := make(chan error, 1) // has room for it, even if nobody waits
	go func() { result <- a.hub.guard(what, func() error { return f(ctx) }) }()
	err := a.await(ctx, result)
	if err != nil && a.hub.life.ctx.Err() == nil && !errors.Is(err, errPanic) {
		a.hub.logLimited("failed "+what, slog.LevelWarn, "chathub: a call of the application failed", func() []any {
			return []any{"in", what, "err", err}
		})
	}
	if err != nil {
		return &awayError{err}
	}
	return nil
}

// await waits for the result of a call whose ctx may end.
func (a *away) await(ctx context.Context, result chan error) error {
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(awayPatience)
	defer timer.Stop()
	select {
	case err := <-result:
		return err
	case <-timer.C:
	}
	if a.lost.Add(1) > mostLost {
		defer a.lost.Add(-1)
		select {
		case err := <-result:
			return err
		case <-a.hub.life.ctx.Done():
			return errAwayHangs
		}
	}
	go func() {
		<-result //nolint:errcheck // nobody waits for it any more
		a.lost.Add(-1)
	}()
	return errAwayHangs
}

// members returns the users who belong to a room, each once.
func (a *away) members(t Topic) ([]string, error) {
	w, room := split(t.Room)
	var users []string
	var invalid, more bool
	err := a.call("Members", func(ctx context.Context) error {
		for user, err := range a.hub.cfg.Members(ctx, string(w), room) {
			switch {
			case err != nil:
				return err
			case ctx.Err() != nil:
				return ctx.Err()
			case !text.Valid(user, text.MaxUser):
				invalid = true
				continue
			}
			if more = len(users) == maxMembers; more {
				break
			}
			users = append(users, user)
		}
		return ctx.Err() // a list that ends because of it is not complete
	})
	if err != nil {
		return nil, err
	}
	if invalid || more {
		a.hub.logLimited("bad members", slog.LevelWarn, "chathub: not all Members of a room are looked at", func() []any {
			return []any{"tenant", w, "room", room, "notUserIDs", invalid, "tooMany", more}
		})
	}
	slices.Sort(users)
	return slices.Compact(users), nil
}

// look finds out which of some users are away and have not read the message of
// a job. It returns the message as it is now, or nil if it is gone, or if
// nobody is away.
func (a *away) look(job *awayKey, users []string) (*Entry, []absentee, error) {
	h := a.hub
	ctx, cancel := h.brokerContext()
	defer cancel()
	w := job.topic.world()
	users, err := h.absent(ctx, w, users)
	if err != nil || len(users) == 0 {
		return nil, nil, err
	}
	e, err := h.entryAt(ctx, job)
	if err != nil || e == nil {
		return nil, nil, err
	}
	users = slices.DeleteFunc(users, func(user string) bool { return user == e.From.ID })
	if e.Type == eventNotification || e.Room == "" && e.From.ID == "" {
		absent := make([]absentee, len(users))
		for i, user := range users {
			absent[i].user = user
		}
		return e, absent, nil
	}
	absent, err := h.unreadFor(ctx, job, e, users)
	return e, absent, err
}

// unreadFor returns those of some users who have not read a message, and how
// much they have not read.
func (h *Hub) unreadFor(ctx context.Context, job *awayKey, e *Entry, users []string) ([]absentee, error) {
	if len(users) == 0 {
		return nil, nil
	}
	w := job.topic.world()
	peer := ""
	if e.Room == "" {
		peer = e.From.ID
	}
	name := markerName(e.Room, peer)
	asked := make([]NameQuery, len(users))
	for i, user := range users {
		asked[i] = NameQuery{Topic: w.user(user), Names: []string{name}}
	}
	named, err := h.session.ReadNamed(ctx, asked)
	if err != nil {
		return nil, err
	}
	var absent []absentee
	var queries []SurveyQuery
	for i, user := range users {
		seq := markersIn(named[i])[name].in(job.epoch)
		if seq >= job.seq {
			continue
		}
		absent = append(absent, absentee{user: user})
		queries = append(queries, SurveyQuery{Topic: job.topic, After: seq, Reader: user, From: peer, Most: mostUnread})
	}
	if len(queries) == 0 {
		return nil, nil
	}
	standings, err := h.session.Survey(ctx, queries)
	if err != nil {
		return nil, err
	}
	for i := range absent {
		absent[i].unread = max(1, standings[i].Unread)
	}
	return absent, nil
}

// entryAt returns the message of a job as it is now, or nil if it was deleted,
// or its log no longer has it.
func (h *Hub) entryAt(ctx context.Context, job *awayKey) (*Entry, error) {
	page, err := h.session.Read(ctx, job.topic, Range{After: job.seq - 1, Before: job.seq + 1, Limit: 1, Ordinary: true})
	if err != nil || len(page.Messages) == 0 || page.Head.Epoch != job.epoch {
		return nil, err
	}
	e, ok := entryOf(&page.Messages[0], job.epoch)
	if !ok {
		return nil, nil
	}
	name := changedName(job.seq)
	if e.Room == "" {
		name = changedPrivateName(e.From.ID, e.To, e.ID)
	}
	st, changed, err := h.stateOf(ctx, job.topic, name)
	if err != nil || st.Deleted > 0 {
		return nil, err
	}
	if changed.Seq > 0 {
		e.present(&present{st, changed.Seq})
	}
	return &e, nil
}

// errNodesUnknown is why presence is not believed: the other nodes may be there
// although they have not been heard.
var errNodesUnknown = errors.New("chathub: the other nodes have not been heard yet")

// absent returns those of some users of a tenant who have no connection, on any
// node, and are not in their PresenceGrace.
func (h *Hub) absent(ctx context.Context, w world, users []string) (absent []string, err error) {
	heardAll := 2 * h.cfg.NodeLease / beatsPerLease
	if h.notesFailing.Load() || time.Since(time.Unix(0, h.notesSince.Load())) < heardAll {
		return nil, Unavailable(errNodesUnknown)
	}
	read := func(p *presence) {
		now := time.Now()
		absent = absent[:0]
		for _, user := range users {
			if p == nil || !p.roster.Has(user, now) {
				absent = append(absent, user)
			}
		}
	}
	if w == "" {
		err = h.onLoop(func(l *loop) { read(&l.presence.online) })
	} else {
		err = h.readPresence(ctx, w.everyone(), read)
	}
	return absent, err
}
