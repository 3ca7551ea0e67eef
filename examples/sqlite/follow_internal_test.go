package main

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const mirrorSchema = `
CREATE TABLE entries (
	room TEXT, epoch TEXT, seq INTEGER, type TEXT, sender TEXT, data BLOB,
	PRIMARY KEY (room, epoch, seq)
);
CREATE TABLE followed (room TEXT PRIMARY KEY, epoch TEXT, seq INTEGER);
`

// mirror has what is stored in rooms. It is the code of docs/saving.md that
// this example does not use itself.
type mirror struct{ db *sql.DB }

func (m *mirror) follow(ctx context.Context, hub *chathub.Hub, room string) error {
	var from chathub.Position // zero: the oldest entry that the log has
	err := m.db.QueryRowContext(ctx, `SELECT epoch, seq FROM followed WHERE room = ?`, room).Scan(&from.Epoch, &from.Seq)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return hub.Follow(ctx, room, from, m.take)
}

// take saves an entry and its position in one transaction.
func (m *mirror) take(ctx context.Context, e chathub.Entry) error {
	tx, err := m.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := save(ctx, tx, e); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO followed VALUES (?, ?, ?)`, e.Room, e.Epoch, e.Seq); err != nil {
		return err
	}
	return tx.Commit()
}

func save(ctx context.Context, tx *sql.Tx, e chathub.Entry) error {
	switch e.Type {
	case "state-changed":
		return nil // not of interest here
	case "message-changed":
		var c struct {
			Seq     uint64 `json:"seq"` // of the message
			Change  string `json:"change"`
			Message struct {
				Data jsontext.Value `json:"data"` // nil if it is deleted
			} `json:"message"`
		}
		if err := json.Unmarshal(e.Data, &c); err != nil {
			return err
		}
		if c.Message.Data == nil && c.Change != "deleted" {
			return nil // it has reactions only
		}
		_, err := tx.ExecContext(ctx, `UPDATE entries SET data = ? WHERE room = ? AND epoch = ? AND seq = ?`,
			[]byte(c.Message.Data), e.Room, e.Epoch, c.Seq)
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?, ?, ?)`,
		e.Room, e.Epoch, e.Seq, e.Type, e.From.ID, []byte(e.Data))
	return err
}

// saved returns "type sender data" for each entry, in order.
func (m *mirror) saved(t *testing.T) (all []string) {
	t.Helper()
	rows, err := m.db.QueryContext(t.Context(), `
		SELECT type || ' ' || sender || ' ' || coalesce(data, 'NULL') FROM entries ORDER BY epoch, seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
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

// TestFollowIntoDatabase: what clients and the application store in a room is
// saved once, as it is now, however often the one who follows begins again.
func TestFollowIntoDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, file(t), &chathub.MemoryBroker{})
		s.exec(t, mirrorSchema)
		m := &mirror{s.db.db}
		run := func() {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.follow(ctx, s.Hub, "red") }()
			synctest.Wait()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Follow returned %v", err)
			}
		}
		ana := hubtest.Dial(t, s.Hub, "ana")
		join(t, ana, nil)
		first := ana.Must(hubtest.Frame{Type: "room-message", ID: "1", Room: "red", Data: hubtest.Data("a")})
		second, err := s.To("red").Post(t.Context(), chathub.Post{From: chathub.User{ID: "bob"}, Data: "b"})
		if err != nil {
			t.Fatal(err)
		}
		run()
		equal(t, "at first", m.saved(t), []string{`room-message ana "a"`, `room-message bob "b"`})

		if err := s.To("red").Emit(t.Context(), "poll:closed", 3); err != nil {
			t.Fatal(err)
		}
		if _, err := s.EditMessage(t.Context(), "red", second.Seq, "new"); err != nil {
			t.Fatal(err)
		}
		ana.Must(hubtest.Frame{Type: "react", Room: "red", Data: hubtest.Data(map[string]any{"seq": first.Seq, "key": "+"})})
		run()
		equal(t, "after an edit", m.saved(t), []string{`room-message ana "a"`, `room-message bob "new"`, `poll:closed  3`})

		ana.Must(hubtest.Frame{Type: "delete-message", Room: "red", Data: hubtest.Data(map[string]any{"seq": first.Seq})})
		run()
		run()
		equal(t, "after a deletion", m.saved(t), []string{`room-message ana NULL`, `room-message bob "new"`, `poll:closed  3`})
	})
}
