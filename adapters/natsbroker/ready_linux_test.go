package natsbroker_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestReadyDiskFull checks that a hub notices when the disk of its server is
// full, and when it is back.
func TestReadyDiskFull(t *testing.T) {
	p := &process{Name: "alone", Dir: t.TempDir(), Port: freePort(t), DiskBytes: 32 << 20, t: t}
	t.Cleanup(p.kill)
	p.start()
	hub := newHub(t, connect(t, "nats://"+p.addr(), natsbroker.MaxBytes(16<<20)))
	wantReady(t, "ready with room", hub, true)
	p.tell("fill")
	// Nobody sends anything but Ready itself.
	wantReady(t, "not ready with a full disk", hub, false)
	p.tell("free")
	p.tell("restart")
	wantReady(t, "ready after the restart", hub, true)
}

// TestReadyEmbeddedDiskFull checks that a hub with a server in its own process
// notices that its disk is full.
func TestReadyEmbeddedDiskFull(t *testing.T) {
	onDisk(t, 32*mib, func(t *testing.T, dir string) {
		b := openEmbedded(t, dir, natsbroker.MaxBytes(16*mib))
		hub := newHub(t, b)
		wantReady(t, "ready with room", hub, true)
		filler, err := os.Create(filepath.Join(dir, "filler"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = filler.Close() }()
		for block := make([]byte, 4096); err == nil; {
			_, err = filler.Write(block)
		}
		wantReady(t, "not ready with a full disk", hub, false)
		if free := b.Stats().Stream.FreeBytes; free != 0 {
			t.Errorf("%d bytes are free", free)
		}
	})
}
