package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chathub-go/chathub"
)

// TestToken: a hub takes the token, with its name, tenant and expiry.
func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ran(t, nil, "token", "-secret-env", "TEST_SECRET", "-user", "u1", "-name", "Ana", "-tenant", "acme", "-tenant-claim", "org", "-for", "5m")
		r.want(t, statusDone, "eyJ")
		auth := &chathub.JWT{Key: []byte(secret), TenantClaim: "org"}
		hub := newHub(t, chathub.Config{Auth: auth})
		id, err := auth.Authenticate(t.Context(), strings.TrimSpace(r.out), nil)
		if err != nil {
			t.Fatal(err)
		}
		if id.User != (chathub.User{ID: "u1", Name: "Ana"}) || id.Tenant != "acme" || !id.Expires.Equal(time.Now().Add(5*time.Minute)) {
			t.Errorf("%+v", id)
		}
		ran(t, hub, "send", hubURL, "-token", strings.TrimSpace(r.out), "-room", "lobby", "x").want(t, statusDone)

		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r = ran(t, nil, "token", "-secret-file", file, "-user", "u1", "-json")
		r.want(t, statusDone, `"expires":"2000-01-01T01:00:00Z"`, "eyJ")
	})
}

func TestTokenSecrets(t *testing.T) {
	ran(t, nil, "token", "-secret", strings.Repeat("s", 32), "-user", "u1").want(t, statusDone, "warning: other users of this machine can see -secret", "eyJ")
	ran(t, nil, "token", "-secret", "short", "-user", "u1").want(t, statusUsage, "needs at least 32")
	ran(t, nil, "token", "-secret-env", "NO_SUCH", "-user", "u1").want(t, statusUsage, "NO_SUCH is not set")
	ran(t, nil, "token", "-user", "u1").want(t, statusUsage, "-secret-env or -secret-file is missing")
	ran(t, nil, "token", "-secret-env", "TEST_SECRET").want(t, statusUsage, "-user is missing")
	ran(t, nil, "token", "-secret-env", "TEST_SECRET", "-user", "u1", "-for", "-1s").want(t, statusUsage, "-for must be positive")
	ran(t, nil, "token", "-secret-file", "/no/such/file", "-user", "u1").want(t, statusFailed, "no such file")
}
