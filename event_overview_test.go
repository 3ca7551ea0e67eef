package chathub_test

import (
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// overviewData is the data of an answer to overview.
type overviewData struct {
	Rooms         map[string]overviewRoom `json:"rooms"`
	Inbox         *chathub.Position       `json:"inbox"`
	Conversations []conversationData      `json:"conversations"`
}

type overviewRoom struct {
	Epoch  string         `json:"epoch"`
	Seq    uint64         `json:"seq"`
	Read   uint64         `json:"read"`
	Unread int            `json:"unread"`
	Last   *hubtest.Frame `json:"last"`
}

type conversationData struct {
	User   chathub.User   `json:"user"`
	Read   uint64         `json:"read"`
	Unread int            `json:"unread"`
	Last   *hubtest.Frame `json:"last"`
}

func overviewOf(t testing.TB, c *hubtest.Client, data string) overviewData {
	t.Helper()
	return dataOf[overviewData](t, c.Must(hubtest.Frame{Type: "overview", Data: raw(data)}))
}
