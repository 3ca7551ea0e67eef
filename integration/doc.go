// Package integration tests the hub together with what is not ours: routers and
// middleware, WebSocket clients of other authors, a reverse proxy. It is a module of its own, so that
// none of them becomes a dependency of the library.
package integration
