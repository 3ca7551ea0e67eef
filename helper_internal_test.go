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

// settledHeap returns the live heap once it does not shrink any more. On a busy
// machine, goroutines may be late to give back what they hold.
func settledHeap() int64 {
	least, since := liveHeap(), 0
	for since < 2 {
		runtime.Gosched()
		if now := liveHeap(); now < least {
			least, since = now, 0
		} else {
			since++
		}
	}
	return least
}
