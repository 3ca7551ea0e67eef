//go:build linux

package servers

import (
	"net"
	"net/http"
	"time"

	"github.com/lxzan/gws"
)

func gwsBroadcaster() Server {
	return Server{
		Name:    "gws",
		Title:   "gws 1.8, broadcaster",
		Dialect: byQuery(),
		Serve:   serveGWS,
		TLS:     true,
	}
}

// gwsPatience is how long a client may be silent. In the library's example it
// is 15 seconds, and clients ping.
const gwsPatience = 2 * time.Minute

type gwsChat struct {
	gws.BuiltinEventHandler
	rooms rooms[*gws.Conn]
}

func gwsRoom(socket *gws.Conn) string {
	room, _ := socket.Session().Load("room")
	name, _ := room.(string)
	return name
}

func (c *gwsChat) OnOpen(socket *gws.Conn) {
	_ = socket.SetDeadline(time.Now().Add(gwsPatience))
	c.rooms.join(gwsRoom(socket), socket)
}

func (c *gwsChat) OnClose(socket *gws.Conn, _ error) { c.rooms.leave(gwsRoom(socket), socket) }

func (c *gwsChat) OnPing(socket *gws.Conn, _ []byte) {
	_ = socket.SetDeadline(time.Now().Add(gwsPatience))
	_ = socket.WritePong(nil)
}

func (c *gwsChat) OnMessage(socket *gws.Conn, message *gws.Message) {
	defer func() { _ = message.Close() }() // returns its buffer; the error does not matter
	b := gws.NewBroadcaster(gws.OpcodeText, message.Bytes())
	defer func() { _ = b.Close() }()
	c.rooms.each(gwsRoom(socket), func(to *gws.Conn) { _ = b.Broadcast(to) })
}

func serveGWS(ln net.Listener) error {
	upgrader := gws.NewUpgrader(&gwsChat{}, &gws.ServerOption{
		ParallelEnabled: true,
		Recovery:        gws.Recovery,
		Authorize: func(r *http.Request, session gws.SessionStorage) bool {
			session.Store("room", roomOf(r))
			return true
		},
	})
	return serveHTTP(ln, "/ws", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket, err := upgrader.Upgrade(w, r)
		if err != nil {
			return // the client has the response
		}
		go socket.ReadLoop()
	}))
}
