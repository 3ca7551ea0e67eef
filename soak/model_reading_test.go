package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/chathub-go/chathub/internal/ledger"
	"github.com/go-json-experiment/json"
)

// markerOf names a marker: a user, and the name in the user's inbox.
type markerOf struct{ user, name string }

// marker is how far a user has read a log, as it was stored.
type marker struct {
	Epoch  string `json:"-"`
	Seq    uint64 `json:"seq"`
	Unread int    `json:"unread"`
	Head   uint64 `json:"head"`
}

// readers are the logs that a marker may be about.
func markerIn(user string, f *hubtest.Frame) (t chathub.Topic, peer, name string) {
	if f.Room != "" {
		return chathub.Topic{Room: f.Room}, "", "read/" + f.Room
	}
	return chathub.Topic{User: user}, f.To, "seen/" + f.To
}

// recordMarker notes a marker. The caller holds t.mu.
func (t *truth) recordMarker(inbox chathub.Topic, e *entry) {
	f := &e.envelope
	_, _, name := markerIn(inbox.User, f)
	var m marker
	err := json.Unmarshal(f.Data, &m)
	if err != nil || f.Type != "read" || f.From == nil || f.From.ID != inbox.User || e.name != name {
		t.findings = append(t.findings, fmt.Sprintf("%v: no marker %s: %s", inbox, e.name, show(*f)))
		return
	}
	// The hubs keep the marker as a varint and the epoch.
	seq, n := binary.Uvarint(e.state)
	if n <= 0 || seq != m.Seq {
		t.findings = append(t.findings, fmt.Sprintf("%v: marker %s is kept as %d: %s", inbox, name, seq, show(*f)))
		return
	}
	m.Epoch = string(e.state[n:])
	e.marker = m
	of := markerOf{inbox.User, name}
	if old, ok := last(t.markers[of]); ok && t.keys && old.Epoch == m.Epoch && m.Seq <= old.Seq {
		t.findings = append(t.findings, fmt.Sprintf("%v: marker %s moves from %d to %d", inbox, name, old.Seq, m.Seq))
	}
	t.markers[of] = append(t.markers[of], m)
}

func last[T any](list []T) (v T, ok bool) {
	if len(list) == 0 {
		return v, false
	}
	return list[len(list)-1], true
}

// readUpTo returns the newest stored marker of a user in an epoch of a log, or
// 0.
func (t *truth) readUpTo(of markerOf, epoch string) (seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.markers[of] {
		if m.Epoch == epoch {
			seq = max(seq, m.Seq)
		}
	}
	return seq
}

// count counts what a user has not read after a marker and up to a head, as
// protocol/README.md says: messages of others that are not deleted at the head.
// Those up to trimmed may be gone, so that there are two numbers.
func (l *life) count(t chathub.Topic, user, peer string, marker, head, trimmed uint64) (least, most int) {
	for seq := marker + 1; seq <= head; seq++ {
		e := l.at(seq)
		if !e.isMessage(t) || e.user.ID == user || t.User != "" && e.user.ID != peer {
			continue
		}
		if st, _ := l.became(seq, head); st.Deleted > 0 {
			continue
		}
		if most++; seq > trimmed {
			least++
		}
	}
	return min(least, ledger.MostUnread), min(most, ledger.MostUnread)
}

// checkCount checks a number of unread messages.
func (c *conn) checkCount(t chathub.Topic, l *life, peer string, m marker) {
	w := c.w
	least, most := l.count(t, c.d.user.ID, peer, m.Seq, m.Head, w.truth.trimmed(t, l))
	if m.Unread < least || m.Unread > most {
		w.fatalf("%s: %d unread in %v (%s) after %d and up to %d, but there are %d to %d", c, m.Unread, t, peer, m.Seq, m.Head, least, most)
	}
}

// checkMarker checks a marker in an answer: that of now or of some time since
// the request was sent.
func (c *conn) checkMarker(r *request, l *life, name string, seq uint64) {
	w := c.w
	of := markerOf{c.d.user.ID, name}
	if now := w.truth.readUpTo(of, l.epoch); seq > now {
		w.fatalf("%s: marker %s is %d in the answer, and is %d now", c, name, seq, now)
	}
	if was := r.markers[name]; w.truth.keys && was.Epoch == l.epoch && seq < was.Seq {
		w.fatalf("%s: marker %s is %d in the answer, and was %d before the request", c, name, seq, was.Seq)
	}
}

