package load

// Dialect is how clients talk to a server.
type Dialect struct {
	// Path is the path and query of the handshake.
	Path func(room string) string
	// Header returns further header lines, each with its CRLF. It may be nil.
	Header func(id int) string
	// Connect returns what a client does after the handshake, before it counts
	// as connected. It may be nil.
	Connect func(id int) []Step
	// Join returns how a connected client joins a room. It is nil if the Path
	// names the room.
	Join func(room string) []Step
	// Publish returns the text frame that sends data to everyone in a room. The
	// data needs no quoting.
	Publish func(room, data string) string
	// Deflate makes clients offer compression without context takeover, and
	// compress what they publish. The server must agree. It must compress
	// published messages only, each in a frame of its own.
	Deflate bool
	// Ping, if not empty, is a text frame of the server that clients answer
	// with Pong.
	Ping, Pong string
}

// Step is a frame to send, a text to wait for, or both in this order.
type Step struct {
	Send   string
	Expect string // a part of a frame from the server
	// Seen, if not nil, gets the awaited frame.
	Seen func(frame []byte)
}
