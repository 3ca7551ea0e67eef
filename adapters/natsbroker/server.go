package natsbroker

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// embedded is a NATS server in this process.
type embedded struct {
	*server.Server
	path string
	lock *os.File
}

// startServer starts a server on dir. It returns once that can be used: it has
// read what is in dir by then.
func startServer(dir string, cfg *config) (*embedded, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("natsbroker: %s is in use by another process, or cannot be locked: %w", dir, err)
	}
	s, err := server.NewServer(&server.Options{
		ServerName:   cfg.name,
		DontListen:   true,
		JetStream:    true,
		StoreDir:     dir,
		SyncInterval: cfg.syncEvery,
		SyncAlways:   cfg.syncAlways,
		NoSigs:       true,
		// Otherwise the server would bound itself to a part of what is free when it
		// starts, and refuse to write to a stream that is there. See space.
		JetStreamMaxStore:  math.MaxInt64,
		JetStreamMaxMemory: math.MaxInt64,

		MaxPayload: 8 << 20,
		MaxPending: 64 << 20,
	})
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	s.SetLoggerV2(serverLog{cfg.log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(cfg.timeout) || !s.JetStreamEnabled() {
		s.Shutdown()
		_ = lock.Close()
		return nil, errors.New("natsbroker: the embedded server did not start; its log says why")
	}
	return &embedded{Server: s, path: dir, lock: lock}, nil
}

func (e *embedded) stop() error {
	e.Shutdown()
	e.WaitForShutdown()
	return e.lock.Close()
}

// serverLog hands on what is wrong, and leaves out what a server says when it starts.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats: " + fmt.Sprintf(format, v...))
}
func (l serverLog) Warnf(format string, v ...any)  { l.log.Warn("nats: " + fmt.Sprintf(format, v...)) }
func (l serverLog) Fatalf(format string, v ...any) { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
func (l serverLog) Errorf(format string, v ...any) { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
func (l serverLog) Debugf(string, ...any)          {}
func (l serverLog) Tracef(string, ...any)          {}