// markersOf returns the newest markers of a user, by name.
func (t *truth) markersOf(user string) map[string]marker {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]marker)
	for of, list := range t.markers {
		if of.user == user {
			all[of.name], _ = last(list)
		}
	}
	return all
}

// checkRead checks a read of the past. It says what is unread at some time
// since the request, and not when the marker was stored.
func (c *conn) checkRead(e *entry, f hubtest.Frame) {
	w := c.w
	want := e.frame(c.d.inbox)
	var m marker
	w.parse(f.Data, &m)
	want.Data = f.Data
	if show(f) != show(want) || m.Seq != e.marker.Seq || m.Head < e.marker.Head {
		w.fatalf("%s: got %s\nwant   %s", c, show(f), show(e.frame(c.d.inbox)))
	}
	t, peer, _ := markerIn(c.d.user.ID, &f)
	if l := w.truth.life(t, e.marker.Epoch); m.Head <= l.head() {
		c.checkCount(t, l, peer, m)
	} else if w.truth.keys {
		w.fatalf("%s: %s, but the head is %d", c, show(f), l.head())
	}
}

// checkMarkRead checks the answer to a mark-read.
func (c *conn) checkMarkRead(r *request, f hubtest.Frame) {
	w := c.w
	var a, asked marker
	w.parse(f.Data, &a)
	w.parse(r.frame.Data, &asked)
	t, peer, name := markerIn(c.d.user.ID, &r.frame)
	if a.Seq < asked.Seq {
		w.fatalf("%s: the marker is %s after %s", c, show(f), show(r.frame))
	}
	for _, l := range w.truth.lives(t) {
		if w.truth.readUpTo(markerOf{c.d.user.ID, name}, l.epoch) < a.Seq {
			continue
		}
		if was := r.known[t]; was.life == l && a.Head < was.seq || a.Head > l.head() {
			w.fatalf("%s: a head of %d, it was %d and is %d: %s", c, a.Head, was.seq, l.head(), show(f))
		}
		c.checkMarker(r, l, name, a.Seq)
		c.checkCount(t, l, peer, a)
		return
	}
	w.fatalf("%s: %s, but no such marker is stored", c, show(f))
}

// checkOverview checks an overview.
func (c *conn) checkOverview(r *request, f hubtest.Frame) {
	w := c.w
	type standing struct {
		chathub.Position `json:",inline"`
		Read             uint64         `json:"read"`
		Unread           int            `json:"unread"`
		Last             *hubtest.Frame `json:"last"`
		User             chathub.User   `json:"user"`
	}
	var a struct {
		Rooms         map[string]standing `json:"rooms"`
		Conversations *[]standing         `json:"conversations"`
	}
	w.parse(f.Data, &a)
	for _, room := range append(slices.Clone(allRooms), nowhere) {
		t := chathub.Topic{Room: room}
		s, ok := a.Rooms[room]
		was := r.known[t]
		if room == forbidden && ok {
			w.fatalf("%s: an overview of a room that it must not see: %s", c, show(f))
		}
		if !ok {
			if room != forbidden && was.seq > 0 && w.truth.keys && !w.tight {
				w.fatalf("%s: an overview without %s: %s", c, room, show(f))
			}
			continue
		}
		l := w.truth.life(t, s.Epoch)
		if was.life == l && s.Seq < was.seq || s.Seq > l.head() {
			w.fatalf("%s: the head of %s is %d in the overview, was %d and is %d", c, room, s.Seq, was.seq, l.head())
		}
		c.checkMarker(r, l, "read/"+room, s.Read)
		c.checkCount(t, l, "", marker{l.epoch, s.Read, s.Unread, s.Seq})
		c.checkLast(r, t, l, s.Last, s.Seq, func(*entry) bool { return true })
	}
	if a.Conversations == nil {
		w.fatalf("%s: no conversations: %s", c, show(f))
	}
	t := c.d.inbox
	was := r.known[t]
	if w.truth.life(t, was.life.epoch) != was.life || len(w.truth.lives(t)) > 1 {
		return // another log by now
	}
	found := make(map[string]bool)
	before := uint64(forever)
	for _, s := range *a.Conversations {
		if found[s.User.ID] = true; s.Last == nil {
			if !w.tight {
				w.fatalf("%s: a conversation without a message: %s", c, show(f))
			}
			continue
		}
		if s.Last.Seq >= before {
			w.fatalf("%s: conversations in another order: %s", c, show(f))
		}
		before = s.Last.Seq
		c.checkMarker(r, was.life, "seen/"+s.User.ID, s.Read)
		// Counted as of a time since the request.
		least, most := ledger.MostUnread, 0
		trimmed := w.truth.trimmed(t, was.life)
		for head := max(was.seq, s.Last.Seq); head <= was.life.head(); head++ {
			low, high := was.life.count(t, c.d.user.ID, s.User.ID, s.Read, head, trimmed)
			least, most = min(least, low), max(most, high)
		}
		if s.Unread < least || s.Unread > most {
			w.fatalf("%s: %d unread of %s, but there are %d to %d: %s", c, s.Unread, s.User.ID, least, most, show(f))
		}
		c.checkLast(r, t, was.life, s.Last, was.seq, func(e *entry) bool { return e.with(c.d.user.ID) == s.User.ID })
	}
	for seq := w.truth.trimmed(t, was.life) + 1; seq <= was.seq && seq != 0 && !w.tight; seq++ {
		if e := was.life.at(seq); e.isMessage(t) && !was.life.isDeleted(seq) && !found[e.with(c.d.user.ID)] {
			w.fatalf("%s: no conversation with %s: %s", c, e.with(c.d.user.ID), show(f))
		}
	}
}

