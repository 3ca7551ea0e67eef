package natsbroker

import (
	"bytes"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats-server/v2/server"
)

// names are those that would do harm in a subject as they are.
var names = []string{
	"", "lobby", "Lobby", "a.b", "a", "b", "*", ">", "a.>", ".", "..", " ", "a b", "\t", "\r\n", "~", "~~", "~bG9iYnk", "$SYS", "\x00",
	"日本", "💬", "\u00e9", "e\u0301", "\xff\xfe", strings.Repeat("x", 256), strings.Repeat("x", 257), strings.Repeat("💬", 64), strings.Repeat("é", 9000),
}

// FuzzSubjects: any two topics have subjects that are valid, literal, bounded, inside
// their tree, and the same only if the topics are.
func FuzzSubjects(f *testing.F) {
	for i, a := range names {
		f.Add(a, names[(i+1)%len(names)])
		f.Add(a, a)
		f.Add(a, token(a))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		seen := make(map[string]chathub.Topic)
		for _, topic := range []chathub.Topic{{Room: a}, {User: a}, {Room: b}, {User: b}, {Node: a}} {
			if topic == (chathub.Topic{}) {
				continue
			}
			subject := "chathub" + logTree + branch(topic)
			if other, there := seen[subject]; there && other != topic {
				t.Errorf("%+q and %+q have the subject %s", topic, other, subject)
			}
			seen[subject] = topic
			if !server.IsValidLiteralSubject(subject) || strings.Count(subject, ".") != 3 || !strings.HasPrefix(subject, "chathub.log.") {
				t.Errorf("%+q: subject %q", topic, subject)
			}
			if len(subject) > maxToken+20 || strings.ContainsFunc(subject, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("%+q: subject %q of %d bytes", topic, subject, len(subject))
			}
		}
	})
}

// FuzzFrame: what is encoded is decoded, and anything else is refused or decoded, never
// more.
func FuzzFrame(f *testing.F) {
	f.Add([]byte(nil), "", uint64(0), uint64(0), int64(0))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, "key", uint64(1), uint64(0), int64(-1))
	f.Add((&frame{attempt: 7, time: 1, key: "a\x00b", body: []byte("body")}).encode(), "k", uint64(1<<63), uint64(1), int64(1<<62))
	f.Add((&frame{sum: 7}).encode()[:16], "k", uint64(1), uint64(1<<63), int64(1))
	f.Fuzz(func(t *testing.T, data []byte, key string, attempt, sum uint64, time int64) {
		in := frame{attempt: attempt, sum: sum, time: time, key: key, body: data}
		out := frame{sum: 1} // from another message
		if err := out.decode(in.encode()); err != nil {
			t.Fatal(err)
		}
		if out.attempt != attempt || out.sum != sum || out.time != time || out.key != key || !bytes.Equal(out.body, data) {
			t.Errorf("%+v became %+v", in, out)
		}
		var any frame
		if any.decode(data) == nil && len(any.key)+len(any.body) > len(data) {
			t.Errorf("%d bytes have a key of %d and a body of %d", len(data), len(any.key), len(any.body))
		}
	})
}

// TestMessageID: a key is repeated within its topic only.
func TestMessageID(t *testing.T) {
	ids := make(map[string]string)
	for _, subject := range []string{"chathub.log.r.a", "chathub.log.r.ab", "chathub.log.u.a"} {
		for _, key := range append([]string{"\x00b"}, names...) {
			id := messageID(subject, key)
			if other, there := ids[id]; there {
				t.Errorf("%s %q has the id of %s", subject, key, other)
			}
			ids[id] = subject + " " + key
			if len(id) != 22 || !plain(id) {
				t.Errorf("id %q", id)
			}
		}
	}
}
