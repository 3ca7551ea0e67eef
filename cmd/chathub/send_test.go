package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
)

func TestSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t, chathub.Config{})
		send := []string{"send", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby", "-id", "deploy-1"}
		ran(t, hub, append(send, "Hello")...).want(t, statusDone, "stored at ", "/1, id deploy-1\n")
		// Once more, which stores nothing.
		ran(t, hub, append(send, "Hello")...).want(t, statusDone, "/1, id deploy-1 (it was there before)")
		// The id was for another text.
		ran(t, hub, append(send, "Bye")...).want(t, statusWrong, "the server refuses: conflict")
		// What follows -- is no flag.
		r := ran(t, hub, "send", hubURL, "-secret-env", "TEST_SECRET", "-to", "ben", "-json", "--", "-5 degrees")
		r.want(t, statusDone)
		if receipt := decoded[receiptJSON](t, r); receipt.Seq != 1 || receipt.Epoch == "" || receipt.ID == "" || receipt.TS == 0 || receipt.Dup {
			t.Errorf("%+v", receipt)
		}
		ran(t, hub, "send", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby", "-data", `{"text":"two","n":2}`).want(t, statusDone)
		ran(t, hub, "send", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby", "-data", `{"text"`).want(t, statusUsage, "not valid JSON")
		ran(t, hub, "tail", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby", "-history", "9", "-count", "2", "-json").
			want(t, statusDone, `"data":{"text":"Hello"}`, `"data":{"text":"two","n":2}`)
	})
}

func TestSendLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t, chathub.Config{})
		args := []string{"send", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby", "-id", "log", "-"}
		ranWith(t.Context(), hub, "one\ntwo\n", args...).want(t, statusDone, "/1, id log-1\n", "/2, id log-2\n", "stored: 2")
		// With one line more, that one is stored.
		ranWith(t.Context(), hub, "one\ntwo\nthree", args...).want(t, statusDone, "/2, id log-2 (it was there before)", "/3, id log-3\n")
		ranWith(t.Context(), hub, strings.Repeat("x", 2<<20), args...).want(t, statusFailed, "token too long")
		// It is refused in the middle.
		ranWith(t.Context(), hub, "four\nfive\n", args...).want(t, statusWrong, "conflict", "stored: 0")
	})
}

func TestSendRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t, chathub.Config{Authorize: func(context.Context, *chathub.Client, chathub.Action) error {
			return &chathub.Error{Code: chathub.CodeForbidden, Message: "No"}
		}})
		ran(t, hub, "send", hubURL, "-secret-env", "TEST_SECRET", "-room", "lobby", "x").want(t, statusWrong, "forbidden: No")
		ran(t, hub, "send", hubURL, "-secret-env", "TEST_SECRET", "-to", "ben", "x").want(t, statusWrong, "forbidden: No")
	})
}