// with returns the user with whom a user has exchanged a private message.
func (e *entry) with(user string) string {
	if e.user.ID == user {
		return e.event.To
	}
	return e.user.ID
}

// checkLast checks the newest message in an overview.
func (c *conn) checkLast(r *request, t chathub.Topic, l *life, m *hubtest.Frame, head uint64, fits func(*entry) bool) {
	w := c.w
	if m == nil && w.tight {
		return
	}
	after := w.truth.trimmed(t, l)
	if m != nil {
		known := uint64(0)
		if r.known[t].life == l {
			known = r.known[t].seq
		}
		if e := c.checkPresent(t, l, *m, known); !e.isMessage(t) || !fits(e) {
			w.fatalf("%s: the newest message of %v is %s", c, t, show(*m))
		}
		after = max(after, m.Seq)
	}
	for seq := after; seq < head; seq++ {
		if e := l.at(seq + 1); e.isMessage(t) && fits(e) && !l.isDeleted(e.seq) {
			w.fatalf("%s: the newest message of %v is not %v, since there is %s", c, t, m, show(e.frame(t)))
		}
	}
}

// checkReceipts checks a read event that tells a room how far users have read.
func (c *conn) checkReceipts(f hubtest.Frame) {
	w := c.w
	t := chathub.Topic{Room: f.Room}
	c.stream(t, f)
	var data struct {
		Users []struct {
			ID  string `json:"id"`
			Seq uint64 `json:"seq"`
		} `json:"users"`
	}
	w.parse(f.Data, &data)
	if !w.cfg.ReadReceipts || len(data.Users) == 0 {
		w.fatalf("%s: %s", c, show(f))
	}
	for _, u := range data.Users {
		if !slices.ContainsFunc(w.truth.lives(t), func(l *life) bool {
			return w.truth.readUpTo(markerOf{u.ID, "read/" + f.Room}, l.epoch) >= u.Seq
		}) {
			w.fatalf("%s: %s has not read up to %d: %s", c, u.ID, u.Seq, show(f))
		}
	}
}

// page is the answer to a history.
type page struct {
	Messages []hubtest.Frame `json:"messages"`
	More     bool            `json:"more"`
	Newer    *bool           `json:"newer"`
	Next     uint64          `json:"next"`
}

// historyRequest is the data of a history.
type historyRequest struct {
	Limit  int      `json:"limit"`
	Before uint64   `json:"before,omitzero"`
	After  *uint64  `json:"after,omitzero"`
	Around uint64   `json:"around,omitzero"`
	Types  []string `json:"types,omitzero"`
	Re     uint64   `json:"re,omitzero"`
}

// wants reports whether a message is one of those that a request is about.
func (h *historyRequest) wants(e *entry, user, peer string) bool {
	if e == nil || e.name != "" {
		return false
	}
	typ := "news"
	if e.emit == nil {
		typ = strings.Replace(e.event.Type, "send-", "", 1)
	}
	return (h.Types == nil || slices.Contains(h.Types, typ)) &&
		(h.Re == 0 || e.emit == nil && e.event.Re.Seq == h.Re) &&
		(peer == "" || typ == "private-message" && e.with(user) == peer)
}

