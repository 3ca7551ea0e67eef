package text

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestValid(t *testing.T) {
	for _, tt := range []struct {
		name  string
		in    string
		valid bool
	}{
		{"plain", "lobby", true},
		{"spaces", " a b ", true},
		{"other scripts", "użytkownik 名前 🙂", true},
		{"longest", strings.Repeat("x", 28), true},
		{"longest, in bytes", strings.Repeat("é", 14), true},
		{"no-break space, the first after the C1 controls", "\u00a0", true},
		{"empty", "", false},
		{"too long", strings.Repeat("x", 29), false},
		{"too long in bytes, not in runes", strings.Repeat("é", 15), false},
		{"not UTF-8", "a\xff", false},
		{"cut short", "a\xc3", false},
		{"surrogate", "a\xed\xa0\x80", false},
		{"NUL", "a\x00", false},
		{"line break", "a\nb", false},
		{"tab", "a\tb", false},
		{"last of the C0 controls", "a\x1f", false},
		{"DEL", "a\x7f", false},
		{"C1 control", "a\u0085", false},
		{"last of the C1 controls", "a\u009f", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Valid(tt.in, 28); got != tt.valid {
				t.Errorf("%q: %t, want %t", tt.in, got, tt.valid)
			}
		})
	}
}

func TestControlsAreThoseOfUnicode(t *testing.T) {
	for r := range unicode.MaxRune {
		if !utf8.ValidRune(r) {
			continue
		}
		if got, want := Valid(string(r), utf8.UTFMax), !unicode.Is(unicode.Cc, r); got != want {
			t.Fatalf("%U: %t, want %t", r, got, want)
		}
	}
}

func TestValidType(t *testing.T) {
	for in, want := range map[string]bool{
		"message":                      true,
		"poll:closed":                  true,
		"a":                            true,
		"0":                            true,
		"a.b_c-d:e":                    true,
		strings.Repeat("a", MaxType):   true,
		strings.Repeat("a", MaxType+1): false,
		"":                             false,
		"Message":                      false,
		"-a":                           false,
		":a":                           false,
		".a":                           false,
		"_a":                           false,
		"a b":                          false,
		"a/b":                          false,
		"a\n":                          false,
		"é":                            false,
	} {
		if got := ValidType(in); got != want {
			t.Errorf("%q: %t, want %t", in, got, want)
		}
	}
}
