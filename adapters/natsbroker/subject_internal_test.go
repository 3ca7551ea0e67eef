package natsbroker

import (
	"fmt"
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
// valid, literal, bounded and inside their tree, whoever owns a message.
func FuzzSubjects(f *testing.F) {
	for i, a := range names {
		f.Add(a, names[(i+1)%len(names)])
		f.Add(a, a)
		f.Add(a, token(a))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		c := config{name: "chathub"}
		seen := make(map[string]chathub.Topic)
		check := func(topic chathub.Topic, subject, prefix string, dots int) {
			t.Helper()
			if other, there := seen[subject]; there && other != topic {
				t.Errorf("%+q and %+q have the subject %s", topic, other, subject)
			}
			seen[subject] = topic
			if !server.IsValidLiteralSubject(subject) || strings.Count(subject, ".") != dots || !strings.HasPrefix(subject, prefix) {
				t.Errorf("%+q: subject %q", topic, subject)
			}
			if len(subject) > maxToken+30 || strings.ContainsFunc(subject, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("%+q: subject %q of %d bytes", topic, subject, len(subject))
			}
		}
		for _, topic := range []chathub.Topic{{Room: a}, {User: a}, {Room: b}, {User: b}, {Node: a}} {
			if topic == (chathub.Topic{}) {
				continue
			}
			check(topic, c.hearSubject(topic), "chathub.hear.", 3)
			if !topic.Kept() {
				continue
			}
			p := c.place(topic)
			check(topic, p.old, "chathub.log.", 3)
			for _, owner := range []string{"", a, b} {
				for _, notice := range []bool{false, true} {
					subject := c.logSubject(&chathub.Message{Topic: topic, Owner: owner, Notice: notice})
					check(topic, subject, "chathub.log.", 5)
					if !server.SubjectsCollide(subject, p.filter) || !server.SubjectsCollide(subject, "chathub"+logTree+storedTokens) {
						t.Errorf("%+q: subject %q does not match %q", topic, subject, p.filter)
					}
				}
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

// TestShares checks that few senders of an inbox have the same share, that
// notices and the application have shares of their own, and that the same two
// senders rarely meet in the inbox of another user.
func TestShares(t *testing.T) {
	const senders = 200
	subject := func(user, owner string, notice bool) string {
		return share(&chathub.Message{Topic: chathub.Topic{User: user}, Owner: owner, Notice: notice})
	}
	met := 0
	for i := range senders {
		for k := range i {
			if subject("ana", fmt.Sprint(i), false) == subject("ana", fmt.Sprint(k), false) {
				met++
				if subject("ben", fmt.Sprint(i), false) == subject("ben", fmt.Sprint(k), false) {
					t.Errorf("%d and %d have the same share of two inboxes", i, k)
				}
			}
		}
	}
	if want := senders * (senders - 1) / 2 / inboxShares; met > 2*want {
		t.Errorf("%d pairs of %d senders have the same share, want about %d", met, senders, want)
	}
	all := make(map[string]bool)
	for _, owner := range []string{"", "ben"} {
		for _, notice := range []bool{false, true} {
			all[subject("ana", owner, notice)] = true
		}
	}
	if len(all) != 4 {
		t.Errorf("shares %v, want 4", all)
	}
	if got := share(&chathub.Message{Topic: chathub.Topic{Room: "lobby"}, Owner: "ben", Notice: true}); got != roomShare {
		t.Errorf("a room has the share %s", got)
	}
}
