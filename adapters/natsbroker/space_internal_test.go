package natsbroker

import "testing"

// TestSpaceMaxBytes: how large a stream may be, by what is free and what is
// there.
func TestSpaceMaxBytes(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	for _, tc := range []struct {
		name  string
		space space
		asked int64
		want  int64 // 0: an error
	}{
		{"the default on a large disk", space{free: 100 * gib}, 0, gib},
		{"the default on a small one", space{free: 1000 * mib}, 0, 750 * mib},
		{"the default on the smallest", space{free: 16 * mib}, 0, 12 * mib},
		{"the default on a smaller one", space{free: 16*mib - 1}, 0, 0},
		{"the default on a disk that is not known", space{free: -1}, 0, gib},
		{"as much as is free", space{free: 100 * mib}, 100 * mib, 100 * mib},
		{"more than is free", space{free: 100*mib - 1}, 100 * mib, 0},
		{"little on the smallest", space{free: 5 * mib}, 5 * mib, 5 * mib},
		{"no bound", space{free: 5 * mib}, -1, -1},
		{"a disk that is not known", space{free: -1}, 100 * mib, 100 * mib},

		{"there, and the disk is as it was", space{free: 600 * mib, used: 400 * mib, bound: 750 * mib}, 0, 750 * mib},
		{"there, and the disk has more room", space{free: 800 * mib, used: 400 * mib, bound: 750 * mib}, 0, 900 * mib},
		{"there, and the disk has less room", space{free: 100 * mib, used: 400 * mib, bound: 750 * mib}, 0, 750 * mib},
		{"there, and the disk is full", space{used: 10 * mib, bound: 12 * mib}, 0, 12 * mib},
		{"there, and no longer asked to be larger", space{free: 9 * gib, used: 2 * gib, bound: 5 * gib}, 0, gib},
		{"there without a bound, and no longer asked to", space{free: 300 * mib, used: 100 * mib, bound: -1}, 0, 300 * mib},
		{"there without a bound, and the disk is full", space{used: 100 * mib, bound: -1}, 0, 100 * mib},
		{"there, and asked for more than is free", space{free: mib, used: mib, bound: 5 * mib}, 10 * mib, 10 * mib},
		{"there, and asked for less", space{free: mib, used: 5 * mib, bound: 5 * mib}, 2 * mib, 2 * mib},
	} {
		got, err := tc.space.maxBytes(tc.asked)
		if got != tc.want || (err != nil) != (tc.want == 0) {
			t.Errorf("%s: %d, %v, want %d", tc.name, got, err, tc.want)
		}
	}
}
