//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

// role in the environment makes this program a server or a client of a trial.
const role = "CHATHUB_FAULTS_ROLE"

// nanos has durations go over the pipe as numbers.
var nanos = json.WithUnmarshalers(json.UnmarshalFunc(func(b []byte, d *time.Duration) error {
	return json.Unmarshal(b, (*int64)(d))
}))

var nanosOut = json.WithMarshalers(json.MarshalFunc(func(d time.Duration) ([]byte, error) {
	return fmt.Append(nil, int64(d)), nil
}))

func slogOf(h slog.Handler) *slog.Logger { return slog.New(h) }

// process is this program, run again in another role.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu  sync.Mutex // one order at a time
	out *bufio.Reader
}

func startProcess(ctx context.Context, as string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &process{cmd: cmd, in: in, out: bufio.NewReader(out)}, cmd.Start()
}

// ask writes a line and reads one.
func (p *process) ask(question, answer any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, err := json.Marshal(question, nanosOut)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the process has gone: %w", err)
	}
	return json.Unmarshal(line, answer, nanos)
}

// stop ends the process and waits for it.
func (p *process) stop() error {
	_ = p.in.Close()
	kill := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	return p.cmd.Wait()
}
