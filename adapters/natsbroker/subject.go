package natsbroker

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/chathub-go/chathub"
)

// Subjects, with "chathub" for the broker's name:
//
//	chathub.log.r.lobby    what is published to the room lobby; the stream stores it
//	chathub.log.u.ana      the same for the inbox of the user ana
//	chathub.hear.r.lobby   what who has the topic hears: stored messages as the stream
//	                       republishes them, and volatile ones
//	chathub.hear.n.4kq…    volatile messages to one hub
//	chathub.hear.all       volatile messages to everyone
//
// Nodes publish to all of them and subscribe hear alone.
const (
	logTree  = ".log"
	hearTree = ".hear"
	hearAll  = hearTree + ".all"
)

// maxToken bounds what a name becomes in a subject, in bytes. With it a subject
// stays far below the 4096 bytes that a server reads as one protocol line.
const maxToken = 256

// branch returns the part of a topic's subjects that comes after the tree. No two
// topics have the same.
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

// token returns a name as one token of a subject. Plain names stay readable;
// the others are in base64, behind a character that plain names do not have; of
// one that is too long for that there is a hash, behind two of them.
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

// messageID is what JetStream recognises a repeated message by. It does so for the
// whole stream, so the topic is part of it. Hashed, it costs the server's memory the same
// for every key, and a key may hold what a header may not.
func messageID(subject, key string) string {
	h := sha256.New()
	h.Write([]byte(subject)) // has no 0 byte
	h.Write([]byte{0})
	h.Write([]byte(key))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}
