package chathub

import (
	"net/http"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// extension returns the answer to the extensions that a client offers, "" for none.
func (h *Hub) extension(r *http.Request) string {
	if h.cfg.CompressFrom < 0 {
		return ""
	}
	return wire.Negotiate(r.Header)
}

// inflateRate is how many compressed bytes of one user are decompressed in a second; where
// they come faster, reading waits. A message can be made so that it takes twenty times as long as an
// honest one of its size (BenchmarkInflate), which limits on events do not see.
const inflateRate = 256 << 10

// inflate returns what a compressed message was before. It is for who reads.
func (c *Client) inflate(b []byte) ([]byte, error) {
	now := time.Now()
	r := c.visitor.inflate.get(inflateRate, inflateRate).ReserveN(now, min(len(b), inflateRate))
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
func (h *Hub) shrink(frame []byte) []byte {
	if len(wire.Payload(frame)) < h.cfg.CompressFrom {
		return nil
	}
	return wire.Deflate(frame)
}

// shrinkShared is shrink for what may be for many: it does nothing while nobody would
// take it.
func (h *Hub) shrinkShared(frame []byte) []byte {
	if h.deflating.Load() == 0 {
		return nil
	}
	return h.shrink(frame)
}

// shrink returns a frame that is for c alone in the form in which c gets it.
func (c *Client) shrink(frame []byte) []byte {
	if !c.deflates {
		return frame
	}
	return c.pick(frame, c.hub.shrink(frame))
}

// pick returns the form of a frame that c gets; small is the compressed one, or nil.
func (c *Client) pick(frame, small []byte) []byte {
	if c.deflates && small != nil {
		return small
	}
	return frame
}

// sharedChunks are the pending frames of an audience, in order, as one slice for each kind of
// member: bytes that all of a kind share.
type sharedChunks struct {
	plain, small []byte // each nil where nobody is of that kind
}

// of returns the one for c.
func (s *sharedChunks) of(c *Client) []byte {
	if c.deflates {
		return s.small
	}
	return s.plain
}

// join joins what is pending.
func (a *audience) join() (s sharedChunks) {
	first := &a.pending[0]
	if len(a.pending) == 1 {
		s.plain, s.small = first.frame, first.frame
		if first.small != nil {
			s.small = first.small
		}
		return s
	}
	if a.deflating < len(a.members) {
		s.plain = make([]byte, 0, a.bytes)
		for i := range a.pending {
			s.plain = append(s.plain, a.pending[i].frame...)
		}
	}
	if a.deflating > 0 {
		s.small = a.smallChunk(s.plain)
	}
	return s
}

// smallChunk joins what is pending in its compressed forms, where it has them. Where
// nothing has, that is plain, if there is such a chunk.
func (a *audience) smallChunk(plain []byte) []byte {
	saved := 0
	for i := range a.pending {
		if d := &a.pending[i]; d.small != nil {
			saved += len(d.frame) - len(d.small)
		}
	}
	if saved == 0 && plain != nil {
		return plain
	}
	small := make([]byte, 0, a.bytes-saved)
	for i := range a.pending {
		if d := &a.pending[i]; d.small != nil {
			small = append(small, d.small...)
		} else {
			small = append(small, d.frame...)
		}
	}
	return small
}
