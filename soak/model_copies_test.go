package main

import (
	"strings"

	"github.com/chathub-go/chathub"
)

// checkCopies checks that both copies of private messages have become the same,
// if nothing is left half done.
func (w *world) checkCopies() {
	if !w.truth.keys {
		return
	}
	type name struct{ author, id string }
	open := make(map[name]bool)
	for _, o := range w.ops {
		if o.pending > 0 || o.unknown {
			open[name{o.author, o.id}] = true
		}
	}
	for _, u := range users {
		t := chathub.Topic{User: u.ID}
		l, _ := w.truth.latest(t)
		if l == nil {
			continue
		}
		trimmed := w.truth.trimmed(t, l)
		for seq := range l.changes {
			st, _ := l.became(seq, forever)
			v := l.changes[seq][0].change
			n := name{v.Author, v.ID}
			if seq <= trimmed || open[n] {
				continue
			}
			peer := l.at(seq).with(u.ID)
			other := chathub.Topic{User: peer}
			ol, _ := w.truth.latest(other)
			found := ol.find(other, &op{user: u.ID, peer: peer, id: n.id, author: n.author})
			if len(found) == 0 || found[0].seq <= w.truth.trimmed(other, ol) {
				continue
			}
			// There is one, since all keys are known.
			ost, _ := ol.became(found[0].seq, forever)
			if ost.bare() != st.bare() {
				w.fatalf("message %v: %s for %s, %s for %s", n, st.bare(), u.ID, ost.bare(), peer)
			}
		}
	}
}

// checkErased checks that the broker has nothing of what was deleted.
func (w *world) checkErased() {
	for _, t := range w.truth.all() {
		l, _ := w.truth.latest(t)
		if l == nil {
			continue
		}
		page, err := w.truth.read(t, chathub.Range{Limit: 1 << 20})
		if err != nil || page.Head.Epoch != l.epoch {
			continue
		}
		for _, m := range page.Messages {
			for seq := range l.changes {
				e := l.at(seq)
				if !l.isDeleted(seq) {
					continue
				}
				again := l.at(m.Seq) // it may have been sent again when its id was forgotten
				if again != nil && again.name == "" && string(again.event.Data) == string(e.event.Data) && !l.isDeleted(m.Seq) {
					continue
				}
				for _, data := range append(l.texts(seq), string(e.event.Data)) {
					if data != "" && strings.Contains(string(m.Body), data) {
						w.fatalf("%v: position %d still has %s, which was deleted", t, m.Seq, data)
					}
				}
			}
		}
	}
}

// texts returns what a message was edited to.
func (l *life) texts(seq uint64) (all []string) {
	for _, v := range l.changes[seq] {
		all = append(all, string(v.change.Message.Data))
	}
	return all
}
