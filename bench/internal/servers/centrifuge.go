//go:build linux

package servers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/chathub-go/chathub/bench/internal/load"
)

func centrifugeNode() Server {
	return Server{
		Name:  "centrifuge",
		Title: "centrifuge 0.40",
		About: "anonymous users, no presence; a history of 100 messages in the scenario of reconnects only",
		Dialect: &load.Dialect{
			Path: func(string) string { return "/connection/websocket" },
			Connect: func(int) []load.Step {
				return []load.Step{{Send: `{"id":1,"connect":{}}`, Expect: `"connect":{`}}
			},
			Join: func(room string) []load.Step {
				return []load.Step{{
					Send:   `{"id":2,"subscribe":{"channel":"` + room + `"}}`,
					Expect: `"subscribe":{`,
				}}
			},
			Publish: func(room, data string) string {
				return `{"id":3,"publish":{"channel":"` + room + `","data":"` + data + `"}}`
			},
			Ping: `{}`,
			Pong: `{}`,
		},
		Serve:  serveCentrifuge,
		TLS:    true,
		Resume: centrifugeResume,
	}
}

// KeepHistory is the name of the rooms whose messages centrifuge keeps.
const KeepHistory = "kept"

func serveCentrifuge(ln net.Listener) error {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return err
	}
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(e centrifuge.SubscribeEvent, cb centrifuge.SubscribeCallback) {
			cb(centrifuge.SubscribeReply{
				Options: centrifuge.SubscribeOptions{EnableRecovery: e.Channel == KeepHistory},
			}, nil)
		})
		client.OnPublish(func(e centrifuge.PublishEvent, cb centrifuge.PublishCallback) {
			if e.Channel != KeepHistory {
				cb(centrifuge.PublishReply{}, nil)
				return
			}
			cb(centrifuge.PublishReply{
				Options: centrifuge.PublishOptions{HistorySize: 100, HistoryTTL: time.Minute},
			}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return err
	}
	handler := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{})
	return serveHTTP(ln, "/connection/websocket", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := centrifuge.SetCredentials(r.Context(), &centrifuge.Credentials{})
		handler.ServeHTTP(w, r.WithContext(ctx))
	}))
}

func centrifugeResume(room string, joined []byte) ([]load.Step, error) {
	var reply struct {
		Subscribe struct {
			Epoch  string `json:"epoch"`
			Offset uint64 `json:"offset"`
		} `json:"subscribe"`
	}
	if err := json.Unmarshal(joined, &reply); err != nil {
		return nil, err
	}
	if reply.Subscribe.Epoch == "" {
		return nil, errors.New("centrifuge: the channel has no history")
	}
	return []load.Step{{
		Send: fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q,"recover":true,"epoch":%q,"offset":%d}}`,
			room, reply.Subscribe.Epoch, reply.Subscribe.Offset),
		Expect: `"subscribe":{`,
	}}, nil
}
