package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// found returns what find prints.
func found(t *testing.T, file string, words ...string) string {
	t.Helper()
	var out strings.Builder
	if err := find(t.Context(), file, words, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestSearchKilled: an index whose process is killed again and again while
// messages come has each message once.
func TestSearchKilled(t *testing.T) {
	const messages, kills = 600, 4
	url, file := natsServer(t), filepath.Join(t.TempDir(), "index.db")
	hub := natsHub(t, url)
	var want []uint64
	posted := make(chan struct{})
	go func() {
		defer close(posted)
		for i := range messages {
			r, err := hub.To("lobby").Post(t.Context(), chathub.Post{From: chathub.User{ID: "ana"}, Data: fmt.Sprint("word", i)})
			if err != nil {
				t.Error(err)
				return
			}
			want = append(want, r.Seq)
		}
	}()
	for range kills {
		p := start(t, "search", "-nats", url, "-file", file)
		for range messages / kills / 2 {
			if !p.lines.Scan() {
				t.Fatal("the program has ended")
			}
		}
		p.kill()
	}
	<-posted
	if len(want) != messages {
		t.FailNow()
	}
	p := start(t, "search", "-nats", url, "-file", file)
	for last := fmt.Sprint("indexed ", want[messages-1]); p.lines.Text() != last; {
		if !p.lines.Scan() {
			t.Fatal("the program has ended")
		}
	}
	p.kill()

	ix, err := openIndex(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ix.close() }()
	rows, err := ix.db.QueryContext(t.Context(), `SELECT seq, text FROM texts JOIN messages ON n = texts.rowid ORDER BY seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var got []uint64
	for rows.Next() {
		var seq uint64
		var text string
		if err := rows.Scan(&seq, &text); err != nil {
			t.Fatal(err)
		}
		if text != fmt.Sprint("word", len(got)) {
			t.Errorf("message %d is %q", len(got), text)
		}
		got = append(got, seq)
	}
	if err := rows.Err(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d messages are indexed, want %d; %v", len(got), len(want), err)
	}
	if got, want := found(t, file, "word7"), fmt.Sprintf("%d ana: word7\n", want[7]); got != want {
		t.Errorf("found %q, want %q", got, want)
	}
}

// TestSearchChanges: the index has messages as they are now.
func TestSearchChanges(t *testing.T) {
	hub := hubtest.New(t, chathub.Config{})
	file := filepath.Join(t.TempDir(), "index.db")
	for i, text := range []string{"apple pie", "banana", "cherry"} {
		if r := post(t, hub, chathub.Post{From: chathub.User{ID: "ana"}, Data: map[string]string{"text": text}}); r.Seq != uint64(i+1) {
			t.Fatalf("message %d is at %d", i, r.Seq)
		}
	}
	// until runs the index until it has the given entry.
	until := func(seq uint64) {
		t.Helper()
		ix, err := openIndex(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ix.close() }()
		ctx, cancel := context.WithCancel(t.Context())
		ix.indexed = func(e chathub.Entry) {
			if e.Seq == seq {
				cancel()
			}
		}
		if err := ix.follow(ctx, hub, "lobby"); ctx.Err() == nil {
			t.Fatal(err)
		}
	}
	until(3)
	if got := found(t, file, "pie"); got != "1 ana: apple pie\n" {
		t.Errorf("found %q", got)
	}
	if _, err := hub.EditMessage(t.Context(), "lobby", 1, "plum cake"); err != nil {
		t.Fatal(err)
	}
	r, err := hub.DeleteMessage(t.Context(), "lobby", 2)
	if err != nil {
		t.Fatal(err)
	}
	until(r.Seq)
	for words, want := range map[string]string{"pie": "", "plum": "1 ana: plum cake\n", "banana": "", "cherry": "3 ana: cherry\n"} {
		if got := found(t, file, words); got != want {
			t.Errorf("%s: found %q, want %q", words, got, want)
		}
	}
}
