package main

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// schema0 is the schema of version 0.
const schema0 = `
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
	UNIQUE (sender, id)
);
CREATE INDEX IF NOT EXISTS conversations
	ON messages (min(sender, recipient), max(sender, recipient), n) WHERE recipient <> '';
`

// openRaw opens a database file as it is.
func openRaw(t *testing.T, file string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(file)}).String())
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// execRaw executes statements on a database file as it is.
func execRaw(t *testing.T, file, statements string) {
	t.Helper()
	db := openRaw(t, file)
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
}

// version0 returns a database file of version 0 with messages in it.
func version0(t *testing.T) string {
	t.Helper()
	name := file(t)
	execRaw(t, name, `PRAGMA journal_mode = WAL;`+schema0+`
		INSERT INTO logs VALUES (1, 'red', '', 'first'), (2, '', 'ana', 'inbox'), (3, 'red', '', 'second');
		INSERT INTO messages VALUES
			(1, 1, 1, 1000, 'red', '', 'ana', 'Ana', 'm1', '"one"'),
			(2, 1, 2, 1001, 'red', '', 'ana', 'Ana', NULL, NULL),
			(3, 1, 3, 1002, 'red', '', 'ana', 'Ana', NULL, NULL),
			(5, 2, 7, 1003, '', 'bob', 'ana', 'Ana', 'p1', '"hush"'),
			(9, 3, 1, 1004, 'red', '', 'bob', 'Bob', 'm1', '"two"');`)
	return name
}

// A database of an earlier version opens, keeps what it has, and takes an id in
// another room from then on.
func TestUpgrade(t *testing.T) {
	name := version0(t)
	for life := range 3 {
		s := newServer(t, name, nil)
		ana := hubtest.Dial(t, s, "ana")
		join(t, ana, nil)
		ana.Must(hubtest.Frame{Type: "join-room", Room: "blue"})
		var got []string
		for _, m := range decode[page](t, ana.Must(hubtest.Frame{Type: "room-archive", Room: "red"})).Messages {
			got = append(got, fmt.Sprintf("%d %s/%d %s(%s) %q %s %d", m.N, m.Epoch, m.Seq, m.From.ID, m.From.Name, m.ID, m.Data, m.TS))
		}
		equal(t, "in the room", got, []string{
			`1 first/1 ana(Ana) "m1" "one" 1000`, `2 first/2 ana(Ana) "" null 1001`, `3 first/3 ana(Ana) "" null 1002`,
			`9 second/1 bob(Bob) "m1" "two" 1004`,
		})
		private := decode[page](t, ana.Must(hubtest.Frame{Type: "private-archive", To: "bob"})).Messages
		if len(private) != 1 || private[0].N != 5 || private[0].ID != "p1" || string(private[0].Data) != `"hush"` {
			t.Errorf("in the conversation: %+v", private)
		}

		if r := decode[chathub.Receipt](t, ana.Must(say("m1", "one"))); !r.Duplicate || r.Seq != 1 {
			t.Errorf("a repetition: %+v", r)
		}
		if r := ana.Request(say("m1", "other")); r.Code() != chathub.CodeConflict {
			t.Errorf("another message: %s %s", r.Type, r.Data)
		}
		elsewhere := hubtest.Frame{Type: "room-message", ID: "m1", Room: "blue", Data: hubtest.Data("blue")}
		if r := decode[chathub.Receipt](t, ana.Must(elsewhere)); r.Duplicate != (life > 0) {
			t.Errorf("in another room, time %d: %+v", life, r)
		}
		if got := s.stored(t); len(got) != 6 {
			t.Errorf("stored: %q", got)
		}
	}
}

// Several processes may open an old database at once.
func TestUpgradeAtOnce(t *testing.T) {
	name := version0(t)
	var opening sync.WaitGroup
	for range 8 {
		opening.Go(func() {
			db, err := openDatabase(t.Context(), name)
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.close(); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	if got := contents(t, name); got[0] != "1" || got[len(got)-1] != "5" {
		t.Errorf("the database: %q", got)
	}
}

// What cannot be upgraded is left as it was.
func TestUpgradeFails(t *testing.T) {
	for _, tc := range []struct{ name, before, want string }{
		{"a later version", `PRAGMA user_version = 2`, "has version 2"},
		{"another table", `ALTER TABLE messages DROP COLUMN name`, "name"},
		{"in the way", `CREATE TABLE old_messages (n)`, "old_messages"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := version0(t)
			execRaw(t, name, tc.before)
			before := contents(t, name)
			db, err := openDatabase(t.Context(), name)
			if err == nil {
				_ = db.close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			equal(t, "the database", contents(t, name), before)
		})
	}
}

// contents describes a database file: its version, its schema, and how many
// messages it has.
func contents(t *testing.T, file string) (all []string) {
	t.Helper()
	db := openRaw(t, file)
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(t.Context(), `
		SELECT user_version FROM pragma_user_version
		UNION ALL SELECT coalesce(sql, '') FROM sqlite_schema
		UNION ALL SELECT count(*) FROM messages`)
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
