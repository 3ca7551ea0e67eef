package child

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// Usage is how much of the machine a process uses.
type Usage struct {
	RSS        uint64 `json:"rss"`  // resident memory in bytes; 0 if unknown
	Heap       uint64 `json:"heap"` // bytes
	Goroutines int    `json:"goroutines"`
}

// Measure returns the usage of this process. With collect, it first collects
// garbage and gives unused memory back to the system.
func Measure(collect bool) Usage {
	if collect {
		runtime.GC() // a pool drops its contents in the second of two collections
		debug.FreeOSMemory()
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return Usage{RSS: resident(), Heap: mem.HeapAlloc, Goroutines: runtime.NumGoroutine()}
}

// resident returns the resident memory of this process in bytes, or 0 if there
// is no /proc.
func resident() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
