package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json/jsontext"
	_ "modernc.org/sqlite" // the driver: pure Go
)

// schema creates the tables that are missing. A log is the log of a room, or
// of a user's inbox, under one epoch. Positions (seq) in different logs do not
// compare, so logs are numbered in the order in which they began.
//
// A private message is in the inboxes of two users. It is saved once, with its
// position in the sender's inbox. A conversation is in the order of n.
const schema = `
CREATE TABLE IF NOT EXISTS logs (
	log   INTEGER PRIMARY KEY,
	room  TEXT NOT NULL,
	owner TEXT NOT NULL, -- of an inbox; empty: a room's log
	epoch TEXT NOT NULL,
	UNIQUE (room, owner, epoch)
);
CREATE TABLE IF NOT EXISTS messages (
	n         INTEGER PRIMARY KEY,
	log       INTEGER NOT NULL REFERENCES logs,
	seq       INTEGER NOT NULL,
	ts        INTEGER NOT NULL, -- Unix milliseconds
	room      TEXT NOT NULL,    -- empty: sent privately
	recipient TEXT NOT NULL,    -- empty: sent to a room
	sender    TEXT NOT NULL,
	name      TEXT NOT NULL,    -- of the sender, at that time
	id        TEXT,             -- as the sender's client chose it; NULL: none
	data      BLOB,             -- JSON as it was sent; NULL: none
	UNIQUE (room, log, seq),
	UNIQUE (room, recipient, sender, id)
);
CREATE INDEX IF NOT EXISTS conversations
	ON messages (min(sender, recipient), max(sender, recipient), n) WHERE recipient <> '';
`

// schemaVersion is the user_version of a database with this schema. In version
// 0 the key of a message with an id was UNIQUE (sender, id).
const schemaVersion = 1

// Between these two, which upgrade version 0, the schema makes the new table.
const (
	upgradeBefore = `
ALTER TABLE messages RENAME TO old_messages;
DROP INDEX IF EXISTS conversations;
`
	upgradeAfter = `
INSERT INTO messages (n, log, seq, ts, room, recipient, sender, name, id, data)
	SELECT n, log, seq, ts, room, recipient, sender, name, id, data FROM old_messages ORDER BY n;
DROP TABLE old_messages;
`
)

const (
	selectSaved = `
		SELECT epoch, seq, ts, data
		FROM messages JOIN logs USING (log) WHERE messages.room = ? AND recipient = ? AND sender = ? AND id = ?`
	selectMessages = `
		SELECT n, epoch, seq, ts, messages.room, recipient, sender, name, coalesce(id, ''), data
		FROM messages JOIN logs USING (log) WHERE `
	selectRoom         = selectMessages + `messages.room = ? AND (log, seq) < (?, ?) ORDER BY log DESC, seq DESC LIMIT ?`
	selectConversation = selectMessages + `
		recipient <> '' AND min(sender, recipient) = ? AND max(sender, recipient) = ? AND n < ? ORDER BY n DESC LIMIT ?`
)

// message is a message as the archive sends it to clients. It is an envelope of
// the protocol with two additional fields, N and Epoch.
type message struct {
	N     int64          `json:"n"`
	Epoch string         `json:"epoch"`
	Type  string         `json:"type"`
	ID    string         `json:"id,omitzero"`
	Room  string         `json:"room,omitzero"`
	To    string         `json:"to,omitzero"`
	From  chathub.User   `json:"from"`
	Seq   uint64         `json:"seq"`
	TS    int64          `json:"ts"`
	Data  jsontext.Value `json:"data,omitzero"`
}

// database stores messages. Its methods may be called concurrently.
type database struct{ db *sql.DB }

// openDatabase opens the database in a file, and creates it if necessary. It
// upgrades a database of an earlier version, which takes the time and the space
// of a copy.
func openDatabase(ctx context.Context, file string) (*database, error) {
	options := url.Values{
		"_pragma": {
			"busy_timeout(5000)", // milliseconds to wait for another process
			"journal_mode(WAL)",  // readers do not wait for a writer
			"synchronous(FULL)",  // acked messages survive a power failure
			"foreign_keys(ON)",
		},
		"_txlock": {"immediate"}, // a transaction waits at its beginning, not after it has read
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(file), RawQuery: options.Encode()}).String())
	if err != nil {
		return nil, err
	}
	// SQLite allows one writer at a time. The others wait in database/sql, and
	// give up when their ctx ends.
	db.SetMaxOpenConns(1)
	if err := prepare(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), db.Close())
	}
	return &database{db}, nil
}

