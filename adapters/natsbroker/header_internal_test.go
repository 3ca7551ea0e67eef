package natsbroker

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/chathub-go/chathub"
)

// FuzzHeader checks that what a header has survives, whatever characters it
// has, and that the header is one line of ASCII.
func FuzzHeader(f *testing.F) {
	for _, name := range names {
		f.Add(name, "m/"+name, uint64(7), int64(-1), uint8(15))
	}
	f.Fuzz(func(t *testing.T, owner, name string, tied uint64, tiedTime int64, flags uint8) {
		in := meta{owner: owner, name: name, notice: flags&1 != 0, erase: flags&2 != 0, remove: flags&4 != 0}
		if tied != 0 {
			in.tied, in.tiedTime = tied, tiedTime
		}
		if name == "" {
			in = meta{owner: owner, notice: in.notice}
		}
		value := in.encode()
		if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%+v: header %q", in, value)
		}
		out := meta{owner: "from another message"}
		if value == "" {
			out.decode(nil)
		} else {
			out.decode(nats.Header{headerMeta: {value}})
		}
		if out != in {
			t.Errorf("%+v became %+v", in, out)
		}
		out.decode(nats.Header{headerMeta: {name}}) // anything
	})
}

// FuzzNames checks that different names have different subjects, which are
// valid, literal, and matched by the filters of their topic and kind only.
func FuzzNames(f *testing.F) {
	for i, rest := range names {
		f.Add("m", rest, "state", names[(i+1)%len(names)])
		f.Add("m", rest, "m", token(rest))
	}
	f.Fuzz(func(t *testing.T, kind, rest, otherKind, otherRest string) {
		a, b := kind+"/"+rest, otherKind+"/"+otherRest
		if checkName(a) != nil || checkName(b) != nil || strings.Contains(kind+otherKind, "/") {
			return
		}
		c := config{name: "chathub"}
		for _, topic := range []chathub.Topic{{Room: "lobby"}, {User: rest}} {
			if !topic.Kept() {
				continue
			}
			subject, other := c.nameSubject(topic, a), c.nameSubject(topic, b)
			if (subject == other) != (a == b) {
				t.Errorf("%q and %q have the subjects %s and %s", a, b, subject, other)
			}
			e := entry{subject: subject}
			if !server.IsValidLiteralSubject(subject) || strings.Count(subject, ".") != 5 || !e.isNamed() || c.isOrdinary(topic, subject) ||
				!server.SubjectsCollide(subject, c.filter(topic)) || !server.SubjectsCollide(subject, c.kindFilter(topic, kind)) {
				t.Errorf("%q: subject %q", a, subject)
			}
			if kind != otherKind && server.SubjectsCollide(other, c.kindFilter(topic, kind)) {
				t.Errorf("%q is of the kind %s", b, kind)
			}
		}
	})
}
