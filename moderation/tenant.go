package moderation

import (
	"context"
	"time"

	"github.com/chathub-go/chathub"
)

// Tenant makes and lists the decisions of one tenant of the hub, where the
// whole service is the tenant. Its methods are those of [Moderation], which are
// for the clients without a tenant.
type Tenant struct {
	m    *Moderation
	name string
}

// Tenant returns the moderation of a tenant. See [chathub.Hub.Tenant]. A tenant
// has at most 4,000 decisions.
func (m *Moderation) Tenant(name string) Tenant { return Tenant{m, name} }

// Decide makes a decision. See [Moderation.Decide].
func (t Tenant) Decide(ctx context.Context, d Decision) (chathub.Position, error) {
	now := time.Now()
	d.At, d.Until, d.tenant = now.Truncate(time.Millisecond), d.Until.Truncate(time.Millisecond), t.name
	if err := d.check(now); err != nil {
		return chathub.Position{}, err
	}
	return t.m.change(ctx, d.id(), &d)
}

// Lift ends a decision. See [Moderation.Lift].
func (t Tenant) Lift(ctx context.Context, kind Kind, room, user string) (chathub.Position, error) {
	i := id{t.name, kind, room, user}
	if err := i.check(); err != nil {
		return chathub.Position{}, err
	}
	return t.m.change(ctx, i, nil)
}

// Decisions returns the decisions that hold. See [Moderation.Decisions].
func (t Tenant) Decisions(room string) []Decision { return t.m.book.in(place{t.name, room}) }

// MayEnter returns an error if a user is banned. See [Moderation.MayEnter].
func (t Tenant) MayEnter(user, room string) error { return t.m.mayEnter(person{t.name, user}, room) }

// MayWrite returns an error if a user must not write. See
// [Moderation.MayWrite].
func (t Tenant) MayWrite(user, room string) error {
	if err := t.m.maySpeak(person{t.name, user}, room); err != nil {
		return err
	}
	return t.m.frozen(place{t.name, room})
}
