package moderation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
)

const (
	// loaders is how many shards are read at once.
	loaders = 16
	// reloadInterval is how often a node reads the whole store again. It finds
	// what a node that was killed has stored and not announced.
	reloadInterval = 10 * time.Minute
	// pause is how long a node waits before it tries again what has failed.
	pause = time.Second
)

// loadAll reads the whole store.
func (m *Moderation) loadAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for first := range loaders {
		wg.Go(func() {
			for shard := first; shard < shards; shard += loaders {
				if err := m.load(ctx, byte(shard)); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// listen follows the announcements until ctx or the hub ends. It begins with
// the one at from, and then closes heard.
func (m *Moderation) listen(ctx context.Context, from chathub.Position, heard chan<- struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go m.keep(ctx)
	own := from.Seq
	from.Seq--
	for {
		err := m.hub.Follow(ctx, newsRoom, from, func(ctx context.Context, e chathub.Entry) error {
			m.hear(ctx, &e)
			if from = e.Position; e.Seq >= own && heard != nil {
				close(heard)
				heard = nil
			}
			return nil
		})
		if errors.Is(err, chathub.ErrClosed) || ctx.Err() != nil {
			return
		}
		m.log.Error("moderation: decisions of other nodes cannot be followed", "err", err)
		time.Sleep(pause)
	}
}

// hear takes in an announcement. It returns when the decision holds on this
// node: what was checked before has been stored.
func (m *Moderation) hear(ctx context.Context, e *chathub.Entry) {
	if e.Gap {
		m.reload(ctx)
	}
	n, at, err := newsIn(e)
	if err != nil {
		m.log.Error("moderation: an announcement cannot be read", "err", err)
		return
	}
	if n.Slot == "" {
		return
	}
	decisions := decisionsOf(n.Decisions)
	m.book.replace(at, page{n.Epoch, n.Seq, decisions})
	// Whether they are new does not matter: loadAll may have been faster.
	if !m.flights.wait(decisions, m.patience) {
		m.log.Warn("moderation: a message that was checked before a decision is still being stored", "slot", n.Slot)
	}
}

func newsIn(e *chathub.Entry) (n news, at slot, err error) {
	if e.Type != newsEvent {
		return n, at, fmt.Errorf("moderation: %s at %d is not an announcement", e.Type, e.Seq)
	}
	if err = json.Unmarshal(e.Data, &n); err == nil && n.Slot != "" {
		at, err = parseSlot(n.Slot)
	}
	return n, at, err
}

// reload reads the whole store, and does not give up before ctx ends.
func (m *Moderation) reload(ctx context.Context) {
	for ctx.Err() == nil {
		err := m.loadAll(ctx)
		if err == nil || errors.Is(err, chathub.ErrClosed) {
			return
		}
		m.log.Warn("moderation: decisions cannot be read", "err", err)
		time.Sleep(pause)
	}
}

// keep reads the store again from time to time, and ends what slow mode does
// not need any more.
func (m *Moderation) keep(ctx context.Context) {
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			m.slow.end()
			return
		}
		if err := m.loadAll(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, chathub.ErrClosed) {
			m.log.Warn("moderation: decisions cannot be read", "err", err)
		}
		m.slow.sweep(m.book.slowIn)
	}
}
