//go:build linux

package servers

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

func gorillaChat() Server {
	return Server{
		Name:    "gorilla",
		Title:   "gorilla/websocket 1.5, chat example",
		About:   "joins waiting messages into one frame, which clients have to split",
		Dialect: byQuery(),
		Serve:   serveGorilla,
		TLS:     true,
	}
}

const (
	gorillaWriteWait = 10 * time.Second
	gorillaPongWait  = 60 * time.Second
	gorillaPing      = gorillaPongWait * 9 / 10
)

// gorillaHub is one room. As in the library's chat example, one goroutine owns
// the clients, and each client has two more.
type gorillaHub struct {
	clients              map[*gorillaClient]bool
	broadcast            chan []byte
	register, deregister chan *gorillaClient
}

type gorillaClient struct {
	hub  *gorillaHub
	conn *websocket.Conn
	send chan []byte
}

func newGorillaHub() *gorillaHub {
	h := &gorillaHub{
		clients:    make(map[*gorillaClient]bool),
		broadcast:  make(chan []byte),
		register:   make(chan *gorillaClient),
		deregister: make(chan *gorillaClient),
	}
	go h.run()
	return h
}

func (h *gorillaHub) run() {
	for {
		select {
		case c := <-h.register:
			h.clients[c] = true
		case c := <-h.deregister:
			h.drop(c)
		case msg := <-h.broadcast:
			for c := range h.clients {
				select {
				case c.send <- msg:
				default:
					h.drop(c)
				}
			}
		}
	}
}

func (h *gorillaHub) drop(c *gorillaClient) {
	if h.clients[c] {
		delete(h.clients, c)
		close(c.send)
	}
}

func (c *gorillaClient) read() {
	defer func() {
		c.hub.deregister <- c
		_ = c.conn.Close()
	}()
	c.conn.SetReadLimit(64 << 10)
	extend := func(string) error { return c.conn.SetReadDeadline(time.Now().Add(gorillaPongWait)) }
	_ = extend("")
	c.conn.SetPongHandler(extend)
	for {
		_, msg, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		c.hub.broadcast <- msg
	}
}

func (c *gorillaClient) write() {
	ping := time.NewTicker(gorillaPing)
	defer func() {
		ping.Stop()
		_ = c.conn.Close()
	}()
	for {
		var err error
		select {
		case msg, ok := <-c.send:
			_ = c.conn.SetWriteDeadline(time.Now().Add(gorillaWriteWait))
			if !ok {
				_ = c.conn.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			err = c.writeJoined(msg)
		case <-ping.C:
			_ = c.conn.SetWriteDeadline(time.Now().Add(gorillaWriteWait))
			err = c.conn.WriteMessage(websocket.PingMessage, nil)
		}
		if err != nil {
			return
		}
	}
}

// writeJoined sends msg and all messages that wait behind it as the lines of
// one frame.
func (c *gorillaClient) writeJoined(msg []byte) error {
	w, err := c.conn.NextWriter(websocket.TextMessage)
	if err != nil {
		return err
	}
	if _, err := w.Write(msg); err != nil {
		return err
	}
	for range len(c.send) {
		if _, err := w.Write([]byte{'\n'}); err != nil {
			return err
		}
		if _, err := w.Write(<-c.send); err != nil {
			return err
		}
	}
	return w.Close()
}

func serveGorilla(ln net.Listener) error {
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	var mu sync.Mutex
	hubs := make(map[string]*gorillaHub)
	return serveHTTP(ln, "/ws", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // the client has the response
		}
		mu.Lock()
		hub := hubs[roomOf(r)]
		if hub == nil {
			hub = newGorillaHub()
			hubs[roomOf(r)] = hub
		}
		mu.Unlock()
		c := &gorillaClient{hub: hub, conn: conn, send: make(chan []byte, 256)}
		hub.register <- c
		go c.write()
		go c.read()
	}))
}
