package moderation

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/chathub-go/chathub"
)

// Events of clients, besides reportEvent.
const (
	moderateEvent = "moderate"
	statusEvent   = "moderation"
	// mutedEvent tells a user's connections of a mute, or its end.
	mutedEvent = "muted"
)

// maxListed is how many decisions the answer to a moderator has.
const maxListed = 200

// register adds the middleware and the events to the hub.
func (m *Moderation) register() {
	m.hub.Use(m.middleware)
	chathub.OnAck(m.hub, moderateEvent, m.onModerate)
	chathub.OnAck(m.hub, statusEvent, m.onStatus)
	chathub.On(m.hub, reportEvent, m.onReport)
}

// moderateData is the data of a moderate.
type moderateData struct {
	Action  string `json:"action"` // a Kind, or "un" and a Kind
	User    string `json:"user"`
	ForMS   int64  `json:"forMs"` // 0: until it is lifted
	EveryMS int64  `json:"everyMs"`
	Reason  string `json:"reason"`
}

// maxMillis is the longest duration, in milliseconds.
const maxMillis = math.MaxInt64 / int64(time.Millisecond)

// onModerate makes or lifts a decision for a moderator.
func (m *Moderation) onModerate(ctx context.Context, c *chathub.Client, d moderateData) (*chathub.Position, error) {
	room := chathub.EventFrom(ctx).Room
	if !m.ready.Load() {
		return nil, errStarting()
	}
	if !m.cfg.Moderator(ctx, c, room) {
		return nil, &chathub.Error{Code: chathub.CodeForbidden, Message: "Only moderators may do this"}
	}
	kind, lifts := kindOf(d.Action)
	tenant := m.Tenant(c.Tenant())
	if lifts {
		return positionOf(tenant.Lift(ctx, kind, room, d.User))
	}
	if d.ForMS < 0 || d.ForMS > maxMillis || d.EveryMS < 0 || d.EveryMS > maxMillis {
		return nil, bad("data.forMs and data.everyMs must be durations in milliseconds")
	}
	if kind.isAboutUser() && m.cfg.Immune != nil && m.cfg.Immune(ctx, d.User, room) {
		return nil, &chathub.Error{Code: chathub.CodeForbidden, Message: "This user cannot be muted or banned"}
	}
	decision := Decision{
		Kind: kind, Room: room, User: d.User, Reason: d.Reason, By: c.User().ID,
		Every: time.Duration(d.EveryMS) * time.Millisecond,
	}
	if d.ForMS > 0 {
		decision.Until = time.Now().Add(time.Duration(d.ForMS) * time.Millisecond)
	}
	return positionOf(tenant.Decide(ctx, decision))
}

// kindOf returns the kind in an action, and whether the action lifts it.
func kindOf(action string) (kind Kind, lifts bool) {
	if len(action) > 2 && action[:2] == "un" {
		return Kind(action[2:]), true
	}
	return Kind(action), false
}

// positionOf returns a position as the data of an ack. A decision about the
// whole service has none.
func positionOf(pos chathub.Position, err error) (*chathub.Position, error) {
	if err != nil || pos == (chathub.Position{}) {
		return nil, err
	}
	return &pos, nil
}

// shown is what members of a room see of its decisions, as the value of
// stateKey. Times are zero if there is no end.
type shown struct {
	EveryMS     int64 `json:"everyMs,omitzero"`
	SlowUntil   int64 `json:"slowUntil,omitzero"`
	Frozen      bool  `json:"frozen,omitzero"`
	FrozenUntil int64 `json:"frozenUntil,omitzero"`
}

func (m *Moderation) shown(at place) (s shown) {
	if d := m.book.ofRoom(Slow, at); d != nil {
		s.EveryMS, s.SlowUntil = d.Every.Milliseconds(), millis(d.Until)
	}
	if d := m.book.ofRoom(Freeze, at); d != nil {
		s.Frozen, s.FrozenUntil = true, millis(d.Until)
	}
	return s
}

// show sets the state of a room, and returns the position of that.
func (m *Moderation) show(ctx context.Context, at place) (chathub.Position, error) {
	tenant := m.hub.Tenant(at.tenant)
	for {
		state, err := tenant.State(ctx, at.room)
		if err != nil {
			return chathub.Position{}, err
		}
		var value any // none
		if s := m.shown(at); s != (shown{}) {
			value = s
		}
		old := state[stateKey].Seq
		if value == nil && old == 0 {
			return tenant.Head(ctx, at.room)
		}
		receipt, err := tenant.To(at.room).SetStateIf(ctx, stateKey, value, old)
		if e, ok := errors.AsType[*chathub.Error](err); ok && e.Code == chathub.CodeConflict {
			continue // another node was faster, and may have shown less
		}
		return chathub.Position{Epoch: receipt.Epoch, Seq: receipt.Seq}, err
	}
}

// notice is what a user is told of a mute.
type notice struct {
	Room   string `json:"room,omitzero"` // absent: everywhere
	Until  int64  `json:"until,omitzero"`
	Reason string `json:"reason,omitzero"`
	Lifted bool   `json:"lifted,omitzero"`
}

func (d *Decision) notice() *notice {
	return &notice{Room: d.Room, Until: millis(d.Until), Reason: d.Reason}
}

// tell tells a user's connections of a mute, or, without d, that it was lifted.
// They find out in any case when they write.
func (m *Moderation) tell(ctx context.Context, i id, d *Decision) {
	n := &notice{Room: i.room, Lifted: true}
	if d != nil {
		n = d.notice()
	}
	if err := m.hub.Tenant(i.tenant).ToUser(i.user).Volatile().Emit(ctx, mutedEvent, n); err != nil {
		m.log.Debug("moderation: a user is not told of a mute", "user", i.user, "err", err)
	}
}

// status is the answer to statusEvent: what concerns the client in a room.
type status struct {
	shown
	Muted     *notice  `json:"muted,omitzero"`
	Exempt    bool     `json:"exempt,omitzero"`
	Moderator bool     `json:"moderator,omitzero"`
	Decisions []record `json:"decisions,omitzero"` // for moderators
	More      bool     `json:"more,omitzero"`      // there are further ones
}

// onStatus tells a client what concerns it in a room or, without a room, in the
// whole service.
func (m *Moderation) onStatus(ctx context.Context, c *chathub.Client, _ struct{}) (status, error) {
	room := chathub.EventFrom(ctx).Room
	if !m.ready.Load() {
		return status{}, errStarting()
	}
	s := status{Moderator: m.cfg.Moderator(ctx, c, room)}
	switch {
	case room == "" || s.Moderator:
	case !slices.Contains(c.Rooms(), room):
		return status{}, &chathub.Error{Code: chathub.CodeNotInRoom, Message: "Join the room first"}
	}
	if room != "" {
		s.shown, s.Exempt = m.shown(place{c.Tenant(), room}), m.cfg.Exempt(ctx, c, room)
	}
	if d := m.book.about(Mute, person{c.Tenant(), c.User().ID}, room); d != nil {
		s.Muted = d.notice()
	}
	if s.Moderator {
		list := m.Tenant(c.Tenant()).Decisions(room)
		s.More = len(list) > maxListed
		for _, d := range list[:min(len(list), maxListed)] {
			r := d.record()
			r.Tenant = "" // clients know nothing of tenants
			s.Decisions = append(s.Decisions, r)
		}
	}
	return s, nil
}
