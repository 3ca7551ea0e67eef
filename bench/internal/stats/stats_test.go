package stats

import (
	"slices"
	"testing"
)

func TestSummarize(t *testing.T) {
	tests := []struct {
		values []float64
		want   Summary
	}{
		{nil, Summary{}},
		{[]float64{3}, Summary{Median: 3, Min: 3, Max: 3, N: 1}},
		{[]float64{9, 1}, Summary{Median: 5, Min: 1, Max: 9, N: 2}},
		{[]float64{5, 100, 4, 1, 6}, Summary{Median: 5, Min: 1, Max: 100, N: 5}},
	}
	for _, tt := range tests {
		before := slices.Clone(tt.values)
		if got := Summarize(tt.values); got != tt.want {
			t.Errorf("Summarize(%v) is %+v, want %+v", tt.values, got, tt.want)
		}
		if !slices.Equal(before, tt.values) {
			t.Errorf("Summarize changed %v to %v", before, tt.values)
		}
	}
}
