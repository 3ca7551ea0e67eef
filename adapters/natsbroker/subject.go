package natsbroker

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/chathub-go/chathub"
)

// The subjects, if "chathub" is the name of the broker:
//
//	chathub.log.r.lobby    durable messages of the room lobby; the stream
//	                       stores them
//	chathub.log.u.ana      durable messages of the inbox of the user ana
//	chathub.hear.r.lobby   what sessions receive of the room lobby: volatile
//	                       messages, and the durable ones that the stream
//	                       has stored and republishes
//	chathub.hear.n.4kq…    volatile messages to one hub
//	chathub.hear.all       volatile messages to everyone
//
// Nodes publish to all of these, and only subscribe to hear.
const (
	logTree  = ".log"
	hearTree = ".hear"
	hearAll  = hearTree + ".all"
)

// maxToken bounds the length of a name in a subject, in bytes. It keeps a
// subject far below the 4096 bytes that a server accepts as one protocol line.
const maxToken = 256

// branch returns the part of a topic's subjects that follows the tree. It is
// different for each topic.
func branch(t chathub.Topic) string {
	switch {
	case t.Room != "":
		return ".r." + token(t.Room)
	case t.Node != "":
		return ".n." + token(t.Node)
	default:
		return ".u." + token(t.User)
	}
}

// token returns a name as one token of a subject. A plain name is left as it
// is, to stay readable. Any other name is in base64, after a '~', which no
// plain name contains. If that is too long, it is a hash, after "~~".
func token(name string) string {
	if len(name) <= maxToken && plain(name) {
		return name
	}
	if n := base64.RawURLEncoding.EncodedLen(len(name)); n < maxToken {
		return "~" + base64.RawURLEncoding.EncodeToString([]byte(name))
	}
	sum := sha256.Sum256([]byte(name))
	return "~~" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// kept reports whether a topic has a log.
func kept(t chathub.Topic) bool { return t.Room != "" || t.User != "" }

func plain(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return name != ""
}

// messageID returns the id by which JetStream recognises a repeated message.
// Ids belong to the whole stream, so the topic is part of the id. A hash takes
// the same memory of the server for every key, and a key may contain characters
// that a header must not.
func messageID(subject, key string) string {
	h := sha256.New()
	h.Write([]byte(subject)) // has no 0 byte
	h.Write([]byte{0})
	h.Write([]byte(key))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}
