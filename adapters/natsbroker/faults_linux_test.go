package natsbroker_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/nats-io/nats.go"
)

var faultRooms = []chathub.Topic{room("one"), room("two"), room("three"), {User: "ana"}}

// trial is one fault: three nodes with writers, on a cluster of three servers.
// Each node has its own links to all servers.
type trial struct {
	t       *testing.T
	name    string // of the stream
	servers []*process
	links   [][]*link // by node
	nodes   []*node
	stop    chan struct{}
	writers sync.WaitGroup
	between func() // called before the second step of an erasure

	mu          sync.Mutex
	acked       map[chathub.Topic][]string
	acks        [][]ackTime // by node
	unavailable int
	broken      time.Time // the fault has begun
	healed      time.Time // the fault is over
}

// ackTime is the time from the start of a publish to its ack.
type ackTime struct{ began, ended time.Time }

func newTrial(t *testing.T, servers []*process, name string) *trial {
	f := &trial{t: t, name: name, servers: servers, stop: make(chan struct{}), acked: make(map[chathub.Topic][]string)}
	for i := range servers {
		var urls []string
		var links []*link
		for j := range servers {
			l := newLink(t, servers[(i+j)%len(servers)].addr())
			links = append(links, l)
			urls = append(urls, l.url())
		}
		f.links = append(f.links, links)
		b := connect(t, strings.Join(urls, ","), natsbroker.Name(name), natsbroker.Replicas(3), natsbroker.MaxMessages(-1), natsbroker.MaxBytes(64<<20),
			natsbroker.Between(func() { f.between() }), natsbroker.NATS(nats.DontRandomize(), nats.IgnoreDiscoveredServers()))
		eventually(t, "the cluster has the stream", func() bool {
			s, err := b.Attach(t.Context(), func(chathub.Message) {})
			if err == nil {
				_ = s.Close(t.Context())
			}
			return err == nil
		})
		f.nodes = append(f.nodes, attach(t, b))
		f.acks = append(f.acks, nil)
	}
	for _, n := range f.nodes {
		for _, topic := range faultRooms {
			n.subscribe(topic)
		}
	}
	for i := range f.nodes {
		for range 3 {
			f.writers.Go(func() { f.write(i) })
		}
	}
	return f
}

// write publishes until stop. It repeats a message that gets no ack, as clients
// do.
func (f *trial) write(i int) {
	pace := time.NewTicker(8 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-f.stop:
			return
		case <-pace.C:
		}
		m := chathub.Message{Topic: faultRooms[n%len(faultRooms)], Key: rand.Text(), Owner: numbered(n % 5)}
		for began := time.Now(); ; {
			ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Second)
			_, err := f.nodes[i].Publish(ctx, m)
			cancel()
			f.mu.Lock()
			if err == nil {
				f.acked[m.Topic] = append(f.acked[m.Topic], m.Key)
				f.acks[i] = append(f.acks[i], ackTime{began, time.Now()})
			} else {
				f.unavailable++
			}
			f.mu.Unlock()
			if err == nil {
				break
			}
			var e *chathub.Error
			if !errors.As(err, &e) || e.Code != chathub.CodeUnavailable {
				f.t.Errorf("Publish: %v", err)
				return
			}
		}
	}
}

// run breaks something, waits, and repairs it.
func (f *trial) run(breaks func(*trial), during time.Duration, heals func(*trial)) row {
	f.progress(time.Now(), 20)
	f.broken = time.Now()
	breaks(f)
	time.Sleep(during)
	heals(f)
	f.healed = time.Now()
	f.progress(f.healed, 20)
	close(f.stop)
	f.writers.Wait()
	return f.judge()
}

// progress waits until every node has n acks for messages that were published
// after since.
func (f *trial) progress(since time.Time, n int) {
	f.t.Helper()
	eventually(f.t, "acks on every node", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return !slices.ContainsFunc(f.acks, func(acks []ackTime) bool {
			later := 0
			for _, a := range acks {
				if a.began.After(since) {
					later++
				}
			}
			return later < n
		})
	})
}

