// Package child runs a program as a child process that is driven line by line,
// so that what it does to memory and processor time can be told from what this
// process does.
package child

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// A Process is a child process. It answers each line of its standard input with
// a line on its standard output, and ends when its input does.
//
// All methods but Stop may be called from any goroutine.
type Process struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu  sync.Mutex // held from a question until its answer
	out *bufio.Reader
}

// Self returns a command that runs the program of this process again, with env
// ("NAME=value") added to its environment. The program must look for env first.
func Self(ctx context.Context, env ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self) //nolint:gosec // this program itself
	cmd.Env = append(os.Environ(), env...)
	return cmd, nil
}

// Start starts cmd. What the process writes to its standard error appears on
// that of this process.
func Start(cmd *exec.Cmd) (*Process, error) {
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Process{cmd: cmd, in: in, out: bufio.NewReader(out)}, nil
}

// Pid returns the id of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Line returns a line that the process writes without a question.
func (p *Process) Line() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line()
}

// Ask writes a line, and returns the line that answers it.
func (p *Process) Ask(question []byte) (answer []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.in.Write(append(bytes.Clone(question), '\n')); err != nil {
		return nil, err
	}
	return p.line()
}

func (p *Process) line() ([]byte, error) {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the process has ended: %w", err)
	}
	return bytes.TrimSuffix(line, []byte("\n")), nil
}

// Stop closes the input of the process and waits for its end. If that takes
// longer than patience, Stop kills the process. The error says how it ended, if
// not with status 0.
func (p *Process) Stop(patience time.Duration) error {
	_ = p.in.Close()
	kill := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	return p.cmd.Wait()
}
