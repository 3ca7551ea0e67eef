package main

import (
	"fmt"
	"slices"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/internal/ledger"
	"github.com/go-json-experiment/json"
)

// view is what a device shows of a log. It does what protocol/README.md says of
// a client: it adds up nothing, and takes what has the higher version.
type view struct {
	epoch    string
	conn     *conn // which keeps it up to date; nil: it may have missed something
	messages map[uint64]*hubtest.Frame
	named    map[string]uint64 // positions of private messages, by author and id
	read     marker            // Epoch is empty: unknown
	gone     map[uint64]bool   // what was unread as of read.Head, and was deleted since
}

func (d *device) view(t chathub.Topic) *view {
	v := d.views[t]
	if v == nil {
		v = &view{}
		v.clear("")
		d.views[t] = v
	}
	return v
}

// clear drops everything.
func (v *view) clear(epoch string) {
	*v = view{epoch: epoch, messages: make(map[uint64]*hubtest.Frame), named: make(map[string]uint64), gone: make(map[uint64]bool)}
}

func nameOf(author, id string) string { return author + "/" + id }

// begin notes an answer to a join or a resume.
func (v *view) begin(c *conn, a answer, asked bool) {
	if !asked || !a.Recovered || v.epoch != a.Epoch {
		v.clear(a.Epoch) // changes may be missing
	}
	v.conn = c
	if a.Read != nil && a.Unread != nil {
		v.count(marker{a.Epoch, *a.Read, *a.Unread, a.Seq})
	} else {
		v.read = marker{}
	}
}

// count replaces what is unread, unless it is outdated.
func (v *view) count(m marker) {
	old := v.read
	if old.Epoch == m.Epoch && (m.Seq < old.Seq || m.Seq == old.Seq && m.Head < old.Head) {
		return
	}
	if v.read = m; m.Epoch != v.epoch {
		v.read = marker{}
	}
	clear(v.gone)
}

// put takes a message, from wherever it comes.
func (v *view) put(f hubtest.Frame) {
	if f.Type != "room-message" && f.Type != "private-message" {
		return
	}
	if had := v.messages[f.Seq]; had != nil && had.Version > f.Version {
		return
	}
	v.messages[f.Seq] = &f
	if f.Type == "private-message" {
		v.named[nameOf(f.From.ID, f.ID)] = f.Seq
	}
}

// change applies a message-changed.
func (v *view) change(f hubtest.Frame, user string) error {
	var ch change
	if err := json.Unmarshal(f.Data, &ch); err != nil {
		return err
	}
	seq := ch.Seq
	if f.Room == "" {
		seq = v.named[nameOf(ch.Author, ch.ID)]
	}
	m := v.messages[seq]
	if ch.Message.Deleted > 0 && f.Seq > v.read.Head {
		switch {
		case m == nil:
			v.read = marker{} // it may have been unread, so that a client asks again
		case m.Deleted > 0 && m.Version <= v.read.Head: // it was not unread
		case v.read.Seq < seq && seq <= v.read.Head && m.From.ID != user:
			v.gone[seq] = true // even if it came as deleted
		}
	}
	if m == nil || f.Seq < m.Version {
		return nil
	}
	now := *m
	st := &ch.Message
	now.Version, now.Edited, now.Deleted, now.Reactions, now.Mine = f.Seq, st.Edited, st.Deleted, st.Reactions, nil
	switch {
	case st.Deleted > 0:
		now.Data = nil
	case st.Data != nil:
		now.Data = st.Data
	}
	v.messages[seq] = &now
	return nil
}

// unread is the number that a client shows, and whether it knows it.
func (v *view) unread(user string) (n int, known bool) {
	if v.read.Epoch == "" || v.read.Unread == ledger.MostUnread {
		return 0, false
	}
	for seq, m := range v.messages {
		if seq > max(v.read.Head, v.read.Seq) && m.Type == "room-message" && m.From.ID != user && m.Deleted == 0 {
			n++
		}
	}
	return v.read.Unread - len(v.gone) + n, true
}

// show lets a device show what came over its connection.
func (d *device) show(c *conn, f hubtest.Frame) {
	switch f.Type {
	case "removed":
		d.view(chathub.Topic{Room: f.Room}).conn = nil
		return
	case "read":
		if f.Seq > 0 && f.Room != "" {
			var m marker
			c.w.parse(f.Data, &m)
			// It does not say of which epoch it is. A client takes it for the
			// one that it is in.
			v := d.view(chathub.Topic{Room: f.Room})
			if m.Epoch = v.epoch; v.conn == c {
				v.count(m)
			}
		}
		return
	}
	t := d.logOf(f)
	v := d.view(t)
	if f.Seq == 0 || c.awaited[t] || v.conn != c {
		return // or it comes again, or the device does not know since when it is a member
	}
	if f.Type != "message-changed" {
		v.put(f)
	} else if err := v.change(f, d.user.ID); err != nil {
		c.w.fatalf("%s: %s: %v", c, show(f), err)
	}
}

// showPage lets a device show a page of history.
func (d *device) showPage(c *conn, r *request, f hubtest.Frame) {
	t := d.inbox
	if r.frame.Room != "" {
		t = chathub.Topic{Room: r.frame.Room}
	}
	v := d.view(t)
	if v.conn != c {
		return
	}
	var p page
	c.w.parse(f.Data, &p)
	for _, m := range p.Messages {
		v.put(m)
	}
}

// isUnclear reports whether a client cannot know what has become of a message.
// There may be another private message of the same name, since the server had
// forgotten the id when it was sent again. A change does not say to the client
// which of them it is about. Or the message was deleted and the log has dropped
// what said so.
func (l *life) isUnclear(t chathub.Topic, e *entry) bool {
	if t.User != "" && !l.isAlone(t, e) {
		return true
	}
	return !l.isDeleted(e.seq) && slices.ContainsFunc(l.changes[e.seq], func(v *entry) bool { return v.change.Message.Deleted > 0 })
}

// checkView checks that a device shows every message that it has as it is now.
func (c *conn) checkView() {
	w := c.w
	if _, over := w.ends.get(c.id); over || c.left || c.paused || c.mustEnd || c.d.conn != c || w.tight {
		return
	}
	for t, v := range c.d.views {
		s := c.streams[t]
		l, head := w.truth.latest(t)
		if v.conn != c || s == nil || s.open == forever || l == nil || l.epoch != v.epoch || c.awaited[t] || c.moving[t.Room] {
			continue
		}
		for seq, m := range v.messages {
			_, version := l.became(seq, forever)
			e := l.at(seq)
			if e == nil {
				w.fatalf("%s shows what does not exist: %s", c, show(*m))
			}
			want, _ := e.present(t, l, version, "")
			had := *m
			if had.Mine = nil; show(had) != show(want) && (w.truth.keys || had.Version > 0 && !l.isUnclear(t, e)) {
				w.fatalf("%s shows %s\nit is   %s", c, show(had), show(want))
			}
		}
		if n, known := v.unread(c.d.user.ID); known && t.Room != "" {
			least, most := l.count(t, c.d.user.ID, "", v.read.Seq, head, w.truth.trimmed(t, l))
			if n < least || n > most && w.truth.trimmed(t, l) == 0 {
				w.fatalf("%s shows %d unread in %v: %s; but there are %d to %d", c, n, t, fmt.Sprintf("%+v, less %d", v.read, len(v.gone)), least, most)
			}
		}
	}
}
