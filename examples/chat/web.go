package main

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
)

//go:embed web/dist
var embedded embed.FS

// routes returns the handler of all paths: the page, the hub at /ws, the
// log-in, and what monitoring asks for.
func routes(hub *chathub.Hub, login *login, metrics http.Handler) http.Handler {
	page, err := fs.Sub(embedded, "web/dist")
	if err != nil {
		panic(err) // cannot happen: the name is valid
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(page))
	mux.Handle("GET /ws", hub)
	mux.Handle("POST /login", login)
	mux.Handle("OPTIONS /login", login)
	// Whether the process lives. It says nothing about the broker, since a
	// restart would not bring that back.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, hub.Stats())
	})
	// Whether it should get new clients.
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := hub.Ready(r.Context()); err != nil {
			writeJSON(w, http.StatusServiceUnavailable, map[string]any{"ready": false, "reason": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"ready": true})
	})
	mux.Handle("GET /metrics", metrics)
	return secured(mux)
}

// contentPolicy lets the page load its own files and connect to its own server
// only. In connect-src, 'self' covers ws and wss (CSP level 3).
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// secured sets headers that forbid a browser what the page does not need.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // embedded files have no time to revalidate by
		next.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.MarshalWrite(w, v) // an error means that the client is gone
}
