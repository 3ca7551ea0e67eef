package wire

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// The opcodes of RFC 6455 section 5.2 that this package needs.
const (
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xa

	finBit    = 0x80
	maskBit   = 0x80
	maskBytes = 4
)

// HeaderRoom is how many bytes a buffer must leave free before its payload for
// [Seal]. It is the length of the longest header of an unmasked frame (RFC 6455
// section 5.2).
const HeaderRoom = 10

// closeInvalidPayload is the close code of RFC 6455 section 7.4.1 for text that
// is not UTF-8.
const closeInvalidPayload = 1007

// maxControlPayload is the longest payload of a control frame (RFC 6455
// section 5.5).
const maxControlPayload = 125

// Ping is a ready ping frame without payload, shared by all connections.
var Ping = []byte{finBit | opPing, 0}

// pongFrame returns the answer to a ping, which is a whole frame of a client
// (RFC 6455 section 5.5.3).
func pongFrame(ping []byte) []byte {
	mask, payload := ping[2:2+maskBytes], ping[2+maskBytes:]
	f := make([]byte, 2, 2+len(payload))
	f[0], f[1] = finBit|opPong, byte(len(payload))
	for i, b := range payload {
		f = append(f, b^mask[i%maskBytes])
	}
	return f
}

// Seal makes a text frame of b, whose first HeaderRoom bytes are free and whose
// rest is the payload. It writes the header right before the payload, and
// returns the frame, which shares b's memory. Servers do not mask (RFC 6455
// section 5.1), so one frame serves any number of connections.
func Seal(b []byte) []byte {
	n := len(b) - HeaderRoom
	switch {
	case n < 126:
		f := b[HeaderRoom-2:]
		f[0], f[1] = finBit|opText, byte(n)
		return f
	case n <= 0xffff:
		f := b[HeaderRoom-4:]
		f[0], f[1] = finBit|opText, 126
		binary.BigEndian.PutUint16(f[2:], uint16(n))
		return f
	default:
		f := b
		f[0], f[1] = finBit|opText, 127
		binary.BigEndian.PutUint64(f[2:], uint64(n))
		return f
	}
}

// Payload returns the payload of a frame made by [Seal].
func Payload(frame []byte) []byte {
	switch frame[1] {
	case 126:
		return frame[4:]
	case 127:
		return frame[10:]
	default:
		return frame[2:]
	}
}

// closeFrame returns a close frame (RFC 6455 section 5.5.1). It makes a reason
// valid UTF-8, since a peer must fail the connection otherwise, and cuts one
// that is too long at a rune boundary.
func closeFrame(code uint16, reason string) []byte {
	const most = maxControlPayload - 2
	reason = strings.ToValidUTF8(reason, string(utf8.RuneError))
	if len(reason) > most {
		n := most
		for !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	f := make([]byte, 4, 4+len(reason))
	f[0], f[1] = finBit|opClose, byte(2+len(reason))
	binary.BigEndian.PutUint16(f[2:], code)
	return append(f, reason...)
}
