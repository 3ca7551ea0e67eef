package natsbroker_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// opened is what comes of opening a broker on a directory.
type opened struct {
	*node
	broker *natsbroker.Broker
	log    *logs
	err    error
}

// openOn opens a broker on dir and attaches a hub. Either may fail.
func openOn(t *testing.T, dir string, options ...natsbroker.Option) (o opened) {
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

func (o *opened) close() {
	_ = o.Close(o.ctx)
	closeBroker(o.t, o.broker)
}

func (o *opened) wantMaxBytes(least, most int64) {
	o.t.Helper()
	if n, err := natsbroker.StreamMaxBytes(o.ctx, o.BrokerSession); err != nil || n < least || n > most {
		o.t.Errorf("the stream is bounded to %d bytes (%v), want %d to %d", n, err, least, most)
	}
}

const mib = 1 << 20

// TestSpace: without MaxBytes, the stream is bounded to what there is room for.
func TestSpace(t *testing.T) {
	onDisk(t, 1100*mib, func(t *testing.T, dir string) {
		for range 2 { // and again when it is there
			o := openOn(t, dir)
			if o.err != nil {
				t.Fatal(o.err)
			}
			o.wantMaxBytes(800*mib, 825*mib)
			o.say(room("lobby"), "hello")
			if log := o.log.String(); !strings.Contains(log, "GiB") || !strings.Contains(log, "MiB") {
				t.Errorf("the log does not name the figures: %s", log)
			}
			o.close()
		}
		o := openOn(t, dir, natsbroker.MaxBytes(1024*mib))
		if o.err != nil {
			t.Fatal(o.err)
		}
		o.wantMaxBytes(1024*mib, 1024*mib)
	})
}

// TestSpaceEnough: on a large disk, MaxBytes has its default.
func TestSpaceEnough(t *testing.T) {
	onDisk(t, 2048*mib, func(t *testing.T, dir string) {
		o := openOn(t, dir)
		if o.err != nil {
			t.Fatal(o.err)
		}
		o.wantMaxBytes(1024*mib, 1024*mib)
		if log := o.log.String(); log != "" {
			t.Errorf("log: %s", log)
		}
	})
}

// TestSpaceShort: a disk that is too small is refused, with the figures and what
// to do about it.
func TestSpaceShort(t *testing.T) {
	onDisk(t, 10*mib, func(t *testing.T, dir string) {
		for _, tc := range []struct {
			options []natsbroker.Option
			want    []string
		}{
			{nil, []string{dir, "10.0 MiB are free", "16.0 MiB", "MaxBytes"}},
			{[]natsbroker.Option{natsbroker.MaxBytes(1024 * mib)}, []string{dir, "10.0 MiB are free", "1.0 GiB", "MaxBytes"}},
		} {
			o := openOn(t, dir, tc.options...)
			if o.err == nil {
				t.Error("no error")
				continue
			}
			t.Log(o.err)
			for _, want := range tc.want {
				if !strings.Contains(o.err.Error(), want) {
					t.Errorf("%v does not name %q", o.err, want)
				}
			}
			closeBroker(t, o.broker)
		}
		if o := openOn(t, dir, natsbroker.MaxBytes(5*mib)); o.err != nil {
			t.Errorf("what fits is refused: %v", o.err)
		}
	})
}

// TestSpaceTaken: a stream that is there is used and written to, and takes other
// options, when something else has filled the disk in the meantime.
func TestSpaceTaken(t *testing.T) {
	onDisk(t, 100*mib, func(t *testing.T, dir string) {
		o := openOn(t, dir, natsbroker.MaxBytes(60*mib))
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
			{nil, 60 * mib, 60 * mib}, // nothing is dropped that was kept
			{[]natsbroker.Option{natsbroker.MaxBytes(40 * mib)}, 40 * mib, 40 * mib},
		} {
			o := openOn(t, dir, tc.options...)
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
