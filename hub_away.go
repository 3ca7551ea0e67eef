package chathub

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// Away is a message for a user who has not read it, and has no connection. See
// Config.OnAway.
type Away struct {
	Tenant string // empty: the user has none
	User   string // the id of the user who is away
	// Message is the message as it is now. Its Position is in the log of the
	// room or, if it has no Room, in the user's inbox.
	Message Entry
	// Unread is how many messages of the room or conversation the user has not
	// read, this one included: 100 stands for that many or more. It is 0 for a
	// notification, and for what the application sends in nobody's name. These
	// are in no conversation, and nothing marks them as read.
	Unread int
}

const (
	// maxAway bounds the jobs of this hub, and those that it keeps for each
	// other node. A job takes about 300 bytes.
	maxAway = 1 << 16
	// awayJobs is how many messages are looked at at the same time, and
	// awayCalls how many calls of Config.OnAway run.
	awayJobs, awayCalls = 16, 8
	// awayTimeout bounds a call of Config.OnAway or Config.Members.
	awayTimeout = 10 * time.Second
	// awayGather is for how long what the other nodes are told of jobs is
	// gathered. The first job after a pause does not wait.
	awayGather = 100 * time.Millisecond
	// awayKept and a NodeLease is for how long after it is due a job of another
	// node is kept, unless that node tells of it again.
	awayKept = 30 * time.Second
	// awayTries is how often a call that fails is made in all.
	awayTries = 4
	// mostAwayPause bounds the pause before a job is tried again that the
	// broker or another node has no answer for.
	mostAwayPause = 15 * time.Second
)

// away calls Config.OnAway. A job is a message that was stored. When it is due,
// it is read from the log, so the queue holds no messages. Any goroutine may
// use it.
type away struct {
	hub      *Hub
	wake     chan struct{}  // holds one: there is something in fresh
	freed    chan struct{}  // holds one: a job has ended
	quit     chan struct{}  // closed when run has to return
	calls    chan struct{}  // holds one for each call that is running
	lost     atomic.Int64   // calls that nobody waits for any more
	ended    chan struct{}  // closed when run has returned
	running  sync.WaitGroup // jobs
	stopping chan struct{}  // closed, under mu, when no job and no call may begin any more

	n atomic.Int64 // jobs that are not done, those in fresh included

	// Who adds a job takes no other mutex than this one, which is never held
	// for longer than an append takes.
	freshMu sync.Mutex
	fresh   []awayJob // that are not in jobs yet

	mu      sync.Mutex
	spare   []awayJob // empty, and takes the place of fresh
	jobs    map[awayKey]*awayJob
	waiting awayHeap // those of jobs that have not begun
	begun   int      // the others
	untold  []note.Job
	telling bool      // the loop is about to take untold
	toldAt  time.Time // when it did last
	againAt time.Time // when they are told again of jobs that take long
	adopted map[awayKey]time.Time
}

// awayKey names a job, on all nodes.
type awayKey struct {
	topic Topic
	epoch string
	seq   uint64
	user  string // the plain id of the only one; empty: all whom it is for
}

// awayJob belongs to away.mu, apart from its key.
type awayJob struct {
	awayKey
	due   time.Time
	tries int // of the call
	waits int // for the broker, or another node
	begun bool
	index int // in waiting, unless it has begun
}

func (a *away) init(h *Hub) {
	a.hub = h
	a.wake = make(chan struct{}, 1)
	a.freed = make(chan struct{}, 1)
	a.quit = make(chan struct{})
	a.ended = make(chan struct{})
	a.stopping = make(chan struct{})
	a.calls = make(chan struct{}, awayCalls)
	a.jobs = make(map[awayKey]*awayJob)
	a.adopted = make(map[awayKey]time.Time)
	if h.cfg.OnAway == nil {
		close(a.ended)
		return
	}
	go a.run()
}

// stored takes note of an event that was stored. It is on the path of every
// message.
func (a *away) stored(t Topic, typ, from string, r Receipt) {
	cfg := &a.hub.cfg
	switch {
	case cfg.OnAway == nil || r.Duplicate:
		return
	case t.Room != "":
		if typ != eventRoomMessage || cfg.Members == nil {
			return
		}
	case typ != eventPrivateMessage && typ != eventNotification, plain(t.User) == from:
		return
	}
	a.put(awayJob{awayKey: awayKey{topic: t, epoch: r.Epoch, seq: r.Seq}, due: time.Now().Add(max(0, cfg.AwayDelay))})
}

// put adds a job, unless there are too many.
func (a *away) put(job awayJob) {
	if a.n.Add(1) > maxAway {
		a.n.Add(-1)
		a.overflow(1)
		return
	}
	a.freshMu.Lock()
	isFirst := len(a.fresh) == 0
	a.fresh = append(a.fresh, job)
	a.freshMu.Unlock()
	if isFirst {
		signal(a.wake)
	}
}

