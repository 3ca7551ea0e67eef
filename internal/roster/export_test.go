package roster

import (
	"errors"
	"fmt"
	"slices"
)

// Invariants returns what does not hold of the invariants of r; nil: they all
// hold.
func (r *Roster) Invariants() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	count, nodes := 0, make(map[string]int)
	for id, p := range r.replicas {
		for user := range p.users {
			nodes[user]++
		}
		if len(p.ahead) > maxAhead {
			wrong("%d differences of %s wait", len(p.ahead), id)
		}
	}
	for id, e := range r.entries {
		if e.present() {
			count++
		}
		switch {
		case e.user.ID != id:
			wrong("%+v is the entry of %s", e, id)
		case e.conns < 0 || e.nodes != nodes[id]:
			wrong("%+v has %d nodes", e, nodes[id])
		case e.here() && !e.graceFrom.IsZero():
			wrong("%+v is here, and in its grace", e)
		case !e.here() && !e.unsettled:
			wrong("%+v is not here and will stay", e)
		case e.present() != e.known && !e.unsettled:
			wrong("nobody will be told of %+v", e)
		case r.position > 0 && !e.pending && e.announced != (e.conns > 0):
			wrong("no node will be told of %+v", e)
		}
		delete(nodes, id)
	}
	for id := range nodes {
		wrong("%s is at a node and has no entry", id)
	}
	if count != r.count {
		wrong("count is %d, of %d", r.count, count)
	}
	for i, e := range r.unsettled {
		if !e.unsettled || r.entries[e.user.ID] != e || slices.Contains(r.unsettled[:i], e) {
			wrong("%+v should not be unsettled", e)
		}
	}
	announced := 0
	for i, e := range r.pending {
		if !e.pending || slices.Contains(r.pending[:i], e) {
			wrong("%+v should not be pending", e)
		}
		if e.announced && r.entries[e.user.ID] != e {
			announced++
		}
	}
	for _, e := range r.entries {
		if e.announced {
			announced++
		}
		if e.unsettled && !slices.Contains(r.unsettled, e) || e.pending && !slices.Contains(r.pending, e) {
			wrong("%+v is not in its lists", e)
		}
	}
	if r.position > 0 && announced != r.announced {
		wrong("announced is %d, of %d", r.announced, announced)
	}
	return errors.Join(errs...)
}

// Replicas returns how many other nodes are known.
func (r *Roster) Replicas() int { return len(r.replicas) }
