package chathub

import (
	"context"
	"strings"

	"github.com/chathub-go/chathub/internal/text"
)

// world is the name of a tenant, and makes the topics of its rooms and users.
// Topics are the only place in which the names of two tenants could meet, so
// they have the tenant in them. Everything that clients and applications see
// has plain names. The zero value is the world of a hub without tenants, whose
// topics have plain names, too.
type world string

// worldEnd ends the tenant in the name of a topic. It is a control character,
// which no name of a client or an application has.
const worldEnd = "\x00"

// scoped returns a name as topics have it.
func (w world) scoped(name string) string {
	if w == "" {
		return name
	}
	return string(w) + worldEnd + name
}

// split returns the world and the plain name of what scoped has made.
func split(scoped string) (world, string) {
	w, name, found := strings.Cut(scoped, worldEnd)
	if !found {
		return "", scoped
	}
	return world(w), name
}

func worldOf(scoped string) world {
	w, _ := split(scoped)
	return w
}

func plain(scoped string) string {
	_, name := split(scoped)
	return name
}

func (w world) room(name string) Topic { return Topic{Room: w.scoped(name)} }
func (w world) user(id string) Topic   { return Topic{User: w.scoped(id)} }

// everyone is the topic of all connections. That of a tenant is a room without
// a name, which each of its clients is in: so only hubs that have clients of
// the tenant hear it, and know who is there.
func (w world) everyone() Topic {
	if w == "" {
		return Topic{}
	}
	return w.room("")
}

// world returns the world of a topic's names.
func (topic Topic) world() world { return worldOf(topic.Room + topic.User) }

// Tenant returns the tenant whose room or user the topic is, or "" if it is
// that of a hub without tenants. A Broker may use it to keep a full store fair.
func (topic Topic) Tenant() string { return string(topic.world()) }

// tenant is what the clients of one tenant share.
type tenant struct {
	world world
	// These are guarded by admission.mu.
	conns, users int
}

// Tenant is the world of one tenant: a customer of a service that serves many.
// Rooms, users, ids, presence and events to everyone of two tenants never meet,
// even if their names are equal. The [Authenticator] says to which tenant a
// client belongs, in [Identity].Tenant, and the client stays there.
//
// A Tenant is a value, and may be used concurrently. Its methods are those of
// [Hub], which are for the clients without a tenant.
type Tenant struct {
	hub   *Hub
	world world
}

// Tenant returns the world of a tenant, whose name is 1 to 64 bytes of UTF-8
// without control characters. It makes nothing: a tenant exists while it has
// clients or messages. Methods of a Tenant with a name that is not valid return
// an [Error] with [CodeBadRequest]. The empty name stands for the clients
// without a tenant.
func (h *Hub) Tenant(name string) Tenant { return Tenant{h, world(name)} }

// Stats returns the Connections and Users of the tenant on this hub. The other
// figures are 0: they are counted for all tenants together. It does not wait
// for anything.
func (t Tenant) Stats() Stats { return t.hub.admission.statsOf(t.world) }

// Name returns the name of the tenant.
func (t Tenant) Name() string { return string(t.world) }

// check returns an error if no tenant can have this name.
func (w world) check() *Error {
	if w != "" && !text.Valid(string(w), text.MaxTenant) {
		return errorf(CodeBadRequest, "not the name of a tenant")
	}
	return nil
}

// room returns the topic of a room, if the tenant and the room can have these
// names and the hub is open.
func (t Tenant) room(name string) (Topic, error) {
	if err := t.hub.checkOpen(); err != nil {
		return Topic{}, err
	}
	if err := t.world.check(); err != nil {
		return Topic{}, err
	}
	if err := checkRoom(name); err != nil {
		return Topic{}, err
	}
	return t.world.room(name), nil
}

// To returns a Target for everyone in the given rooms. See [Hub.To].
func (t Tenant) To(rooms ...string) Target {
	target := Target{hub: t.hub, world: t.world}
	for _, r := range unique(rooms) {
		target.topics = append(target.topics, t.world.room(r))
	}
	return target
}

// ToUser returns a Target for all connections of the given users. See
// [Hub.ToUser].
func (t Tenant) ToUser(ids ...string) Target {
	target := Target{hub: t.hub, world: t.world}
	for _, id := range unique(ids) {
		target.topics = append(target.topics, t.world.user(id))
	}
	return target
}

// ToClient returns a Target for the connections with the given ids. Those of
// other tenants are not reached. See [Hub.ToClient].
func (t Tenant) ToClient(ids ...string) Target {
	if len(ids) == 0 {
		return Target{hub: t.hub, world: t.world}
	}
	target := t.Broadcast()
	target.clients = unique(ids)
	return target
}

// Broadcast returns a Target for every connection of the tenant, on every node.
func (t Tenant) Broadcast() Target {
	return Target{hub: t.hub, world: t.world, topics: []Topic{t.world.everyone()}, all: true, volatile: true}
}

// Emit sends an event to every connection of the tenant. See [Hub.Emit].
func (t Tenant) Emit(ctx context.Context, event string, data any) error {
	return t.Broadcast().Emit(ctx, event, data)
}