// prepare brings the schema of a database up to date, or leaves it as it was.
func prepare(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after Commit
	var version int
	var filled bool
	if err := tx.QueryRowContext(ctx, `
		SELECT user_version, EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'messages')
		FROM pragma_user_version`).Scan(&version, &filled); err != nil {
		return err
	}
	statements := schema
	switch {
	case version == schemaVersion:
		return nil
	case version > schemaVersion:
		return fmt.Errorf("the database has version %d, and this program knows %d", version, schemaVersion)
	case filled:
		statements = upgradeBefore + schema + upgradeAfter
	}
	statements += fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)
	if _, err := tx.ExecContext(ctx, statements); err != nil {
		return err
	}
	return tx.Commit()
}

func (d *database) close() error { return d.db.Close() }

// errOtherMessage refuses an id that its sender has used for another message of
// the same room or conversation, as the hub does. If it were acked as a
// repetition, the new message would be lost.
var errOtherMessage = &chathub.Error{Code: chathub.CodeConflict, Message: "This id was used for another message"}

// saved looks for a message by its room or recipient, its sender and its id. If
// it has been saved before, saved returns its receipt.
func (d *database) saved(ctx context.Context, m *message) (r chathub.Receipt, found bool, err error) {
	if m.ID == "" {
		return r, false, nil
	}
	var data []byte
	r.Duplicate = true
	err = d.db.QueryRowContext(ctx, selectSaved, m.Room, m.To, m.From.ID, m.ID).Scan(&r.Epoch, &r.Seq, &r.Time, &data)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r, false, nil
	case err != nil:
		return r, false, err
	case !bytes.Equal(data, m.Data):
		return r, false, errOtherMessage
	}
	return r, true, nil
}

// save saves a message at the position of its receipt. It does nothing if the
// message has been saved before.
func (d *database) save(ctx context.Context, m *message, r chathub.Receipt) error {
	owner := "" // of the log to which r belongs
	if m.Room == "" {
		owner = m.From.ID
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after Commit
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO logs (room, owner, epoch) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`,
		m.Room, owner, r.Epoch); err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, `
		INSERT INTO messages (log, seq, ts, room, recipient, sender, name, id, data)
		SELECT log, ?, ?, ?, ?, ?, ?, nullif(?, ''), ? FROM logs WHERE room = ? AND owner = ? AND epoch = ?
		ON CONFLICT DO NOTHING`,
		r.Seq, r.Time, m.Room, m.To, m.From.ID, m.From.Name, m.ID, []byte(m.Data), m.Room, owner, r.Epoch)
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	// A message with this id was saved at the same time. Is it the same?
	_, _, err = d.saved(ctx, m)
	return err
}

// newest is a position after all messages.
const newest = math.MaxInt64

// room returns messages of a room, oldest first: those before a position, or
// the newest ones if before is nil. A log without messages in the database
// counts as the newest one.
func (d *database) room(ctx context.Context, room string, before *chathub.Position, limit int) (page, error) {
	log, seq := int64(newest), uint64(newest)
	if before != nil {
		seq = min(before.Seq, newest)
		err := d.db.QueryRowContext(ctx, `
			SELECT log FROM logs WHERE room = ? AND owner = '' AND epoch = ?`, room, before.Epoch).Scan(&log)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return page{}, err
		}
	}
	return d.page(ctx, limit, selectRoom, room, log, seq)
}

// conversation returns the messages that two users sent each other, oldest
// first: those before n, or the newest ones if n is 0.
func (d *database) conversation(ctx context.Context, one, other string, n int64, limit int) (page, error) {
	if n <= 0 {
		n = newest
	}
	return d.page(ctx, limit, selectConversation, min(one, other), max(one, other), n)
}

// page is a part of a room or conversation, oldest message first.
type page struct {
	Messages []message `json:"messages"`
	More     bool      `json:"more"` // there are older ones
}

// pageBytes bounds the data of a page, in bytes, because it must fit into the
// client's outbox.
const pageBytes = 256 << 10

// page returns up to limit messages of a query. The query must return the
// newest message first, and its last parameter must be the number of rows.
func (d *database) page(ctx context.Context, limit int, query string, args ...any) (p page, err error) {
	rows, err := d.db.QueryContext(ctx, query, append(args, limit+1)...)
	if err != nil {
		return p, err
	}
	defer func() { _ = rows.Close() }()
	p.Messages = []message{}
	for size := 0; rows.Next(); {
		m := message{Type: "room-message"}
		var data []byte
		if err := rows.Scan(&m.N, &m.Epoch, &m.Seq, &m.TS, &m.Room, &m.To, &m.From.ID, &m.From.Name, &m.ID, &data); err != nil {
			return p, err
		}
		if m.To != "" {
			m.Type = "private-message"
		}
		m.Data = data
		if size += len(data); len(p.Messages) == limit || len(p.Messages) > 0 && size > pageBytes {
			p.More = true
			break
		}
		p.Messages = append(p.Messages, m)
	}
	slices.Reverse(p.Messages)
	return p, rows.Err()
}
