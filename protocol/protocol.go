// Package protocol has the golden frames of the wire protocol, for the tests of
// servers and clients. README.md beside it is the contract.
package protocol

import _ "embed" // for Frames

// Frames is frames.json. README.md says in "Golden frames" what is in it.
//
//go:embed frames.json
var Frames []byte
