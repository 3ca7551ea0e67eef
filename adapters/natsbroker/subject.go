package natsbroker

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/chathub-go/chathub"
)

// The subjects, if "chathub" is the name of the broker:
//
//	chathub.log.room.lobby.m.0    durable messages of the room lobby; the
//	                              stream stores them
//	chathub.log.room.acme=lobby.m.0  the same of the room lobby of a tenant
//	chathub.log.user.ana.m.7k     durable messages to the inbox of the user
//	                              ana, by one share of the senders
//	chathub.log.user.ana.n.7k     notices to the inbox, by the same senders
//	chathub.log.user.ana.n.app    notices to the inbox, by the application
//	chathub.log.room.lobby.=m.8   the message of the room that has the name m/8;
//	                              so do inboxes have theirs
//	chathub.log.stream.first.=first.0
//	                              the first message of all; see storeFirst
//	chathub.hear.room.lobby       what sessions receive of the room lobby:
//	                              volatile messages, and the durable ones that
//	                              the stream has stored and republishes
//	chathub.hear.user.ana         the same of the inbox
//	chathub.hear.n.4kq…           volatile messages to one hub
//	chathub.hear.all              volatile messages to everyone
//
// Nodes publish to all of these, and only subscribe to hear. A session hears
// all subjects of a topic under one name, because the stream leaves out the
// last two tokens when it republishes.
//
// Streams of an earlier version have chathub.log.r.lobby and chathub.log.u.ana
// instead. Nodes read these and add nothing to them.
const (
	logTree  = ".log"
	hearTree = ".hear"
	hearAll  = hearTree + ".all"

	storedTokens    = ".*.*.*.*"                         // behind logTree
	republishTokens = ".{{wildcard(1)}}.{{wildcard(2)}}" // behind hearTree
	oldTokens       = ".*.*"
	allShares       = ".*.*"
	roomShare       = ".m.0"
	firstMessage    = ".stream.first.=first.0" // see storeFirst
	nameMark        = ".="                     // begins the kind of a name; no share has it
)

// inboxShares is among how many subjects the senders of an inbox are divided.
// The stream bounds each subject by itself. So messages of one sender do not
// displace those of another one, unless both have the same share. Finding the
// newest message of an inbox takes time for each share that has any.
const inboxShares = 1024

// maxToken bounds the length of a name in a subject, in bytes. It keeps a
// subject far below the 4096 bytes that a server accepts as one protocol line.
const maxToken = 256

// place is where the stream has the messages of a topic.
type place struct {
	filter   string // matches the subjects of the topic, those of names included
	ordinary string // matches those of its ordinary messages; of an inbox, all
	old      string // its only subject in a stream of an earlier version
	shared   bool   // senders have subjects of their own
}

func (c *config) place(t chathub.Topic) place {
	p := place{shared: t.User != "", old: c.oldSubject(t), filter: c.filter(t)}
	p.ordinary = p.filter
	if !p.shared {
		p.ordinary = c.name + logTree + branch(t) + roomShare
	}
	return p
}

// filter matches the subjects of a topic.
func (c *config) filter(t chathub.Topic) string { return c.name + logTree + branch(t) + allShares }

// filterOfMessages matches the subjects of the ordinary messages of a topic,
// without the notices of an inbox.
func (c *config) filterOfMessages(t chathub.Topic) string {
	if t.User == "" {
		return c.name + logTree + branch(t) + roomShare
	}
	return c.name + logTree + branch(t) + ".m.*"
}

// nameSubject is the subject of a name of a topic.
func (c *config) nameSubject(t chathub.Topic, name string) string {
	kind, rest, _ := strings.Cut(name, "/")
	return c.name + logTree + branch(t) + nameMark + kind + "." + nameToken(rest)
}

// kindFilter matches the subjects of all names of a kind.
func (c *config) kindFilter(t chathub.Topic, kind string) string {
	return c.name + logTree + branch(t) + nameMark + kind + ".*"
}

// nameToken is token of what follows the kind of a name, which may be empty.
func nameToken(rest string) string {
	if rest == "" {
		return "~"
	}
	return token(rest)
}

// oldSubject is the subject of a topic in an earlier version.
func (c *config) oldSubject(t chathub.Topic) string {
	if t.Room != "" {
		return c.name + logTree + ".r." + token(t.Room)
	}
	return c.name + logTree + ".u." + token(t.User)
}

// logSubject is the subject under which a durable message is stored.
func (c *config) logSubject(m *chathub.Message) string {
	if m.Name != "" {
		return c.nameSubject(m.Topic, m.Name)
	}
	return c.name + logTree + branch(m.Topic) + share(m)
}

// hearSubject is the subject that sessions subscribe to receive a topic.
func (c *config) hearSubject(t chathub.Topic) string {
	if t == (chathub.Topic{}) {
		return c.name + hearAll
	}
	return c.name + hearTree + branch(t)
}

// branch returns the part of a topic's subjects that follows the tree. It is
// different for each topic.
func branch(t chathub.Topic) string {
	switch {
	case t.Room != "":
		return ".room." + token(t.Room)
	case t.Node != "":
		return ".n." + token(t.Node)
	default:
		return ".user." + token(t.User)
	}
}

// share returns the part of a durable message's subject that follows the topic.
func share(m *chathub.Message) string {
	if m.Topic.User == "" {
		return roomShare
	}
	kind := ".m."
	if m.Notice {
		kind = ".n."
	}
	if m.Owner == "" {
		return kind + "app" // more than the number of any share
	}
	// The recipient is part of the hash, so that two senders who have the same
	// share of one inbox differ in others.
	sum := sha256.Sum256([]byte(m.Owner + "\x00" + m.Topic.User))
	return kind + strconv.FormatUint(binary.BigEndian.Uint64(sum[:])%inboxShares, 36)
}

// token returns a name as one token of a subject. A plain name is left as it
// is, to stay readable. Any other name is in base64, after a '~', which no
// plain name contains. If that is too long, it is a hash, after "~~". A name of
// a tenant is "acme=lobby", and the one without a room, of everyone, "acme=~".
func token(name string) string {
	if tenant, rest, found := strings.Cut(name, "\x00"); found {
		if t := token(tenant) + "=" + nameToken(rest); len(t) <= maxToken {
			return t
		}
	}
	if len(name) <= maxToken && plain(name) {
		return name
	}
	if n := base64.RawURLEncoding.EncodedLen(len(name)); n < maxToken {
		return "~" + base64.RawURLEncoding.EncodeToString([]byte(name))
	}
	sum := sha256.Sum256([]byte(name))
	return "~~" + base64.RawURLEncoding.EncodeToString(sum[:])
}

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
// Ids belong to the whole stream, so the topic is part of the id, by its old
// subject, which it has in common with all its shares. A hash takes the same
// memory of the server for every key, and a key may contain characters that a
// header must not.
func messageID(subject, key string) string {
	h := sha256.New()
	h.Write([]byte(subject)) // has no 0 byte
	h.Write([]byte{0})
	h.Write([]byte(key))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}