// overflow counts jobs that there was no room for.
func (a *away) overflow(n uint64) {
	a.hub.counters.awayDropped.Add(n)
	a.hub.logLimited("away overflow", slog.LevelError, "chathub: users are not told of messages: too many wait for OnAway", func() []any {
		return []any{"waiting", maxAway}
	})
}

// signal puts a value into a channel that has room for one.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// run starts jobs that are due, until the end.
func (a *away) run() {
	defer close(a.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	wake := a.wake
	for {
		select {
		case <-wake:
		case <-timer.C:
			wake = a.wake
		case <-a.freed:
		case <-a.quit:
			return
		}
		took, wait := a.step(time.Now())
		if took { // what comes in the next moment is taken together
			wake, wait = nil, min(wait, awayGather)
		}
		timer.Reset(wait)
	}
}

// step does what is due. It reports whether it has found new jobs, and how long
// it will be until there is more to do.
func (a *away) step(now time.Time) (took bool, wait time.Duration) {
	a.mu.Lock()
	took = a.takeFresh(now)
	a.start(now)
	tells := a.tells(now)
	a.telling = a.telling || tells
	wait = a.wait(now)
	a.mu.Unlock()
	if tells {
		_ = a.hub.post(call((*loop).tellAway)) // a closed hub says goodbye
	}
	return took, wait
}

// start starts the jobs that are due. The caller holds mu.
func (a *away) start(now time.Time) {
	for !a.isStopping() && a.begun < awayJobs && len(a.waiting) > 0 && !a.waiting[0].due.After(now) {
		job := heap.Pop(&a.waiting).(*awayJob)
		job.begun = true
		a.begun++
		a.running.Go(func() { a.finish(job, a.do(&job.awayKey)) })
	}
}

// tells reports whether the other nodes have to be told of something now. The
// caller holds mu.
func (a *away) tells(now time.Time) bool {
	if a.hub.nodeCount.Load() == 0 {
		a.untold = nil // a node that comes asks for all
		return false
	}
	if !now.Before(a.againAt) {
		a.againAt = now.Add(awayKept / 4)
		for _, job := range a.jobs {
			if now.Sub(job.due) > awayKept/2 {
				a.untold = append(a.untold, job.note(note.JobPending, now))
			}
		}
	}
	return len(a.untold) > 0 && !a.telling && now.Sub(a.toldAt) >= awayGather
}

// takeUntold returns what the other nodes have to be told.
func (a *away) takeUntold() []note.Job {
	a.mu.Lock()
	defer a.mu.Unlock()
	untold := a.untold
	a.untold, a.telling, a.toldAt = nil, false, time.Now()
	return untold
}

// wait returns how long it will be until there is something to do. The caller
// holds mu.
func (a *away) wait(now time.Time) time.Duration {
	wait := time.Hour
	if a.begun < awayJobs && len(a.waiting) > 0 && !a.isStopping() {
		wait = min(wait, max(0, a.waiting[0].due.Sub(now)))
	}
	if a.hub.nodeCount.Load() > 0 && len(a.jobs) > 0 {
		wait = min(wait, max(0, a.againAt.Sub(now)))
	}
	if len(a.untold) > 0 && !a.telling {
		wait = min(wait, max(0, a.toldAt.Add(awayGather).Sub(now)))
	}
	return wait
}

// takeFresh takes in the jobs that have come since the last time, and reports
// whether there are any. The caller holds mu.
func (a *away) takeFresh(now time.Time) bool {
	a.freshMu.Lock()
	fresh := a.fresh
	a.fresh = a.spare
	a.freshMu.Unlock()
	for i := range fresh {
		job := fresh[i]
		if a.jobs[job.awayKey] != nil {
			a.n.Add(-1)
			continue
		}
		a.jobs[job.awayKey] = &job
		heap.Push(&a.waiting, &job)
		a.untold = append(a.untold, job.note(note.JobPending, now))
	}
	clear(fresh)
	a.spare = fresh[:0]
	return len(fresh) > 0
}

// note returns what other nodes are told of the job.
func (key *awayKey) note(state note.JobState, delay time.Duration) note.Job {
	return note.Job{State: state, Topic: note.Topic(key.topic), Epoch: key.epoch, Seq: key.seq, User: key.user, Delay: delay}
}

func (job *awayJob) note(state note.JobState, now time.Time) note.Job {
	return job.awayKey.note(state, max(0, job.due.Sub(now)))
}

// finish takes in the result of a job: it is done, or is tried again.
func (a *away) finish(job *awayJob, err error) {
	now := time.Now()
	a.mu.Lock()
	a.begun--
	job.begun = false
	switch {
	case err == nil:
		a.remove(job, now)
	case errors.Is(err, errAwayEnds) || a.hub.life.ctx.Err() != nil:
		heap.Push(&a.waiting, job) // for another node
	case isLater(err):
		job.waits++
		job.due = now.Add(min(time.Second<<min(job.waits-1, 10), mostAwayPause))
		heap.Push(&a.waiting, job)
	default:
		job.waits = 0
		if job.tries++; job.tries < awayTries {
			job.due = now.Add(awayPause(job.tries))
			heap.Push(&a.waiting, job)
			break
		}
		a.hub.counters.awayFailed.Add(1)
		a.remove(job, now)
	}
	a.mu.Unlock()
	signal(a.freed)
}

// isLater reports whether a job failed because the broker, or another node, has
// no answer now.
func isLater(err error) bool {
	_, ofApplication := errors.AsType[*awayError](err)
	return !ofApplication && (hasCode(err, CodeUnavailable) || errors.Is(err, context.DeadlineExceeded))
}

// awayPause is how long a call waits that has failed so often: a second, 4, 16.
func awayPause(tries int) time.Duration { return time.Second << (2 * (tries - 1)) }

// remove forgets a job that is done. The caller holds mu.
func (a *away) remove(job *awayJob, now time.Time) {
	delete(a.jobs, job.awayKey)
	a.n.Add(-1)
	a.untold = append(a.untold, job.note(note.JobDone, now))
}

// adopt takes over the jobs of a node that has gone. Other nodes are told, also
// of those that it had already.
func (a *away) adopt(jobs map[awayKey]time.Time) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, at := range a.adopted {
		if now.Sub(at) > a.adoptedKept() {
			delete(a.adopted, key)
		}
	}
	dropped := uint64(0)
	for key, due := range jobs {
		job := a.jobs[key]
		_, isOld := a.adopted[key]
		switch {
		case job == nil && isOld:
			a.untold = append(a.untold, key.note(note.JobDone, 0))
			continue
		case job == nil && a.n.Load() >= maxAway:
			dropped++
			continue
		case job == nil:
			job = &awayJob{awayKey: key, due: due}
			a.jobs[key], a.adopted[key] = job, now
			a.n.Add(1)
			heap.Push(&a.waiting, job)
		}
		a.untold = append(a.untold, job.note(note.JobPending, now))
	}
	if dropped > 0 {
		a.overflow(dropped)
	}
	signal(a.wake)
}

