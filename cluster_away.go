package chathub

import (
	"maps"
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// awayNodes are jobs of other nodes for Config.OnAway, in case that these end.
// It belongs to the loop.
type awayNodes struct {
	held map[string]map[awayKey]time.Time // by node; when each is due
	// orphans are jobs of nodes that have gone, until another node says that it
	// has taken them over.
	orphans  map[awayKey]*orphan
	prunedAt time.Time
}

// orphan is a job without a node.
type orphan struct {
	heir  string // the node that should have it
	due   time.Time
	since time.Time
	askAt time.Time // when the heir is asked to take it
	pause time.Duration
}

// orphanPause is how long an heir has to take over a job before it is asked to.
// Then the pause doubles each time.
const orphanPause = 2 * time.Second

func (an *awayNodes) init() {
	an.held = make(map[string]map[awayKey]time.Time)
	an.orphans = make(map[awayKey]*orphan)
}

func awayKeyOf(job *note.Job) awayKey {
	return awayKey{topic: Topic(job.Topic), epoch: job.Epoch, seq: job.Seq, user: job.User}
}

// hearAway takes in what becomes of jobs of another node.
func (l *loop) hearAway(from *node, n *note.Note) {
	if l.cfg.OnAway == nil {
		return
	}
	an := &l.nodes.away
	held := an.held[from.id]
	if held == nil {
		held = make(map[awayKey]time.Time)
		an.held[from.id] = held
	}
	var mine map[awayKey]time.Time
	for i := range n.Jobs {
		job := &n.Jobs[i]
		key := awayKeyOf(job)
		due := l.now().Add(job.Delay)
		switch job.State {
		case note.JobPending:
			delete(an.orphans, key)
			if _, known := held[key]; known || len(held) < maxAway {
				held[key] = due
			}
			if from.id < l.hub.node {
				l.hub.away.yield(key)
			}
		case note.JobDone:
			delete(an.orphans, key)
			delete(held, key)
		case note.JobNone:
			clear(held)
		case note.JobYours:
			if mine == nil {
				mine = make(map[awayKey]time.Time)
			}
			mine[key] = due
		}
	}
	if mine != nil {
		l.hub.away.adopt(mine)
	}
}

// tellAway tells the other nodes what is new about the jobs of this one.
func (l *loop) tellAway() {
	if jobs := l.hub.away.takeUntold(); len(jobs) > 0 && len(l.nodes.all) > 0 {
		l.sendNote(Topic{}, &note.Note{Op: note.OpAway, Jobs: jobs})
	}
}

// sendAway tells a node of all jobs of this one.
func (l *loop) sendAway(to *node) {
	if l.cfg.OnAway == nil {
		return
	}
	if jobs := l.hub.away.all(); len(jobs) > 0 {
		l.sendNote(Topic{Node: to.id}, &note.Note{Op: note.OpAway, Jobs: jobs})
	}
}

// dropAway has the living node with the lowest id take over the jobs of a node
// that has gone, and those that were to be its own. None is due before the
// grace of that node's users is over.
func (l *loop) dropAway(gone *node) {
	an := &l.nodes.away
	jobs := an.held[gone.id]
	delete(an.held, gone.id)
	for key, o := range an.orphans {
		if o.heir == gone.id {
			delete(an.orphans, key)
			if jobs == nil {
				jobs = make(map[awayKey]time.Time)
			}
			jobs[key] = o.due
		}
	}
	if len(jobs) == 0 {
		return
	}
	heir := l.hub.node
	for id := range l.nodes.all {
		heir = min(heir, id)
	}
	earliest := l.now().Add(max(0, l.cfg.PresenceGrace) + sweepInterval)
	for key, due := range jobs {
		if due.Before(earliest) {
			jobs[key] = earliest
		}
	}
	if heir == l.hub.node {
		l.hub.away.adopt(jobs)
		return
	}
	for key, due := range jobs {
		an.orphans[key] = &orphan{heir: heir, due: due, since: l.now(), askAt: l.now().Add(orphanPause), pause: orphanPause}
	}
}

// sweepAway asks other nodes to take over jobs that they have not, and forgets
// those of which nothing was heard for long.
func (l *loop) sweepAway(now time.Time) {
	an := &l.nodes.away
	var asked map[string][]note.Job
	for key, o := range an.orphans {
		switch {
		case now.Sub(o.since) > 2*l.cfg.NodeLease:
			delete(an.orphans, key)
		case !now.Before(o.askAt):
			o.pause *= 2
			o.askAt = now.Add(o.pause)
			if asked == nil {
				asked = make(map[string][]note.Job)
			}
			asked[o.heir] = append(asked[o.heir], key.note(note.JobYours, max(0, o.due.Sub(now))))
		}
	}
	for heir, jobs := range asked {
		l.sendNote(Topic{Node: heir}, &note.Note{Op: note.OpAway, Jobs: jobs})
	}
	if now.Sub(an.prunedAt) < awayKept/3 {
		return
	}
	an.prunedAt = now
	for _, held := range an.held {
		maps.DeleteFunc(held, func(_ awayKey, due time.Time) bool { return now.Sub(due) > awayKept+l.cfg.NodeLease })
	}
}
