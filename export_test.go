package chathub

// LiveHeap is for the tests from outside.
var LiveHeap = liveHeap
