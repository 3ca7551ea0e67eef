package wire

import (
	"net/http"
	"strings"
	"testing"
)

func TestNegotiate(t *testing.T) {
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	const windowed = plain + "; server_max_window_bits=12"
	for _, tt := range []struct{ name, offer, want string }{
		{"nothing", "", ""},
		{"no parameters", "permessage-deflate", plain},
		{"Chromium and Firefox", "permessage-deflate; client_max_window_bits", plain},
		{"Python's websockets", "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", windowed},
		{"everything", "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15; client_max_window_bits=8", windowed},
		{"quoted", `permessage-deflate; server_max_window_bits="13"`, windowed},
		{"blanks", "\t permessage-deflate\t;\tclient_max_window_bits =\t10 ", plain},
		{"empty elements", ", ,permessage-deflate,", plain},
		{"among others", `x-other; a=b; c="d", permessage-deflate, x-more`, plain},
		{"another", "permessage-bzip2", ""},
		{"another that is called much the same", "permessage-deflate2, x-webkit-deflate-frame", ""},
		{"a window smaller than ours", "permessage-deflate; server_max_window_bits=11", ""},
		{"then a larger one", "permessage-deflate; server_max_window_bits=10, permessage-deflate", plain},
		{"the first that can be", "permessage-deflate; server_max_window_bits=12, permessage-deflate", windowed},
		{"unknown parameter", "permessage-deflate; memory=low", ""},
		{"repeated parameter", "permessage-deflate; client_max_window_bits; client_max_window_bits=10", ""},
		{"value too many", "permessage-deflate; client_no_context_takeover=1", ""},
		{"value missing", "permessage-deflate; server_max_window_bits", ""},
		{"window too small to be one", "permessage-deflate; client_max_window_bits=7", ""},
		{"window too large to be one", "permessage-deflate; client_max_window_bits=16", ""},
		{"leading zero", "permessage-deflate; server_max_window_bits=012", ""},
		{"signed", "permessage-deflate; server_max_window_bits=+12", ""},
		{"no list", "permessage-deflate x", ""},
		{"good, then no list", "permessage-deflate, x y", ""},
		{"no name", "; client_max_window_bits", ""},
		{"no parameter", "permessage-deflate;", ""},
		{"no value", "permessage-deflate; client_max_window_bits=", ""},
		{"open quotes", `permessage-deflate; client_max_window_bits="12`, ""},
		{"empty quotes", `permessage-deflate; client_max_window_bits=""`, ""},
		{"no token in quotes", `permessage-deflate; client_max_window_bits=" 12"`, ""},
		{"not ASCII", "permessage-deflate\u00a0", ""},
	} {
		if got := Negotiate(offers(tt.offer)); got != tt.want {
			t.Errorf("%s: %q is answered with %q, want %q", tt.name, tt.offer, got, tt.want)
		}
	}
	if got := Negotiate(offers("x-other", "permessage-deflate; client_max_window_bits")); got != plain {
		t.Errorf("in the second line: %q", got)
	}
}

func offers(lines ...string) http.Header {
	return http.Header{"Sec-Websocket-Extensions": lines}
}

// FuzzNegotiate: every answer is one that RFC 7692 allows for the offer.
func FuzzNegotiate(f *testing.F) {
	f.Add("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12")
	f.Add(`x; a="b", permessage-deflate; client_max_window_bits="10" ;server_no_context_takeover`)
	f.Fuzz(func(t *testing.T, offer string) {
		answer, ok := strings.CutPrefix(Negotiate(offers(offer)), deflateAnswer)
		if !ok {
			return
		}
		if !strings.Contains(offer, "permessage-deflate") {
			t.Errorf("%q: agreed to what was not offered", offer)
		}
		if answer != "" && (answer != "; server_max_window_bits=12" || !strings.Contains(offer, "server_max_window_bits")) {
			t.Errorf("%q: %q more", offer, answer)
		}
	})
}
