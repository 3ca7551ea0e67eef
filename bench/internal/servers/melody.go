//go:build linux

package servers

import (
	"net"
	"net/http"

	"github.com/olahol/melody"
)

func melodyChat() Server {
	d := byQuery()
	d.Path = func(room string) string { return "/ws/" + room }
	return Server{
		Name:    "melody",
		Title:   "melody 1.4",
		About:   "its rooms are a filter that runs for every connection of the server",
		Dialect: d,
		Serve:   serveMelody,
		TLS:     true,
	}
}

func serveMelody(ln net.Listener) error {
	m := melody.New()
	// The default of 512 bytes is too small for the scenario of slow clients.
	m.Config.MaxMessageSize = 64 << 10
	m.HandleMessage(func(s *melody.Session, msg []byte) {
		_ = m.BroadcastFilter(msg, func(to *melody.Session) bool {
			return to.Request.URL.Path == s.Request.URL.Path
		})
	})
	return serveHTTP(ln, "/ws/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = m.HandleRequest(w, r)
	}))
}
