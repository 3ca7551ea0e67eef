package chathub

import (
	"context"
	"log/slog"
	"sync"

	"golang.org/x/time/rate"
)

// How many lines of one kind are logged: so many at once, and so many a second.
// A flood that clients cause must not be a flood of lines.
const (
	lineBurst = 10
	lineRate  = 1
)

// lineLimits bounds what is logged of each kind. The zero value is ready. Any
// goroutine may use it.
type lineLimits struct {
	mu    sync.Mutex
	kinds map[any]*lineCount // clients must not be able to make kinds
}

// lineCount is about the lines of one kind.
type lineCount struct {
	limiter  *rate.Limiter
	unlogged uint64 // since the last line
}

// take reports whether a line may be logged, and how many of its kind have not
// been since the last one.
func (lines *lineLimits) take(kind any) (unlogged uint64, ok bool) {
	lines.mu.Lock()
	defer lines.mu.Unlock()
	k := lines.kinds[kind]
	if k == nil {
		if lines.kinds == nil {
			lines.kinds = make(map[any]*lineCount)
		}
		k = &lineCount{limiter: rate.NewLimiter(lineRate, lineBurst)}
		lines.kinds[kind] = k
	}
	if !k.limiter.Allow() {
		k.unlogged++
		return 0, false
	}
	unlogged, k.unlogged = k.unlogged, 0
	return unlogged, true
}

// logLimited logs a line, unless there were too many of its kind. The next line
// says how many were left out. attrs is called for a line that is logged.
func (h *Hub) logLimited(kind any, level slog.Level, msg string, attrs func() []any) {
	if !h.log.Enabled(context.Background(), level) {
		return
	}
	unlogged, ok := h.lines.take(kind)
	if !ok {
		return
	}
	args := attrs()
	if unlogged > 0 {
		args = append(args, "unlogged", unlogged)
	}
	h.log.Log(context.Background(), level, msg, args...)
}
