package hubtest

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Calls collects the calls of a hook of the application, such as
// [chathub.Config].OnPresence, or of the function of [chathub.Hub.Follow].
//
//	came := hubtest.NewCalls[chathub.PresenceChange](t)
//	hub := hubtest.New(t, chathub.Config{OnPresence: came.Call})
//
// Its methods may be called from any goroutine, except for those that a test
// calls: Next, Pending and Fail.
type Calls[T any] struct {
	t testing.TB

	mu    sync.Mutex
	calls []T
	errs  []error
	wake  chan struct{} // holds one: there is a call
}

// NewCalls returns an empty Calls.
func NewCalls[T any](t testing.TB) *Calls[T] { return &Calls[T]{t: t, wake: make(chan struct{}, 1)} }

// Call is the hook. It notes the call and returns nil, or an error that Fail
// has asked for. Then the call is not noted.
func (c *Calls[T]) Call(_ context.Context, v T) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.errs) > 0 {
		err := c.errs[0]
		c.errs = c.errs[1:]
		return err
	}
	c.calls = append(c.calls, v)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// Fail lets the next calls return errors, one each.
func (c *Calls[T]) Fail(errs ...error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, errs...)
}

// Next returns the next call, in order. It fails the test if none comes within
// a minute, since hooks are called after a grace.
func (c *Calls[T]) Next() T {
	c.t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		if len(c.calls) > 0 {
			v := c.calls[0]
			c.calls = c.calls[1:]
			c.mu.Unlock()
			return v
		}
		c.mu.Unlock()
		select {
		case <-c.wake:
		case <-timeout.C:
			c.t.Fatal("no call within a minute")
		}
	}
}

// Pending returns the calls that no other method has returned. It does not
// wait. Within testing/synctest, sleep for as long as the hook may take first.
func (c *Calls[T]) Pending() []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return calls
}
