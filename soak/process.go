package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

// serverVariable in the environment makes this program the server.
const serverVariable = "CHATHUB_SOAK_SERVER"

// process is the server as a process of its own, so that its memory, goroutines
// and processor time are not those of the clients.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu    sync.Mutex // one command at a time
	out   *bufio.Reader
	start reading
}

// startServer runs this program again, as the server.
func startServer(ctx context.Context, set settings) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), serverVariable+"=1")
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
	p := &process{cmd: cmd, in: in, out: bufio.NewReader(out)}
	line, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	if p.start, err = p.do(string(line)); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// do has the server carry out a command.
func (p *process) do(command string) (r reading, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return r, err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return r, fmt.Errorf("the server has gone: %w", err)
	}
	return r, json.Unmarshal(line, &r)
}

// stop ends the server and waits for it.
func (p *process) stop() error {
	_ = p.in.Close()
	patience := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer patience.Stop()
	return p.cmd.Wait()
}
