package natsbroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// attemptTimeout bounds one attempt of a request, because the server that
	// should answer may be gone.
	attemptTimeout = 2 * time.Second
	// The pause between two attempts grows from firstPause to mostPause.
	firstPause = 20 * time.Millisecond
	mostPause  = 300 * time.Millisecond
)

// persist calls f until it succeeds or returns a finalError. It gives up with
// unavailable when ctx ends, or after Timeout.
func (s *session) persist(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.broker.cfg.timeout)
	defer cancel()
	stop := context.AfterFunc(s.life, cancel)
	defer stop()
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		if err := s.usable(ctx); err != nil {
			return err
		}
		try, cancel := context.WithTimeout(ctx, attemptTimeout)
		cut := context.AfterFunc(s.link.Load().up, cancel)
		err := f(try)
		cut()
		cancel()
		var final finalError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &final):
			return final.error
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if s.life.Err() != nil {
				return errSessionClosed
			}
			return unavailable(err)
		}
	}
}

// readers is how many calls of a session may read the stream at a time.
const readers = 16

// turn waits until a call may read the stream, for Timeout at most. The call
// ends with done.
//
// The server works off the requests of a connection one after the other, and
// does not notice that a caller has given up. Without turns, a crowd of readers
// would make each other, and everyone who publishes, wait for longer than an
// attempt may take. Then all would ask again, and the server would work for
// requests whose callers are gone.
func (s *session) turn(ctx context.Context) (done func(), err error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.broker.cfg.timeout)
	defer cancel()
	stop := context.AfterFunc(s.life, cancel)
	defer stop()
	if err := hold(ctx, s.reading); err != nil {
		if s.life.Err() != nil {
			return nil, errSessionClosed
		}
		return nil, err
	}
	return func() { <-s.reading }, nil
}

// link is the present connection of a session. Each reconnect makes a new one.
type link struct {
	up   context.Context // ends when the connection is lost
	lost context.CancelFunc
}

func (s *session) newLink() {
	l := &link{}
	l.up, l.lost = context.WithCancel(s.life)
	s.link.Store(l)
}

// finalError is an error that persist does not retry.
type finalError struct{ error }

// apiError is an error in an answer of JetStream's API.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// Error codes of JetStream, from server/errors.json of nats-server.
const (
	codeNoPeers         = 10005 // in a cluster
	codeNoMemory        = 10028
	codeNoMessage       = 10037
	codeNoStorage       = 10047
	codeMessageTooLarge = 10054
	codeWrongLast       = 10071
	codeRollup          = 10111
	codeWrongLastBusy   = 10164
	codeStoreFailed     = 10049
)

// answer is the part that all answers of the API have in common.
type answer struct {
	Error *apiError `json:"error"`
}

func (a *answer) failure() *apiError { return a.Error }

// request sends a request to JetStream's API and decodes the leader's answer.
func (s *session) request(ctx context.Context, subject, body string, into interface{ failure() *apiError }) error {
	m, err := s.nc.RequestWithContext(ctx, subject, []byte(body))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(m.Data, into); err != nil {
		return err
	}
	if e := into.failure(); e != nil {
		return e
	}
	return nil
}

// replies receives answers that consist of several messages. The inbox of
// nats.go only takes one message per request. A subscription for each request
// would have to be announced to every server of a cluster.
type replies struct {
	prefix string
	sub    *nats.Subscription
	last   atomic.Uint64

	mu      sync.Mutex
	waiting map[string]chan *nats.Msg
}

func (r *replies) open(nc *nats.Conn) (err error) {
	r.prefix = nc.NewInbox() + "."
	r.waiting = make(map[string]chan *nats.Msg)
	r.sub, err = nc.Subscribe(r.prefix+"*", r.receive)
	return err
}

func (r *replies) receive(m *nats.Msg) {
	r.mu.Lock()
	c := r.waiting[m.Subject]
	r.mu.Unlock()
	select {
	case c <- m: // c is nil if the request has been given up
	default: // more messages than requested
	}
}

// expect returns a subject for up to n answers, and the channel on which they
// arrive until forget is called.
func (r *replies) expect(n int) (subject string, answers <-chan *nats.Msg, forget func()) {
	subject = r.prefix + strconv.FormatUint(r.last.Add(1), 36)
	c := make(chan *nats.Msg, n)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting[subject] = c
	return subject, c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, subject)
	}
}

// statusOf returns the status of an answer without data, or "" if it has data.
func statusOf(m *nats.Msg) string {
	if len(m.Data) > 0 {
		return ""
	}
	return m.Header.Get("Status")
}

func number(m *nats.Msg, header string) (uint64, error) {
	n, err := strconv.ParseUint(m.Header.Get(header), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s: %w", header, err)
	}
	return n, nil
}

// quote returns a subject as a JSON string. Subjects have no characters that
// need escaping.
func quote(subject string) string { return `"` + subject + `"` }

// apiPrefix is the prefix of the subjects of JetStream's API.
func apiPrefix(domain string) string {
	if domain == "" {
		return "$JS.API."
	}
	return "$JS." + strings.TrimSuffix(domain, ".") + ".API."
}
