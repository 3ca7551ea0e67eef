package chathub_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// While others publish without a pause, a client comes and goes at random. It
// still sees every message once and in order, or is told that it cannot.
func TestResumeUnderLoad(t *testing.T) {
	const large = 1 << 26
	for _, tc := range []struct {
		name        string
		kept, limit int
		lossy       bool // some resumes must fail
	}{
		{"everything is kept", large, large, false},
		{"little is kept", 40, 30, true},
	} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/seed %d", tc.name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hub := hubtest.New(t, chathub.Config{
						Broker:         &chathub.MemoryBroker{MaxMessages: tc.kept, MaxBytes: large},
						ReplayLimit:    tc.limit,
						MaxOutboxBytes: large,
					})
					resumeUnderLoad(t, hub, rand.New(rand.NewPCG(seed, 0)), tc.lossy)
				})
			})
		}
	}
}

// resumeLog is what a client knows of a log in which message number n has seq
// n.
type resumeLog struct {
	pos   chathub.Position // to ask with
	next  uint64           // number of the message that must come; 0: not known
	head  uint64           // of the last answer, if next is not known
	asked bool             // no answer has come on this connection yet
}

// answered records an answer to join-room or resume.
func (l *resumeLog) answered(t *testing.T, what string, p resumePart, recoveries map[bool]int) {
	if p.Error != nil {
		t.Fatalf("%s: %+v", what, p.Error)
	}
	recoveries[p.Recovered]++
	l.asked = false
	l.pos.Epoch = p.Epoch
	if !p.Recovered {
		l.next, l.head, l.pos.Seq = 0, p.Seq, 0
	}
}

// got checks and records a message.
func (l *resumeLog) got(t *testing.T, what string, f hubtest.Frame) {
	n, err := strconv.ParseUint(string(f.Data), 10, 64)
	switch {
	case err != nil || n != f.Seq:
		t.Fatalf("%s: message %s has seq %d", what, f.Data, f.Seq)
	case l.asked:
		t.Fatalf("%s: message %d before the answer", what, n)
	case l.next == 0 && n > l.head+1:
		t.Fatalf("%s: the first message is %d, but the head was %d", what, n, l.head)
	case l.next > 0 && n != l.next:
		t.Fatalf("%s: message %d, want %d", what, n, l.next)
	}
	l.next, l.pos.Seq = n+1, n
}