// row is one line of the table.
type row struct {
	fault                 string
	acked, lost, doubled  int
	disorder, unavailable int
	silent, whole         time.Duration
}

// judge compares the acks, the log, and the messages that each node received.
func (f *trial) judge() row {
	r := row{unavailable: f.unavailable}
	for _, topic := range faultRooms {
		last := f.nodes[0].say(topic, "last").Seq
		log := f.nodes[0].read(topic, chathub.Range{Limit: 1 << 20}).Messages
		count := make(map[string]int)
		for _, m := range log {
			count[m.Key]++
		}
		for _, n := range count {
			r.doubled += n - 1
		}
		for _, key := range f.acked[topic] {
			r.acked++
			if count[key] == 0 {
				r.lost++
			}
		}
		for i, n := range f.nodes {
			got := n.until(topic, last)
			if !slices.EqualFunc(got, log, func(a, b chathub.Message) bool { return a.Key == b.Key && a.Seq == b.Seq && a.Time == b.Time }) {
				r.disorder++
				f.t.Errorf("node %d, %+v: %d messages were delivered, the log has %d", i, topic, len(got), len(log))
			}
		}
	}
	for _, acks := range f.acks {
		before := f.broken
		slices.SortFunc(acks, func(a, b ackTime) int { return a.ended.Compare(b.ended) })
		first := time.Duration(0)
		for _, a := range acks {
			if a.ended.After(before) {
				r.silent = max(r.silent, a.ended.Sub(before))
				before = a.ended
			}
			if first == 0 && a.began.After(f.healed) {
				first = a.ended.Sub(f.healed)
			}
		}
		r.whole = max(r.whole, first)
	}
	return r
}

func (f *trial) leader() *process {
	f.t.Helper()
	for _, p := range f.servers {
		nc, err := nats.Connect("nats://" + p.addr())
		if err != nil {
			continue
		}
		defer nc.Close()
		s, err := jetStream(f.t, "nats://"+p.addr()).Stream(f.t.Context(), f.name)
		if err != nil {
			f.t.Fatal(err)
		}
		name := s.CachedInfo().Cluster.Leader
		return f.servers[slices.IndexFunc(f.servers, func(p *process) bool { return p.Name == name })]
	}
	f.t.Fatal("no server answers")
	return nil
}

func (f *trial) follower() *process {
	leader := f.leader()
	return f.servers[slices.IndexFunc(f.servers, func(p *process) bool { return p != leader })]
}

