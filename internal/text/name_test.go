package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

var nameTests = []struct {
	name     string
	in, want string
}{
	{"plain", "Ana", "Ana"},
	{"empty", "", ""},
	{"other scripts", "Łukasz 名前 שלום مريم", "Łukasz 名前 שלום مريم"},
	{"emoji", "🙂 👩‍👩‍👧 👍🏽 🏴󠁧󠁢󠁷󠁬󠁳󠁿", "🙂 👩‍👩‍👧 👍🏽 🏴󠁧󠁢󠁷󠁬󠁳󠁿"},
	{"joiner and non-joiner of Persian", "می\u200cخواهم", "می\u200cخواهم"},
	{"marks of direction stay", "a\u200eb\u200fc", "a\u200eb\u200fc"},
	{"markup is the page's affair", "<b>&amp;", "<b>&amp;"},

	{"trimmed", " \t Ana\u00a0\u3000\n", "Ana"},
	{"trimmed around what is dropped", "\u202e Ana \u202c", "Ana"},
	{"line break", "Ana\nAdmin", "Ana Admin"},
	{"line breaks of all kinds", "a\rb\vc\fd\u0085e\u2028f\u2029g", "a b c d e f g"},
	{"tab", "a\tb", "a b"},
	{"NUL", "a\x00b", "ab"},
	{"escape", "\x1b[31mroot\x1b[0m", "[31mroot[0m"},
	{"DEL and C1", "a\x7f\u009bb", "ab"},
	{"right-to-left override", "ana\u202egpj.exe", "anagpj.exe"},
	{"embeddings and isolates", "\u202aa\u202bb\u202cc\u202dd\u2066e\u2067f\u2068g\u2069", "abcdefg"},
	{"not UTF-8", "Ana\xff\xfe!", "Ana\uFFFD!"},
	{"cut short by others", "Jos\xc3", "Jos\uFFFD"},
	{"half a surrogate pair", "ab\xed\xa0\xbd", "ab\uFFFD"},

	{"spaces only", " \u00a0\u2003 ", ""},
	{"controls only", "\x00\x1f\u0080", ""},
	{"overrides only", "\u202e\u2066", ""},
	{"nothing visible", "\u200b\u200d\ufeff\u2060", ""},

	{"longest", strings.Repeat("n", MaxName), strings.Repeat("n", MaxName)},
	{"too long", strings.Repeat("n", MaxName+1), strings.Repeat("n", MaxName)},
	{"far too long", strings.Repeat("n", 1<<12), strings.Repeat("n", MaxName)},
	{"cut within a rune", strings.Repeat("n", MaxName-1) + "é", strings.Repeat("n", MaxName-1)},
	{"cut before a rune of four bytes", strings.Repeat("n", MaxName-3) + "🙂", strings.Repeat("n", MaxName-3)},
	{"cut within an accent", strings.Repeat("n", MaxName-1) + "e\u0301", strings.Repeat("n", MaxName-1)},
	{"cut within several accents", strings.Repeat("n", MaxName-3) + "e\u0301\u0323", strings.Repeat("n", MaxName-3)},
	{"cut within a family", strings.Repeat("n", MaxName-10) + "👩‍👩‍👧", strings.Repeat("n", MaxName-10)},
	{"cut before a skin tone", strings.Repeat("n", MaxName-4) + "👍🏽", strings.Repeat("n", MaxName-4)},
	{"cut before a variation selector", strings.Repeat("n", MaxName-3) + "❤\ufe0f", strings.Repeat("n", MaxName-3)},
	{"cut within a flag", strings.Repeat("n", MaxName-4) + "🇧🇷", strings.Repeat("n", MaxName-4)},
	{"cut between flags", strings.Repeat("n", MaxName-8) + "🇧🇷🇵🇹", strings.Repeat("n", MaxName-8) + "🇧🇷"},
	{"cut within the second flag", strings.Repeat("n", MaxName-12) + "🇧🇷🇵🇹", strings.Repeat("n", MaxName-12) + "🇧🇷"},
	{"cut within the flag of Wales", strings.Repeat("n", MaxName-9) + "🏴󠁧󠁢󠁷󠁬󠁳󠁿", strings.Repeat("n", MaxName-9)},
	{"cut within a Hangul syllable", strings.Repeat("n", MaxName-3) + "\u1112\u1161\u11ab", strings.Repeat("n", MaxName-3)},
	{"cut after a space", strings.Repeat("n", MaxName-1) + " n", strings.Repeat("n", MaxName-1)},
	{"what is dropped does not count", "\u202e" + strings.Repeat("n", MaxName), strings.Repeat("n", MaxName)},
	{"one character that is too long", "e" + strings.Repeat("\u0301", MaxName), "e" + strings.Repeat("\u0301", (MaxName-1)/2)},
	{"only marks", strings.Repeat("\u0301", MaxName), strings.Repeat("\u0301", MaxName/2)},
	{"only joiners and marks", strings.Repeat("\u200d\u0301", MaxName), strings.Repeat("\u200d\u0301", MaxName/5)},
}

func TestName(t *testing.T) {
	for _, tt := range nameTests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Name(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzName(f *testing.F) {
	for _, tt := range nameTests {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Name(s)
		if got != "" && !Valid(got, MaxName) {
			t.Errorf("%q becomes %q, which is not valid", s, got)
		}
		if strings.ContainsAny(got, "\n\r\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") {
			t.Errorf("%q becomes %q", s, got)
		}
		if again := Name(got); again != got {
			t.Errorf("%q becomes %q, and that %q", s, got, again)
		}
		if plain := strings.Trim(got, " ") == got; !plain {
			t.Errorf("%q becomes %q, which is not trimmed", s, got)
		}
		// A name that is good already stays as it is, but for an invisible one.
		if Valid(s, MaxName) && strings.TrimSpace(s) == s && nameRunesOnly(s) && got != s && got != "" {
			t.Errorf("%q becomes %q", s, got)
		}
		if utf8.RuneCountInString(got) > utf8.RuneCountInString(s) {
			t.Errorf("%q grows to %q", s, got)
		}
	})
}

func nameRunesOnly(s string) bool {
	for _, r := range s {
		if nameRune(r) != r {
			return false
		}
	}
	return true
}
