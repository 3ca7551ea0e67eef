package natsbroker

import (
	"context"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats.go"
)

// Clock replaces the clock of a node.
func Clock(now func() time.Time) Option {
	return func(c *config) { c.clock = now }
}

// StreamMaxBytes returns the bound of a session's stream.
func StreamMaxBytes(ctx context.Context, s chathub.BrokerSession) (int64, error) {
	info, err := s.(*session).info(ctx, "")
	if err != nil {
		return 0, err
	}
	return info.Config.MaxBytes, nil
}

// Indirect makes a broker behave as if there were other servers between its
// sessions and the stream.
func Indirect() Option {
	return func(c *config) { c.indirect = true }
}

// Between calls f before the second step of an erasure.
func Between(f func()) Option {
	return func(c *config) { c.between = f }
}

// Received returns how many bytes a session has received.
func Received(s chathub.BrokerSession) uint64 { return s.(*session).nc.Stats().InBytes }

// Stored returns a message as it is in the stream, and its message id.
func Stored(m chathub.Message) (data []byte, id string) {
	c := config{name: "chathub"}
	f := frame{attempt: 1, time: m.Time, key: m.Key, body: m.Body}
	return f.encode(), messageID(c.oldSubject(m.Topic), m.Key)
}

// Raw returns a named message as a node stores it.
func Raw(m chathub.Message) *nats.Msg {
	c := config{name: "chathub"}
	f := frame{attempt: 1, sum: m.Sum, time: m.Time, key: m.Key, body: m.Body}
	h := metaOf(&m)
	h.tiedTime = m.Time
	return &nats.Msg{
		Subject: c.logSubject(&m), Data: f.encode(),
		Header: nats.Header{headerID: {messageID(c.oldSubject(m.Topic), m.Key)}, headerMeta: {h.encode()}},
	}
}

// Subjects returns the filter of a topic in the stream.
func Subjects(t chathub.Topic) string {
	c := config{name: "chathub"}
	return c.filter(t)
}

// Check compares a topic of a session with the stream, as it is done from time
// to time in a cluster.
func Check(ctx context.Context, s chathub.BrokerSession, t chathub.Topic) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return s.(*session).subscribed(t).check(ctx)
}

// HoldReads lets no call of a session read the stream until release is called.
func HoldReads(s chathub.BrokerSession) (release func()) {
	reading := s.(*session).reading
	for range cap(reading) {
		reading <- struct{}{}
	}
	return func() {
		for range cap(reading) {
			<-reading
		}
	}
}

// Requests returns how many messages a session has sent to its server.
func Requests(s chathub.BrokerSession) uint64 { return s.(*session).nc.Stats().OutMsgs }
