package natsbroker_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// The benchmarks measure the cost of messages and topics. docs/scaling.md has
// the commands and the results.

// rig is a broker, and its servers if they are separate processes.
type rig struct {
	broker  chathub.Broker
	servers []*process
}

var rigs = []struct {
	name string
	make func(b *testing.B) rig
}{
	{"memory", func(*testing.B) rig { return rig{broker: &chathub.MemoryBroker{}} }},
	{"embedded", func(b *testing.B) rig { return rig{broker: openEmbedded(b, b.TempDir())} }},
	{"embedded-SyncAlways", func(b *testing.B) rig { return rig{broker: openEmbedded(b, b.TempDir(), natsbroker.SyncAlways())} }},
	{"one-server", func(b *testing.B) rig {
		p := &process{Name: "alone", Dir: b.TempDir(), Port: freePort(b), t: b}
		b.Cleanup(p.kill)
		p.start()
		return rig{connect(b, "nats://"+p.addr()), []*process{p}}
	}},
	{"three-servers-R3", func(b *testing.B) rig {
		servers := startCluster(b, 0)
		broker := connect(b, "nats://"+servers[0].addr(), natsbroker.Replicas(3))
		eventually(b, "the cluster has the stream", func() bool {
			s, err := broker.Attach(b.Context(), func(chathub.Message) {})
			if err == nil {
				_ = s.Close(b.Context())
			}
			return err == nil
		})
		return rig{broker, servers}
	}},
}

// cpu returns the CPU time that this process and the servers have used.
func (r *rig) cpu(b *testing.B) (here, servers time.Duration) {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	for _, p := range r.servers {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		for _, ticks := range strings.Fields(rest)[11:13] { // utime and stime
			n, err := strconv.Atoi(ticks)
			if err != nil {
				b.Fatal(err)
			}
			servers += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), servers
}

// measure runs f, which handles n messages. It reports their rate, and the CPU
// time for each.
func (r *rig) measure(b *testing.B, n int, f func()) {
	b.Helper()
	here, servers := r.cpu(b)
	b.ResetTimer()
	f()
	b.StopTimer()
	h, s := r.cpu(b)
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msgs/s")
	b.ReportMetric(float64((h-here).Microseconds())/float64(n), "cpu-µs/msg")
	if len(r.servers) > 0 {
		b.ReportMetric(float64((s-servers).Microseconds())/float64(n), "server-cpu-µs/msg")
	}
}

var benchBody = []byte(strings.Repeat("x", 200))

// BenchmarkLatency publishes one message at a time, until its delivery on
// another node.
func BenchmarkLatency(b *testing.B) { benchLatency(b, room("lobby"), "") }

// BenchmarkInboxLatency is BenchmarkLatency with private messages.
func BenchmarkInboxLatency(b *testing.B) { benchLatency(b, chathub.Topic{User: "ana"}, "ben") }

func benchLatency(b *testing.B, topic chathub.Topic, owner string) {
	for _, c := range rigs {
		b.Run(c.name, func(b *testing.B) {
			r := c.make(b)
			heard := make(chan time.Time, 1)
			hear, err := r.broker.Attach(b.Context(), func(chathub.Message) { heard <- time.Now() })
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = hear.Close(context.WithoutCancel(b.Context())) }()
			if _, err := hear.Subscribe(b.Context(), topic); err != nil {
				b.Fatal(err)
			}
			speak := attach(b, r.broker)
			var acks, deliveries []time.Duration
			r.measure(b, b.N, func() {
				for range b.N {
					began := time.Now()
					m := chathub.Message{Topic: topic, Key: rand.Text(), Owner: owner, Body: benchBody}
					if _, err := speak.Publish(b.Context(), m); err != nil {
						b.Fatal(err)
					}
					acks = append(acks, time.Since(began))
					deliveries = append(deliveries, (<-heard).Sub(began))
				}
			})
			for name, all := range map[string][]time.Duration{"ack": acks, "delivery": deliveries} {
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2].Microseconds()), name+"-p50-µs")
				b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), name+"-p99-µs")
			}
		})
	}
}

// BenchmarkThroughput publishes from 64 goroutines to 100 rooms that two nodes
// have.
func BenchmarkThroughput(b *testing.B) {
	const publishers, rooms = 64, 100
	for _, c := range rigs {
		b.Run(c.name, func(b *testing.B) {
			r := c.make(b)
			var heard atomic.Int64
			all := make(chan struct{})
			nodes := make([]chathub.BrokerSession, 2)
			for i := range nodes {
				s, err := r.broker.Attach(b.Context(), func(chathub.Message) {
					if heard.Add(1) == int64(len(nodes)*b.N) {
						close(all)
					}
				})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = s.Close(context.WithoutCancel(b.Context())) }()
				for k := range rooms {
					if _, err := s.Subscribe(b.Context(), room(numbered(k))); err != nil {
						b.Fatal(err)
					}
				}
				nodes[i] = s
			}
			var next atomic.Int64
			r.measure(b, b.N, func() {
				var wg sync.WaitGroup
				for range publishers {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							m := chathub.Message{Topic: room(numbered(int(i % rooms))), Key: rand.Text(), Body: benchBody}
							if _, err := nodes[i%2].Publish(b.Context(), m); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				<-all
			})
		})
	}
}