// adoptedKept is for how long it is known that a job was taken over. Other
// nodes may ask for that again.
func (a *away) adoptedKept() time.Duration { return 4 * a.hub.cfg.NodeLease }

// yield forgets jobs that have not begun: another node has taken them over,
// since it was told that this one has gone.
func (a *away) yield(key awayKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	job := a.jobs[key]
	if job == nil || job.begun {
		return
	}
	heap.Remove(&a.waiting, job.index)
	delete(a.jobs, key)
	a.n.Add(-1)
	a.untold = append(a.untold, job.note(note.JobDone, time.Time{}))
}

// all returns the jobs that are not done, for another node.
func (a *away) all() []note.Job {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.takeFresh(now)
	all := make([]note.Job, 0, len(a.jobs))
	for _, job := range a.jobs {
		all = append(all, job.note(note.JobPending, now))
	}
	return all
}

func (a *away) isStopping() bool {
	select {
	case <-a.stopping:
		return true
	default:
		return false
	}
}

// drain begins nothing more, and waits for the calls that are running, unless
// cutShort gets a value first. What has not begun is for other nodes.
func (a *away) drain(cutShort chan error) {
	a.endStarting()
	ended := make(chan struct{})
	go func() {
		a.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case why := <-cutShort:
		select {
		case cutShort <- why: // for what comes next
		default:
		}
	}
}

func (a *away) endStarting() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.isStopping() {
		close(a.stopping)
	}
}

// stop ends everything, once the hub's context has ended.
func (a *away) stop() {
	a.endStarting()
	close(a.quit)
	<-a.ended
	a.running.Wait()
}

// awayHeap has the jobs that have not begun, by the time when they are due.
type awayHeap []*awayJob

func (ah awayHeap) Len() int           { return len(ah) }
func (ah awayHeap) Less(i, j int) bool { return ah[i].due.Before(ah[j].due) }
func (ah awayHeap) Swap(i, j int) {
	ah[i], ah[j] = ah[j], ah[i]
	ah[i].index, ah[j].index = i, j
}

func (ah *awayHeap) Push(x any) {
	job := x.(*awayJob)
	job.index = len(*ah)
	*ah = append(*ah, job)
}

func (ah *awayHeap) Pop() any {
	last := len(*ah) - 1
	job := (*ah)[last]
	(*ah)[last] = nil
	*ah = (*ah)[:last]
	return job
}
