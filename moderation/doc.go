// Package moderation lets moderators mute and ban users, slow down and freeze
// rooms, look at words, and get reports. It is built on the public API of
// chathub alone.
//
//	m := moderation.New(moderation.Config{Moderator: isModerator})
//	cfg := chathub.Config{Auth: auth, Authorize: authorize, Broker: broker}
//	m.Install(&cfg) // before chathub.New
//	hub, err := chathub.New(cfg)
//	...
//	hub.Use(saveMessages)  // the application's middleware first
//	err = m.Start(ctx, hub) // before the hub serves
//
// Decisions are kept in the Broker, in the states of rooms that no client may
// join. So they survive what the Broker survives, and every node has all of
// them in memory. A check costs no request and, in a room without decisions,
// less than a microsecond.
//
// When [Moderation.Decide] has returned nil, the decision holds on every node,
// also against messages, joins and handshakes that were under way. The guide,
// docs/moderation.md, has the events for clients.
package moderation
