package natsbroker

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strings"

	"github.com/nats-io/nats-server/v2/server/sysmem"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// defaultBytes is MaxBytes unless the application sets it.
	defaultBytes = 1 << 30
	// leastBytes is the least room in which the application need not set it.
	leastBytes = 16 << 20
)

// space is where an embedded server can store its stream.
type space struct {
	where string // "on the disk of data", "in memory"
	free  int64  // bytes; negative: unknown
	// used and bound are the size and the MaxBytes of the stream; 0: there is
	// none yet. A negative bound is none.
	used, bound int64
}

// space returns where the server stores the stream. info is nil if there is no
// stream yet.
func (e *embedded) space(cfg *config, info *jetstream.StreamInfo) space {
	if cfg.memory { // which is empty whenever the server starts
		return space{where: "in memory", free: freeMemory()}
	}
	s := space{where: "on the disk of " + e.path, free: freeBytes(e.path)}
	if info != nil {
		s.used, s.bound = int64(min(info.State.Bytes, math.MaxInt64)), info.Config.MaxBytes
	}
	return s
}

// freeMemory is what this process may use: GOMEMLIMIT, or all that the machine
// has.
func freeMemory() int64 {
	most := sysmem.Memory()
	if most <= 0 {
		return -1
	}
	return min(most, debug.SetMemoryLimit(-1)) // which only reads it
}

// maxBytes returns the bound of the stream. asked is what the application wants;
// 0 stands for the default, which takes three quarters of what is free at most.
// The stream that is there keeps what it has, even if something else has filled
// the disk since.
func (s *space) maxBytes(asked int64) (int64, error) {
	switch {
	case s.free < 0 && asked == 0:
		return defaultBytes, nil
	case s.free < 0:
		return asked, nil
	case asked > s.free && s.bound == 0:
		return 0, fmt.Errorf("natsbroker: MaxBytes is %s, but only %s are free %s: make room, or set MaxBytes to less",
			size(asked), size(s.free), s.where)
	case asked != 0:
		return asked, nil
	case s.free < leastBytes && s.bound == 0:
		return 0, fmt.Errorf("natsbroker: only %s are free %s, less than %s: make room, or set MaxBytes to less",
			size(s.free), s.where, size(leastBytes))
	}
	keeps := s.bound
	if keeps < 0 {
		keeps = s.used
	}
	return min(defaultBytes, max(keeps, (s.free+s.used)/4*3)), nil
}

// size returns a number of bytes as people read it.
func size(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// fit bounds an embedded stream to what there is room for. info is that of the
// stream, or nil if there is none yet.
func (b *Broker) fit(want *jetstream.StreamConfig, info *jetstream.StreamInfo) error {
	if b.server == nil {
		return nil
	}
	space := b.server.space(&b.cfg, info)
	n, err := space.maxBytes(b.cfg.maxBytes)
	if err != nil {
		return err
	}
	want.MaxBytes = n
	switch {
	case b.cfg.maxBytes == 0 && n < defaultBytes:
		b.cfg.log.Warn("natsbroker: there is room for less than the default of MaxBytes", "where", space.where,
			"free", size(space.free), "MaxBytes", size(n), "default", size(defaultBytes))
	case space.free >= 0 && n > space.free+space.used:
		b.cfg.log.Warn("natsbroker: the stream may grow to more than there is room for, which stops the chat", "where", space.where,
			"free", size(space.free), "used", size(space.used), "MaxBytes", size(n))
	}
	return nil
}

// remedy returns what to do if the servers refuse a stream because of its size.
func remedy(err error, maxBytes int64) string {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return ""
	}
	switch {
	case api.ErrorCode == codeNoStorage, api.ErrorCode == codeNoMemory:
	case api.ErrorCode == codeNoPeers && strings.Contains(api.Description, "insufficient"):
	default:
		return ""
	}
	return fmt.Sprintf("; MaxBytes is %s: make room on the servers, let them store more (max_file_store, max_memory_store), "+
		"or set MaxBytes to less", size(maxBytes))
}
