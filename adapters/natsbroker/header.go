package natsbroker

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats.go"
)

// headerMeta is the header of a stored message that has what its frame has not.
// Frames are the same in all versions, because nodes of an earlier version
// refuse others. They ignore headers. The value is a list of fields, separated
// by '&', each a letter, '=' and a value:
//
//	o   the owner, escaped as in a query
//	x   the message is a notice
//	n   the name, escaped
//	t   the position of the message that the name is tied to, and its time
//	e   that message is erased
//	r   the name is removed
//
// A message without an owner or any of the others has no such header.
const headerMeta = "Chathub"

// meta is what headerMeta contains.
type meta struct {
	owner, name string
	notice      bool
	tied        uint64
	tiedTime    int64 // in Unix milliseconds; 0: unknown
	erase       bool
	remove      bool
}

func metaOf(m *chathub.Message) meta {
	return meta{owner: m.Owner, name: m.Name, notice: m.Notice, tied: m.Tied, erase: m.Erase, remove: m.Remove}
}

// encode returns the value of the header, or "" if there is nothing to say.
func (h *meta) encode() string {
	if h.name == "" && !h.notice {
		if h.owner == "" {
			return ""
		}
		return "o=" + url.QueryEscape(h.owner)
	}
	var b strings.Builder
	field := func(is bool, key, value string) {
		if !is {
			return
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(key + "=" + value)
	}
	field(h.owner != "", "o", url.QueryEscape(h.owner))
	field(h.notice, "x", "1")
	field(h.name != "", "n", url.QueryEscape(h.name))
	field(h.tied != 0, "t", formatSeq(h.tied)+"."+strconv.FormatInt(h.tiedTime, 10))
	field(h.erase, "e", "1")
	field(h.remove, "r", "1")
	return b.String()
}

// decode reads the header of a message. What it does not understand, it leaves
// out.
func (h *meta) decode(header nats.Header) {
	*h = meta{}
	values := header[headerMeta]
	if len(values) == 0 {
		return
	}
	for rest := values[0]; rest != ""; {
		var field string
		field, rest, _ = strings.Cut(rest, "&")
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "o":
			h.owner = unescape(value)
		case "n":
			h.name = unescape(value)
		case "x":
			h.notice = true
		case "t":
			seq, at, _ := strings.Cut(value, ".")
			h.tied, _ = strconv.ParseUint(seq, 10, 64)
			h.tiedTime, _ = strconv.ParseInt(at, 10, 64)
		case "e":
			h.erase = true
		case "r":
			h.remove = true
		}
	}
}

func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}
