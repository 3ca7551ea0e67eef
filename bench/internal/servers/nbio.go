//go:build linux

package servers

import (
	"net"
	"net/http"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

func nbioEngine() Server {
	return Server{
		Name:    "nbio",
		Title:   "nbio 1.6",
		About:   "its own engine instead of net/http",
		Dialect: byQuery(),
		Serve:   serveNbio,
	}
}

func serveNbio(ln net.Listener) error {
	logging.SetLevel(logging.LevelError)
	var chat rooms[*websocket.Conn]
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		room := roomOf(r)
		u := websocket.NewUpgrader()
		u.OnOpen(func(c *websocket.Conn) { chat.join(room, c) })
		u.OnClose(func(c *websocket.Conn, _ error) { chat.leave(room, c) })
		u.OnMessage(func(_ *websocket.Conn, kind websocket.MessageType, data []byte) {
			chat.each(room, func(to *websocket.Conn) { _ = to.WriteMessage(kind, data) })
		})
		_, _ = u.Upgrade(w, r, nil) // if it fails, the client has the response
	})
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp",
		Addrs:   []string{ln.Addr().String()},
		Listen:  func(string, string) (net.Listener, error) { return ln, nil },
		Handler: mux,
	})
	if err := engine.Start(); err != nil {
		return err
	}
	select {}
}
