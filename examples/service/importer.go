package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
)

// oldMessage is a line of what is imported, oldest first.
type oldMessage struct {
	ID   string    `json:"id"` // unique among all lines
	User string    `json:"user"`
	Name string    `json:"name"`
	Text string    `json:"text"`
	Time time.Time `json:"time"`
}

// importer posts old messages to a room. If it fails or is killed, run it again
// with the same lines: it goes on where it was.
type importer struct {
	hub    *chathub.Hub
	room   string
	file   string    // has the number of lines that are done
	report func(int) // is told that number, once for each noteEvery lines
}

// noteEvery is after how many lines the importer notes how far it is. It must
// be less than what idsAfter returns.
const noteEvery = 100

func (im *importer) run(ctx context.Context, lines io.Reader) error {
	done, err := readNote[int](im.file)
	if err != nil {
		return err
	}
	// A few lines may be stored without having been noted.
	stored, err := idsAfter(ctx, im.hub, im.room, 0)
	if err != nil {
		return err
	}
	scanner := bufio.NewScanner(lines)
	n := 0
	for scanner.Scan() {
		if n++; n <= done {
			continue
		}
		if err := im.post(ctx, scanner.Bytes(), stored); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if n%noteEvery == 0 {
			if err := im.note(n); err != nil {
				return err
			}
		}
	}
	if err := scanner.Err(); err != nil {
		return err
	}
	return im.note(n)
}

func (im *importer) post(ctx context.Context, line []byte, stored map[string]bool) error {
	var m oldMessage
	if err := json.Unmarshal(line, &m); err != nil {
		return err
	}
	id := "old-" + m.ID // no client chooses such an id
	if stored[id] {
		return nil
	}
	// The log has the time of the import, so that of the message is data.
	data := struct {
		Text   string    `json:"text"`
		SentAt time.Time `json:"sentAt"`
	}{m.Text, m.Time}
	_, err := im.hub.To(im.room).Post(ctx, chathub.Post{From: chathub.User{ID: m.User, Name: m.Name}, ID: id, Data: data})
	return err
}

func (im *importer) note(n int) error {
	if err := writeNote(im.file, n); err != nil {
		return err
	}
	im.report(n)
	return nil
}
