package natsbroker_test

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// asMount is set in a process that runs one test with its own mounts.
const asMount = "NATSBROKER_TEST_MOUNT"

// onDisk runs f in a separate process. dir is a file system of the given size,
// in memory.
func onDisk(t *testing.T, size int64, f func(t *testing.T, dir string)) {
	t.Helper()
	if os.Getenv(asMount) != "" {
		dir := t.TempDir()
		mountMemory(dir, size)
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		f(t, dir)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), asMount+"=1")
	cmd.SysProcAttr = ownMounts()
	out, err := cmd.CombinedOutput()
	if t.Logf("%s", out); err != nil {
		t.Error(err)
	}
}

// ownMounts starts a process with its own mounts, and the right to change them.
func ownMounts() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// mountMemory mounts a file system of the given size, in memory, at dir. Only
// this process sees it.
func mountMemory(dir string, size int64) {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		panic(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		panic(err)
	}
}
