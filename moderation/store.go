package moderation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
)

// Names of reserved rooms.
const (
	// reserved begins the names of the rooms of this package.
	reserved = "moderation/"
	// ReportsRoom is the room in whose log reports are kept. Clients that may
	// moderate the whole service may join it, and nobody else.
	ReportsRoom = reserved + "reports"
	// newsRoom is the room in whose log each change of a slot is announced.
	newsRoom = reserved + "news"
	// shardRooms begins the names of the rooms whose states are the store.
	shardRooms = reserved + "store/"
)

func isReserved(room string) bool { return strings.HasPrefix(room, reserved) }

// shards is how many rooms the decisions are spread over, so that the bound of
// the state of a room leaves space for many.
const shards = 256

// keys is how many keys the state of a shard has, which a room may have.
const keys = 64

// slot is the place of some decisions in the store: a key of the state of a
// shard. A hash of what a decision is about says in which slot it is.
type slot struct{ shard, key byte }

func (i id) slot() slot {
	// Names have no control characters.
	sum := sha256.Sum256([]byte(i.tenant + "\x00" + string(i.kind) + "\x00" + i.room + "\x00" + i.user))
	return slot{sum[0], sum[1] % keys}
}

func shardRoom(shard byte) string { return shardRooms + hex.EncodeToString([]byte{shard}) }

func (s slot) name() string { return hex.EncodeToString([]byte{s.key}) }

// newsEvent is the type of an announcement.
const newsEvent = "moderation:news"

// news is an announcement: what a slot has since a version, or, without a slot,
// that a node begins to listen.
type news struct {
	Slot      string   `json:"slot,omitzero"` // shard and key, in hexadecimal
	Epoch     string   `json:"epoch,omitzero"`
	Seq       uint64   `json:"seq,omitzero"`
	Decisions []record `json:"decisions,omitzero"`
}

func (s slot) String() string { return hex.EncodeToString([]byte{s.shard, s.key}) }

func parseSlot(text string) (slot, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 2 || b[1] >= keys {
		return slot{}, fmt.Errorf("moderation: %q is not a slot", text)
	}
	return slot{b[0], b[1]}, nil
}

// maxPerTenant is how many decisions a tenant may have, so that no tenant fills
// the store. Clients without a tenant have it for themselves.
const maxPerTenant = 4000

// put stores a decision, or, without one, that there is none, and announces it.
// It returns the position of the announcement.
func (m *Moderation) put(ctx context.Context, i id, d *Decision) (uint64, error) {
	if known, n := m.book.has(i); d != nil && !known && i.tenant != "" && n >= maxPerTenant {
		return 0, &chathub.Error{Code: chathub.CodeLimitExceeded, Message: "Too many decisions"}
	}
	at := i.slot()
	room := shardRoom(at.shard)
	for {
		state, err := m.hub.State(ctx, room)
		if err != nil {
			return 0, err
		}
		old, isKnown := state[at.name()]
		list, err := decisionsIn(old)
		if err != nil {
			return 0, err
		}
		if !isKnown { // never stored, or lost with the log
			list = m.book.at(at)
		}
		now := time.Now()
		list = slices.DeleteFunc(slices.Clone(list), func(o *Decision) bool { return o.id() == i || !o.holds(now) })
		if d != nil {
			list = append(list, d)
		}
		receipt, err := m.hub.To(room).SetStateIf(ctx, at.name(), recordsOf(list), old.Seq)
		if e, ok := errors.AsType[*chathub.Error](err); ok && e.Code == chathub.CodeConflict {
			continue // another node was faster
		}
		if err != nil {
			return 0, err
		}
		return m.announce(ctx, news{at.String(), receipt.Epoch, receipt.Seq, recordsOf(list)})
	}
}

func (m *Moderation) announce(ctx context.Context, n news) (uint64, error) {
	receipt, err := m.hub.To(newsRoom).Post(ctx, chathub.Post{Type: newsEvent, Data: n})
	return receipt.Seq, err
}

// decisionsIn decodes the value of a slot. An empty slot is an empty list, so
// that it keeps a version.
func decisionsIn(v chathub.StateValue) ([]*Decision, error) {
	if v.Value == nil {
		return nil, nil
	}
	var records []record
	if err := json.Unmarshal(v.Value, &records); err != nil {
		return nil, fmt.Errorf("moderation: decisions cannot be read: %w", err)
	}
	return decisionsOf(records), nil
}

func decisionsOf(records []record) []*Decision {
	list := make([]*Decision, len(records))
	for i := range records {
		d := records[i].decision()
		list[i] = &d
	}
	return list
}

func recordsOf(list []*Decision) []record {
	records := make([]record, len(list))
	for i, d := range list {
		records[i] = d.record()
	}
	return records
}

// load reads a shard into the book.
func (m *Moderation) load(ctx context.Context, shard byte) error {
	state, err := m.hub.State(ctx, shardRoom(shard))
	if err != nil || len(state) == 0 {
		return err
	}
	head, err := m.hub.Head(ctx, shardRoom(shard))
	if err != nil {
		return err
	}
	now := time.Now()
	for name, v := range state {
		at, err := parseSlot(hex.EncodeToString([]byte{shard}) + name)
		if err != nil {
			return err
		}
		list, err := decisionsIn(v)
		if err != nil {
			return err
		}
		m.book.replace(at, page{head.Epoch, v.Seq, list})
		m.tidy(ctx, at, v, list, now)
	}
	return nil
}

// keptYoung is the age at which a slot is stored anew, so that a store which
// drops what is oldest does not come to it.
const keptYoung = 6 * time.Hour

// tidy stores a slot without what has ended, and keeps it young. If another
// node does so, or the broker cannot do it now, there is a next time.
func (m *Moderation) tidy(ctx context.Context, at slot, v chathub.StateValue, list []*Decision, now time.Time) {
	kept := slices.DeleteFunc(slices.Clone(list), func(d *Decision) bool { return !d.holds(now) })
	if len(kept) == len(list) && (len(list) == 0 || now.Sub(v.Time) < keptYoung) {
		return
	}
	receipt, err := m.hub.To(shardRoom(at.shard)).SetStateIf(ctx, at.name(), recordsOf(kept), v.Seq)
	if err == nil {
		m.book.replace(at, page{receipt.Epoch, receipt.Seq, kept})
	}
}
