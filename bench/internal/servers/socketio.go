//go:build linux

package servers

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/chathub-go/chathub/bench/internal/load"
)

//go:embed socketio.js
var socketioServer []byte

const socketioVersion = "4.8.4"

func socketIO() Server {
	return Server{
		Name:  "socket.io",
		Title: "Socket.IO 4.8 (node)",
		About: "WebSocket transport only, without the optional native helpers",
		Dialect: &load.Dialect{
			Path: func(string) string { return "/socket.io/?EIO=4&transport=websocket" },
			Connect: func(int) []load.Step {
				return []load.Step{{Expect: `0{`}, {Send: `40`, Expect: `40{`}}
			},
			Join: func(room string) []load.Step {
				return []load.Step{{Send: `420["join","` + room + `"]`, Expect: `430[`}}
			},
			Publish: func(room, data string) string {
				return `42["message",{"room":"` + room + `","data":"` + data + `"}]`
			},
			Ping: `2`,
			Pong: `3`,
		},
		Command: socketioCommand,
	}
}

// socketioCommand installs the server into the user's cache if it is not there.
func socketioCommand() (string, []string, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return "", nil, errors.New("node is not installed")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", nil, err
	}
	dir := filepath.Join(cache, "chathub-bench", "socket.io-"+socketioVersion)
	server := filepath.Join(dir, "server.js")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "socket.io")); err != nil {
		if err := installSocketIO(dir); err != nil {
			return "", nil, err
		}
	}
	if err := os.WriteFile(server, socketioServer, 0o600); err != nil {
		return "", nil, err
	}
	return node, []string{server}, nil
}

func installSocketIO(dir string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("npm is not installed")
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	//nolint:gosec // the arguments are our own
	cmd := exec.CommandContext(ctx, npm, "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts",
		"socket.io@"+socketioVersion)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm install socket.io: %w: %s", err, out)
	}
	return nil
}
