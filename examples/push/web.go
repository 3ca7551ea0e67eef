package main

import (
	"embed"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"

	webpush "github.com/SherClockHolmes/webpush-go"
	"github.com/go-json-experiment/json"
)

//go:embed web
var files embed.FS

// handle serves the page, and what it needs to receive notifications. SignedIn
// returns who sends a request. It must not believe the body.
func (p *pusher) handle(mux *http.ServeMux, signedIn func(*http.Request) (string, bool)) {
	page, err := fs.Sub(files, "web")
	if err != nil {
		panic(err) // the folder is embedded
	}
	mux.Handle("GET /", http.FileServerFS(page))
	mux.HandleFunc("GET /push/key", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, p.keys.Public) // the browser has gone, if it fails
	})
	device := func(do func(user string, s webpush.Subscription) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			user, ok := signedIn(r)
			if !ok {
				http.Error(w, "Sign in", http.StatusUnauthorized)
				return
			}
			var s webpush.Subscription
			if err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, 8<<10), &s); err != nil {
				http.Error(w, "Not a subscription", http.StatusBadRequest)
				return
			}
			if u, err := url.Parse(s.Endpoint); err != nil || u.Scheme != "https" || !p.isService(u.Hostname()) {
				http.Error(w, "Not a push service that this server knows", http.StatusBadRequest)
				return
			}
			if err := do(user, s); err != nil {
				slog.Error("devices cannot be stored", "user", user, "err", err)
				http.Error(w, "Try again", http.StatusInternalServerError)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}
	}
	mux.HandleFunc("POST /push/devices", device(p.devices.add))
	mux.HandleFunc("DELETE /push/devices", device(func(user string, s webpush.Subscription) error {
		return p.devices.remove(user, s.Endpoint)
	}))
}
