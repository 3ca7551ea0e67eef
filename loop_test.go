package chathub

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestQueueAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Config{Auth: Anonymous{}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		post := func(f func(*loop)) {
			if err := h.post(call(f)); err != nil {
				t.Fatal(err)
			}
		}
		begin, hold, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
		post(func(*loop) { <-begin })
		synctest.Wait()
		for range burst { // more than the loop takes at once
			post(func(*loop) {})
		}
		post(func(*loop) { <-hold })
		post(func(*loop) { close(end) })
		if s := h.Stats(); s.QueueLength != burst+2 || s.QueueAge != 0 {
			t.Errorf("before: %+v", s)
		}
		close(begin)
		time.Sleep(time.Second)
		if s := h.Stats(); s.QueueLength != 1 || s.QueueAge != time.Second {
			t.Errorf("held: %+v", s)
		}
		close(hold)
		<-end
		synctest.Wait()
		if s := h.Stats(); s.QueueLength != 0 || s.QueueAge != 0 {
			t.Errorf("after: %+v", s)
		}
	})
}
