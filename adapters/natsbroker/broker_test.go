package natsbroker_test

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestEmbedded(t *testing.T) {
	hubtest.TestBroker(t, func(t *testing.T) chathub.Broker { return embedded(t, t.TempDir()) })
}

// One broker for all subtests.
func TestEmbeddedShared(t *testing.T) {
	broker := embedded(t, t.TempDir(), natsbroker.MemoryStorage())
	hubtest.TestBroker(t, func(*testing.T) chathub.Broker { return broker })
}

// Every session of a broker of its own, as nodes have them.
func TestConnect(t *testing.T) {
	s := serve(t)
	hubtest.TestBroker(t, func(t *testing.T) chathub.Broker { return connect(t, s.ClientURL()) })
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		want    string
		options []natsbroker.Option
	}{
		{`Name "a.b"`, []natsbroker.Option{natsbroker.Name("a.b")}},
		{`Name ""`, []natsbroker.Option{natsbroker.Name("")}},
		{"MaxMessages is 0", []natsbroker.Option{natsbroker.MaxMessages(0)}},
		{"MaxAge 1ms", []natsbroker.Option{natsbroker.MaxAge(time.Millisecond)}},
		{"MaxBytes 5", []natsbroker.Option{natsbroker.MaxBytes(5)}},
		{"DuplicateWindow -1ns", []natsbroker.Option{natsbroker.DuplicateWindow(-1)}},
		{"SyncEvery 0s", []natsbroker.Option{natsbroker.SyncEvery(0)}},
		{"Timeout 0s", []natsbroker.Option{natsbroker.Timeout(0)}},
		{"SweepEvery 0s", []natsbroker.Option{natsbroker.SweepEvery(0)}},
		{"Logger is nil", []natsbroker.Option{natsbroker.Logger(nil)}},
		{"Replicas is for Connect", []natsbroker.Option{natsbroker.Replicas(3)}},
		{"ExistingStream is for Connect", []natsbroker.Option{natsbroker.ExistingStream()}},
		{"Domain is for Connect", []natsbroker.Option{natsbroker.Domain("hub")}},
	} {
		_, err := natsbroker.Embedded(t.TempDir(), c.options...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
	for want, o := range map[string]natsbroker.Option{
		"SyncEvery is for Embedded":  natsbroker.SyncEvery(time.Second),
		"SyncAlways is for Embedded": natsbroker.SyncAlways(),
		"Replicas is 2":              natsbroker.Replicas(2),
	} {
		if _, err := natsbroker.Connect("nats://127.0.0.1", o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	_, err := natsbroker.Embedded(t.TempDir(), natsbroker.MaxMessages(0), natsbroker.Timeout(0))
	if err == nil || !strings.Contains(err.Error(), "MaxMessages") || !strings.Contains(err.Error(), "Timeout") {
		t.Errorf("error %v, want both", err)
	}
	if _, err := natsbroker.Embedded(""); err == nil {
		t.Error("no directory is not refused")
	}
	if _, err := natsbroker.Connect(""); err == nil {
		t.Error("no URL is not refused")
	}
}

// TestReopened: what was acked is there when the process starts again, under the same
// epoch, and its keys are remembered.
func TestReopened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	topic := room("lobby")
	first := embedded(t, dir)
	n := attach(t, first)
	before := n.subscribe(topic)
	m := chathub.Message{Topic: topic, Key: "k", Body: []byte("one")}
	one, err := n.Publish(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := natsbroker.Embedded(dir, quiet); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second broker on the directory: %v", err)
	}
	_ = n.Close(t.Context())
	closeBroker(t, first)
	if _, err := first.Attach(t.Context(), func(chathub.Message) {}); !errors.Is(err, chathub.ErrClosed) {
		t.Errorf("Attach to a closed broker: %v", err)
	}

	n = attach(t, embedded(t, dir))
	after := n.subscribe(topic)
	if after.Epoch != before.Epoch || after.Seq != one.Seq {
		t.Errorf("position %+v, want seq %d in epoch %s", after, one.Seq, before.Epoch)
	}
	again, err := n.Publish(t.Context(), m)
	if err != nil || !again.Duplicate || again.Seq != one.Seq || again.Time != one.Time {
		t.Errorf("repeated: %+v, %v; the first has %+v", again, err, one)
	}
	n.say(topic, "two")
	if got := bodies(n.read(topic, chathub.Range{Limit: 10}).Messages); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("log %v", got)
	}
	if other := attach(t, embedded(t, t.TempDir())).subscribe(topic); other.Epoch == before.Epoch {
		t.Error("another stream has the same epoch")
	}
}

// TestExistingStream: a stream of the operator's is used as it is, or refused with what it
// lacks.
func TestExistingStream(t *testing.T) {
	s := serve(t)
	js := jetStream(t, s.ClientURL())
	attachTo := func(options ...natsbroker.Option) error {
		b := connect(t, s.ClientURL(), options...)
		session, err := b.Attach(t.Context(), func(chathub.Message) {})
		if err == nil {
			_ = session.Close(t.Context())
		}
		return err
	}
	if err := attachTo(natsbroker.ExistingStream()); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("there is none: %v", err)
	}
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "chathub", Subjects: []string{"chathub.>"}, Discard: jetstream.DiscardNew, Retention: jetstream.InterestPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	err = attachTo()
	for _, want := range []string{"subjects", "republish", "direct", "retention", "discards"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	if err := js.DeleteStream(t.Context(), "chathub"); err != nil {
		t.Fatal(err)
	}
	if err := attachTo(natsbroker.MaxMessages(7)); err != nil {
		t.Fatal(err)
	}
	if err := attachTo(natsbroker.ExistingStream()); err != nil {
		t.Errorf("one that fits: %v", err)
	}
	var log logs
	if err := attachTo(natsbroker.MaxMessages(9), natsbroker.Logger(slog.New(slog.NewTextHandler(&log, nil)))); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); !strings.Contains(text, "messages=7") {
		t.Errorf("other limits are not logged: %s", text)
	}
	stream, err := js.Stream(t.Context(), "chathub")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().Config.MaxMsgsPerSubject; n != 7 {
		t.Errorf("the stream was changed: %d messages", n)
	}
}

