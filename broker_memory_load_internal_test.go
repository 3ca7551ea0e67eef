package chathub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A call that waits for a topic whose delivery is blocked gives up with ctx,
// having done nothing. Calls that do not need that delivery go on.
func TestMemoryBrokerBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{}
		release := make(chan struct{})
		var got []string
		slow := attachMemoryFunc(t, b, func(m Message) {
			if m.Topic.Room == "blocked" {
				<-release
			}
			got = append(got, string(m.Body))
		})
		blocked, free := Topic{Room: "blocked"}, Topic{Room: "free"}
		other := attachMemory(t, b)
		for _, topic := range []Topic{blocked, free} {
			if _, err := slow.Subscribe(t.Context(), topic); err != nil {
				t.Fatal(err)
			}
		}
		position := other.subscribe("blocked")
		var wg sync.WaitGroup
		wg.Go(func() { other.publish("blocked", "first", "first") })
		synctest.Wait()

		ctx, cancel := context.WithCancel(t.Context())
		var errs [3]error
		wg.Go(func() { _, errs[0] = other.Publish(ctx, Message{Topic: blocked, Key: "second"}) })
		wg.Go(func() { errs[1] = other.Send(ctx, Message{Topic: blocked}) })
		wg.Go(func() { errs[2] = other.Unsubscribe(ctx, blocked) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		for i, err := range errs {
			var e *Error
			if !errors.As(err, &e) || e.Code != CodeUnavailable || !errors.Is(err, context.Canceled) {
				t.Errorf("waiting call %d: %v", i, err)
			}
		}

		// None of these calls waits.
		other.publish("free", "", "free")
		if err := other.Send(t.Context(), Message{Body: []byte("everyone")}); err != nil {
			t.Error(err)
		}
		if !slices.Equal(got, []string{"free", "everyone"}) {
			t.Errorf("another topic of the slow hub: %q", got)
		}
		other.wantLog("blocked", "first")
		late := attachMemory(t, b)
		if p := late.subscribe("blocked"); p != (Position{position.Epoch, 1}) {
			t.Errorf("position during a delivery: %+v", p)
		}
		leaves := attachMemory(t, b)
		leaves.subscribe("blocked")
		if err := leaves.Close(t.Context()); err != nil {
			t.Error(err)
		}

		close(release)
		wg.Wait()
		if r := other.publish("blocked", "second", "second"); r.Duplicate || r.Seq != 2 {
			t.Errorf("receipt after a call that gave up: %+v", r)
		}
		if want := []string{"first", "free", "everyone", "second"}; !slices.Equal(other.got, []string{"everyone", "first", "second"}) || len(got) != len(want) {
			t.Errorf("delivered %q and %q", other.got, got)
		}
		if !slices.Equal(late.got, []string{"second"}) {
			t.Errorf("delivered after the position: %q", late.got)
		}
		checkMemory(t, b)
	})
}

// Close waits for its own deliver alone, and only as long as ctx lets it.
func TestMemoryBrokerCloseBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{}
		release := make(chan struct{})
		slow := attachMemoryFunc(t, b, func(Message) { <-release })
		if _, err := slow.Subscribe(t.Context(), Topic{Room: "r"}); err != nil {
			t.Fatal(err)
		}
		other := attachMemory(t, b)
		var wg sync.WaitGroup
		wg.Go(func() { other.publish("r", "", "0") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var e *Error
		if err := slow.Close(ctx); !errors.As(err, &e) || e.Code != CodeUnavailable {
			t.Errorf("Close while deliver runs: %v", err)
		}
		if err := other.Close(t.Context()); err != nil {
			t.Errorf("Close of the publisher: %v", err)
		}
		var err error
		closed := false
		wg.Go(func() { err, closed = slow.Close(t.Context()), true })
		synctest.Wait()
		if closed {
			t.Error("Close returned while deliver is running")
		}
		close(release)
		wg.Wait()
		if err != nil {
			t.Errorf("Close after deliver: %v", err)
		}
		checkMemory(t, b)
	})
}

