package child

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const role = "CHATHUB_CHILD_TEST"

// TestMain makes the test program the child: "echo" answers each line with the
// same line, "ends" does not answer, and "stays" ignores the end of its input.
func TestMain(m *testing.M) {
	switch how := os.Getenv(role); how {
	case "":
		os.Exit(m.Run())
	case "stays":
		time.Sleep(time.Hour)
	default:
		_, _ = os.Stdout.WriteString("ready\n")
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if how == "ends" {
				os.Exit(3)
			}
			_, _ = os.Stdout.WriteString(lines.Text() + "\n")
		}
	}
}

func start(t *testing.T, how string) *Process {
	t.Helper()
	cmd, err := Self(t.Context(), role+"="+how)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAsk(t *testing.T) {
	p := start(t, "echo")
	if line, err := p.Line(); err != nil || string(line) != "ready" {
		t.Fatalf("first line %q, err %v", line, err)
	}
	if p.Pid() == os.Getpid() || p.Pid() <= 0 {
		t.Errorf("pid %d", p.Pid())
	}
	var asking sync.WaitGroup
	for i := range 20 {
		asking.Go(func() {
			question := fmt.Sprint("question ", i)
			if answer, err := p.Ask([]byte(question)); err != nil || string(answer) != question {
				t.Errorf("%q was answered with %q, err %v", question, answer, err)
			}
		})
	}
	asking.Wait()
	if err := p.Stop(time.Minute); err != nil {
		t.Error(err)
	}
}

func TestAskProcessThatEnds(t *testing.T) {
	p := start(t, "ends")
	if _, err := p.Line(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ask([]byte("question")); err == nil || !strings.Contains(err.Error(), "the process has ended") {
		t.Errorf("err %v", err)
	}
	var exit *exec.ExitError
	if err := p.Stop(time.Minute); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("ended with %v", err)
	}
}

func TestStopKills(t *testing.T) {
	if err := start(t, "stays").Stop(time.Millisecond); err == nil {
		t.Error("a process that stays ended with status 0")
	}
}

func TestStartFails(t *testing.T) {
	if p, err := Start(exec.CommandContext(t.Context(), "/does/not/exist")); err == nil {
		t.Error("started ", p)
	}
}

func TestMeasure(t *testing.T) {
	held := bytes.Repeat([]byte{1}, 16<<20)
	with := Measure(true)
	runtime.KeepAlive(held)
	if without := Measure(true); with.Heap < without.Heap+15<<20 {
		t.Errorf("heap %d with 16 MiB, %d without", with.Heap, without.Heap)
	}
	if with.Goroutines < 1 {
		t.Errorf("%d goroutines", with.Goroutines)
	}
	if _, err := os.Stat("/proc/self/statm"); err == nil && with.RSS < 16<<20 {
		t.Errorf("%d bytes resident", with.RSS)
	}
}
