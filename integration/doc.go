// Package integration tests the hub together with other people's code: routers
// and middleware, WebSocket clients, and the reverse proxies nginx, Apache,
// HAProxy and Caddy with the configurations of deploy. It is a module of its
// own, so that none of them becomes a dependency of the library.
package integration
