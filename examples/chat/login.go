package main

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

const (
	tokenLife    = time.Hour
	maxLoginBody = 1 << 10
	maxName      = 32 // characters
)

// login gives a token to everyone who asks for one.
//
// It is for demonstrations: it verifies nothing, and the same name is the same
// user, so that messages find somebody who comes back, and so that anyone can be
// anyone. A real service issues the token where it has checked a password or a session.
type login struct {
	key     []byte
	origins []string // of other sites whose pages may call it
	log     *slog.Logger
}

type loginReply struct {
	Token string       `json:"token"`
	User  chathub.User `json:"user"`
}

// claims are what the hub reads, next to the registered ones.
type claims struct {
	UserID string `json:"userId"`
	Name   string `json:"name"`
	jwt.RegisteredClaims
}

func (l *login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.allowOrigin(w, r); r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	name, refused := readName(w, r)
	if refused != nil {
		writeJSON(w, refused.status, refused)
		return
	}
	user := chathub.User{ID: userID(name), Name: name}
	token, err := l.sign(user, time.Now())
	if err != nil {
		l.log.Error("cannot sign a token", "err", err)
		writeJSON(w, http.StatusInternalServerError, &refusal{Code: chathub.CodeInternal, Message: "Internal error"})
		return
	}
	l.log.Info("logged in", "user", user.ID, "name", user.Name)
	writeJSON(w, http.StatusOK, loginReply{Token: token, User: user})
}

// allowOrigin lets pages of the listed origins read the answer, and send JSON (CORS).
func (l *login) allowOrigin(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); slices.Contains(l.origins, origin) {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
	}
}

func (l *login) sign(user chathub.User, now time.Time) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		UserID: user.ID,
		Name:   user.Name,
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   user.ID,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife)),
		},
	}).SignedString(l.key)
}

// refusal is an answer other than a token, in the form that the hub's have.
type refusal struct {
	status  int
	Code    chathub.Code `json:"code"`
	Message string       `json:"message"`
}

// readName returns the name that a log-in asks for, or what to answer instead.
func readName(w http.ResponseWriter, r *http.Request) (string, *refusal) {
	bad := func(message string) (string, *refusal) {
		return "", &refusal{http.StatusBadRequest, chathub.CodeBadRequest, message}
	}
	var in struct {
		Name string `json:"name"`
	}
	err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, maxLoginBody), &in)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		message := fmt.Sprintf("The body is over %d bytes", tooLarge.Limit)
		return "", &refusal{http.StatusRequestEntityTooLarge, chathub.CodeTooLarge, message}
	}
	if err != nil {
		return bad(`The body must be JSON: {"name": "..."}`)
	}
	name := strings.TrimSpace(in.Name)
	switch n := utf8.RuneCountInString(name); {
	case n < 1 || n > maxName:
		return bad(fmt.Sprintf("A name has 1 to %d characters", maxName))
	case strings.ContainsFunc(name, unicode.IsControl):
		return bad("A name has no control characters")
	case !strings.ContainsFunc(name, unicode.IsPrint):
		return bad("A name needs a character that can be seen")
	}
	return name, nil
}

// userID derives a user's id from the name, whose case does not matter.
func userID(name string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(name)))
	return "u_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}
