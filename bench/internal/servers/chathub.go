//go:build linux

package servers

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/bench/internal/load"
	"github.com/golang-jwt/jwt/v5"
)

// secret signs the tokens of clients. It need not be secret.
var secret = []byte("the key of a benchmark is no secret, but it has its length")

func chathubPlain() Server {
	return Server{
		Name:    "chathub",
		Title:   "**chathub**",
		About:   "JWT, strict JSON, membership check, log and presence included",
		Dialect: chathubDialect(""),
		Serve:   serveChathub,
		TLS:     true,
		Resume:  chathubResume,
	}
}

func chathubAcked() Server {
	p := chathubPlain()
	p.Name, p.Title = "chathub-ack", "**chathub**, every message acked"
	p.About = "the same, but each message has an id: the sender gets an ack, and a repetition would be recognised"
	p.Dialect = chathubDialect("m")
	return p
}

func chathubDeflate() Server {
	p := chathubPlain()
	p.Name, p.Title = "chathub-deflate", "**chathub**, compressed"
	p.About = "messages of 128 bytes and more are compressed in both directions (permessage-deflate without context takeover)"
	p.Dialect.Deflate = true
	p.Serve = func(ln net.Listener) error { return serveHub(ln, chathub.Config{CompressFrom: 128}) }
	return p
}

func chathubLinger() Server {
	p := chathubPlain()
	p.Name, p.Title, p.Extra = "chathub-linger", "**chathub**, Linger 20 ms", true
	p.About = "messages to rooms wait up to 20 ms to share a write with others"
	p.Serve = func(ln net.Listener) error { return serveHub(ln, chathub.Config{Linger: 20 * time.Millisecond}) }
	return p
}

func serveChathub(ln net.Listener) error { return serveHub(ln, chathub.Config{}) }

// serveHub serves as an application would, without the limits on how much one
// client may send, since a few clients send for all.
func serveHub(ln net.Listener, cfg chathub.Config) error {
	cfg.Auth = &chathub.JWT{Key: secret}
	cfg.Rate, cfg.UserRate, cfg.MaxConnsPerUser = -1, -1, -1
	hub, err := chathub.New(cfg)
	if err != nil {
		return err
	}
	return serveHTTP(ln, "/ws", hub)
}

func chathubDialect(idPrefix string) *load.Dialect {
	var ids atomic.Uint64
	return &load.Dialect{
		Path: func(string) string { return "/ws" },
		Header: func(id int) string {
			return "Sec-WebSocket-Protocol: chathub.v1\r\nAuthorization: Bearer " + token(id) + "\r\n"
		},
		Connect: func(int) []load.Step { return []load.Step{{Expect: `"type":"welcome"`}} },
		Join: func(room string) []load.Step {
			return []load.Step{{
				Send:   `{"type":"join-room","id":"j","room":` + strconv.Quote(room) + `}`,
				Expect: `{"type":"ack","id":"j"`,
			}}
		},
		Publish: func(room, data string) string {
			id := ""
			if idPrefix != "" {
				id = `"id":"` + idPrefix + strconv.FormatUint(ids.Add(1), 10) + `",`
			}
			return `{"type":"room-message",` + id + `"room":"` + room + `","data":"` + data + `"}`
		},
	}
}

func token(id int) string {
	t, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"userId": fmt.Sprintf("u%d", id),
		"name":   fmt.Sprintf("User %d", id),
		"exp":    time.Now().Add(time.Hour).Unix(),
	}).SignedString(secret)
	if err != nil {
		panic(err) // the key and the claims are our own
	}
	return t
}

func chathubResume(room string, joined []byte) ([]load.Step, error) {
	var ack struct {
		Data chathub.Position `json:"data"`
	}
	if err := json.Unmarshal(joined, &ack); err != nil {
		return nil, err
	}
	return []load.Step{{
		Send: fmt.Sprintf(`{"type":"resume","id":"r","data":{"rooms":{%q:{"epoch":%q,"seq":%d}}}}`,
			room, ack.Data.Epoch, ack.Data.Seq),
		Expect: `{"type":"ack","id":"r"`,
	}}, nil
}
