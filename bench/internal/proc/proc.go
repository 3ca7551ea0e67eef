//go:build linux

// Package proc runs a server in a process of its own, and measures it from
// outside.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/chathub-go/chathub/internal/tools/child"
	"golang.org/x/sys/unix"
)

// patience is how long a server may take to end.
const patience = 5 * time.Second

// Process is a running server.
type Process struct {
	Addr string

	child *child.Process
}

// Start runs a program that writes its address as its first line and ends when
// its standard input does.
func Start(ctx context.Context, name string, args ...string) (*Process, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the benchmark's own programs
	c, err := child.Start(cmd)
	if err != nil {
		return nil, err
	}
	addr, err := c.Line()
	if err != nil {
		return nil, fmt.Errorf("%s wrote no address: %w", name, errors.Join(err, c.Stop(patience)))
	}
	return &Process{Addr: string(bytes.TrimSpace(addr)), child: c}, nil
}

// Stop ends the process and waits for its end.
func (p *Process) Stop() error { return p.child.Stop(patience) }

// Profile begins a CPU profile of the process into a file, and returns a
// function that ends it.
func (p *Process) Profile(file string) (stop func() error, err error) {
	if err := p.command("profile " + file); err != nil {
		return nil, err
	}
	return func() error { return p.command("stop") }, nil
}

func (p *Process) command(line string) error {
	_, err := p.child.Ask([]byte(line))
	return err
}

// CPU returns the processor time, user and system, that all threads of the
// process have used. The kernel counts it in nanoseconds
// (clock_getcpuclockid(3)).
func (p *Process) CPU() (time.Duration, error) { return cpuOf(p.child.Pid()) }

// SelfCPU returns the processor time of this process.
func SelfCPU() (time.Duration, error) { return cpuOf(os.Getpid()) }

func cpuOf(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED in the kernel's posix-timers.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(ts.Nano()), nil
}

// Memory returns the resident memory of the process in bytes, now and at most
// so far.
func (p *Process) Memory() (now, peak uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.child.Pid()))
	if err != nil {
		return 0, 0, err
	}
	now, err = field(b, "VmRSS:")
	if err != nil {
		return 0, 0, err
	}
	peak, err = field(b, "VmHWM:")
	return now, peak, err
}

// Files returns how many files, including sockets, the process has open. It
// shows that the server has closed a connection, even if the client does not
// read.
func (p *Process) Files() (int, error) {
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.child.Pid()))
	return len(names), err
}

// field returns a field of /proc/PID/status that is in kB, in bytes.
func field(status []byte, name string) (uint64, error) {
	_, rest, ok := bytes.Cut(status, []byte(name))
	words := bytes.Fields(rest)
	if !ok || len(words) == 0 {
		return 0, fmt.Errorf("no %s in /proc/PID/status", name)
	}
	kB, err := strconv.ParseUint(string(words[0]), 10, 64)
	return kB << 10, err
}
