package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
)

// TestCompose checks the compose file against the schema of the format, and
// that instances have time to end.
func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{"container/compose.yaml"}, cli.WithEnv([]string{"JWT_SECRET=secret"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	instances := 0
	for name, s := range project.Services {
		if !strings.HasPrefix(name, "chat") {
			continue
		}
		instances++
		if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= shutdownSeconds*time.Second {
			t.Errorf("%s has %v to end, and a shutdown may take %d s", name, s.StopGracePeriod, shutdownSeconds)
		}
		if s.Environment["JWT_SECRET"] == nil || s.HealthCheck == nil {
			t.Errorf("%s lacks a secret or a health check", name)
		}
	}
	if instances != 3 {
		t.Errorf("%d instances", instances)
	}
	if _, err := options.LoadProject(t.Context()); err != nil {
		t.Error(err)
	}
	missing, err := cli.NewProjectOptions([]string{"container/compose.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := missing.LoadProject(t.Context()); err == nil || !strings.Contains(err.Error(), "at least 32 bytes") {
		t.Errorf("without a secret: %v", err)
	}
	caddy := read(t, "container/Caddyfile")
	for name := range project.Services {
		if strings.HasPrefix(name, "chat") && !strings.Contains(caddy, name+":5000") {
			t.Errorf("container/Caddyfile does not have %s", name)
		}
	}
	run(t, "caddy", "validate", "--config", "container/Caddyfile", "--adapter", "caddyfile")
}

// TestImage builds the image from scratch without a registry, and runs it: it
// says its version, serves, is ready, and ends when it is told to.
func TestImage(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("an image is built as root here: without, buildah needs subordinate ids, which few machines have")
	}
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Fatalf("buildah is missing: %s", hint)
	}
	dir := t.TempDir()
	flags := []string{"--storage-driver", "vfs", "--root", filepath.Join(dir, "storage"), "--runroot", filepath.Join(dir, "run")}
	t.Setenv("BUILDER", "buildah")
	t.Setenv("BUILDFLAGS", strings.Join(flags, " "))
	t.Setenv("BUILDAH_ISOLATION", "chroot")
	run(t, "container/build", "localhost/chathub:test", "v1.2.3-test")
	buildah := func(args ...string) []string { return append(append([]string{}, flags...), args...) }
	name := strings.TrimSpace(run(t, "buildah", buildah("from", "--pull-never", "localhost/chathub:test")...))
	t.Cleanup(func() {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "buildah", buildah("rm", name)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("buildah rm: %v\n%s", err, out)
		}
	})
	in := func(args ...string) []string {
		return buildah(append([]string{"run", "--isolation", "chroot", name, "--", "/chat"}, args...)...)
	}
	out := ""
	// On a busy machine, buildah may lose what a process writes that ends at
	// once.
	for range 5 {
		if out = run(t, "buildah", in("-version")...); out != "" {
			break
		}
	}
	if !strings.HasPrefix(out, "chat v1.2.3-test, ") {
		t.Errorf("the version is %q", out)
	}

	// As its user, who may write to /data only.
	cmd := exec.CommandContext(t.Context(), "buildah", in("-addr", "127.0.0.1:0", "-data", "/data")...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	served := false
	for lines := bufio.NewScanner(log); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		m := regexp.MustCompile(`msg="chat is ready" url=(\S+)`).FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		served = true
		run(t, "buildah", in("-probe", m[1]+"readyz")...) // from inside
		if err := syscall.Kill(descendant(t, cmd.Process.Pid, "chat"), syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	_ = cmd.Wait() // the log says how it ended
	if !served || !strings.Contains(text.String(), "msg=bye") {
		t.Errorf("the container has logged:\n%s", &text)
	}
}

// descendant returns the process with a name among those that another process
// has started, directly or not.
func descendant(t *testing.T, ancestor int, name string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	parents := make(map[int]int)
	var named []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		// proc_pid_stat(5): the name is in parentheses, and may have some
		// itself.
		begin, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
		var pid, parent int
		var state string
		if _, err := fmt.Sscan(string(b[:begin]), &pid); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(string(b[end+1:]), &state, &parent); err != nil {
			t.Fatal(err)
		}
		parents[pid] = parent
		if string(b[begin+1:end]) == name {
			named = append(named, pid)
		}
	}
	for _, pid := range named {
		for p := pid; p > 1; p = parents[p] {
			if parents[p] == ancestor {
				return pid
			}
		}
	}
	t.Fatalf("there is no process %s", name)
	return 0
}