// TestMemoryBrokerTorture has everything happen at once, with bounds so tight
// that messages, keys, shares and logs are dropped all the time.
func TestMemoryBrokerTorture(t *testing.T) {
	t.Run("hardly anything fits", func(t *testing.T) {
		memoryTorture(t, &MemoryBroker{MaxMessages: 5, MaxIdleTopics: 3, MaxTotalBytes: 20 * messageCost})
	})
	t.Run("something fits", func(t *testing.T) {
		memoryTorture(t, &MemoryBroker{MaxMessages: 20, MaxIdleTopics: 8, MaxTotalBytes: 30_000})
	})
}

func memoryTorture(t *testing.T, b *MemoryBroker) {
	const workers, steps, topics = 8, 2000, 12
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			ctx := t.Context()
			var mu sync.Mutex
			last := make(map[Topic]uint64) // of the present log
			attach := func() *memorySession {
				return attachMemoryFunc(t, b, func(m Message) {
					mu.Lock()
					defer mu.Unlock()
					if m.Seq > 0 {
						if seq, ok := last[m.Topic]; !ok || m.Seq != seq+1 {
							t.Errorf("%v: seq %d after %d", m.Topic, m.Seq, seq)
						}
						last[m.Topic] = m.Seq
					}
				})
			}
			s := attach()
			has := make(map[Topic]bool)
			for range steps {
				topic := Topic{Room: fmt.Sprint(random.IntN(topics))}
				if random.IntN(2) == 0 {
					topic = Topic{User: topic.Room}
				}
				var err error
				switch random.IntN(8) {
				case 0:
					mu.Lock() // deliveries wait until the position is noted
					var p Position
					if p, err = s.Subscribe(ctx, topic); !has[topic] {
						last[topic] = p.Seq
					}
					mu.Unlock()
					has[topic] = true
				case 1:
					err = s.Unsubscribe(ctx, topic)
					has[topic] = false
				case 2:
					_, err = s.Read(ctx, topic, Range{Limit: random.IntN(4)})
				case 3:
					err = s.Send(ctx, Message{Topic: topic})
				case 4:
					if random.IntN(20) == 0 {
						err = s.Close(ctx)
						s = attach()
						clear(has)
					}
				default:
					_, err = s.Publish(ctx, Message{
						Topic:  topic,
						Key:    fmt.Sprint(random.IntN(50)),
						Owner:  []string{"", "a", "b", "c", "d"}[random.IntN(5)],
						Notice: random.IntN(2) == 0,
						Body:   make([]byte, random.IntN(100)),
					})
				}
				if err != nil {
					t.Errorf("worker %d: %v", w, err)
				}
			}
			if err := s.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	checkMemory(t, b)
	if len(b.topics) > b.MaxIdleTopics || len(b.everyone.sessions) != 0 {
		t.Errorf("%d logs and %d sessions are left", len(b.topics), len(b.everyone.sessions))
	}
}

