package chathub

import "runtime"

// LiveHeap exports liveHeap to the black-box tests.
var LiveHeap = liveHeap

// liveHeap returns the bytes in use once the pools are empty. They let go at
// the second collection.
func liveHeap() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
