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

// login gives everyone a token for the name they ask for.
//
// It is for demonstration only, since it verifies nothing. The same name is
// always the same user: messages find somebody who comes back, and anyone can
// be anyone. A real service issues the token after it has checked a password or
// a session.
type login struct {
	key     []byte
	origins []string // other sites whose pages may log in
	log     *slog.Logger
}

type loginReply struct {
	Token string       `json:"token"`
	User  chathub.User `json:"user"`
}

// claims are the claims that the hub reads from a token.
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
		l.log.Error("signing a token failed", "err", err)
		writeJSON(w, http.StatusInternalServerError, &refusal{Code: chathub.CodeInternal, Message: "Internal error"})
		return
	}
	l.log.Info("logged in", "user", user.ID, "name", user.Name)
	writeJSON(w, http.StatusOK, loginReply{Token: token, User: user})
}

// allowOrigin lets pages of the listed origins send JSON and read the answer
// (CORS).
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

// refusal is the answer when there is no token, in the form of the hub's
// errors.
type refusal struct {
	status  int
	Code    chathub.Code `json:"code"`
	Message string       `json:"message"`
}

// readName returns the name in the request, or the refusal to answer with.
func readName(w http.ResponseWriter, r *http.Request) (string, *refusal) {
	bad := func(message string) (string, *refusal) {
		return "", &refusal{http.StatusBadRequest, chathub.CodeBadRequest, message}
	}
	var in struct {
		Name string `json:"name"`
	}
	err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, maxLoginBody), &in)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		message := fmt.Sprintf("The body is larger than %d bytes", tooLarge.Limit)
		return "", &refusal{http.StatusRequestEntityTooLarge, chathub.CodeTooLarge, message}
	}
	if err != nil {
		return bad(`The body must be JSON: {"name": "..."}`)
	}
	name := strings.TrimSpace(in.Name)
	switch n := utf8.RuneCountInString(name); {
	case n < 1 || n > maxName:
		return bad(fmt.Sprintf("A name needs 1 to %d characters", maxName))
	case strings.ContainsFunc(name, unicode.IsControl):
		return bad("A name cannot have control characters")
	case !strings.ContainsFunc(name, unicode.IsPrint):
		return bad("A name needs at least one visible character")
	}
	return name, nil
}

// userID derives a user's id from the name, ignoring its case.
func userID(name string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(name)))
	return "u_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}
