//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/chathub-go/chathub/internal/tools/child"
	"github.com/go-json-experiment/json"
)

// role in the environment makes this program a server or a client of a trial.
const role = "CHATHUB_FAULTS_ROLE"

// nanos and nanosOut send durations over the pipe as numbers.
var nanos = json.WithUnmarshalers(json.UnmarshalFunc(func(b []byte, d *time.Duration) error {
	return json.Unmarshal(b, (*int64)(d))
}))

var nanosOut = json.WithMarshalers(json.MarshalFunc(func(d time.Duration) ([]byte, error) {
	return fmt.Append(nil, int64(d)), nil
}))

func slogOf(h slog.Handler) *slog.Logger { return slog.New(h) }

// process is this program, run again in another role.
type process struct{ *child.Process }

func startProcess(ctx context.Context, as string) (*process, error) {
	cmd, err := child.Self(ctx, role+"="+as)
	if err != nil {
		return nil, err
	}
	c, err := child.Start(cmd)
	if err != nil {
		return nil, err
	}
	return &process{c}, nil
}

// ask sends a question as JSON, and reads the answer.
func (p *process) ask(question, answer any) error {
	b, err := json.Marshal(question, nanosOut)
	if err != nil {
		return err
	}
	line, err := p.Ask(b)
	if err != nil {
		return err
	}
	return json.Unmarshal(line, answer, nanos)
}

// stop ends the process and waits for its end.
func (p *process) stop() error { return p.Stop(20 * time.Second) }
