// Package handshake reads the request that opens a WebSocket: which page it
// comes from, which token it carries, and from which address. Its functions
// take a request, change nothing, and may be called concurrently.
package handshake

import (
	"iter"
	"net/http"
	"strings"
)

// Subprotocol is the name of the protocol in a handshake.
const Subprotocol = "chathub.v1"

// OffersSubprotocol reports whether the client offers [Subprotocol].
func OffersSubprotocol(r *http.Request) bool {
	for p := range offeredProtocols(r) {
		if p == Subprotocol {
			return true
		}
	}
	return false
}

// offeredProtocols yields the client's subprotocols in its order of preference.
// They may come in one header or in several (RFC 6455 section 11.3.4).
func offeredProtocols(r *http.Request) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
			for p := range strings.SplitSeq(line, ",") {
				if !yield(strings.Trim(p, " \t")) {
					return
				}
			}
		}
	}
}
