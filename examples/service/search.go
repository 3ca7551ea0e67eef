package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	_ "modernc.org/sqlite" // the driver: pure Go, with FTS5
)

const searchSchema = `
CREATE TABLE IF NOT EXISTS positions (room TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
	n      INTEGER PRIMARY KEY,
	room   TEXT NOT NULL,
	epoch  TEXT NOT NULL,
	seq    INTEGER NOT NULL,
	sender TEXT NOT NULL,
	UNIQUE (room, epoch, seq)
);
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(text);
`

// index is a full-text index of rooms.
type index struct {
	db      *sql.DB
	indexed func(chathub.Entry) // called after the commit of each entry
}

func openIndex(ctx context.Context, file string) (*index, error) {
	options := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(file), RawQuery: options.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, searchSchema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &index{db: db, indexed: func(chathub.Entry) {}}, nil
}

func (ix *index) close() error { return ix.db.Close() }

// follow indexes a room until ctx ends. It goes on where it was when the
// process ended, however that was.
func (ix *index) follow(ctx context.Context, hub *chathub.Hub, room string) error {
	var from chathub.Position
	err := ix.db.QueryRowContext(ctx, `SELECT epoch, seq FROM positions WHERE room = ?`, room).Scan(&from.Epoch, &from.Seq)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return hub.Follow(ctx, room, from, ix.add)
}

// add stores an entry and its position in one transaction. So each entry is
// indexed once, although Follow may bring it twice.
func (ix *index) add(ctx context.Context, e chathub.Entry) error {
	tx, err := ix.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after Commit
	switch e.Type {
	case "room-message":
		err = insert(ctx, tx, e)
	case "message-changed":
		err = change(ctx, tx, e)
	}
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO positions VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq`, e.Room, e.Epoch, e.Seq); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	ix.indexed(e)
	return nil
}

func insert(ctx context.Context, tx *sql.Tx, e chathub.Entry) error {
	// A log that was restored to an older state comes from its beginning.
	r, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO messages (room, epoch, seq, sender) VALUES (?, ?, ?, ?)`, e.Room, e.Epoch, e.Seq, e.From.ID)
	if err != nil {
		return err
	}
	if added, err := r.RowsAffected(); added == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO texts (rowid, text) VALUES (last_insert_rowid(), ?)`, textOf(e.Data))
	return err
}

// change brings a message up to date that was edited or deleted.
func change(ctx context.Context, tx *sql.Tx, e chathub.Entry) error {
	var d struct {
		Seq     uint64 `json:"seq"`
		Change  string `json:"change"`
		Message struct {
			Data jsontext.Value `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return err
	}
	var n int64
	err := tx.QueryRowContext(ctx, `SELECT n FROM messages WHERE room = ? AND epoch = ? AND seq = ?`, e.Room, e.Epoch, d.Seq).Scan(&n)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil // deleted before it was indexed
	case err != nil:
		return err
	case d.Change == "deleted":
		_, err = tx.ExecContext(ctx, `DELETE FROM texts WHERE rowid = ?`, n)
	case d.Message.Data != nil:
		_, err = tx.ExecContext(ctx, `UPDATE texts SET text = ? WHERE rowid = ?`, textOf(d.Message.Data), n)
	}
	return err
}

// textOf returns the text of a message, which is a JSON string or an object
// with a text.
func textOf(data jsontext.Value) string {
	var s string
	if json.Unmarshal(data, &s) == nil {
		return s
	}
	var o struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(data, &o) // other data has no text
	return o.Text
}

// find prints the best matches for words, which are a query of FTS5.
func find(ctx context.Context, file string, words []string, stdout io.Writer) error {
	ix, err := openIndex(ctx, file)
	if err != nil {
		return err
	}
	defer func() { _ = ix.close() }()
	rows, err := ix.db.QueryContext(ctx, `
		SELECT seq, sender, text FROM texts JOIN messages ON n = texts.rowid
		WHERE texts MATCH ? ORDER BY rank LIMIT 20`, strings.Join(words, " "))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var seq uint64
		var sender, text string
		if err := rows.Scan(&seq, &sender, &text); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(stdout, "%d %s: %s\n", seq, sender, text)
	}
	return rows.Err()
}
