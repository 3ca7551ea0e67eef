package natsbroker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// streamState is what a session knows of the stream, a second old at most.
type streamState struct {
	epoch       string
	firstSeq    uint64 // of all topics; what is older is gone
	lastSeq     uint64
	maxMessages int // of a topic; 0 or less: no bound
	maxAge      time.Duration
	// raised: up to this position the bound was lower once.
	raised    uint64
	clustered bool
	leader    string // and since when: changes with every election
}

// raisedKey is in the stream's metadata where the bound of messages was raised: Read must
// not take a log that has fewer messages than the bound for one that has lost none.
const raisedKey = "chathub-raised-at"

func newState(i *jetstream.StreamInfo) *streamState {
	st := &streamState{
		// Stays the same when servers restart, and never comes again.
		epoch:       strconv.FormatInt(i.Created.UnixNano(), 36),
		firstSeq:    i.State.FirstSeq,
		lastSeq:     i.State.LastSeq,
		maxMessages: int(i.Config.MaxMsgsPerSubject),
		maxAge:      i.Config.MaxAge,
	}
	if i.State.Msgs == 0 {
		st.firstSeq = i.State.LastSeq + 1
	}
	st.raised, _ = strconv.ParseUint(i.Config.Metadata[raisedKey], 10, 64) // absent: 0
	if c := i.Cluster; c != nil && c.Name != "" {
		st.clustered = true
		st.leader = c.Leader
		if c.LeaderSince != nil {
			st.leader += c.LeaderSince.String()
		}
	}
	return st
}

// streamConfig is the stream that the options describe.
func (c *config) streamConfig() jetstream.StreamConfig {
	storage := jetstream.FileStorage
	if c.memory {
		storage = jetstream.MemoryStorage
	}
	return jetstream.StreamConfig{
		Name:              c.name,
		Description:       "chathub: rooms and inboxes",
		Subjects:          []string{c.name + logTree + ".>"},
		RePublish:         &jetstream.RePublish{Source: c.name + logTree + ".>", Destination: c.name + hearTree + ".>"},
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		Storage:           storage,
		Replicas:          c.replicas,
		MaxMsgsPerSubject: int64(c.maxMessages),
		MaxAge:            c.maxAge,
		MaxBytes:          cmp.Or(c.maxBytes, defaultBytes),
		MaxMsgs:           -1,
		MaxConsumers:      -1,
		MaxMsgSize:        -1,
		Duplicates:        c.window,
		AllowDirect:       true,
	}
}

// openStream creates the stream, or checks the one that is there. Its error is final where
// it is about the stream.
func (b *Broker) openStream(ctx context.Context, nc *nats.Conn) (*streamState, error) {
	js, err := newJetStream(nc, b.cfg.domain)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	opened := b.opened
	b.mu.Unlock()
	info, err := b.findStream(ctx, js, opened)
	var api *jetstream.APIError
	switch {
	case err == nil:
		err = b.checkStream(info)
	case !errors.As(err, &api) || api.Code == 503 || api.ErrorCode == codeStoreFailed:
		return nil, err // the servers are starting, or deleting the last one still
	}
	if err != nil {
		return nil, finalError{fmt.Errorf("natsbroker: %w", err)}
	}
	b.mu.Lock()
	b.opened = true
	b.mu.Unlock()
	return newState(info), nil
}

func newJetStream(nc *nats.Conn, domain string) (jetstream.JetStream, error) {
	if domain != "" {
		return jetstream.NewWithDomain(nc, domain)
	}
	return jetstream.New(nc)
}

func (b *Broker) findStream(ctx context.Context, js jetstream.JetStream, opened bool) (*jetstream.StreamInfo, error) {
	want := b.cfg.streamConfig()
	stream, err := js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound) && !b.cfg.existing:
		if err := b.fit(&want, nil); err != nil {
			return nil, finalError{err}
		}
		stream, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // by another node, at the same time
			stream, err = js.Stream(ctx, want.Name)
		}
	case err == nil && b.cfg.embedded && !opened:
		if err := b.fit(&want, stream.CachedInfo()); err != nil {
			return nil, finalError{err}
		}
		stream, err = update(ctx, js, stream, want)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %q: %w%s", want.Name, err, remedy(err, want.MaxBytes))
	}
	return stream.CachedInfo(), nil
}

// update gives an embedded stream the limits that the options ask for now.
func update(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	info := stream.CachedInfo()
	have := info.Config
	if have.Storage != want.Storage {
		return nil, finalError{fmt.Errorf("natsbroker: stream %q is stored in %v; MemoryStorage says otherwise", want.Name, have.Storage)}
	}
	if have.MaxMsgsPerSubject == want.MaxMsgsPerSubject && have.MaxAge == want.MaxAge &&
		have.MaxBytes == want.MaxBytes && have.Duplicates == want.Duplicates {
		return stream, nil
	}
	want.Metadata = map[string]string{}
	if at := have.Metadata[raisedKey]; at != "" {
		want.Metadata[raisedKey] = at
	}
	if raises(have.MaxMsgsPerSubject, want.MaxMsgsPerSubject) {
		want.Metadata[raisedKey] = strconv.FormatUint(info.State.LastSeq, 10)
	}
	return js.UpdateStream(ctx, want)
}

func raises(have, want int64) bool { return have > 0 && (want <= 0 || want > have) }

// checkStream refuses a stream that does not do what the broker is built on, and logs
// limits that are not those of the options.
func (b *Broker) checkStream(info *jetstream.StreamInfo) error {
	have, want := info.Config, b.cfg.streamConfig()
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("stream %q: "+format, append([]any{want.Name}, args...)...))
		}
	}
	require(len(have.Subjects) == 1 && have.Subjects[0] == want.Subjects[0], "its subjects are %q, must be %q", have.Subjects, want.Subjects)
	r := have.RePublish
	require(r != nil && r.Source == want.RePublish.Source && r.Destination == want.RePublish.Destination && !r.HeadersOnly,
		"it does not republish %s to %s", want.RePublish.Source, want.RePublish.Destination)
	require(have.AllowDirect, "it does not allow direct gets")
	require(have.Retention == jetstream.LimitsPolicy, "its retention is %v, must be limits", have.Retention)
	require(have.Discard == jetstream.DiscardOld, "it discards new messages, must be old ones")
	require(have.Duplicates >= 100*time.Millisecond, "it has no duplicate window")
	if err := errors.Join(errs...); err != nil || b.cfg.existing || b.cfg.embedded {
		return err
	}
	if have.Storage != want.Storage || have.Replicas != want.Replicas || have.MaxMsgsPerSubject != want.MaxMsgsPerSubject ||
		have.MaxAge != want.MaxAge || have.MaxBytes != want.MaxBytes || have.Duplicates != want.Duplicates {
		b.cfg.log.Warn("natsbroker: the stream is there, and is not what the options say; it stays as it is",
			"stream", want.Name, "storage", have.Storage, "replicas", have.Replicas, "messages", have.MaxMsgsPerSubject,
			"age", have.MaxAge, "bytes", have.MaxBytes, "window", have.Duplicates)
	}
	return nil
}
