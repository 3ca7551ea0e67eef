package main

import (
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// server is a hub with an archive, as in run.
type server struct {
	*chathub.Hub
	db *database
}

// newServer opens a database and returns a hub with an archive.
func newServer(t *testing.T, file string, broker chathub.Broker) *server {
	t.Helper()
	db, err := openDatabase(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.close(); err != nil {
			t.Error(err)
		}
	})
	hub := hubtest.New(t, chathub.Config{Auth: names{}, Broker: broker, Rate: -1, PresenceInterval: -1})
	(&archive{db: db, log: slog.New(slog.NewTextHandler(t.Output(), nil))}).addTo(hub)
	return &server{hub, db}
}

// exec executes a statement without the archive.
func (s *server) exec(t *testing.T, statement string) {
	t.Helper()
	if _, err := s.db.db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// stored returns "sender/id data" for each message in the database, in the
// order of their positions.
func (s *server) stored(t *testing.T) []string {
	t.Helper()
	rows, err := s.db.db.QueryContext(t.Context(), `
		SELECT sender || '/' || coalesce(id, '') || ' ' || coalesce(data, 'NULL') FROM messages ORDER BY log, seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	all := []string{}
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%q, want\n%q", what, got, want)
	}
}

func file(t *testing.T) string { return filepath.Join(t.TempDir(), "chat ?#%.db") }

func join(t *testing.T, c *hubtest.Client, data any) chathub.Position {
	t.Helper()
	return decode[chathub.Position](t, c.Must(hubtest.Frame{Type: "join-room", Room: "red", Data: hubtest.Data(data)}))
}

func decode[T any](t *testing.T, f hubtest.Frame) (v T) {
	t.Helper()
	if err := json.Unmarshal(f.Data, &v); err != nil {
		t.Fatalf("%s: %v", f.Data, err)
	}
	return v
}

func say(id string, data any) hubtest.Frame {
	return hubtest.Frame{Type: "room-message", ID: id, Room: "red", Data: hubtest.Data(data)}
}

// heard sends a ping, and returns the data of the messages that arrive before
// the answer.
func heard(c *hubtest.Client) []string {
	c.Send(hubtest.Frame{Type: "ping"})
	all := []string{}
	for {
		switch f := c.Next(); f.Type {
		case "pong":
			return all
		case "room-message", "private-message":
			all = append(all, string(f.Data))
		}
	}
}
