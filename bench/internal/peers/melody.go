//go:build linux

package peers

import (
	"net"
	"net/http"

	"github.com/olahol/melody"
)

func melodyChat() Peer {
	d := byQuery()
	d.Path = func(room string) string { return "/ws/" + room }
	return Peer{
		Name:    "melody",
		Title:   "melody 1.4",
		About:   "its way to have rooms is a filter that runs for every connection of the server",
		Dialect: d,
		Serve:   serveMelody,
		TLS:     true,
	}
}

func serveMelody(ln net.Listener) error {
	m := melody.New()
	m.Config.MaxMessageSize = 64 << 10 // of its default, 512, the scenario of slow clients has more
	m.HandleMessage(func(s *melody.Session, msg []byte) {
		_ = m.BroadcastFilter(msg, func(to *melody.Session) bool {
			return to.Request.URL.Path == s.Request.URL.Path
		})
	})
	return serveHTTP(ln, "/ws/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = m.HandleRequest(w, r)
	}))
}
