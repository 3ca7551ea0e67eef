package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestPlans checks that no query scans all messages.
func TestPlans(t *testing.T) {
	s := newServer(t, file(t), nil)
	for query, args := range map[string][]any{
		selectSaved:        {"red", "", "ana", "m1"},
		selectRoom:         {"red", 1, 1, 1},
		selectConversation: {"ana", "bob", 1, 1},
	} {
		rows, err := s.db.db.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(detail, "SCAN") || strings.Contains(detail, "TEMP B-TREE") {
				t.Errorf("%s: %s", detail, query)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSaveTwice checks that the database keeps one message if two are saved
// with one id, after both senders have found nothing.
func TestSaveTwice(t *testing.T) {
	s := newServer(t, file(t), nil)
	m := message{ID: "m1", Room: "red", From: chathub.User{ID: "ana"}, Data: hubtest.Data(1)}
	other, elsewhere := m, m
	other.Data, elsewhere.Room = hubtest.Data(2), "blue"
	for i, tc := range []struct {
		m    message
		r    chathub.Receipt
		want error
	}{
		{m, chathub.Receipt{Epoch: "e", Seq: 1}, nil},
		{m, chathub.Receipt{Epoch: "e", Seq: 1, Duplicate: true}, nil},
		{m, chathub.Receipt{Epoch: "another", Seq: 1}, nil},
		{other, chathub.Receipt{Epoch: "e", Seq: 2}, errOtherMessage},
	} {
		if err := s.db.save(t.Context(), &tc.m, tc.r); !errors.Is(err, tc.want) {
			t.Errorf("%d: %v, want %v", i, err, tc.want)
		}
		equal(t, "stored", s.stored(t), []string{"ana/m1 1"})
	}
	for range 2 {
		if err := s.db.save(t.Context(), &elsewhere, chathub.Receipt{Epoch: "e", Seq: 1}); err != nil {
			t.Error(err)
		}
		equal(t, "stored", s.stored(t), []string{"ana/m1 1", "ana/m1 1"})
	}
}