// TestPermissions: those that the README names are enough where the stream is there.
func TestPermissions(t *testing.T) {
	s := serve(t)
	operator := attach(t, connect(t, s.ClientURL())) // which creates the stream
	operator.say(room("lobby"), "one")
	s.stop()
	s.opts.Users = []*server.User{{Username: "chat", Password: "secret", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			"chathub.log.>", "chathub.hear.>",
			"$JS.API.STREAM.INFO.chathub", "$JS.API.STREAM.MSG.GET.chathub", "$JS.API.DIRECT.GET.chathub",
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{"chathub.hear.>", "_INBOX.>"}},
	}}}
	s.start()
	var log logs
	hubtest.TestBroker(t, func(t *testing.T) chathub.Broker {
		return connect(t, s.ClientURL(), natsbroker.ExistingStream(), natsbroker.Logger(slog.New(slog.NewTextHandler(&log, nil))),
			natsbroker.NATS(nats.UserInfo("chat", "secret")))
	})
	if text := log.String(); strings.Contains(text, "ermission") {
		t.Error(text)
	}
	if _, err := connect(t, s.ClientURL()).Attach(t.Context(), func(chathub.Message) {}); err == nil {
		t.Error("a session without the password")
	}
}

// TestNames: applications with names of their own share a server.
func TestNames(t *testing.T) {
	s := serve(t)
	topic := room("lobby")
	one := attach(t, connect(t, s.ClientURL(), natsbroker.Name("one")))
	two := attach(t, connect(t, s.ClientURL(), natsbroker.Name("two")))
	one.subscribe(topic)
	two.subscribe(topic)
	one.say(topic, "of one")
	last := two.say(topic, "of two")
	if got := bodies(two.until(topic, last.Seq)); !slices.Equal(got, []string{"of two"}) {
		t.Errorf("two got %v", got)
	}
}

func jetStream(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
