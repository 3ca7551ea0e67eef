package integration

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	natsserver "github.com/nats-io/nats-server/v2/server"
)

// natsURL starts a NATS server with JetStream, and returns its URL.
func natsURL(t *testing.T) string {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	return s.ClientURL()
}

// TestInstances lets clients chat through nginx with three instances that share
// a NATS server, and move between them all the time, since nothing is sticky.
// Each client sees the whole room in one order, and every message once.
func TestInstances(t *testing.T) {
	const users, moves, each = 9, 6, 4
	url := natsURL(t)
	var hubs []*chathub.Hub
	var servers []*httptest.Server
	for range 3 {
		broker, err := natsbroker.Connect(url, natsbroker.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))))
		if err != nil {
			t.Fatal(err)
		}
		cfg := behindProxy()
		cfg.Broker = broker
		hub := hubtest.New(t, cfg)
		hubs = append(hubs, hub)
		servers = append(servers, newServer(t, onServeMux(hub)))
	}
	n := startNginx(t, servers...)
	hc := n.from("127.0.0.1")

	var talking, joined sync.WaitGroup
	talking.Add(users)
	joined.Add(users)
	logs := make([][]string, users)
	var wg sync.WaitGroup
	for i := range users {
		// These are no parallel subtests, since only so many of those run at a
		// time.
		wg.Go(func() {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				done := sync.OnceFunc(talking.Done)
				in := sync.OnceFunc(joined.Done)
				defer done() // even of one that fails
				defer in()
				w := &wanderer{t: t, hc: hc, url: n.url, name: fmt.Sprintf("user%d", i)}
				w.join()
				in()
				joined.Wait()
				for range moves {
					for range each {
						w.say()
					}
					w.move()
				}
				done()
				w.hear(func(f hubtest.Frame) bool { return f.Type == "end" })
				logs[i] = w.log
			})
		})
	}
	talking.Wait()
	if err := hubs[0].To("lobby").Emit(t.Context(), "end", nil); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if len(logs[0]) != users*moves*each {
		t.Errorf("%d messages were heard, %d said", len(logs[0]), users*moves*each)
	}
	for i, log := range logs {
		if !slices.Equal(log, logs[0]) {
			t.Errorf("user %d heard\n%v, user 0\n%v", i, log, logs[0])
		}
	}
	for i, hub := range hubs {
		if n := hub.Stats().Accepted; n < users {
			t.Errorf("instance %d had %d connections of %d", i, n, users*(moves+1))
		}
	}
}

// wanderer is a user that leaves without a close and comes back to the instance
// that nginx chooses.
type wanderer struct {
	t    *testing.T
	hc   *http.Client
	url  string
	name string
	said int

	c     *client
	epoch string
	seq   uint64
	log   []string // messages, in order
}

func (w *wanderer) join() {
	w.c = connect(w.t, w.hc, w.url, w.name)
	w.c.send(hubtest.Frame{Type: "join-room", ID: "join", Room: "lobby"})
	var position chathub.Position
	w.decode(w.hear(func(f hubtest.Frame) bool { return f.ID == "join" }).Data, &position)
	w.epoch, w.seq = position.Epoch, position.Seq
}

// say sends a message and waits for its ack.
func (w *wanderer) say() {
	id := fmt.Sprintf("%s-%d", w.name, w.said)
	w.said++
	w.c.send(hubtest.Frame{Type: "room-message", ID: id, Room: "lobby", Data: hubtest.Data(id)})
	w.hear(func(f hubtest.Frame) bool { return f.ID == id && f.Type == "ack" })
}

func (w *wanderer) move() {
	_ = w.c.ws.CloseNow()
	w.c = connect(w.t, w.hc, w.url, w.name)
	since := map[string]any{"rooms": map[string]any{"lobby": chathub.Position{Epoch: w.epoch, Seq: w.seq}}}
	id := fmt.Sprintf("resume-%d", rand.Uint64())
	w.c.send(hubtest.Frame{Type: "resume", ID: id, Data: hubtest.Data(since)})
	var answer struct {
		Rooms map[string]jsontext.Value `json:"rooms"`
	}
	w.decode(w.hear(func(f hubtest.Frame) bool { return f.ID == id }).Data, &answer)
	var room struct {
		Recovered bool `json:"recovered"`
	}
	if w.decode(answer.Rooms["lobby"], &room); !room.Recovered {
		w.t.Fatalf("since %d: resumed with %s", w.seq, answer.Rooms["lobby"])
	}
}

// hear notes messages of the room until a frame is the wanted one, and returns
// it.
func (w *wanderer) hear(wanted func(hubtest.Frame) bool) hubtest.Frame {
	w.t.Helper()
	for {
		f := w.c.next()
		switch {
		case f.Type == "error":
			w.t.Fatalf("error %s", f.Data)
		case f.Type == "room-message":
			if f.Seq <= w.seq {
				w.t.Fatalf("seq %d after %d", f.Seq, w.seq)
			}
			w.seq = f.Seq
			w.log = append(w.log, string(f.Data))
		}
		if wanted(f) && f.Type != "room-message" {
			return f
		}
	}
}

func (w *wanderer) decode(data []byte, into any) {
	w.t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		w.t.Fatalf("%s: %v", data, err)
	}
}
