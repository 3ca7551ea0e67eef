package chathub_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// oldClient does what a client did before messages could change: it keeps the
// position of the newest envelope of each log, and ignores what it does not
// know.
type oldClient struct {
	t     *testing.T
	room  chathub.Position
	inbox chathub.Position
	shown []string
}

func (old *oldClient) hear(frames []hubtest.Frame) {
	for _, f := range frames {
		switch f.Type {
		case "room-message", "private-message", "notification":
			old.shown = append(old.shown, fmt.Sprint(f.Type, " ", string(f.Data)))
		}
		switch {
		case f.Seq == 0 || f.Type == "ack":
		case f.Room == "lobby":
			old.room.Seq = max(old.room.Seq, f.Seq)
		default:
			old.inbox.Seq = max(old.inbox.Seq, f.Seq)
		}
	}
}

// TestOldClient: a client of an earlier version takes part next to new ones. It
// sees every message once, over reconnects too, and what it does not know
// harms nothing.
func TestOldClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, chathub.Config{ReadReceipts: true})
		ana := p.dial("ana", "lobby")
		connect := func(old *oldClient) guest {
			c := p.dial("old")
			if old.room.Epoch == "" {
				unmarshal(t, enter(c.Client, "lobby").Data, &old.room)
				old.inbox = dataOf[welcomeData](t, c.Welcome).Inbox
				return c
			}
			answer := dataOf[resumeAnswer](t, c.Must(hubtest.Frame{Type: "resume", Data: hubtest.Data(map[string]any{
				"rooms": map[string]any{"lobby": old.room}, "inbox": old.inbox,
			})}))
			if !answer.Rooms["lobby"].Recovered || !answer.Inbox.Recovered {
				t.Errorf("resume from %+v was answered with %+v", old, answer)
			}
			return c
		}
		old := &oldClient{t: t}
		c := connect(old)
		var want []string
		for round := range 6 {
			for i := range 3 {
				text := fmt.Sprintf(`"%d.%d"`, round, i)
				seq := ana.Must(roomMessage(fmt.Sprint("m", round, i), "lobby", text)).Seq
				ana.Must(privateMessage(fmt.Sprint("p", round, i), "old", text))
				ana.Must(reactTo(fmt.Sprint("r", round, i), "lobby", seq, "k", true))
				ana.Must(hubtest.Frame{Type: "mark-read", Room: "lobby", Data: hubtest.Data(map[string]any{"seq": seq})})
				if round%2 == 0 { // while it is there: it has seen the text
					synctest.Wait()
					ana.Must(editOf(fmt.Sprint("e", round, i), "lobby", seq, `"edited"`))
				}
				want = append(want, "room-message "+text, "private-message "+text)
			}
			if c.Client != nil {
				old.hear(arrived(c.Client))
				c.Drop()
				c = guest{}
			} else {
				c = connect(old)
				old.hear(arrived(c.Client))
			}
		}
		slices.Sort(want)
		slices.Sort(old.shown)
		if !slices.Equal(old.shown, want) {
			t.Errorf("it has shown %q, want %q", old.shown, want)
		}
	})
}
