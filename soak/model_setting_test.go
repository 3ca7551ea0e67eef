package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/chathub-go/chathub"
	"pgregory.net/rapid"
)

// setting is in what a run takes place.
type setting struct {
	broker      chathub.Broker
	keys        bool // it remembers all keys for the window, and keeps all names
	lie         *lie // that it tells; nil: none
	replayLimit int
	tight       bool
	receipts    bool
	seed        uint64
	lag         time.Duration
	hubs        int
	tenants     []string
	hesitant    bool // the application takes a while to answer
}

// drawSetting draws a setting.
func drawSetting(t *rapid.T) setting {
	broker, s := &chathub.MemoryBroker{}, setting{keys: true, replayLimit: 256}
	if rapid.Bool().Draw(t, "small logs") {
		broker.MaxMessages = rapid.IntRange(2, 10).Draw(t, "messages of a log")
		if rapid.Bool().Draw(t, "few idle logs") {
			broker.MaxIdleTopics = rapid.IntRange(1, 5).Draw(t, "idle logs")
			s.keys = false
		}
		if rapid.Bool().Draw(t, "little memory") {
			broker.MaxTotalBytes = rapid.IntRange(2_000, 10_000).Draw(t, "bytes of all logs")
			s.keys = false
		}
		if rapid.Bool().Draw(t, "old messages") {
			broker.MaxAge = time.Minute
		}
	}
	s.broker = broker
	if rapid.Bool().Draw(t, "short replays") {
		s.replayLimit = rapid.IntRange(1, 8).Draw(t, "replay limit")
	}
	s.tight = rapid.IntRange(0, 3).Draw(t, "tight") == 0
	s.seed = rapid.Uint64().Draw(t, "seed")
	if rapid.Bool().Draw(t, "slow broker") {
		s.lag = rapid.SampledFrom([]time.Duration{time.Millisecond, 50 * time.Millisecond, time.Second}).Draw(t, "lag")
	}
	s.receipts = rapid.Bool().Draw(t, "read receipts")
	s.hubs = rapid.IntRange(1, 3).Draw(t, "hubs")
	s.hesitant = rapid.Bool().Draw(t, "hesitant")
	s.tenants = rapid.SampledFrom([][]string{{"acme", "zeta"}, {"", "acme"}, {""}}).Draw(t, "tenants")
	return s
}

func newStage(t *rapid.T, story *string, set setting) *stage {
	// Rapid's own context belongs to the test, which is outside the bubble.
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s := &stage{
		story:       story,
		t:           t,
		ctx:         ctx,
		ends:        ends{of: make(map[string]chathub.Disconnect)},
		replayLimit: set.replayLimit,
		tight:       set.tight,
		slow:        set.lag > 0,
	}
	s.tb = bench{s: s}
	var err error
	if s.shared, err = newShared(set); err != nil {
		t.Fatal(err)
	}
	s.cfg = chathub.Config{
		Auth:         s,
		Authorize:    s.authorize,
		Broker:       s.shared,
		Logger:       slog.New(handler{slog.DiscardHandler, s.shared.truths[0]}),
		Rate:         -1,
		UserRate:     -1,
		ReplayLimit:  s.replayLimit,
		OnDisconnect: s.ends.add,
		OnConnect: func(ctx context.Context, c *chathub.Client, _ *http.Request) error {
			return errors.Join(c.Emit(ctx, "greeting", nil), c.Join(ctx, hall.Room))
		},
		Moderator: func(_ context.Context, c *chathub.Client, _ chathub.Action) bool {
			return c.User().ID == moderator
		},
		Visible: func(_ context.Context, _ *chathub.Client, rooms []string) ([]string, error) {
			return slices.DeleteFunc(rooms, func(room string) bool { return room == forbidden }), nil
		},
		ReadReceipts: set.receipts,
	}
	if s.tight {
		s.cfg.MaxMessageBytes, s.cfg.MaxOutboxBytes = tightOutbox/4, tightOutbox
	}
	for range set.hubs {
		s.nodes = append(s.nodes, &node{hub: s.newHub()})
	}
	for _, truth := range s.shared.truths {
		truth.hesitant = set.hesitant
		s.worlds = append(s.worlds, newWorld(s, truth))
	}
	return s
}

func newWorld(s *stage, truth *truth) *world {
	w := &world{
		stage:     s,
		tenant:    truth.tenant,
		truth:     truth,
		volatiles: make(map[string]*volatile),
		ids:       make(map[string]int),
	}
	w.rights.pause = truth.hesitate
	w.rights.restore()
	for i := range devicesPerUser * len(users) {
		u := users[i%len(users)]
		w.devices = append(w.devices, &device{
			w:         w,
			user:      u,
			inbox:     chathub.Topic{User: u.ID},
			positions: make(map[chathub.Topic]chathub.Position),
			views:     make(map[chathub.Topic]*view),
		})
	}
	return w
}
