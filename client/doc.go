// Package client connects a Go program to a chathub hub: a bot, a tool, or the
// test of a service. It keeps one WebSocket open, comes back after a lost
// connection, and continues where it was:
//
//	c, err := client.Dial(ctx, url, client.Options{Token: sign})
//	if err != nil { ... }
//	defer c.Close()
//	lobby, err := c.Join(ctx, "lobby", client.JoinOptions{})
//	if err != nil { ... }
//	for e := range lobby.Events(ctx) {
//		if e.Type == client.TypeRoomMessage && e.From.ID != c.User().ID {
//			lobby.Send(ctx, "I heard you")
//		}
//	}
//
// # Reading
//
// Events are pulled: [Room.Events], [Inbox.Events] and [Client.Events] are
// iterators. Durable events of a room or inbox come once and in order, over any
// number of reconnects. If the server no longer has all that was missed, an
// event of type [TypeGap] comes before the newest of them.
//
// Up to [Options.QueueBytes] of a room's events wait for the program. A program
// that reads more slowly loses nothing that the server still has: the client
// ignores further durable events, and asks the server for them again once half
// of the queue has been read. Volatile events, such as typing, are dropped as
// soon as half of the queue is full. Whatever a program does with its events,
// the client goes on reading answers, so it may call any method meanwhile.
//
// # Sending
//
// Messages, notifications and changes wait in an outbox until the server has
// stored them. They are sent again with the same id after a reconnect, and when
// the server asks to wait, so each is stored once. Those for one room, or for
// one user, are sent one after another, in the order of the calls.
//
// What a method does when the connection is lost:
//
//   - Send, Reply, Post, Edit, Delete, React and [Client.Notify] go on after
//     the reconnect, until ctx ends.
//   - History, MarkRead, Overview and OnlineUsers change nothing, or nothing
//     twice. They are asked again, until ctx ends.
//   - Emit is sent once. It waits for a connection, and returns
//     [ErrDisconnected] if that is lost before the answer came.
//
// # Concurrency
//
// All methods may be called from any goroutine. One goroutine of the client
// owns its state. While there is a connection, one reads and one writes. Two
// more run for a while: one that asks for a token and connects, and one for
// each question of the server that is being answered.
//
// # Errors
//
// What the server answers is an [*Error], found with errors.As. A method whose
// ctx ends returns the error of ctx; the server may have done the work. The
// others are [ErrClosed], [ErrDisconnected], [ErrFull], and a [*RefusedError]
// if the server has ended the connection for good. No error and no line of the
// log has a token in it.
package client
