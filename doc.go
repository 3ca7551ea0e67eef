// Package chathub adds live chat to a Go service that already exists, over
// plain WebSockets: rooms, private messages, typing, presence, notifications,
// history and lossless reconnects. A [Hub] is an http.Handler:
//
//	hub, err := chathub.New(chathub.Config{Auth: &chathub.JWT{Key: secret}})
//	if err != nil { ... }
//	mux.Handle("/ws", hub)
//
// Config.Auth verifies the user of every connection. By default any user may
// join any room and write to any user: Config.Authorize decides otherwise.
//
// # Handlers
//
// [On] and [OnAck] register handlers for events of the application, and
// [Hub.Use] wraps the handling of every event. The events of one client are
// handled one at a time, in the order in which it sent them. A handler may
// block, and only its own client waits. Handlers of different clients run
// concurrently. The methods of Hub, [Client] and [Target] may be called from
// any goroutine.
//
// # Delivery
//
// Events for rooms and users are durable, except typing, presence and what is
// sent with [Target.Volatile]:
//
//   - The [Broker] stores an event before it is acknowledged.
//   - All clients see the events of a room, or of an inbox, in one order.
//   - A connected member gets each event exactly once.
//   - A client that reconnects gets what it missed, without loss or duplicate,
//     or is told that the history kept does not reach back that far.
//
// All other events are sent at most once, and are dropped first for a client
// that does not keep up. A client that cannot keep up even with durable events
// is disconnected with close code 4001, and may resume.
//
// Order is not kept across targets: an ack may arrive before the sender's own
// copy of the message, and a frame to one connection before earlier messages of
// its rooms.
//
// # Goroutines
//
// One goroutine of the hub owns all rooms, users and presence. It calls no code
// of the application and waits for nobody. A few more write to sockets. A
// connection has a goroutine while it has something to read; on Linux an idle
// one has none, unless it uses TLS.
//
// The wire protocol is in the directory protocol, the guides and the design in
// docs.
package chathub
