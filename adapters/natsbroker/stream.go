package natsbroker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// streamState is a session's knowledge of the stream, renewed once a second.
type streamState struct {
	epoch       string
	firstSeq    uint64 // of all topics; older messages have been dropped
	firstTime   time.Time
	lastSeq     uint64
	messages    uint64
	maxMessages int // per subject; 0 or less: no bound
	maxAge      time.Duration
	// raised is the last position that was stored under a lower maxMessages or
	// maxAge.
	raised    uint64
	bytes     uint64 // of all messages
	maxBytes  int64  // 0 or less: no bound
	clustered bool
	leader    string // with the time of its election; if clustered
	alone     string // the only server, if not clustered
}

// raisedKey is set in the stream's metadata when MaxMessages or MaxAge is
// raised. A log with fewer or younger messages than the new bound may have lost
// some under the old one, and Read must know that.
const raisedKey = "chathub-raised-at"

// restoredKey is set in the stream's metadata after the stream was restored
// from a backup; see [Restored].
const restoredKey = "chathub-restored"

func newState(i *jetstream.StreamInfo) *streamState {
	st := &streamState{
		// It stays the same when servers restart, and no other stream has it.
		epoch:       strconv.FormatInt(i.Created.UnixNano(), 36),
		firstSeq:    i.State.FirstSeq,
		firstTime:   i.State.FirstTime,
		lastSeq:     i.State.LastSeq,
		messages:    i.State.Msgs,
		maxMessages: int(i.Config.MaxMsgsPerSubject),
		maxAge:      i.Config.MaxAge,
		bytes:       i.State.Bytes,
		maxBytes:    i.Config.MaxBytes,
	}
	if word := i.Config.Metadata[restoredKey]; word != "" {
		st.epoch += "-" + word
	}
	if i.State.Msgs == 0 {
		st.firstSeq = i.State.LastSeq + 1
	}
	// If the key is absent, raised is 0.
	st.raised, _ = strconv.ParseUint(i.Config.Metadata[raisedKey], 10, 64)
	if c := i.Cluster; c != nil && c.Name == "" {
		st.alone = c.Leader
	} else if c != nil {
		st.clustered = true
		st.leader = c.Leader
		if c.LeaderSince != nil {
			st.leader += c.LeaderSince.String()
		}
	}
	return st
}

// isFull reports whether a subject with count messages drops one for each new
// message.
func (st *streamState) isFull(count uint64) bool {
	return st.maxMessages > 0 && count >= uint64(st.maxMessages)
}

// streamConfig returns the configuration of the stream according to the
// options.
func (c *config) streamConfig() jetstream.StreamConfig {
	storage := jetstream.FileStorage
	if c.memory {
		storage = jetstream.MemoryStorage
	}
	return jetstream.StreamConfig{
		Name:              c.name,
		Description:       "chathub: rooms and inboxes",
		Subjects:          []string{c.name + logTree + storedTokens},
		RePublish:         &jetstream.RePublish{Source: c.name + logTree + storedTokens, Destination: c.name + hearTree + republishTokens},
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
		AllowRollup:       true,
		AllowMsgTTL:       true,
	}
}

// openStream creates the stream, or checks the existing one. An error about the
// stream itself is a finalError.
func (b *Broker) openStream(ctx context.Context, nc *nats.Conn) (*streamState, error) {
	js, err := newJetStream(nc, b.cfg.domain)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	opened := b.opened
	b.mu.Unlock()
	info, before, err := b.findStream(ctx, js, opened)
	var api *jetstream.APIError
	switch {
	case err == nil:
		if err = b.checkStream(info); err == nil && (info.State.LastSeq == 0 || before) {
			if err := b.storeFirst(ctx, nc); err != nil {
				return nil, err
			}
		}
	case !errors.As(err, &api) || api.Code == 503 || api.ErrorCode == codeStoreFailed:
		// The servers are still starting, or deleting an earlier stream.
		return nil, err
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

// storeFirst stores the first message of a stream. It stays there, so the first
// position of the stream says what the stream has dropped because of its size.
// Without it, a first message that is erased would look like one that was
// dropped. If it is dropped itself, the stream has been full, and nobody stores
// another one.
func (b *Broker) storeFirst(ctx context.Context, nc *nats.Conn) error {
	m := &nats.Msg{Subject: b.cfg.name + logTree + firstMessage, Data: (&frame{}).encode(), Header: nats.Header{headerTTL: {"never"}, headerExpected: {"0"}}}
	answer, err := nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return err
	}
	var ack pubAck
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return err
	}
	if ack.Error != nil && ack.Error.ErrCode != codeWrongLast {
		return ack.Error
	}
	return nil
}

