package moderation

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/chathub-go/chathub"
)

// Kind is what a decision does.
type Kind string

const (
	// Mute keeps a user from writing in a room or, without a room, everywhere:
	// messages, edits, reactions, typing, states.
	Mute Kind = "mute"
	// Ban keeps a user out of a room or, without a room, from connecting.
	Ban Kind = "ban"
	// Slow lets each user send one room-message in Every to a room.
	Slow Kind = "slow"
	// Freeze keeps everyone from writing in a room.
	Freeze Kind = "freeze"
)

// isAboutUser reports whether the kind is about a user, and not about a room.
func (k Kind) isAboutUser() bool { return k == Mute || k == Ban }

// The bounds of a Decision.
const (
	maxName   = 128 // bytes of the name of a room and the id of a user, as in chathub
	maxTenant = 64  // bytes, as in chathub
	maxReason = 256 // bytes
	minEvery  = time.Second
	maxEvery  = 24 * time.Hour
)

// Decision is about one user or one room. There is at most one of a Kind for a
// Room and User: a newer one replaces it.
type Decision struct {
	Kind Kind
	// Room is where it holds. Empty: in the whole service, which only a Mute
	// and a Ban may.
	Room string
	// User is whom a Mute or Ban is about, by id.
	User string
	// Every is for Slow: the time between two messages of a user, from 1 s to
	// 24 h.
	Every time.Duration
	// Until is when the decision ends. Zero: when it is lifted.
	Until time.Time
	// Reason is for the user concerned. At most 256 bytes.
	Reason string
	// By is the id of the moderator. Only moderators see it.
	By string
	// At is when it was decided. It is set by [Moderation.Decide].
	At time.Time

	tenant string
}

// id names a decision.
type id struct {
	tenant     string
	kind       Kind
	room, user string
}

func (d *Decision) id() id { return id{d.tenant, d.Kind, d.Room, d.User} }

// holds reports whether the decision has not ended.
func (d *Decision) holds(now time.Time) bool {
	return d != nil && (d.Until.IsZero() || now.Before(d.Until))
}

// left returns how long the decision holds from now on. 0: for good.
func (d *Decision) left(now time.Time) time.Duration {
	if d.Until.IsZero() {
		return 0
	}
	return max(d.Until.Sub(now), time.Millisecond)
}

func bad(format string, args ...any) *chathub.Error {
	return &chathub.Error{Code: chathub.CodeBadRequest, Message: fmt.Sprintf(format, args...)}
}

// check returns what is wrong with a name of a decision.
func (i id) check() error {
	switch {
	case i.tenant != "" && (!isName(i.tenant) || len(i.tenant) > maxTenant):
		return bad("not the name of a tenant")
	case i.kind != Mute && i.kind != Ban && i.kind != Slow && i.kind != Freeze:
		return bad("unknown kind of decision")
	case i.room == "" && !i.kind.isAboutUser():
		return bad("room is missing")
	case i.room != "" && !isName(i.room), isReserved(i.room):
		return bad("not the name of a room")
	case i.kind.isAboutUser() && !isName(i.user):
		return bad("not a user id")
	case !i.kind.isAboutUser() && i.user != "":
		return bad("this decision is not about a user")
	}
	return nil
}

// check returns what is wrong with a decision.
func (d *Decision) check(now time.Time) error {
	switch err := d.id().check(); {
	case err != nil:
		return err
	case d.Kind == Slow && (d.Every < minEvery || d.Every > maxEvery):
		return bad("the time between two messages must be %v to %v", minEvery, maxEvery)
	case d.Kind != Slow && d.Every != 0:
		return bad("only slow mode has a time between messages")
	case !d.Until.IsZero() && !d.Until.After(now):
		return bad("the decision would have ended already")
	case len(d.Reason) > maxReason || !utf8.ValidString(d.Reason):
		return bad("the reason must be UTF-8 of at most %d bytes", maxReason)
	case d.By != "" && !isName(d.By):
		return bad("By is not a user id")
	}
	return nil
}

// isName reports whether chathub accepts a name of a room or a user id.
func isName(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// record is a decision as JSON, in the store and for moderators. Times are Unix
// times in milliseconds.
type record struct {
	Tenant  string `json:"tenant,omitzero"` // in the store only
	Kind    Kind   `json:"kind"`
	Room    string `json:"room,omitzero"`
	User    string `json:"user,omitzero"`
	EveryMS int64  `json:"everyMs,omitzero"`
	Until   int64  `json:"until,omitzero"`
	Reason  string `json:"reason,omitzero"`
	By      string `json:"by,omitzero"`
	At      int64  `json:"at,omitzero"`
}

func (d *Decision) record() record {
	return record{d.tenant, d.Kind, d.Room, d.User, d.Every.Milliseconds(), millis(d.Until), d.Reason, d.By, millis(d.At)}
}

func (r *record) decision() Decision {
	return Decision{r.Kind, r.Room, r.User, time.Duration(r.EveryMS) * time.Millisecond, timeOf(r.Until), r.Reason, r.By, timeOf(r.At), r.Tenant}
}

// millis returns 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
