package natsbroker

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strings"

	"github.com/nats-io/nats-server/v2/server/sysmem"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// defaultBytes is the default of MaxBytes.
	defaultBytes = 1 << 30
	// leastBytes is how much must be free unless the application sets MaxBytes.
	leastBytes = 16 << 20
)

// space is the room that an embedded server has for its stream.
type space struct {
	where string // "on the disk of data" or "in memory"
	free  int64  // in bytes; negative: unknown
	used  int64  // by the stream, in bytes
	// bound is the MaxBytes of the stream. 0: the stream does not exist yet.
	// Negative: the stream has no bound.
	bound int64
}

// space returns the room for the stream. info is nil if the stream does not
// exist yet.
func (srv *localServer) space(cfg *config, info *jetstream.StreamInfo) space {
	if cfg.memory { // always empty when the server starts
		return space{where: "in memory", free: freeMemory()}
	}
	sp := space{where: "on the disk of " + srv.path, free: freeBytes(srv.path)}
	if info != nil {
		sp.used, sp.bound = int64(min(info.State.Bytes, math.MaxInt64)), info.Config.MaxBytes
	}
	return sp
}

// freeMemory returns how many bytes this process may use: GOMEMLIMIT, or the
// memory of the machine if that is less. Negative: unknown.
func freeMemory() int64 {
	most := sysmem.Memory()
	if most <= 0 {
		return -1
	}
	return min(most, debug.SetMemoryLimit(-1)) // only reads the limit
}

// maxBytes returns the bound of the stream. The option is MaxBytes as the
// application set it, or 0. Then the bound is defaultBytes, or three quarters
// of the free space if that is less.
//
// An existing stream is never refused, and never loses messages because other
// files have filled the disk.
func (sp *space) maxBytes(option int64) (int64, error) {
	exists := sp.bound != 0
	switch {
	case sp.free < 0:
		return cmp.Or(option, defaultBytes), nil
	case option > sp.free && !exists:
		return 0, fmt.Errorf("natsbroker: MaxBytes is %s, but only %s are free %s: make room, or set MaxBytes to less",
			size(option), size(sp.free), sp.where)
	case option != 0:
		return option, nil
	case sp.free < leastBytes && !exists:
		return 0, fmt.Errorf("natsbroker: only %s are free %s, less than %s: make room, or set MaxBytes to less",
			size(sp.free), sp.where, size(leastBytes))
	}
	least := sp.bound
	if least < 0 {
		least = sp.used
	}
	return min(defaultBytes, max(least, (sp.free+sp.used)/4*3)), nil
}

// size formats a number of bytes for a person.
func size(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// fit sets the bound of an embedded stream to what there is room for. info is
// nil if the stream does not exist yet.
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
		b.cfg.log.Warn("natsbroker: there is too little room for the default MaxBytes, using less", "where", space.where,
			"free", size(space.free), "MaxBytes", size(n), "default", size(defaultBytes))
	case space.free >= 0 && n > space.free+space.used:
		b.cfg.log.Warn("natsbroker: MaxBytes is more than there is room for; a full disk will stop the chat", "where", space.where,
			"free", size(space.free), "used", size(space.used), "MaxBytes", size(n))
	}
	return nil
}

// remedy returns advice to append to err if the servers refused to create the
// stream because of its size. Otherwise it returns "".
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
	return fmt.Sprintf("; MaxBytes is %s: make room on the servers, raise max_file_store or max_memory_store in their configuration, "+
		"or set MaxBytes to less", size(maxBytes))
}
