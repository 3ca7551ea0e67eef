package chathub_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
)

// TestNamesAreCleaned checks that no name keeps its owner out, whichever
// Authenticator it comes from.
func TestNamesAreCleaned(t *testing.T) {
	for name, want := range map[string]string{
		"Ana":                          "Ana",
		"":                             "",
		"Ana\nAdmin":                   "Ana Admin",
		"\u202eanA\u2066":              "anA",
		"\x1b]0;pwned\a":               "]0;pwned",
		"Jos\xe9":                      "Jos\uFFFD",
		" \u200b ":                     "",
		strings.Repeat("n", 255) + "é": strings.Repeat("n", 255),
		strings.Repeat("👩‍🚀", 1000):    strings.Repeat("👩‍🚀", 23),
	} {
		synctest.Test(t, func(t *testing.T) {
			hub := hubtest.New(t, chathub.Config{Auth: authFunc(func(string, *http.Request) (chathub.Identity, error) {
				return chathub.Identity{User: chathub.User{ID: "ana", Name: name}}, nil
			})})
			c := hubtest.Dial(t, hub, "any")
			if got := dataOf[welcomeData](t, c.Welcome).User.Name; got != want {
				t.Errorf("%.40q becomes %q, want %q", name, got, want)
			}
			if got := onlineUsers(t, hub); len(got) != 1 || got[0].Name != want {
				t.Errorf("%.40q is shown to others as %q", name, got)
			}
		})
	}
}
