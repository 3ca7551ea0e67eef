package ledger

import "slices"

// Stretch is a run of positions, both ends included.
type Stretch struct{ From, To uint64 }

// Track is what one client has seen of one log. It belongs to its client.
type Track struct {
	Topic string
	Epoch string
	// Last is the position that the client remembers: that of the last message
	// that it saw, or the one at which it started.
	Last uint64
	gaps []Stretch // not seen
	// Own are the positions of the client's own private messages. They do not
	// come back to the connection that sent them, except after a resume.
	Own map[uint64]bool
	// Hole is the end of the part that history may have to fill, since the
	// server does not replay all of it.
	Hole uint64
	// Shown is what the client shows of the messages that it has.
	Shown map[uint64]Became
	Read  uint64 // the marker, as far as the client knows
}

// NewTrack returns the track of a client that joins a log at a position.
func NewTrack(topic, epoch string, seq uint64) *Track {
	return &Track{Topic: topic, Epoch: epoch, Last: seq, Own: make(map[uint64]bool), Shown: make(map[uint64]Became)}
}

// Outcome is what a message means for a track.
type Outcome int

// The outcomes of Saw and Fill.
const (
	Expected Outcome = iota
	Filled           // it was missing
	Repeated         // it came before
)

// Saw notes a message that came as an event.
func (t *Track) Saw(seq uint64) Outcome {
	if seq > t.Last {
		if seq > t.Last+1 {
			t.gaps = append(t.gaps, Stretch{t.Last + 1, seq - 1})
		}
		t.Last = seq
		return Expected
	}
	if t.Own[seq] {
		return Expected
	}
	return t.Fill(seq)
}

// Fill notes a message that came late or in a page of history.
func (t *Track) Fill(seq uint64) Outcome {
	i := slices.IndexFunc(t.gaps, func(g Stretch) bool { return g.From <= seq && seq <= g.To })
	if i < 0 {
		return Repeated
	}
	g := t.gaps[i]
	var rest []Stretch
	if g.From < seq {
		rest = append(rest, Stretch{g.From, seq - 1})
	}
	if seq < g.To {
		rest = append(rest, Stretch{seq + 1, g.To})
	}
	t.gaps = slices.Replace(t.gaps, i, i+1, rest...)
	return Filled
}

// Fillable returns the newest gap that history may fill. Positions of a log are
// not dense on every broker, so most gaps are no messages. The page before the
// newest one says so of many at once.
func (t *Track) Fillable() (Stretch, bool) {
	for _, g := range slices.Backward(t.gaps) {
		if g.From <= t.Hole {
			return g, true
		}
	}
	return Stretch{}, false
}

// Gaps returns the first few gaps, for a report.
func (t *Track) Gaps(most int) []Stretch { return slices.Clone(t.gaps[:min(len(t.gaps), most)]) }

// Show takes what a message has become, unless the client has a newer version.
// A change of a message that the client does not have is nothing to it.
func (t *Track) Show(seq uint64, now Became, isChange bool) {
	if had, ok := t.Shown[seq]; isChange && !ok || ok && now.Version < had.Version {
		return
	}
	t.Shown[seq] = now
}

// Stale returns how many messages the client shows in another form than the one
// that they have.
func (t *Track) Stale(l *Ledger) (n int) {
	for seq, had := range t.Shown {
		if l.Now(t.Topic, seq) != had {
			n++
		}
	}
	return n
}

// Searched notes that a page of history has reached from one position to
// another: what is missing there is not in the log, unless the ledger has it.
// It reports whether that closed a gap.
func (t *Track) Searched(l *Ledger, from, to uint64) (closed bool) {
	var rest []Stretch
	for _, g := range t.gaps {
		in := Stretch{max(g.From, from), min(g.To, to)}
		if in.From > in.To || l.Lacks(t.Topic, in, t.Own) > 0 {
			rest = append(rest, g)
			continue
		}
		closed = true
		if g.From < in.From {
			rest = append(rest, Stretch{g.From, in.From - 1})
		}
		if in.To < g.To {
			rest = append(rest, Stretch{in.To + 1, g.To})
		}
	}
	t.gaps = rest
	return closed
}

// Missing returns how many messages the client should have seen but has not.
func (t *Track) Missing(l *Ledger) (n int) {
	for _, g := range append(slices.Clone(t.gaps), Stretch{t.Last + 1, l.Head(t.Topic)}) {
		n += l.Lacks(t.Topic, g, t.Own)
	}
	return n
}
