package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chathub-go/chathub/internal/tools/child"
	"github.com/go-json-experiment/json"
)

// serverVariable in the environment makes this program the server.
const serverVariable = "CHATHUB_SOAK_SERVER"

// process is the server. It runs in a process of its own, so that its memory,
// goroutines and processor time are not mixed with those of the clients.
type process struct {
	child *child.Process
	start reading
}

// startServer runs this program again, as the server.
func startServer(ctx context.Context, set settings) (*process, error) {
	cmd, err := child.Self(ctx, serverVariable+"=1")
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	c, err := child.Start(cmd)
	if err != nil {
		return nil, err
	}
	p := &process{child: c}
	if p.start, err = p.do(string(line)); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// do makes the server carry out a command.
func (p *process) do(command string) (r reading, err error) {
	line, err := p.child.Ask([]byte(command))
	if err != nil {
		return r, fmt.Errorf("the server: %w", err)
	}
	return r, json.Unmarshal(line, &r)
}

// stop ends the server and waits for its end.
func (p *process) stop() error { return p.child.Stop(20 * time.Second) }