func resumeUnderLoad(t *testing.T, hub *chathub.Hub, rnd *rand.Rand, lossy bool) {
	rooms := []string{"red", "blue"}
	targets := map[string]chathub.Target{"red": hub.To("red"), "blue": hub.To("blue"), "": hub.ToUser("ana")}
	keeper := members(t, hub, "red", "keeper")[0] // keeps its connection, and the log of red

	var publishers sync.WaitGroup
	stop := make(chan struct{})
	end := sync.OnceFunc(func() {
		close(stop)
		publishers.Wait()
	})
	defer end()
	var mu sync.Mutex
	published := map[string]uint64{}
	for topic, target := range targets {
		pace := rand.New(rand.NewPCG(rnd.Uint64(), 0))
		publishers.Go(func() {
			for n := uint64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := target.Emit(t.Context(), "tick", n); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				published[topic] = n
				mu.Unlock()
				switch pace.IntN(10) {
				case 0: // the others go on only when everyone waits
					time.Sleep(time.Duration(pace.IntN(3)) * time.Millisecond)
				case 1, 2:
					runtime.Gosched()
				}
			}
		})
	}

	logs := map[string]*resumeLog{"": {}, "red": {}, "blue": {}}
	recoveries := map[bool]int{}
	// session connects, asks for missed messages, and takes what comes until it
	// is enough.
	session := func(enough func(taken int, c *hubtest.Client) bool) {
		c, err := hubtest.DialHeader(t, hub, http.Header{"Authorization": {"Bearer ana"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Drop()
		request := resumeRequest{Rooms: map[string]chathub.Position{}, Inbox: &logs[""].pos}
		for _, room := range rooms {
			logs[room].asked = true
			if rnd.IntN(2) == 0 {
				request.Rooms[room] = logs[room].pos
			} else {
				c.Send(hubtest.Frame{Type: "join-room", ID: room, Room: room, Data: hubtest.Data(map[string]any{"since": logs[room].pos})})
			}
		}
		logs[""].asked = true
		c.Send(hubtest.Frame{Type: "resume", ID: "resume", Data: hubtest.Data(request)})
		for taken := 0; !enough(taken, c); taken++ {
			switch f := c.Next(); {
			case f.Type == "ack" && f.ID == "resume":
				answer := dataOf[resumeAnswer](t, f)
				logs[""].answered(t, "inbox", *answer.Inbox, recoveries)
				for room, p := range answer.Rooms {
					logs[room].answered(t, room, p, recoveries)
				}
			case f.Type == "ack":
				logs[f.ID].answered(t, f.ID, dataOf[resumePart](t, f), recoveries)
			case f.Type == "error":
				t.Fatalf("%s", f.Data)
			case f.Seq > 0 && f.Room == "" && logs[""].asked:
				// It came after the welcome, and will come again after the
				// answer.
			case f.Seq > 0:
				logs[f.Room].got(t, f.Room, f)
			}
		}
	}
	for range 30 {
		most := 1 + rnd.IntN(300)
		session(func(taken int, _ *hubtest.Client) bool { return taken == most })
		time.Sleep(time.Duration(rnd.IntN(4)) * time.Millisecond)
	}
	end()
	session(func(_ int, c *hubtest.Client) bool {
		for topic, l := range logs {
			if l.asked || l.pos.Seq < published[topic] {
				return false
			}
		}
		return true
	})

	missed := published["red"]
	for _, f := range ofType(arrived(keeper), "tick") {
		if missed--; f.Seq != published["red"]-missed {
			t.Errorf("the client that stayed got %d as message %d", f.Seq, published["red"]-missed)
		}
	}
	if missed != 0 {
		t.Errorf("the client that stayed missed %d messages", missed)
	}
	if recoveries[true] == 0 || (recoveries[false] > len(logs)) != lossy {
		t.Errorf("resumes by whether they recovered everything: %v", recoveries)
	}
}

// BenchmarkResume is the return of a client to 128 rooms, each of which has far
// more than fits into the client's outbox.
func BenchmarkResume(b *testing.B) {
	const rooms, messages, size = 128, 256, 60_000
	broker := &chathub.MemoryBroker{MaxBytes: -1, MaxTotalBytes: 1 << 40}
	hub := hubtest.New(b, chathub.Config{Broker: broker, PresenceInterval: -1, Rate: -1, UserRate: -1})
	sample := make(chan chathub.Message, 1)
	session, err := broker.Attach(b.Context(), func(m chathub.Message) {
		if m.Topic.Room != "" {
			sample <- m
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	first := chathub.Topic{Room: "0"}
	if _, err := session.Subscribe(b.Context(), first); err != nil {
		b.Fatal(err)
	}
	if err := hub.To(first.Room).Emit(b.Context(), "large", strings.Repeat("x", size)); err != nil {
		b.Fatal(err)
	}
	m := <-sample
	if err := session.Unsubscribe(b.Context(), first); err != nil {
		b.Fatal(err)
	}
	request := resumeRequest{Rooms: make(map[string]chathub.Position, rooms)}
	for i := range rooms {
		m.Topic.Room = strconv.Itoa(i)
		var r chathub.Receipt
		for range messages {
			if r, err = session.Publish(b.Context(), m); err != nil {
				b.Fatal(err)
			}
		}
		request.Rooms[m.Topic.Room] = chathub.Position{Epoch: r.Epoch, Seq: 1}
	}
	b.ReportAllocs()
	c := hubtest.Dial(b, hub, "ana")
	for b.Loop() {
		for _, part := range resume(b, c, request).Rooms {
			if part.Error != nil || part.Recovered {
				b.Fatalf("%+v", part)
			}
		}
		c.Pending()
	}
}
