//go:build linux

package servers

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

func coderWrite() Server {
	return Server{
		Name:    "coder",
		Title:   "coder/websocket 1.8, one Write per client and message",
		Dialect: byQuery(),
		Serve:   serveCoder,
		TLS:     true,
	}
}

// coderClient has a queue. Its goroutine writes the queue message by message,
// as in the library's chat example.
type coderClient struct {
	msgs      chan []byte
	closeSlow func()
}

func serveCoder(ln net.Listener) error {
	var chat rooms[*coderClient]
	return serveHTTP(ln, "/ws", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // the client has the response
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		room := roomOf(r)
		c := &coderClient{
			msgs:      make(chan []byte, 256),
			closeSlow: func() { _ = conn.Close(websocket.StatusPolicyViolation, "too slow") },
		}
		chat.join(room, c)
		defer chat.leave(room, c)
		go func() {
			for {
				_, msg, err := conn.Read(ctx)
				if err != nil {
					cancel()
					return
				}
				chat.each(room, func(to *coderClient) {
					select {
					case to.msgs <- msg:
					default:
						go to.closeSlow()
					}
				})
			}
		}()
		for {
			select {
			case msg := <-c.msgs:
				if err := coderSend(ctx, conn, msg); err != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}))
}

func coderSend(ctx context.Context, conn *websocket.Conn, msg []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, msg)
}
