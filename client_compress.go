package chathub

import (
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// inflateRate is how many compressed bytes a second are decompressed for one
// user. If more come, reading waits. Limits on events would not be enough: a
// message can be made to take twenty times as long as an honest one of its size
// (BenchmarkInflate).
const inflateRate = 256 << 10

// inflate decompresses a message. It may wait for the rate of the user, so only
// the goroutine that reads may call it.
func (c *Client) inflate(b []byte) ([]byte, error) {
	now := time.Now()
	r := c.place.user.more().inflated.get(inflateRate, inflateRate).ReserveN(now, min(len(b), inflateRate))
	if wait := r.DelayFrom(now); wait > 0 {
		_ = sleep(c.Context(), wait) // a connection that has ended is not read again
	}
	return wire.Inflate(b, c.hub.cfg.MaxMessageBytes)
}

// compress returns the compressed form of a frame, or nil if it has none. It
// takes some µs, so it is for the goroutines of publishers, brokers and
// clients, never for the loop.
func (h *Hub) compress(frame []byte) []byte {
	if len(wire.Payload(frame)) < h.cfg.CompressFrom {
		return nil
	}
	return wire.Deflate(frame)
}

// compressShared is compress for a frame that may go to many clients. It does
// nothing if no client accepts compressed frames.
func (h *Hub) compressShared(frame []byte) []byte {
	if h.compressedClients.Load() == 0 {
		return nil
	}
	return h.compress(frame)
}

// compress returns a frame for c alone in the form that c accepts.
func (c *Client) compress(frame []byte) []byte {
	if !c.takesCompressed {
		return frame
	}
	return c.pick(frame, c.hub.compress(frame))
}

// pick returns the form of a frame that c accepts. small is the compressed
// form, or nil.
func (c *Client) pick(frame, small []byte) []byte {
	if c.takesCompressed && small != nil {
		return small
	}
	return frame
}
