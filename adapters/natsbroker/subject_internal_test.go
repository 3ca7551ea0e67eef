package natsbroker

import (
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats-server/v2/server"
)

// names has plain names, and names that must not be in a subject as they are.
var names = []string{
	"", "lobby", "Lobby", "a.b", "a", "b", "*", ">", "a.>", ".", "..", " ", "a b", "\t", "\r\n", "~", "~~", "~bG9iYnk", "$SYS", "\x00",
	"日本", "💬", "\u00e9", "e\u0301", "\xff\xfe", strings.Repeat("x", 256), strings.Repeat("x", 257), strings.Repeat("💬", 64), strings.Repeat("é", 9000),
}

// FuzzSubjects checks that different topics have different subjects, which are
// valid, literal, bounded and inside their tree.
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

// TestMessageID checks that a key has a different message id in each topic.
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
