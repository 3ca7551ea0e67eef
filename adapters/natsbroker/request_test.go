package natsbroker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestTurns checks that calls which read the stream wait for a turn, and give
// up when their time is over. Meanwhile others can publish, and read what the
// node has in memory.
func TestTurns(t *testing.T) {
	n := attach(t, openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage()))
	lobby := room("lobby")
	n.subscribe(lobby)
	first := n.say(lobby, "one")
	n.publish(chathub.Message{Topic: lobby, Name: "a/1", Body: []byte("x")})
	n.until(lobby, n.say(lobby, "two").Seq)

	reads := map[string]func(context.Context) error{
		"Read": func(ctx context.Context) error {
			_, err := n.Read(ctx, lobby, chathub.Range{Limit: 10})
			return err
		},
		"ReadNamed of names": func(ctx context.Context) error {
			_, err := n.ReadNamed(ctx, []chathub.NameQuery{{Topic: lobby, Names: []string{"a/1"}}})
			return err
		},
		"ReadNamed of a kind": func(ctx context.Context) error {
			_, err := n.ReadNamed(ctx, []chathub.NameQuery{{Topic: lobby, Kind: "a", From: 1, To: 9}})
			return err
		},
		"ReadNamed of a kind elsewhere": func(ctx context.Context) error {
			_, err := n.ReadNamed(ctx, []chathub.NameQuery{{Topic: room("other"), Kind: "a"}})
			return err
		},
		"Survey": func(ctx context.Context) error {
			_, err := n.Survey(ctx, []chathub.SurveyQuery{{Topic: lobby, Most: 1}})
			return err
		},
	}
	release := natsbroker.HoldReads(n.BrokerSession)
	for name, read := range reads {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		wantUnavailable(t, name, read(ctx))
		cancel()
	}
	waiting := make(chan error, len(reads))
	for _, read := range reads {
		go func() { waiting <- read(t.Context()) }()
	}
	n.say(lobby, "three")
	if page := n.read(lobby, chathub.Range{After: first.Seq - 1, Before: first.Seq + 1, Limit: 10}); len(page.Messages) != 1 {
		t.Errorf("from memory: %v", bodies(page.Messages))
	}
	select {
	case err := <-waiting:
		t.Errorf("a call did not wait for its turn: %v", err)
	default:
	}
	release()
	for range reads {
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	}
	for name, read := range reads {
		if err := read(t.Context()); err != nil { // all turns were given back
			t.Errorf("%s: %v", name, err)
		}
	}
	release = natsbroker.HoldReads(n.BrokerSession)
	release()
}

// TestIndexOnce checks that a crowd that needs the names of a topic reads them
// from the stream once.
func TestIndexOnce(t *testing.T) {
	const crowd = 200
	b := openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage())
	lobby := room("lobby")
	writer := attach(t, b)
	tied := writer.say(lobby, "one").Seq
	writer.publish(chathub.Message{Topic: lobby, Name: "a/1", Tied: tied, Body: []byte("x")})

	n := attach(t, b)
	n.subscribe(lobby)
	before := natsbroker.Requests(n.BrokerSession)
	release := natsbroker.HoldReads(n.BrokerSession) // until all have begun
	var all sync.WaitGroup
	begun := make(chan struct{}, crowd)
	found := make(chan string, crowd)
	for range crowd {
		all.Go(func() {
			begun <- struct{}{}
			names, err := n.ReadNamed(t.Context(), []chathub.NameQuery{{Topic: lobby, Kind: "a", From: 1, To: tied}})
			found <- fmt.Sprint(len(names[0]), err)
		})
	}
	for range crowd {
		<-begun
	}
	release()
	all.Wait()
	for range crowd {
		if got := <-found; got != "1 <nil>" {
			t.Fatalf("found %s", got)
		}
	}
	if sent := natsbroker.Requests(n.BrokerSession) - before; sent > crowd/4 {
		t.Errorf("%d requests for one index", sent)
	}
}
