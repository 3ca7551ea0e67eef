package natsbroker

import "testing"

// TestSpaceMaxBytes checks the bound of a stream for the free space and the
// state of the stream.
func TestSpaceMaxBytes(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	for _, tc := range []struct {
		name   string
		space  space
		option int64
		want   int64 // 0: an error
	}{
		{"the default on a large disk", space{free: 100 * gib}, 0, gib},
		{"the default on a small one", space{free: 1000 * mib}, 0, 750 * mib},
		{"the default on the smallest", space{free: 16 * mib}, 0, 12 * mib},
		{"the default on a disk that is too small", space{free: 16*mib - 1}, 0, 0},
		{"the default on an unknown disk", space{free: -1}, 0, gib},
		{"as much as is free", space{free: 100 * mib}, 100 * mib, 100 * mib},
		{"more than is free", space{free: 100*mib - 1}, 100 * mib, 0},
		{"little on a small disk", space{free: 5 * mib}, 5 * mib, 5 * mib},
		{"no bound", space{free: 5 * mib}, -1, -1},
		{"an unknown disk", space{free: -1}, 100 * mib, 100 * mib},

		{"an existing stream, and the same disk", space{free: 600 * mib, used: 400 * mib, bound: 750 * mib}, 0, 750 * mib},
		{"an existing stream, and more room", space{free: 800 * mib, used: 400 * mib, bound: 750 * mib}, 0, 900 * mib},
		{"an existing stream, and less room", space{free: 100 * mib, used: 400 * mib, bound: 750 * mib}, 0, 750 * mib},
		{"an existing stream, and a full disk", space{used: 10 * mib, bound: 12 * mib}, 0, 12 * mib},
		{"an existing stream that was larger", space{free: 9 * gib, used: 2 * gib, bound: 5 * gib}, 0, gib},
		{"an existing stream that had no bound", space{free: 300 * mib, used: 100 * mib, bound: -1}, 0, 300 * mib},
		{"an existing stream that had no bound, and a full disk", space{used: 100 * mib, bound: -1}, 0, 100 * mib},
		{"an existing stream, and more than is free", space{free: mib, used: mib, bound: 5 * mib}, 10 * mib, 10 * mib},
		{"an existing stream, and less than before", space{free: mib, used: 5 * mib, bound: 5 * mib}, 2 * mib, 2 * mib},
	} {
		got, err := tc.space.maxBytes(tc.option)
		if got != tc.want || (err != nil) != (tc.want == 0) {
			t.Errorf("%s: %d, %v, want %d", tc.name, got, err, tc.want)
		}
	}
}
