package natsbroker_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// opening is the result of opening a broker on a directory.
type opening struct {
	*node
	broker *natsbroker.Broker
	log    *logs
	err    error
}

// open opens a broker on dir and attaches a node. Both may fail.
func open(t *testing.T, dir string, options ...natsbroker.Option) (o opening) {
	t.Helper()
	o.log = &logs{}
	options = append(options, natsbroker.Logger(slog.New(slog.NewTextHandler(o.log, nil))))
	if o.broker, o.err = natsbroker.Embedded(dir, options...); o.err != nil {
		return o
	}
	t.Cleanup(func() { closeBroker(t, o.broker) })
	var session chathub.BrokerSession
	if session, o.err = o.broker.Attach(t.Context(), func(chathub.Message) {}); o.err != nil {
		return o
	}
	o.node = &node{BrokerSession: session, t: t, ctx: t.Context()}
	return o
}

func (o *opening) close() {
	_ = o.Close(o.ctx)
	closeBroker(o.t, o.broker)
}

func (o *opening) wantMaxBytes(least, most int64) {
	o.t.Helper()
	if n, err := natsbroker.StreamMaxBytes(o.ctx, o.BrokerSession); err != nil || n < least || n > most {
		o.t.Errorf("the stream is bounded to %d bytes (%v), want %d to %d", n, err, least, most)
	}
}

const mib = 1 << 20

// TestSpace checks that the default of MaxBytes fits the disk.
func TestSpace(t *testing.T) {
	onDisk(t, 1100*mib, func(t *testing.T, dir string) {
		for range 2 { // the stream exists the second time
			o := open(t, dir)
			if o.err != nil {
				t.Fatal(o.err)
			}
			o.wantMaxBytes(800*mib, 825*mib)
			o.say(room("lobby"), "hello")
			if log := o.log.String(); !strings.Contains(log, "GiB") || !strings.Contains(log, "MiB") {
				t.Errorf("the log does not have the figures: %s", log)
			}
			o.close()
		}
		o := open(t, dir, natsbroker.MaxBytes(1024*mib))
		if o.err != nil {
			t.Fatal(o.err)
		}
		o.wantMaxBytes(1024*mib, 1024*mib)
	})
}

// TestSpaceEnough checks the default of MaxBytes on a large disk.
func TestSpaceEnough(t *testing.T) {
	onDisk(t, 2048*mib, func(t *testing.T, dir string) {
		o := open(t, dir)
		if o.err != nil {
			t.Fatal(o.err)
		}
		o.wantMaxBytes(1024*mib, 1024*mib)
		if log := o.log.String(); log != "" {
			t.Errorf("log: %s", log)
		}
	})
}

// TestSpaceShort checks that the error about a disk that is too small has the
// figures, and says what to do.
func TestSpaceShort(t *testing.T) {
	onDisk(t, 10*mib, func(t *testing.T, dir string) {
		for _, tc := range []struct {
			options []natsbroker.Option
			want    []string
		}{
			{nil, []string{dir, "10.0 MiB are free", "16.0 MiB", "MaxBytes"}},
			{[]natsbroker.Option{natsbroker.MaxBytes(1024 * mib)}, []string{dir, "10.0 MiB are free", "1.0 GiB", "MaxBytes"}},
		} {
			o := open(t, dir, tc.options...)
			if o.err == nil {
				t.Error("no error")
				continue
			}
			t.Log(o.err)
			for _, want := range tc.want {
				if !strings.Contains(o.err.Error(), want) {
					t.Errorf("%v does not contain %q", o.err, want)
				}
			}
			closeBroker(t, o.broker)
		}
		if o := open(t, dir, natsbroker.MaxBytes(5*mib)); o.err != nil {
			t.Errorf("a stream that fits is refused: %v", o.err)
		}
	})
}

// TestSpaceTaken checks that an existing stream works, and that its options can
// be changed, after other files have filled the disk.
func TestSpaceTaken(t *testing.T) {
	onDisk(t, 100*mib, func(t *testing.T, dir string) {
		o := open(t, dir, natsbroker.MaxBytes(60*mib))
		if o.err != nil {
			t.Fatal(o.err)
		}
		topic, body := room("lobby"), strings.Repeat("x", 64<<10)
		for range 1000 {
			o.say(topic, body)
		}
		o.close()
		if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 30*mib), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			options     []natsbroker.Option
			least, most int64
		}{
			{[]natsbroker.Option{natsbroker.MaxBytes(60 * mib)}, 60 * mib, 60 * mib},
			{[]natsbroker.Option{natsbroker.MaxBytes(60 * mib), natsbroker.MaxAge(time.Hour)}, 60 * mib, 60 * mib},
			{nil, 60 * mib, 60 * mib}, // nothing is dropped
			{[]natsbroker.Option{natsbroker.MaxBytes(40 * mib)}, 40 * mib, 40 * mib},
		} {
			o := open(t, dir, tc.options...)
			if o.err != nil {
				t.Error(o.err)
				continue
			}
			o.wantMaxBytes(tc.least, tc.most)
			o.say(topic, "there is room")
			o.close()
		}
	})
}

// TestDiskFull checks that nothing is acked on a full disk that is not stored.
// After there is room again and the server has been restarted, everything works
// again, and no message is stored twice.
func TestDiskFull(t *testing.T) {
	p := &process{Name: "alone", Dir: t.TempDir(), Port: freePort(t), DiskBytes: 32 << 20, t: t}
	t.Cleanup(p.kill)
	p.start()
	b := connect(t, "nats://"+p.addr(), natsbroker.MaxBytes(16<<20))
	n, other := attach(t, b), attach(t, b)
	topic := room("lobby")
	n.subscribe(topic)
	other.subscribe(topic)
	body := make([]byte, 8<<10)
	var acked, tried []string
	publish := func(key string, patience time.Duration) bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := n.Publish(ctx, chathub.Message{Topic: topic, Key: key, Body: body})
		if err != nil {
			wantUnavailable(t, key, err)
			return false
		}
		acked = append(acked, key)
		return true
	}
	for i := range 100 {
		publish("before-"+numbered(i), patience)
	}
	p.tell("fill")
	for i := 0; len(tried) < 5; i++ {
		if key := "full-" + numbered(i); !publish(key, 300*time.Millisecond) {
			tried = append(tried, key)
		}
		if i == 5000 {
			t.Fatal("everything is acked, on a full disk")
		}
	}
	// The log can still be read.
	if got := n.read(topic, chathub.Range{Limit: 500}).Messages; len(got) < len(acked) {
		t.Errorf("%d messages can be read, %d were acked", len(got), len(acked))
	}
	t.Logf("%d acked on a full disk", len(acked)-100)

	p.tell("free")
	p.tell("restart")
	for _, key := range tried {
		eventually(t, "an ack after the restart", func() bool { return publish(key, time.Second) })
	}
	last := n.say(topic, "last").Seq
	log := n.read(topic, chathub.Range{Limit: 1 << 20}).Messages
	keys := make(map[string]int)
	for _, m := range log {
		keys[m.Key]++
	}
	for _, key := range acked {
		if keys[key] != 1 {
			t.Errorf("%s was acked, and is there %d times", key, keys[key])
		}
	}
	for _, h := range []*node{n, other} {
		if got := h.until(topic, last); !slices.EqualFunc(got, log, func(a, b chathub.Message) bool { return a.Seq == b.Seq && a.Key == b.Key }) {
			t.Errorf("%d messages were delivered, the log has %d", len(got), len(log))
		}
	}
}