// findStream returns the stream, and whether an earlier version has used it
// before.
func (b *Broker) findStream(ctx context.Context, js jetstream.JetStream, opened bool) (info *jetstream.StreamInfo, before bool, err error) {
	want := b.cfg.streamConfig()
	stream, err := js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound) && !b.cfg.existing:
		if err := b.fit(&want, nil); err != nil {
			return nil, false, finalError{err}
		}
		stream, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			// Another node has just created it.
			stream, err = js.Stream(ctx, want.Name)
		}
	case err == nil && b.cfg.embedded && !opened:
		before = lacksNames(&stream.CachedInfo().Config)
		if err := b.fit(&want, stream.CachedInfo()); err != nil {
			return nil, false, finalError{err}
		}
		stream, err = update(ctx, js, stream, want, b.cfg.restored)
	case err == nil && !b.cfg.existing && (isOld(&stream.CachedInfo().Config) || lacksNames(&stream.CachedInfo().Config)):
		before = true
		have := stream.CachedInfo().Config
		if isOld(&have) {
			b.cfg.log.Warn("natsbroker: taking over the stream of an earlier version, whose processes can store nothing from now on", "stream", want.Name)
			have.Subjects, have.RePublish = want.Subjects, want.RePublish
		} else {
			b.cfg.log.Info("natsbroker: the stream gets the settings that named messages need", "stream", want.Name)
		}
		have.AllowRollup, have.AllowMsgTTL = true, true
		have.DenyDelete, have.DenyPurge = false, false // or the server says that it cannot
		if stream, err = js.UpdateStream(ctx, have); err != nil {
			err = fmt.Errorf("changing its subjects to %q, and allow_rollup_hdrs and allow_msg_ttl to true, which needs permission for STREAM.UPDATE: %w", have.Subjects, err)
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("stream %q: %w%s", want.Name, err, remedy(err, want.MaxBytes))
	}
	return stream.CachedInfo(), before, nil
}

// update applies changed options to an existing embedded stream.
func update(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, want jetstream.StreamConfig, restored string) (jetstream.Stream, error) {
	info := stream.CachedInfo()
	have := info.Config
	if have.Storage != want.Storage {
		return nil, finalError{fmt.Errorf("natsbroker: stream %q is stored in %v, and the options ask for %v", want.Name, have.Storage, want.Storage)}
	}
	if !isOld(&have) && !lacksNames(&have) && have.MaxMsgsPerSubject == want.MaxMsgsPerSubject && have.MaxAge == want.MaxAge &&
		have.MaxBytes == want.MaxBytes && have.Duplicates == want.Duplicates && (restored == "" || have.Metadata[restoredKey] == restored) {
		return stream, nil
	}
	want.Metadata = map[string]string{}
	for _, key := range []string{raisedKey, restoredKey} {
		if word := have.Metadata[key]; word != "" {
			want.Metadata[key] = word
		}
	}
	if restored != "" {
		want.Metadata[restoredKey] = restored
	}
	if raises(have.MaxMsgsPerSubject, want.MaxMsgsPerSubject) || raises(int64(have.MaxAge), int64(want.MaxAge)) {
		want.Metadata[raisedKey] = strconv.FormatUint(info.State.LastSeq, 10)
	}
	return js.UpdateStream(ctx, want)
}

// isOld reports whether a stream is of an earlier version, which stored each
// topic under one subject. Everything that it has can still be read once its
// subjects are changed.
func isOld(have *jetstream.StreamConfig) bool {
	all := have.Name + logTree + ".>"
	r := have.RePublish
	return slices.Equal(have.Subjects, []string{all}) && r != nil && r.Source == all && r.Destination == have.Name+hearTree+".>"
}

// lacksNames reports whether a stream is of a version that had no named
// messages. Processes of that version go on beside those of this one.
func lacksNames(have *jetstream.StreamConfig) bool {
	return !have.AllowRollup || !have.AllowMsgTTL || have.DenyDelete || have.DenyPurge
}

func raises(have, want int64) bool { return have > 0 && (want <= 0 || want > have) }

// checkStream returns an error if the stream lacks something that the broker
// needs. It logs a warning if its limits differ from those of the options.
func (b *Broker) checkStream(info *jetstream.StreamInfo) error {
	have, want := info.Config, b.cfg.streamConfig()
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("stream %q: "+format, append([]any{want.Name}, args...)...))
		}
	}
	require(slices.Equal(have.Subjects, want.Subjects), "its subjects are %q, want %q", have.Subjects, want.Subjects)
	r := have.RePublish
	require(r != nil && r.Source == want.RePublish.Source && r.Destination == want.RePublish.Destination && !r.HeadersOnly,
		"it does not republish %s to %s", want.RePublish.Source, want.RePublish.Destination)
	require(have.AllowDirect, "it does not allow direct gets")
	require(have.AllowRollup && !have.DenyPurge, "it does not allow messages to replace others: set allow_rollup_hdrs, and not deny_purge")
	require(have.AllowMsgTTL, "it does not allow messages to have a time to live: set allow_msg_ttl")
	require(!have.DenyDelete, "it does not allow messages to be erased: deny_delete is set")
	require(have.Retention == jetstream.LimitsPolicy, "its retention is %v, want limits", have.Retention)
	require(have.Discard == jetstream.DiscardOld, "it discards new messages instead of old ones")
	require(have.Duplicates >= 100*time.Millisecond, "it has no duplicate window")
	if err := errors.Join(errs...); err != nil || b.cfg.existing || b.cfg.embedded {
		return err
	}
	if have.Storage != want.Storage || have.Replicas != want.Replicas || have.MaxMsgsPerSubject != want.MaxMsgsPerSubject ||
		have.MaxAge != want.MaxAge || have.MaxBytes != want.MaxBytes || have.Duplicates != want.Duplicates {
		b.cfg.log.Warn("natsbroker: the existing stream differs from the options and is left as it is",
			"stream", want.Name, "storage", have.Storage, "replicas", have.Replicas, "messages", have.MaxMsgsPerSubject,
			"age", have.MaxAge, "bytes", have.MaxBytes, "window", have.Duplicates)
	}
	return nil
}
