package natsbroker

import (
	"bytes"
	"testing"
)

// FuzzFrame checks that a frame survives encoding and decoding, and that any
// other data is refused or decoded to no more than it contains.
func FuzzFrame(f *testing.F) {
	f.Add([]byte(nil), "", uint64(0), uint64(0), int64(0))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, "key", uint64(1), uint64(0), int64(-1))
	f.Add((&frame{attempt: 7, time: 1, key: "a\x00b", body: []byte("body")}).encode(), "k", uint64(1<<63), uint64(1), int64(1<<62))
	f.Add((&frame{sum: 7}).encode()[:16], "k", uint64(1), uint64(1<<63), int64(1))
	f.Fuzz(func(t *testing.T, data []byte, key string, attempt, sum uint64, time int64) {
		in := frame{attempt: attempt, sum: sum, time: time, key: key, body: data}
		out := frame{sum: 1} // from another message
		if err := out.decode(in.encode()); err != nil {
			t.Fatal(err)
		}
		if out.attempt != attempt || out.sum != sum || out.time != time || out.key != key || !bytes.Equal(out.body, data) {
			t.Errorf("%+v became %+v", in, out)
		}
		var any frame
		if any.decode(data) == nil && len(any.key)+len(any.body) > len(data) {
			t.Errorf("%d bytes have a key of %d and a body of %d", len(data), len(any.key), len(any.body))
		}
	})
}
