package moderation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/chathub-go/chathub"
	"golang.org/x/time/rate"
)

// Report says that somebody should look at a message. It is an event "report"
// in the log of [ReportsRoom], whose data is the report as JSON, and which is
// from the user who reports.
type Report struct {
	// Position and Time are where and when the report is stored, in
	// ReportsRoom.
	Position chathub.Position `json:"-"`
	Time     time.Time        `json:"-"`
	// Tenant is that of By, in whose ReportsRoom the report is.
	Tenant string `json:"-"`
	// By is who reports. Zero: Config.Words.
	By chathub.User `json:"-"`
	// Room and Seq name a message in a room, whose Author is known from its
	// log.
	Room string `json:"room,omitzero"`
	Seq  uint64 `json:"seq,omitzero"`
	// To and ID name a private message between By and To, or, if By is zero, of
	// Author to To. Of a user's report, Author is the id that the user gives,
	// and nobody has checked it, nor that there is such a message.
	To     string `json:"to,omitzero"`
	ID     string `json:"id,omitzero"`
	Author string `json:"author,omitzero"`
	// Reason is why. Quote is what the message says, according to the user.
	Reason string `json:"reason"`
	Quote  string `json:"quote,omitzero"`
}

// The bounds of a report.
const (
	maxReportReason = 1000 // bytes
	maxQuote        = 2000 // bytes
	maxMessageID    = 64   // bytes
	// A user may send reportBurst reports at once on each node, and one each
	// reportInterval.
	reportBurst    = 5
	reportInterval = 10 * time.Second
)

// reportEvent is the event of a client, and the one in the log.
const reportEvent = "report"

// reportData is the data of a report from a client.
type reportData struct {
	Seq    uint64 `json:"seq"`
	ID     string `json:"id"`
	Author string `json:"author"`
	Reason string `json:"reason"`
	Quote  string `json:"quote"`
}

// Validate implements the check of chathub.On.
func (d *reportData) Validate() error {
	for name, s := range map[string]struct {
		text string
		most int
	}{
		"reason": {d.Reason, maxReportReason}, "quote": {d.Quote, maxQuote},
		"id": {d.ID, maxMessageID}, "author": {d.Author, maxName},
	} {
		if len(s.text) > s.most || !utf8.ValidString(s.text) {
			return bad("data.%s must be at most %d bytes", name, s.most)
		}
	}
	if d.Reason == "" {
		return bad("data.reason is missing")
	}
	if d.Author != "" && !isName(d.Author) {
		return bad("data.author is not a user id")
	}
	return nil
}

// onReport handles a report of a client.
func (m *Moderation) onReport(ctx context.Context, c *chathub.Client, d reportData) error {
	e := chathub.EventFrom(ctx)
	r := Report{Tenant: c.Tenant(), By: c.User(), Room: e.Room, To: e.To, Reason: d.Reason, Quote: d.Quote}
	switch {
	case (e.Room == "") == (e.To == ""):
		return bad("either room or to")
	case e.Room != "" && !slices.Contains(c.Rooms(), e.Room):
		return &chathub.Error{Code: chathub.CodeNotInRoom, Message: "Join the room first"}
	case e.Room != "" && (d.Seq == 0 || d.Seq >= 1<<53):
		return bad("data.seq must be the position of a message")
	case e.To != "" && d.ID == "":
		return bad("data.id is missing")
	}
	if err := m.reports.take(person{r.Tenant, r.By.ID}); err != nil {
		return err
	}
	if r.Room != "" {
		entries, _, err := m.hub.Tenant(r.Tenant).History(ctx, r.Room, chathub.Range{After: d.Seq - 1, Before: d.Seq + 1, Limit: 1})
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return bad("No such message")
		}
		r.Seq, r.ID, r.Author = d.Seq, entries[0].ID, entries[0].From.ID
	} else {
		r.ID, r.Author = d.ID, d.Author
	}
	return m.report(ctx, r, e.ID)
}

// reportSaid stores the report of a message for Words. Its id follows from the
// message, so that a repetition of the message reports it once.
func (m *Moderation) reportSaid(ctx context.Context, c *chathub.Client, e *chathub.Event, result any, reason string) error {
	receipt, ok := result.(chathub.Receipt)
	if !ok {
		return nil
	}
	r := Report{Tenant: c.Tenant(), Room: e.Room, To: e.To, ID: e.ID, Author: c.User().ID, Reason: reason}
	if e.Room != "" {
		r.Seq = receipt.Seq
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d", c.User().ID, e.Room, receipt.Epoch, receipt.Seq))
	return m.report(ctx, r, hex.EncodeToString(sum[:16]))
}

// report stores a report, and tells the application.
func (m *Moderation) report(ctx context.Context, r Report, messageID string) error {
	if len(r.Reason) > maxReportReason || !utf8.ValidString(r.Reason) {
		return errors.New("moderation: the reason of a report must be UTF-8 of at most 1000 bytes")
	}
	receipt, err := m.hub.Tenant(r.Tenant).To(ReportsRoom).Post(ctx, chathub.Post{Type: reportEvent, From: r.By, ID: messageID, Data: r})
	if err != nil || m.cfg.OnReport == nil {
		return err
	}
	r.Position = chathub.Position{Epoch: receipt.Epoch, Seq: receipt.Seq}
	r.Time = time.UnixMilli(receipt.Time)
	return m.cfg.OnReport(ctx, r)
}

// reporters limits how much each user reports to this node. Any goroutine may
// use it.
type reporters struct {
	mu     sync.Mutex
	users  map[person]*rate.Limiter
	pruned int // users that were left at the last pruning
}

func (rs *reporters) init() { rs.users = make(map[person]*rate.Limiter) }

// take returns an error if a user reports too much.
func (rs *reporters) take(user person) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	now := time.Now()
	if len(rs.users) >= max(1024, 2*rs.pruned) {
		for id, l := range rs.users {
			if l.TokensAt(now) >= reportBurst {
				delete(rs.users, id)
			}
		}
		rs.pruned = len(rs.users)
	}
	l := rs.users[user]
	if l == nil {
		l = rate.NewLimiter(rate.Every(reportInterval), reportBurst)
		rs.users[user] = l
	}
	r := l.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return &chathub.Error{Code: chathub.CodeRateLimited, Message: "Too many reports", RetryAfter: wait}
	}
	return nil
}