// The heap agrees with what the documentation says about memory.
func TestMemoryBrokerCost(t *testing.T) {
	check := func(what string, got, documented int64) {
		t.Helper()
		t.Logf("%s: %d bytes, documented %d", what, got, documented)
		if got > documented*3/2 || got < documented/3 {
			t.Errorf("%s: %d bytes, documented %d", what, got, documented)
		}
	}
	b := &MemoryBroker{}
	s := attachMemoryFunc(t, b, func(Message) {})
	before := liveHeap()
	const logs = 5000
	for i := range logs {
		if _, err := s.Subscribe(t.Context(), Topic{Room: fmt.Sprintf("room %06d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	check("an empty log", (liveHeap()-before)/logs, 300)

	for _, n := range []int{3, 100, 1000} {
		b := &MemoryBroker{MaxMessages: -1}
		s := attachMemoryFunc(t, b, func(Message) {})
		before := liveHeap()
		topics := 50_000 / n
		for i := range topics {
			topic := Topic{Room: fmt.Sprint(i)}
			for j := range n {
				m := Message{Topic: topic, Key: fmt.Sprintf("the key %012d", j), Body: make([]byte, 100)}
				if _, err := s.Publish(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
		}
		check(fmt.Sprintf("logs of %d", n), liveHeap()-before, b.ledger.total.Load())
		before, charged := liveHeap(), b.ledger.total.Load()
		for i := range topics {
			for j := range n {
				m := Message{Topic: Topic{Room: fmt.Sprint(i)}, Name: fmt.Sprint("m/", j+1), Tied: uint64(j + 1), Body: make([]byte, 100)}
				if _, err := s.Publish(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
		}
		check(fmt.Sprintf("logs of %d names", n), liveHeap()-before, b.ledger.total.Load()-charged)
		runtime.KeepAlive(b)
	}
	runtime.KeepAlive(b)
}

func TestMemoryBrokerPublishAllocs(t *testing.T) {
	for _, kept := range []int{100, 1000} {
		b := &MemoryBroker{MaxMessages: kept}
		s := attachMemoryFunc(t, b, func(Message) {})
		topic := Topic{Room: "r"}
		if _, err := s.Subscribe(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		keys := make([]string, 20*kept)
		for i := range keys {
			keys[i] = fmt.Sprint(i)
		}
		body := []byte("body")
		n := 0
		allocs := testing.AllocsPerRun(len(keys)-1, func() {
			if _, err := s.Publish(t.Context(), Message{Topic: topic, Key: keys[n], Body: body}); err != nil {
				t.Fatal(err)
			}
			n++
		})
		if allocs > 0 {
			t.Errorf("MaxMessages %d: %v allocations per Publish", kept, allocs)
		}
	}
}

func BenchmarkMemoryPublish(b *testing.B) {
	body := make([]byte, 100)
	for _, c := range []struct {
		name       string
		keys       bool
		subscribed bool
	}{
		{"subscribed", false, true},
		{"subscribed, keys", true, true},
		{"idle", false, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := attachMemoryFunc(b, &MemoryBroker{DuplicateWindow: 5 * time.Millisecond}, func(Message) {})
			topic := Topic{Room: "r"}
			if c.subscribed {
				if _, err := s.Subscribe(b.Context(), topic); err != nil {
					b.Fatal(err)
				}
			}
			keys := make([]string, 1<<16) // far more than are remembered
			for i := range keys {
				if c.keys {
					keys[i] = fmt.Sprint("key ", i)
				}
			}
			ctx := b.Context()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := s.Publish(ctx, Message{Topic: topic, Key: keys[i%len(keys)], Body: body}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		broker := &MemoryBroker{}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			s := attachMemoryFunc(b, broker, func(Message) {})
			ctx := b.Context()
			topic := Topic{Room: fmt.Sprint(rand.Uint64())}
			if _, err := s.Subscribe(ctx, topic); err != nil {
				b.Error(err)
			}
			for pb.Next() {
				if _, err := s.Publish(ctx, Message{Topic: topic, Body: body}); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkMemoryFull publishes to a store that is full, so that each message
// costs others.
func BenchmarkMemoryFull(b *testing.B) {
	for _, c := range []struct{ owners, topics int }{{1, 10_000}, {1000, 1000}, {20_000, 1000}, {20_000, 20_000}} {
		b.Run(fmt.Sprintf("owners=%d/topics=%d", c.owners, c.topics), func(b *testing.B) {
			const total, size = 32 << 20, 200
			s := attachMemoryFunc(b, &MemoryBroker{MaxTotalBytes: total}, func(Message) {})
			random := rand.New(rand.NewPCG(1, 1))
			body := make([]byte, size)
			publish := func() {
				m := Message{
					Topic: Topic{User: fmt.Sprint(random.IntN(c.topics))},
					Key:   fmt.Sprint(random.Uint64()),
					Owner: fmt.Sprint("owner ", random.IntN(c.owners)),
					Body:  body,
				}
				if _, err := s.Publish(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}
			for range 2 * total / size {
				publish()
			}
			b.ReportAllocs()
			for b.Loop() {
				publish()
			}
		})
	}
}
