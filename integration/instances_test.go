package integration

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	chatclient "github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/hubtest"
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
				w := wander(t, hc, n.url, fmt.Sprintf("user%d", i))
				in()
				joined.Wait()
				for range moves {
					for range each {
						w.say()
					}
					w.move()
				}
				done()
				w.hear()
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
	name string
	said int
	link io.Closer // the connection to nginx
	c    *chatclient.Client
	room *chatclient.Room
	log  []string // messages, in order
}

func wander(t *testing.T, hc *http.Client, url, name string) *wanderer {
	w := &wanderer{t: t, name: name}
	var err error
	w.c, err = chatclient.Dial(t.Context(), url, chatclient.Options{
		Token:      func(context.Context) (string, error) { return name, nil },
		HTTPClient: &http.Client{Transport: noting{hc.Transport, w}},
		BackoffMin: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.c.Close)
	if w.room, err = w.c.Join(t.Context(), "lobby", chatclient.JoinOptions{}); err != nil {
		t.Fatal(err)
	}
	return w
}

// noting is a transport that notes the connection of a wanderer.
type noting struct {
	http.RoundTripper
	w *wanderer
}

func (n noting) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := n.RoundTripper.RoundTrip(r)
	if err == nil {
		n.w.link = res.Body
	}
	return res, err
}

// say sends a message and waits for its ack.
func (w *wanderer) say() {
	id := fmt.Sprintf("%s-%d", w.name, w.said)
	w.said++
	if _, err := w.room.Post(w.t.Context(), chatclient.Post{ID: id, Data: id}); err != nil {
		w.t.Fatal(err)
	}
}

// move breaks the connection, and waits for the next one.
func (w *wanderer) move() {
	old := w.c.Status().ClientID
	w.link.Close()
	for s := range w.c.Statuses(w.t.Context()) {
		if s.State == chatclient.Connected && s.ClientID != old {
			return
		}
	}
	w.t.Fatalf("it did not come back: %+v", w.c.Status())
}

// hear notes the messages of the room until the end.
func (w *wanderer) hear() {
	for e := range w.room.Events(w.t.Context()) {
		switch e.Type {
		case chatclient.TypeRoomMessage:
			w.log = append(w.log, string(e.Data))
		case chatclient.TypeGap:
			w.t.Fatalf("messages are missing before %v", e.Position)
		case "end":
			return
		}
	}
	w.t.Fatal(w.room.Err())
}