// BenchmarkJoin subscribes inboxes and unsubscribes them again. Each has
// messages of three senders.
func BenchmarkJoin(b *testing.B) {
	const inboxes = 1000
	for _, c := range rigs {
		b.Run(c.name, func(b *testing.B) {
			r := c.make(b)
			n := attach(b, r.broker)
			topic := func(i int) chathub.Topic { return chathub.Topic{User: numbered(i)} }
			parallel(3*inboxes, func(i int) {
				m := chathub.Message{Topic: topic(i / 3), Owner: numbered(i % 3), Body: benchBody}
				if _, err := n.Publish(b.Context(), m); err != nil {
					b.Error(err)
				}
			})
			r.measure(b, b.N, func() {
				for i := range b.N {
					n.subscribe(topic(i % inboxes))
					if err := n.Unsubscribe(b.Context(), topic(i%inboxes)); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkSend sends many volatile messages from one node to another.
func BenchmarkSend(b *testing.B) {
	for _, c := range rigs {
		if c.name == "embedded-SyncAlways" {
			continue // volatile messages are not stored
		}
		b.Run(c.name, func(b *testing.B) {
			r := c.make(b)
			topic := room("lobby")
			heard := make(chan struct{}, 256)
			hear, err := r.broker.Attach(b.Context(), func(chathub.Message) { heard <- struct{}{} })
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = hear.Close(context.WithoutCancel(b.Context())) }()
			if _, err := hear.Subscribe(b.Context(), topic); err != nil {
				b.Fatal(err)
			}
			speak := attach(b, r.broker)
			r.measure(b, b.N, func() {
				for i := range b.N {
					if err := speak.Send(b.Context(), chathub.Message{Topic: topic, Body: benchBody}); err != nil {
						b.Fatal(err)
					}
					if i >= 200 {
						<-heard
					}
				}
				for range min(b.N, 200) {
					<-heard
				}
			})
		})
	}
}

// BenchmarkTopics measures 20,000 topics of one node: 10,000 rooms with one
// message each, and 10,000 empty inboxes.
func BenchmarkTopics(b *testing.B) {
	const each = 10_000
	for _, c := range rigs {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				r := c.make(b)
				n := attach(b, r.broker)
				before, grs := heap(), runtime.NumGoroutine()
				here, servers := r.cpu(b)
				began := time.Now()
				parallel(2*each, func(i int) {
					topic := room(numbered(i))
					if i >= each {
						topic = chathub.Topic{User: numbered(i)}
					}
					if _, err := n.Subscribe(b.Context(), topic); err != nil {
						b.Error(err)
					}
				})
				took := time.Since(began)
				h, s := r.cpu(b)
				b.ReportMetric(float64(took.Microseconds())/(2*each), "subscribe-µs")
				b.ReportMetric(float64((h-here).Microseconds())/(2*each), "subscribe-cpu-µs")
				if len(r.servers) > 0 {
					b.ReportMetric(float64((s-servers).Microseconds())/(2*each), "subscribe-server-cpu-µs")
				}
				b.ReportMetric(float64(heap()-before)/(2*each), "heap-B/topic")
				b.ReportMetric(float64(runtime.NumGoroutine()-grs), "goroutines")

				began = time.Now()
				last := make([]uint64, each)
				parallel(each, func(i int) {
					receipt, err := n.Publish(b.Context(), chathub.Message{Topic: room(numbered(i)), Key: rand.Text(), Body: benchBody})
					if err != nil {
						b.Error(err)
					}
					last[i] = receipt.Seq
				})
				for i, seq := range last {
					n.until(room(numbered(i)), seq)
				}
				b.ReportMetric(each/time.Since(began).Seconds(), "msgs/s")

				// At rest, only the watch runs, and in a cluster the sweep.
				here, servers = r.cpu(b)
				began = time.Now()
				time.Sleep(40 * time.Second) // longer than SweepEvery
				h, s = r.cpu(b)
				b.ReportMetric(100*float64(h-here+s-servers)/float64(time.Since(began)), "idle-cpu-%")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkCatchUp reconnects a node that has missed one message in each of its
// 10,000 rooms.
func BenchmarkCatchUp(b *testing.B) {
	const rooms = 10_000
	for range b.N {
		p := &process{Name: "alone", Dir: b.TempDir(), Port: freePort(b), t: b}
		b.Cleanup(p.kill)
		p.start()
		l := newLink(b, p.addr())
		away, here := attach(b, connect(b, l.url())), attach(b, connect(b, "nats://"+p.addr()))
		parallel(rooms, func(i int) { away.subscribe(room(numbered(i))) })
		l.cut()
		if err := awaitDown(away, room("0")); err == nil {
			b.Fatal("the connection is not gone")
		}
		last := make([]uint64, rooms)
		parallel(rooms, func(i int) { last[i] = here.say(room(numbered(i)), "missed").Seq })
		began := time.Now()
		l.heal()
		for i, seq := range last {
			away.until(room(numbered(i)), seq)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/10,000-rooms")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkManyRooms measures the memory of a server that stores 300,000 rooms
// with one message each, and how long it takes to start again after it was
// killed.
func BenchmarkManyRooms(b *testing.B) {
	const rooms = 300_000
	for range b.N {
		p := &process{Name: "alone", Dir: b.TempDir(), Port: freePort(b), t: b}
		b.Cleanup(p.kill)
		p.start()
		n := attach(b, connect(b, "nats://"+p.addr(), natsbroker.DuplicateWindow(time.Second)))
		before := resident(b, p)
		began := time.Now()
		parallel(rooms, func(i int) { n.say(room(numbered(i)), string(benchBody)) })
		b.ReportMetric(rooms/time.Since(began).Seconds(), "msgs/s")
		b.ReportMetric(float64(resident(b, p)-before)/rooms, "server-RSS-B/room")
		stream, err := jetStream(b, "nats://"+p.addr()).Stream(b.Context(), "chathub")
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(stream.CachedInfo().State.Bytes)/rooms, "disk-B/msg-of-200")
		p.kill()
		began = time.Now()
		p.start()
		eventually(b, "a subscription", func() bool { _, err := n.Subscribe(b.Context(), room("0")); return err == nil })
		b.ReportMetric(time.Since(began).Seconds(), "restart-s")
	}
	b.ReportMetric(0, "ns/op")
}

// resident returns the resident memory of a server, in bytes.
func resident(b *testing.B, p *process) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib << 10
}

// BenchmarkRead reads the newest messages of a topic, some from its middle, and
// the last 20. A room and an inbox with three senders have each one in 100 of
// the 100,000 messages of the stream, or one in 5,000 of 500,000.
func BenchmarkRead(b *testing.B) {
	for _, c := range []struct{ topics, each int }{{100, 1000}, {5000, 100}} {
		broker := openEmbedded(b, b.TempDir(), natsbroker.MaxMessages(-1))
		n, member := attach(b, broker), attach(b, broker)
		topics := []chathub.Topic{room("0"), {User: "0"}}
		logs := make([][]uint64, len(topics))
		for _, topic := range topics {
			member.subscribe(topic)
		}
		var mu sync.Mutex
		parallel(c.topics*c.each, func(i int) {
			at := i % c.topics
			m := chathub.Message{Topic: room(numbered(at)), Owner: numbered(i / c.topics % 3), Body: benchBody}
			if at < len(topics) {
				m.Topic = topics[at]
			}
			r, err := n.Publish(b.Context(), m)
			if err != nil {
				b.Error(err)
			}
			if at < len(topics) {
				mu.Lock()
				defer mu.Unlock()
				logs[at] = append(logs[at], r.Seq)
			}
		})
		for i, topic := range topics {
			log := logs[i]
			slices.Sort(log)
			kind := []string{"room", "inbox"}[i]
			for _, d := range []struct {
				name string
				r    chathub.Range
			}{
				{"newest-50", chathub.Range{Limit: 50}},
				{"newest-of-4-KB", chathub.Range{Limit: 50, MaxBytes: 4000}},
				{"middle-50", chathub.Range{Before: log[c.each/2], Limit: 50}},
				{"since-20", chathub.Range{After: log[len(log)-21], Limit: 200}},
				{"since-none", chathub.Range{After: log[len(log)-1], Limit: 200}},
			} {
				b.Run(fmt.Sprintf("1-in-%d/%s/%s", c.topics, kind, d.name), func(b *testing.B) {
					for range b.N {
						if p := n.read(topic, d.r); p.Head.Seq != log[len(log)-1] {
							b.Fatal(p.Head)
						}
					}
				})
			}
			member.until(topic, log[len(log)-1])
			b.Run(fmt.Sprintf("1-in-%d/%s/since-20-by-a-node-that-has-it", c.topics, kind), func(b *testing.B) {
				for range b.N {
					member.read(topic, chathub.Range{After: log[len(log)-21], Before: log[len(log)-1] + 1, Limit: 200})
				}
			})
		}
	}
}

func parallel(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				f(int(i - 1))
			}
		})
	}
	wg.Wait()
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
