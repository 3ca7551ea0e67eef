package chathub

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryBrokerValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		broker *MemoryBroker
		want   []string // of the error's text; none: no error
	}{
		{"zero", &MemoryBroker{}, nil},
		{"all off that may be", &MemoryBroker{MaxMessages: -1, MaxBytes: -1, MaxAge: -1, MaxIdleTopics: -1, DuplicateWindow: -1}, nil},
		{"unbounded", &MemoryBroker{MaxTotalBytes: -1}, []string{"MaxTotalBytes"}},
		{"no unit", &MemoryBroker{MaxAge: 24, DuplicateWindow: 5}, []string{"MaxAge (24ns)", "DuplicateWindow (5ns)"}},
		{"all mistakes", &MemoryBroker{MaxTotalBytes: -1, MaxAge: 1}, []string{"MaxTotalBytes", "MaxAge"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.broker.validate()
			_, attachErr := c.broker.Attach(t.Context(), func(Message) {})
			if (err != nil) != (len(c.want) > 0) || (attachErr != nil) != (err != nil) {
				t.Fatalf("validate: %v; Attach: %v", err, attachErr)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) || !strings.Contains(attachErr.Error(), want) {
					t.Errorf("validate: %v; Attach: %v; want %s in both", err, attachErr, want)
				}
			}
		})
	}
}

func TestMemoryBrokerMaxMessages(t *testing.T) {
	b := &MemoryBroker{MaxMessages: 3}
	h := attachMemory(t, b)
	for i, want := range [][]string{{"0"}, {"0", "1"}, {"0", "1", "2"}, {"1", "2", "3"}, {"2", "3", "4"}} {
		h.publish("r", "", fmt.Sprint(i))
		h.wantLog("r", want...)
	}
	p, err := h.Read(t.Context(), Topic{Room: "r"}, Range{After: 1, Limit: 2})
	if err != nil || len(p.Messages) != 2 || !p.More || p.Trimmed != 2 {
		t.Errorf("page %+v, error %v", p, err)
	}
	p, err = h.Read(t.Context(), Topic{Room: "r"}, Range{Before: 3, Limit: 2})
	if err != nil || len(p.Messages) != 0 || p.More {
		t.Errorf("page of what is trimmed: %+v, error %v", p, err)
	}
	checkMemory(t, b)
}

func TestMemoryBrokerMaxBytes(t *testing.T) {
	b := &MemoryBroker{MaxBytes: 3 * (messageCost + 10)}
	h := attachMemory(t, b)
	h.subscribe("r")
	h.publish("r", "", "0_________")
	h.publish("r", "key", "1______") // the key counts, too
	h.publish("r", "", "2_________")
	h.wantLog("r", "0_________", "1______", "2_________")
	h.publish("r", "", "3")
	h.wantLog("r", "1______", "2_________", "3")
	h.publish("r", "", "4_________")
	h.wantLog("r", "2_________", "3", "4_________")
	h.publish("r", "", strings.Repeat("5", 2*messageCost+31)) // one byte too large
	h.wantKept(Topic{Room: "r"}, "2_________ 3 4_________")
	if p := h.read("r"); p.Head.Seq != 6 || p.Trimmed != 6 {
		t.Errorf("after a message that is not kept: head %d, trimmed to %d", p.Head.Seq, p.Trimmed)
	}
	h.publish("r", "", strings.Repeat("6", 2*messageCost+30))
	h.wantLog("r", strings.Repeat("6", 2*messageCost+30))
	if len(h.got) != 7 {
		t.Errorf("%d messages were delivered, want all 7", len(h.got))
	}
	checkMemory(t, b)
}

func TestMemoryBrokerMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{MaxAge: time.Hour}
		h := attachMemory(t, b)
		epoch := h.subscribe("r").Epoch
		h.publish("r", "", "0")
		time.Sleep(40 * time.Minute)
		h.publish("r", "", "1")
		time.Sleep(20 * time.Minute)
		h.wantLog("r", "0", "1")
		time.Sleep(time.Millisecond)
		h.wantLog("r", "1")
		time.Sleep(time.Hour)
		h.wantLog("r")
		if p := h.read("r"); p.Head != (Position{epoch, 2}) {
			t.Errorf("head of a subscribed log whose messages are gone: %+v", p.Head)
		}
		checkMemory(t, b)
	})
}

func TestMemoryBrokerDuplicateWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{MaxMessages: 2, DuplicateWindow: time.Minute}
		h := attachMemory(t, b)
		first := h.publish("r", "first", "0")
		for i := range 7 {
			h.publish("r", fmt.Sprint(i), "more")
		}
		time.Sleep(time.Minute)
		if r := h.publish("r", "first", "again"); !r.Duplicate || r.Seq != first.Seq || r.Time != first.Time {
			t.Errorf("the key of an evicted message is forgotten: %+v", r)
		}
		h.wantLog("r", "more", "more")
		time.Sleep(time.Millisecond)
		if r := h.publish("r", "first", "again"); r.Duplicate || r.Seq != 9 {
			t.Errorf("after the window: %+v", r)
		}
		// Their number does not matter.
		for i := range 10_000 {
			h.publish("r", fmt.Sprint("more ", i), "more")
		}
		checkMemory(t, b)
		if r := h.publish("r", "first", "again"); !r.Duplicate || r.Seq != 9 {
			t.Errorf("a key is forgotten within the window: %+v", r)
		}
		time.Sleep(time.Minute + time.Millisecond)
		if r := h.publish("r", "first", "again"); r.Duplicate {
			t.Errorf("after the second window: %+v", r)
		}
		if l := b.topics[Topic{Room: "r"}]; l.keys.len() != 1 || l.index.m != nil && len(l.index.m) != 1 {
			t.Errorf("%d keys and %d in the index are left", l.keys.len(), len(l.index.m))
		}
		checkMemory(t, b)
	})
}

func TestMemoryBrokerDuplicatesOff(t *testing.T) {
	b := &MemoryBroker{DuplicateWindow: -1}
	h := attachMemory(t, b)
	h.publish("r", "key", "0")
	h.publish("r", "key", "1")
	h.wantLog("r", "0", "1")
	checkMemory(t, b)
}
