package load

// Dialect is how clients speak with one server.
type Dialect struct {
	// Path is the path and query of the handshake.
	Path func(room string) string
	// Header returns more header lines, each with its CRLF. Nil: none.
	Header func(id int) string
	// Connect is what a client does after the handshake, before it counts as
	// connected. Nil: nothing.
	Connect func(id int) []Step
	// Join is how a connected client joins a room. Nil: by the Path.
	Join func(room string) []Step
	// Publish returns the text frame that sends data, which needs no quoting, to
	// everyone in a room.
	Publish func(room, data string) string
	// Deflate has clients offer compression without context takeover, and compress what
	// they publish. The server must agree, and compress nothing but what was published, each in a frame.
	Deflate bool
	// Ping, where not empty, is a text frame of the server's that must be
	// answered by Pong.
	Ping, Pong string
}

// Step is a frame to send, a text to wait for, or one after the other.
type Step struct {
	Send   string
	Expect string // part of a frame from the server
	// Seen, where not nil, gets the frame that was waited for.
	Seen func(frame []byte)
}