// checkHistory checks that a page is what was asked for, without a gap.
func (c *conn) checkHistory(r *request, f hubtest.Frame) {
	w := c.w
	var p page
	w.parse(f.Data, &p)
	h, peer, t := r.history, r.frame.To, c.d.inbox
	if r.frame.Room != "" {
		t = chathub.Topic{Room: r.frame.Room}
		if r.member == out && c.member[t.Room] == out {
			w.fatalf("%s read a room that it is not in: %s", c, show(f))
		}
	}
	s := c.stream(t, f)
	if s.open == forever {
		return // the application has just put it in
	}
	known := uint64(0)
	if r.known[t].life == s.life {
		known = r.known[t].seq
	}
	low, high := uint64(0), uint64(forever)
	if h.After != nil {
		low = *h.After
	}
	if h.Before > 0 {
		high = h.Before
	}
	at := low
	for _, m := range p.Messages {
		c.mayHear(s, m)
		e := c.checkPresent(t, s.life, m, known)
		if m.Seq <= at || m.Seq >= high || !h.wants(e, c.d.user.ID, peer) {
			w.fatalf("%s: history after %d: %s", c, at, show(m))
		}
		at = m.Seq
	}
	n := len(p.Messages)
	if n > min(h.Limit, w.replayLimit) {
		w.fatalf("%s: %d messages, requested %d", c, n, h.Limit)
	}
	if (p.Newer != nil) != (h.After != nil || h.Around > 0) {
		w.fatalf("%s: newer: %s", c, show(f))
	}
	if n == 0 && p.More && h.After == nil && h.Around == 0 && p.Next == 0 && !w.tight {
		w.fatalf("%s: there is more, but where? %s", c, show(f))
	}
	c.checkPage(t, s.life, r, &p, known, func(e *entry) bool { return h.wants(e, c.d.user.ID, peer) })
}

// checkPage checks that a page has all that was asked for, next to where it was
// asked for, and that it says whether there is more.
func (c *conn) checkPage(t chathub.Topic, l *life, r *request, p *page, known uint64, wants func(*entry) bool) {
	w, h, n := c.w, r.history, len(p.Messages)
	trimmed := w.truth.trimmed(t, l)
	gap := func(after, before uint64) {
		for seq := max(after, trimmed); seq < min(before-1, known); seq++ {
			if e := l.at(seq + 1); wants(e) && !l.isDeleted(e.seq) {
				w.fatalf("%s: %s answered without %s: %s", c, show(r.frame), show(e.frame(t)), hubtest.Data(p))
			}
		}
	}
	for i := 1; i < n; i++ {
		gap(p.Messages[i-1].Seq, p.Messages[i].Seq)
	}
	if w.tight { // its bytes may be the limit
		return
	}
	low, high := uint64(0), uint64(forever)
	if h.After != nil {
		low = *h.After
	}
	if h.Before > 0 {
		high = h.Before
	}
	newer := p.Newer != nil && *p.Newer
	first, last := high, low // what the page reaches to
	switch {
	case h.Around > 0:
		first, last = h.Around+1, h.Around
	case p.Next > 0:
		first, last = p.Next, p.Next
	case h.After != nil && h.Before == 0: // nothing is after it
		first = low + 1
	}
	if n > 0 {
		first, last = min(first, p.Messages[0].Seq), max(last, p.Messages[n-1].Seq)
	}
	switch oldest := h.After != nil && h.Before == 0; {
	case h.Around > 0:
		if n > 0 {
			gap(p.Messages[n-1].Seq, h.Around+1)
			gap(h.Around, p.Messages[0].Seq)
		}
		if !newer {
			gap(last, forever)
		}
	case oldest:
		if n > 0 {
			gap(low, p.Messages[0].Seq)
		}
		if !newer || h.plain(r) && n < min(h.Limit, w.replayLimit) {
			gap(last, forever)
		}
	case n > 0:
		gap(p.Messages[n-1].Seq, high)
		if h.plain(r) && n < min(h.Limit, w.replayLimit) {
			gap(low, p.Messages[0].Seq)
		}
	default:
		gap(max(low, p.Next), high)
	}
	if !p.More {
		gap(0, first)
	}
	ordinary := func(after, before uint64) bool {
		for seq := after; seq < min(before-1, l.head()); seq++ {
			if e := l.at(seq + 1); e.name == "" {
				return true
			}
		}
		return false
	}
	if p.More && !ordinary(0, first) || newer && !ordinary(last, forever) {
		w.fatalf("%s: %s answered with more than there is: %s", c, show(r.frame), hubtest.Data(p))
	}
}

// plain reports whether a request is about all messages of a log.
func (h *historyRequest) plain(r *request) bool {
	return h.Types == nil && h.Re == 0 && r.frame.To == ""
}
