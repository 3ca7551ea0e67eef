package main

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// poster is an HTTP endpoint that posts messages for users who are signed in:
//
//	POST /rooms/{room}/messages
//	Idempotency-Key: 8f14e45f-ea2c-4b7e-9d3a-51c7a0b6d210
//
//	"Hello"
//
// A caller that has got no answer repeats the request with the same key, and
// the message is stored once.
type poster struct {
	hub *chathub.Hub
	// signedIn returns who sends a request. It must not believe the body.
	signedIn func(*http.Request) (chathub.User, bool)
	// mayPost is asked because Post asks no Config.Authorize.
	mayPost func(user, room string) bool
}

// newPoster returns a poster for a demonstration. The token is the name of the
// user, and everyone may post anywhere.
func newPoster(hub *chathub.Hub) http.Handler {
	p := &poster{hub: hub, signedIn: byName, mayPost: func(string, string) bool { return true }}
	mux := http.NewServeMux()
	mux.Handle("POST /rooms/{room}/messages", p)
	return mux
}

func byName(r *http.Request) (chathub.User, bool) {
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return chathub.User{ID: name, Name: name}, ok && name != ""
}

// maxBody bounds a message, like Config.MaxMessageBytes.
const maxBody = 64 << 10

func (p *poster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, ok := p.signedIn(r)
	room, key := r.PathValue("room"), r.Header.Get("Idempotency-Key")
	switch {
	case !ok:
		http.Error(w, "Sign in", http.StatusUnauthorized)
		return
	case !p.mayPost(user.ID, room):
		http.Error(w, "Not allowed", http.StatusForbidden)
		return
	case key == "":
		http.Error(w, "Idempotency-Key is missing", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "The message is too large", http.StatusRequestEntityTooLarge)
		return
	}
	receipt, err := p.hub.To(room).Post(r.Context(), chathub.Post{From: user, ID: key, Data: jsontext.Value(body)})
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.MarshalWrite(w, receipt) // the caller has gone, and will repeat it
}

// refuse answers with an error of Post.
func refuse(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*chathub.Error](err)
	if !ok { // such as ErrClosed
		http.Error(w, "Try again", http.StatusServiceUnavailable)
		return
	}
	status := http.StatusInternalServerError
	switch e.Code {
	case chathub.CodeBadRequest:
		status = http.StatusBadRequest
	case chathub.CodeConflict:
		status = http.StatusConflict
	case chathub.CodeTooLarge:
		status = http.StatusRequestEntityTooLarge
	case chathub.CodeUnavailable:
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", strconv.Itoa(int(max(time.Second, e.RetryAfter).Seconds())))
	}
	http.Error(w, e.Message, status)
}
