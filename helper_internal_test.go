package chathub

import "runtime"

// LiveHeap is for the tests from outside.
var LiveHeap = liveHeap

// liveHeap is what is left once the pools are empty: they let go with the second collection.
func liveHeap() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
