package chathub_test

import (
	"encoding/base64"
	"os"
	"testing"
	"testing/synctest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/go-json-experiment/json"
)

// goldenFrames is protocol/frames.json. protocol/README.md, section 10,
// describes it.
type goldenFrames struct {
	Accepted []struct {
		Name string `json:"name"`
		Raw  string `json:"raw"`
		ID   string `json:"id"`
	} `json:"accepted"`
	Bad []struct {
		Name   string `json:"name"`
		Raw    string `json:"raw"`
		Base64 string `json:"rawBase64"`
		Binary bool   `json:"binary"`
		Expect struct {
			Error chathub.Code `json:"error"`
			ID    string       `json:"id"`
			Close int          `json:"close"`
		} `json:"expect"`
	} `json:"bad"`
}

func readFrames(t testing.TB) (g goldenFrames) {
	t.Helper()
	b, err := os.ReadFile("protocol/frames.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAcceptedInput(t *testing.T) {
	for _, tc := range readFrames(t).Accepted {
		t.Run(tc.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := hubtest.Dial(t, hubtest.New(t, chathub.Config{}), "ana")
				c.SendText(tc.Raw)
				if f := c.Wait("ack"); f.ID != tc.ID {
					t.Errorf("ack of %q, want %q", f.ID, tc.ID)
				}
			})
		})
	}
}

// The sender gets the documented error or close, and nobody else notices
// anything.
func TestBadInput(t *testing.T) {
	for _, tc := range readFrames(t).Bad {
		t.Run(tc.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := hubtest.New(t, chathub.Config{})
				witness := hubtest.Dial(t, hub, "witness")
				c := hubtest.Dial(t, hub, "ana")
				c.Wait("online-users")
				witness.Wait("user-online")
				raw := []byte(tc.Raw)
				if tc.Base64 != "" {
					var err error
					if raw, err = base64.StdEncoding.DecodeString(tc.Base64); err != nil {
						t.Fatal(err)
					}
				}
				c.SendRaw(tc.Binary, raw)
				if tc.Expect.Close != 0 {
					if code, _ := c.Closed(); code != tc.Expect.Close {
						t.Errorf("closed with %d, want %d", code, tc.Expect.Close)
					}
					return
				}
				f := c.Next()
				if f.Type != "error" || f.Code() != tc.Expect.Error || f.ID != tc.Expect.ID {
					t.Errorf("got %s %q with id %q, want error %q with id %q", f.Type, f.Code(), f.ID, tc.Expect.Error, tc.Expect.ID)
				}
				if r := c.Request(hubtest.Frame{Type: "message", Data: hubtest.Data("still here")}); r.Type != "ack" {
					t.Errorf("afterwards: %s %s", r.Type, r.Data)
				}
				if f := witness.Next(); f.Type != "message" {
					t.Errorf("the witness got %s %s", f.Type, f.Data)
				}
			})
		})
	}
}

func TestBadInputRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hubtest.Dial(t, hubtest.New(t, chathub.Config{}), "ana")
		for range 51 {
			c.SendText("nonsense")
		}
		if code, _ := c.Closed(); code != 4501 {
			t.Errorf("closed with %d, want 4501", code)
		}
	})
}
