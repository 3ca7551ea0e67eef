// Package stats summarises samples.
package stats

import "slices"

// Summary is the median and the spread of the values of several rounds.
type Summary struct {
	Median, Min, Max float64
	N                int
}

// Summarize returns the summary of values. It is zero if there are none.
func Summarize(values []float64) Summary {
	n := len(values)
	if n == 0 {
		return Summary{}
	}
	v := slices.Sorted(slices.Values(values))
	mid := v[n/2]
	if n%2 == 0 {
		mid = (v[n/2-1] + v[n/2]) / 2
	}
	return Summary{Median: mid, Min: v[0], Max: v[n-1], N: n}
}
