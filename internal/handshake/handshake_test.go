package handshake

import (
	"net/http/httptest"
	"testing"
)

func TestOffersSubprotocol(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  bool
	}{
		{"none", nil, false},
		{"empty", []string{""}, false},
		{"alone", []string{"chathub.v1"}, true},
		{"in a list", []string{"a, chathub.v1 ,b"}, true},
		{"without spaces", []string{"a,chathub.v1,b"}, true},
		{"in the second header", []string{"a", "b, chathub.v1"}, true},
		{"another version", []string{"chathub.v10, chathub.v2"}, false},
		{"another case", []string{"Chathub.V1"}, false},
		{"only a token", []string{"chathub.bearer.chathub.v1"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/ws", nil)
			if tt.lines != nil {
				r.Header["Sec-Websocket-Protocol"] = tt.lines
			}
			if got := OffersSubprotocol(r); got != tt.want {
				t.Errorf("offers: %t, want %t", got, tt.want)
			}
		})
	}
}