// TestFaults causes one fault after another on a cluster of three servers,
// while three nodes publish and listen. It prints the table of the README.
func TestFaults(t *testing.T) {
	onDisk, inMemory := startCluster(t, 0), startCluster(t, 96<<20)
	var victim *process
	each := func(f *trial, node int, do func(*link)) {
		for _, l := range f.links[node] {
			do(l)
		}
	}
	var rows []row
	for _, c := range []struct {
		name   string
		on     []*process
		breaks func(*trial)
		during time.Duration
		heals  func(*trial)
	}{
		{"a follower killed (SIGKILL), started again", onDisk, func(f *trial) { victim = f.follower(); victim.kill() }, 2 * time.Second, func(*trial) { victim.start() }},
		{"the leader killed (SIGKILL), started again", onDisk, func(f *trial) { victim = f.leader(); victim.kill() }, 8 * time.Second, func(*trial) { victim.start() }},
		{"the leader killed between the two steps of an erasure", onDisk, func(f *trial) { victim = f.leader(); eraseKilled(f, victim) }, 8 * time.Second,
			func(f *trial) { victim.start() }},
		{"the leader stopped for 4 s (SIGSTOP)", onDisk, func(f *trial) { victim = f.leader(); victim.signal(syscall.SIGSTOP) }, 4 * time.Second,
			func(*trial) { victim.signal(syscall.SIGCONT) }},
		{"all servers killed (SIGKILL), started again", onDisk, func(f *trial) {
			for _, p := range f.servers {
				p.kill()
			}
		}, time.Second, func(f *trial) {
			for _, p := range f.servers {
				p.start()
			}
		}},
		{"a node cut off for 3 s (connections reset)", onDisk, func(f *trial) { each(f, 1, (*link).cut) }, 3 * time.Second, func(f *trial) { each(f, 1, (*link).heal) }},
		{"a node cut off for 7 s (silence)", onDisk, func(f *trial) { each(f, 1, (*link).freeze) }, 7 * time.Second, func(f *trial) { each(f, 1, (*link).heal) }},
		{"a node's link slow for 3 s (50 ms each way)", onDisk, func(f *trial) { each(f, 1, func(l *link) { l.slow(50 * time.Millisecond) }) }, 3 * time.Second,
			func(f *trial) { each(f, 1, (*link).heal) }},
		{"a fourth node killed (SIGKILL) as it publishes", onDisk, killNode, 0, func(*trial) {}},
		{"the leader's disk full; later freed, and the server restarted", inMemory, func(f *trial) { victim = f.leader(); victim.tell("fill") }, 8 * time.Second,
			func(*trial) { victim.tell("free"); victim.tell("restart") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range c.on {
				s.t = t
			}
			r := newTrial(t, c.on, fmt.Sprintf("trial%d", len(rows))).run(c.breaks, c.during, c.heals)
			r.fault = c.name
			rows = append(rows, r)
			if r.lost+r.doubled+r.disorder > 0 || r.acked == 0 {
				t.Errorf("%+v", r)
			}
		})
	}
	var table strings.Builder
	table.WriteString("\n| fault | acked | lost | doubled | out of order | calls that got `unavailable` | longest without an ack on a node | acks after mending |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&table, "| %s | %d | %d | %d | %d | %d | %.1f s | %.2f s |\n", r.fault, r.acked, r.lost, r.doubled, r.disorder, r.unavailable, r.silent.Seconds(), r.whole.Seconds())
	}
	t.Log(table.String())
}

// eraseKilled erases a message, and kills a server between the two steps of
// that. A client repeats the erasure until it is acked. Then the text is in no
// file of the stream, on any server that runs.
func eraseKilled(f *trial, victim *process) {
	const text = "text-to-be-erased"
	topic := room("erased")
	said := f.nodes[0].sayAs("ben", topic, text)
	killed := false
	f.between = func() {
		if !killed {
			victim.kill()
		}
		killed = true
	}
	m := chathub.Message{Topic: topic, Key: rand.Text(), Name: "m/1", Tied: said.Seq, Erase: true}
	eventually(f.t, "the erasure is acked", func() bool {
		ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Second)
		defer cancel()
		_, err := f.nodes[0].Publish(ctx, m)
		return err == nil
	})
	if !killed {
		f.t.Error("nobody was killed")
	}
	for _, p := range f.servers {
		if p != victim {
			eventually(f.t, "the text is erased", func() bool { return len(streamFilesWith(f.t, p, text)) == 0 })
		}
	}
	f.writers.Go(func() {
		<-f.stop // the victim runs again
		eventually(f.t, "the text is erased on the server that was killed", func() bool { return len(streamFilesWith(f.t, victim, text)) == 0 })
	})
}

// killNode runs a node in a separate process, and kills it while it publishes.
// The messages that it has reported as acked must be in the log.
func killNode(f *trial) {
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.CommandContext(f.t.Context(), self)
	cmd.Env = append(os.Environ(), asNode+"=nats://"+f.servers[0].addr(), "NAME="+f.name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	var keys []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if keys = append(keys, lines.Text()); len(keys) == 200 {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked[faultRooms[0]] = append(f.acked[faultRooms[0]], keys...)
}
