package natsbroker_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/adapters/natsbroker"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestExistingStream checks that the operator's stream is used as it is, or
// refused with an error that names what it lacks.
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

// TestPermissions checks that the permissions in the README are enough if the
// stream exists.
func TestPermissions(t *testing.T) {
	s := serve(t)
	operator := attach(t, connect(t, s.ClientURL())) // creates the stream
	operator.say(room("lobby"), "one")
	s.stop()
	s.opts.Users = []*server.User{{Username: "chat", Password: "secret", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			"chathub.log.>", "chathub.hear.>",
			"$JS.API.STREAM.INFO.chathub", "$JS.API.STREAM.MSG.GET.chathub", "$JS.API.STREAM.MSG.DELETE.chathub", "$JS.API.DIRECT.GET.chathub",
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
