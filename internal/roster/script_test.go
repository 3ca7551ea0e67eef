package roster_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/roster"
)

// script runs commands on the roster of a node, one a line. What follows "=" is
// what a command has to answer; without it, it must have nothing to say. After
// each command all invariants hold.
//
//	arrive ana/Ana    a connection of a user, with a name
//	rename ana/Zoe
//	lose ana          a connection is lost
//	quit ana          a connection is closed
//	wait 4s
//	settle            the changes: "in ana bob, out cid"
//	show
//	users, count
//	others 2          so many other nodes hear announcements
//	announce, whole   the notes: "0>1 +ana ~bob@2s", with "/" between them
//	position
//	hear n1 1>2 +ana  a note of another node; it answers "gap" if it says so
//	known n1
//	check n1          "due" if it is
//	drop n1 3s        heard last 3s ago; without that, its users have no grace
//
// In a note, + is came, - went, ! left and ~ lingers, with its age. A part of a
// whole is "0>5.1", and "0>5.1+" if another follows.
type script struct {
	t       *testing.T
	node    *roster.Node
	roster  roster.Roster
	now     time.Time
	version uint64
	users   string
}

// grace is for how long users of a script linger.
const grace = 5 * time.Second

func runScript(t *testing.T, lines string) {
	t.Helper()
	node := &roster.Node{Grace: grace, Others: 1}
	s := &script{t: t, node: node, roster: roster.New(node), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), users: "[]"}
	for line := range strings.Lines(lines) {
		command, want, _ := strings.Cut(line, "=")
		words := strings.Fields(command)
		if len(words) == 0 {
			continue
		}
		if got := s.run(words[0], words[1:]); got != strings.TrimSpace(want) {
			t.Errorf("%s: got %q", strings.TrimSpace(line), got)
		}
		if err := s.roster.Invariants(); err != nil {
			t.Errorf("%s: %v", strings.TrimSpace(line), err)
		}
		users := fmt.Sprint(s.roster.Users())
		if s.roster.Version() == s.version && users != s.users {
			t.Errorf("%s: the version does not tell %s from %s", strings.TrimSpace(line), users, s.users)
		}
		s.version, s.users = s.roster.Version(), users
	}
}

func (s *script) run(command string, args []string) string {
	s.t.Helper()
	switch command {
	case "arrive":
		s.roster.Arrive(parseUser(args[0]))
	case "rename":
		s.roster.Rename(parseUser(args[0]))
	case "lose":
		s.roster.Depart(args[0], s.now)
	case "quit":
		s.roster.Depart(args[0], time.Time{})
	case "wait":
		s.now = s.now.Add(s.duration(args[0]))
	case "settle":
		c := s.roster.Settle(s.now)
		return joined(", ", listed("in", c.In), listed("out", c.Out))
	case "show":
		s.roster.Show()
	case "users":
		return listed("", s.roster.Users())
	case "count":
		return strconv.Itoa(s.roster.Count())
	case "others":
		s.node.Others = int(s.number(args[0]))
	case "announce":
		pending, notes := s.roster.Pending(), s.roster.Announce()
		if !pending && len(notes) > 0 || s.roster.Pending() {
			s.t.Errorf("before %s, there was something to announce: %t", written(notes), pending)
		}
		return written(notes)
	case "whole":
		return written([]*note.Note{s.roster.Whole(s.now)})
	case "position":
		return fmt.Sprint(s.roster.Position())
	case "hear":
		if s.roster.Hear(args[0], s.note(args[1], args[2:]), s.now) {
			return "gap"
		}
	case "known":
		return fmt.Sprint(s.roster.Known(args[0]))
	case "check":
		if s.roster.CheckDue(args[0], s.now) {
			return "due"
		}
	case "drop":
		since := time.Time{}
		if len(args) > 1 {
			since = s.now.Add(-s.duration(args[1]))
		}
		s.roster.Drop(args[0], since)
	default:
		s.t.Fatalf("unknown command %q", command)
	}
	return ""
}

func (s *script) duration(word string) time.Duration {
	s.t.Helper()
	d, err := time.ParseDuration(word)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *script) number(word string) uint64 {
	s.t.Helper()
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// parseUser reads "ana/Ana", or "ana", whose name is ana.
func parseUser(word string) note.User {
	id, name, named := strings.Cut(word, "/")
	if !named {
		name = id
	}
	return note.User{ID: id, Name: name}
}

// hows are the signs of note.Came and so on.
const hows = "+-!~"

func (s *script) note(at string, users []string) *note.Note {
	s.t.Helper()
	n := &note.Note{Op: note.OpState}
	at, n.More = strings.CutSuffix(at, "+")
	prev, seq, _ := strings.Cut(at, ">")
	seq, part, parts := strings.Cut(seq, ".")
	n.Prev, n.Seq = s.number(prev), s.number(seq)
	if parts {
		n.Part = s.number(part)
	}
	for _, word := range users {
		user, age, old := strings.Cut(word[1:], "@")
		m := note.Movement{User: parseUser(user), How: note.How(strings.IndexByte(hows, word[0]))}
		if old {
			m.Age = s.duration(age)
		}
		n.Users = append(n.Users, m)
	}
	return n
}

// written describes notes; the users of a whole, which have no order, by id.
func written(notes []*note.Note) string {
	var all []string
	for _, n := range notes {
		var users []string
		for _, m := range n.Users {
			age := ""
			if m.Age > 0 {
				age = fmt.Sprint("@", m.Age)
			}
			users = append(users, string(hows[m.How])+m.User.ID+age)
		}
		if n.Prev == 0 {
			slices.SortFunc(users, func(a, b string) int { return strings.Compare(a[1:], b[1:]) })
		}
		at := fmt.Sprintf("%d>%d", n.Prev, n.Seq)
		if n.More || n.Part > 0 {
			at = fmt.Sprintf("%s.%d", at, n.Part)
		}
		if n.More {
			at += "+"
		}
		all = append(all, joined(" ", append([]string{at}, users...)...))
	}
	return joined(" / ", all...)
}

func listed(what string, users []note.User) string {
	if len(users) == 0 {
		return ""
	}
	var words []string
	for _, u := range users {
		words = append(words, u.ID)
	}
	return joined(" ", append([]string{what}, words...)...)
}

// joined joins what is not empty.
func joined(by string, words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), by)
}
