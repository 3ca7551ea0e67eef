// Package chathub puts live chat into a service that already exists, over plain
// WebSockets: authenticated users, rooms, room and private messages, typing, presence,
// notifications, history and lossless reconnects.
//
//	hub, err := chathub.New(chathub.Config{Auth: &chathub.JWT{Key: secret}})
//	if err != nil { ... }
//	mux.Handle("/ws", hub)
//
// # Goroutines and ownership
//
// One goroutine per connection reads: it decodes an event, asks Config.Authorize,
// runs middleware and the handler, and answers. What blocks there makes only its own client
// wait, and middleware and handlers of one client never run at the same time. An idle
// connection has no goroutine, where the system can wait for it in another way.
//
// One goroutine per hub, the loop, owns rooms, users, presence and typing. It has one
// queue, so that what happens has one order; it calls no code of the application, waits for no
// peer and no broker, and only moves ready frames into outboxes.
//
// A few goroutines per hub write what the outboxes hold, without waiting: where a
// socket is full, a goroutine of its own goes on until the outbox is empty. Idle
// connections have no writer and no timer.
//
// # Order and delivery
//
// Within a room, and within a user's inbox, every client sees the same order. What
// goes to rooms and users (room-message, private-message, notification, and what the
// application emits to them) is durable unless sent with [Target.Volatile]: the [Broker] stores
// it, an ack means that it has, a member that is connected gets it exactly once, and one that comes
// back within the history kept resumes without loss or duplicate. Everything else is sent at most
// once, and dropped first for a client that does not keep up; a client that does not even keep up
// with durable events is disconnected with 4001, and resumes.
//
// There is no order between different targets: an ack may overtake the sender's own
// room message, and a frame for one connection what was emitted to its rooms just before.
//
// The wire protocol is described in the directory protocol, the design in docs/design.md.
package chathub
