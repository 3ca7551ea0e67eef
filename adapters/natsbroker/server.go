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

// localServer is a NATS server in this process.
type localServer struct {
	*server.Server
	path string
	lock *os.File
}

// startServer starts a server that stores its data in dir. It returns once the
// server has read dir and can be used.
func startServer(dir string, cfg *config) (*localServer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("natsbroker: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("natsbroker: %s is in use by another process or cannot be locked: %w", dir, err)
	}
	s, err := server.NewServer(&server.Options{
		ServerName:   cfg.name,
		DontListen:   true,
		JetStream:    true,
		StoreDir:     dir,
		SyncInterval: cfg.syncEvery,
		SyncAlways:   cfg.syncAlways,
		NoSigs:       true,
		// By default, the limits depend on what is free when the server starts.
		// On a disk that other files have filled since, the server would refuse
		// to write to its own stream. See space.maxBytes instead.
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
		return nil, errors.New("natsbroker: the embedded server did not start; see its log for the reason")
	}
	return &localServer{Server: s, path: dir, lock: lock}, nil
}

func (srv *localServer) stop() error {
	srv.Shutdown()
	srv.WaitForShutdown()
	return srv.lock.Close()
}

// serverLog passes the server's warnings and errors on. Its notices, such as
// those of a start, are for debugging.
type serverLog struct{ *slog.Logger }

func (sl serverLog) Noticef(format string, v ...any) { sl.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (sl serverLog) Warnf(format string, v ...any)   { sl.Warn("nats: " + fmt.Sprintf(format, v...)) }
func (sl serverLog) Fatalf(format string, v ...any)  { sl.Error("nats: " + fmt.Sprintf(format, v...)) }
func (sl serverLog) Errorf(format string, v ...any)  { sl.Error("nats: " + fmt.Sprintf(format, v...)) }
func (sl serverLog) Debugf(string, ...any)           {}
func (sl serverLog) Tracef(string, ...any)           {}
