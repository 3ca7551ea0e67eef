package chathub

import (
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// inflateRate is how many compressed bytes of one user are decompressed in a second; where
// they come faster, reading waits. A message can be made so that it takes twenty times as long as an
// honest one of its size (BenchmarkInflate), which limits on events do not see.
const inflateRate = 256 << 10

// inflate returns what a compressed message was before. It is for who reads.
func (c *Client) inflate(b []byte) ([]byte, error) {
	now := time.Now()
	r := c.limits.inflate.get(inflateRate, inflateRate).ReserveN(now, min(len(b), inflateRate))
	if wait := r.DelayFrom(now); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.Context().Done():
		}
	}
	return wire.Inflate(b, c.hub.cfg.MaxMessageBytes)
}

// shrink returns the compressed form of a frame; nil where it has none. It takes some µs:
// it is for the goroutines of publishers, brokers and clients, never for the loop.
func (h *Hub) compress(frame []byte) []byte {
	if len(wire.Payload(frame)) < h.cfg.CompressFrom {
		return nil
	}
	return wire.Deflate(frame)
}

// shrinkShared is shrink for what may be for many: it does nothing while nobody would
// take it.
func (h *Hub) compressShared(frame []byte) []byte {
	if h.compressedClients.Load() == 0 {
		return nil
	}
	return h.compress(frame)
}

// shrink returns a frame that is for c alone in the form in which c gets it.
func (c *Client) compress(frame []byte) []byte {
	if !c.takesCompressed {
		return frame
	}
	return c.pick(frame, c.hub.compress(frame))
}

// pick returns the form of a frame that c gets; small is the compressed one, or nil.
func (c *Client) pick(frame, small []byte) []byte {
	if c.takesCompressed && small != nil {
		return small
	}
	return frame
}
