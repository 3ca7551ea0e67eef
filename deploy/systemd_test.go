package deploy_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Times of examples/chat, in seconds: how long a shutdown may take, and over
// which time clients are told to come back. TestStopTimes compares the first
// with the source.
const (
	shutdownSeconds = 10
	drainSeconds    = 5
)

func TestStopTimes(t *testing.T) {
	if main := read(t, "../examples/chat/main.go"); !strings.Contains(main, "shutdownTimeout = "+strconv.Itoa(shutdownSeconds)+" * time.Second") {
		t.Errorf("a shutdown of examples/chat does not take %d s at most", shutdownSeconds)
	}
	if config := read(t, "../config.go"); !strings.Contains(config, "def(&cfg.DrainWindow, "+strconv.Itoa(drainSeconds)+"*time.Second)") {
		t.Errorf("DrainWindow is not %d s by default", drainSeconds)
	}
}

// TestSystemd has systemd check the units, one of them as three instances, and
// how far they are confined.
func TestSystemd(t *testing.T) {
	dir := t.TempDir()
	program := write(t, dir, "chat", "")
	run(t, "chmod", "755", program)
	for _, name := range []string{"chathub.service", "chathub@.service", "chathub.target"} {
		write(t, dir, name, strings.ReplaceAll(read(t, "systemd/"+name), "/usr/local/bin/chat", program))
	}
	instances := []string{"chathub@5001.service", "chathub@5002.service", "chathub@5003.service"}
	args := []string{"verify", dir + "/chathub.service", dir + "/chathub.target"}
	for _, name := range instances {
		args = append(args, dir+"/"+name)
	}
	if out := run(t, "systemd-analyze", args...); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	for _, name := range []string{"chathub.service", "chathub@5001.service"} {
		run(t, "systemd-analyze", "security", "--offline=true", "--threshold=20", dir+"/"+name)
	}
	for _, name := range []string{"chathub.service", "chathub@.service"} {
		unit := read(t, "systemd/"+name)
		if n := setting(t, unit, "TimeoutStopSec"); n <= shutdownSeconds {
			t.Errorf("%s: TimeoutStopSec is %d, and a shutdown may take %d s", name, n, shutdownSeconds)
		}
		if n := setting(t, unit, "LimitNOFILE"); n <= 100_000 {
			t.Errorf("%s: LimitNOFILE is %d, and MaxConns is 100,000", name, n)
		}
	}
}

// setting returns the value of a setting of a unit.
func setting(t *testing.T, unit, name string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `=(\d+)$`).FindStringSubmatch(unit)
	if m == nil {
		t.Fatalf("the unit has no %s", name)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
