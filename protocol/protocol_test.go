// Package protocol_test checks that the three forms of the contract agree:
// README.md, asyncapi.yaml and frames.json. The tests of the server and of the
// clients use frames.json as their input.
package protocol_test

import (
	"encoding/base64"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

type golden struct {
	Frames   []frame    `json:"frames"`
	Accepted []accepted `json:"accepted"`
	Bad      []bad      `json:"bad"`
}

type frame struct {
	Name      string         `json:"name"`
	Direction string         `json:"direction"`
	Frame     jsontext.Value `json:"frame"`
}

type accepted struct {
	Name string `json:"name"`
	Raw  string `json:"raw"`
	ID   string `json:"id"`
}

type bad struct {
	Name      string  `json:"name"`
	Raw       *string `json:"raw"`
	RawBase64 *string `json:"rawBase64"`
	Binary    bool    `json:"binary"`
	Expect    struct {
		Error string `json:"error"`
		ID    string `json:"id"`
		Close int    `json:"close"`
	} `json:"expect"`
}

func (f frame) typ(t *testing.T) string {
	t.Helper()
	var e struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(f.Frame, &e); err != nil {
		t.Fatalf("%s: %v", f.Name, err)
	}
	return e.Type
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func goldenFrames(t *testing.T) (g golden) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, "frames.json")), &g, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGoldenFramesAreWellFormed(t *testing.T) {
	g := goldenFrames(t)
	names := make(map[string]bool)
	once := func(name string) {
		if names[name] {
			t.Errorf("%s: duplicate name", name)
		}
		names[name] = true
	}
	for _, f := range g.Frames {
		once("frames/" + f.Direction + "/" + f.Name)
		if f.Direction != "client" && f.Direction != "server" {
			t.Errorf("%s: direction %q, want client or server", f.Name, f.Direction)
		}
		if f.typ(t) == "" {
			t.Errorf("%s: no type", f.Name)
		}
	}
	for _, a := range g.Accepted {
		once("accepted/" + a.Name)
		if !strings.Contains(a.Raw, "{") || a.ID == "" {
			t.Errorf("%s: raw or id is missing", a.Name)
		}
	}
	codes := column(section(t, "## 3."))
	for _, b := range g.Bad {
		once("bad/" + b.Name)
		if (b.Raw == nil) == (b.RawBase64 == nil) {
			t.Errorf("%s: must have either raw or rawBase64", b.Name)
		}
		if b.RawBase64 != nil {
			if _, err := base64.StdEncoding.DecodeString(*b.RawBase64); err != nil {
				t.Errorf("%s: %v", b.Name, err)
			}
		}
		if (b.Expect.Error == "") == (b.Expect.Close == 0) {
			t.Errorf("%s: must expect either an error or a close", b.Name)
		}
		if b.Expect.Error != "" && !slices.Contains(codes, b.Expect.Error) {
			t.Errorf("%s: %q is not an error code", b.Name, b.Expect.Error)
		}
	}
}

var (
	example = regexp.MustCompile(`(?m)^ +- name: "?(.*?)"?\n +payload: (\{.*\})$`)
	cell    = regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|")
	quoted  = regexp.MustCompile("`([^`]+)`")
)

// TestExamplesAreTheGoldenFrames checks that the examples of asyncapi.yaml are
// the golden frames, and that neither has more.
func TestExamplesAreTheGoldenFrames(t *testing.T) {
	type key struct{ direction, name string }
	examples := make(map[key]string)
	doc := read(t, "asyncapi.yaml")
	client, server, found := strings.Cut(doc, "    # What a client receives.\n")
	if !found {
		t.Fatal("asyncapi.yaml has no comment that begins the messages to clients")
	}
	for direction, part := range map[string]string{"client": client, "server": server} {
		for _, m := range example.FindAllStringSubmatch(part, -1) {
			examples[key{direction, m[1]}] = canonical(t, m[2])
		}
	}
	for _, f := range goldenFrames(t).Frames {
		k := key{f.Direction, f.Name}
		if got, want := examples[k], canonical(t, string(f.Frame)); got != want {
			t.Errorf("example %v:\n got %s\nwant %s", k, got, want)
		}
		delete(examples, k)
	}
	for k := range examples {
		t.Errorf("example %v is not a golden frame", k)
	}
}

// TestEveryEventHasAFrame checks that README.md lists exactly the events that
// have a golden frame.
func TestEveryEventHasAFrame(t *testing.T) {
	g := goldenFrames(t)
	for direction, heading := range map[string]string{"client": "## 4.", "server": "## 5."} {
		listed := column(section(t, heading))
		var framed []string
		for _, f := range g.Frames {
			if typ := f.typ(t); f.Direction == direction && !strings.HasPrefix(f.Name, "event of the application") &&
				!strings.HasPrefix(f.Name, "durable event of") && !strings.HasPrefix(f.Name, "question of") {
				framed = append(framed, typ)
			}
		}
		slices.Sort(listed)
		slices.Sort(framed)
		framed = slices.Compact(framed)
		if !slices.Equal(listed, framed) {
			t.Errorf("events that a %s sends:\nREADME.md   %v\nframes.json %v", direction, listed, framed)
		}
	}
}

// TestErrorCodes checks that both documents have the same closed set of error
// codes.
func TestErrorCodes(t *testing.T) {
	_, after, _ := strings.Cut(read(t, "asyncapi.yaml"), "          enum:\n")
	list, _, _ := strings.Cut(after, "        message:")
	enum := strings.Fields(strings.ReplaceAll(list, "- ", ""))
	if listed := column(section(t, "## 3.")); !slices.Equal(listed, enum) {
		t.Errorf("error codes:\nREADME.md     %v\nasyncapi.yaml %v", listed, enum)
	}
}

// section returns the part of README.md under the heading with that prefix.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, after, found := strings.Cut(read(t, "README.md"), "\n"+heading)
	if !found {
		t.Fatalf("README.md has no section %q", heading)
	}
	part, _, _ := strings.Cut(after, "\n## ")
	return part
}

// column returns the words in backquotes in the first column of the tables in
// text.
func column(text string) (words []string) {
	for _, c := range cell.FindAllStringSubmatch(text, -1) {
		for _, q := range quoted.FindAllStringSubmatch(c[1], -1) {
			words = append(words, q[1])
		}
	}
	return words
}

// canonical returns the JSON value s in its canonical form (RFC 8785).
func canonical(t *testing.T, s string) string {
	t.Helper()
	v := jsontext.Value(s)
	if err := v.Canonicalize(); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return string(v)
}
