package natsbroker_test

import (
	"fmt"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// BenchmarkChat measures what a client asks for, one request at a time, from
// its frame to the answer, over a connection in memory.
func BenchmarkChat(b *testing.B) {
	for _, c := range rigs {
		b.Run(c.name, func(b *testing.B) {
			r := c.make(b)
			hub := hubtest.New(b, chathub.Config{Broker: r.broker, PresenceInterval: -1, Rate: -1, UserRate: -1, MaxRooms: -1})
			benchChat(b, &r, hub)
		})
	}
}

// overviewRooms is how many rooms an overview may have.
const overviewRooms = 500

func benchChat(b *testing.B, r *rig, hub *chathub.Hub) {
	post := func(room string, n int) (seqs []uint64) {
		for i := range n {
			receipt, err := hub.To(room).Post(b.Context(), chathub.Post{From: chathub.User{ID: "ben", Name: "Ben"}, Data: i})
			if err != nil {
				b.Fatal(err)
			}
			seqs = append(seqs, receipt.Seq)
		}
		return seqs
	}
	ana := hubtest.Dial(b, hub, "ana")
	ana.Must(hubtest.Frame{Type: "join-room", Room: "lobby"})
	measure := func(name string, request func(i int) hubtest.Frame) {
		b.Run(name, func(b *testing.B) {
			r.measure(b, b.N, func() {
				for i := range b.N {
					ana.Must(request(i))
				}
			})
		})
	}
	measure("message", func(i int) hubtest.Frame {
		return hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data(i)}
	})
	own := ana.Must(hubtest.Frame{Type: "room-message", Room: "lobby", Data: hubtest.Data("text")})
	measure("edit", func(i int) hubtest.Frame {
		return hubtest.Frame{Type: "edit-message", Room: "lobby", Data: hubtest.Data(map[string]any{"seq": own.Seq, "data": i})}
	})
	// One reaction after another to the same message would wait to be merged.
	reacted := post("lobby", 500)
	measure("react", func(i int) hubtest.Frame {
		return hubtest.Frame{Type: "react", Room: "lobby", Data: hubtest.Data(map[string]any{"seq": reacted[i%len(reacted)], "key": fmt.Sprint("k", i)})}
	})
	head := reacted[len(reacted)-1]
	marker := own.Seq
	measure("mark-read", func(int) hubtest.Frame {
		if marker++; marker > head {
			marker = head
		}
		return hubtest.Frame{Type: "mark-read", Room: "lobby", Data: hubtest.Data(map[string]any{"seq": marker})}
	})
	rooms := make([]string, overviewRooms)
	for i := range rooms {
		rooms[i] = fmt.Sprint("room", i)
		post(rooms[i], 3)
	}
	measure("join with unread", func(i int) hubtest.Frame {
		return hubtest.Frame{Type: "join-room", Room: rooms[i%len(rooms)]}
	})
	for _, room := range rooms {
		ana.Must(hubtest.Frame{Type: "leave-room", Room: room})
	}
	measure("overview of 500 rooms", func(int) hubtest.Frame {
		return hubtest.Frame{Type: "overview", Data: hubtest.Data(map[string]any{"rooms": rooms})}
	})
}
