package natsbroker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chathub-go/chathub/adapters/natsbroker"
)

// TestStats checks the figures of a broker whose server goes away and comes
// back.
func TestStats(t *testing.T) {
	srv := serve(t)
	b := connect(t, srv.ClientURL())
	if s := b.Stats(); s.Sessions != 0 || s.Stream != (natsbroker.StreamStats{FreeBytes: -1}) {
		t.Errorf("without a session: %+v", s)
	}
	n, other := attach(t, b), attach(t, b)
	n.subscribe(room("lobby"))
	other.subscribe(room("lobby"))
	before := time.Now().Add(-time.Minute)
	for i := range 10 {
		n.say(room("lobby"), fmt.Sprint(i))
	}
	eventually(t, "the messages in the figures", func() bool { return b.Stats().Stream.Messages >= 10 })
	s := b.Stats()
	if s.Sessions != 2 || s.Connected != 2 || s.Answering != 2 || s.Topics != 2 || s.Disconnects+s.Reconnects+s.Overflows != 0 {
		t.Errorf("connected: %+v", s)
	}
	if st := s.Stream; st.LastSeq != st.Messages || st.FirstSeq != 1 || st.Bytes < 10 || st.MaxBytes != 1<<30 || st.Oldest.Before(before) || st.FreeBytes != -1 {
		t.Errorf("the stream: %+v", st)
	}
	if s.CacheBytes <= 0 {
		t.Errorf("%d bytes in the cache", s.CacheBytes)
	}

	srv.stop()
	eventually(t, "the loss in the figures", func() bool {
		s = b.Stats()
		return s.Connected == 0 && s.Answering == 0
	})
	if s.Disconnects != 2 || s.Sessions != 2 || s.Stream.Messages < 10 {
		t.Errorf("disconnected: %+v", s)
	}
	srv.start()
	eventually(t, "the return in the figures", func() bool {
		s = b.Stats()
		return s.Connected == 2 && s.Answering == 2
	})
	if s.Reconnects != 2 {
		t.Errorf("connected again: %+v", s)
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := other.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if s := b.Stats(); s.Sessions != 1 || s.Disconnects != 2 {
		t.Errorf("after one session was closed: %+v", s)
	}
}

// TestStatsEmbedded checks that an embedded server knows what its disk has
// left.
func TestStatsEmbedded(t *testing.T) {
	b := openEmbedded(t, t.TempDir())
	attach(t, b)
	if s := b.Stats(); s.Stream.FreeBytes <= 0 || s.Connected != 1 {
		t.Errorf("%+v", s)
	}
	memory := openEmbedded(t, t.TempDir(), natsbroker.MemoryStorage())
	attach(t, memory)
	if s := memory.Stats(); s.Stream.FreeBytes != -1 {
		t.Errorf("in memory: %+v", s)
	}
}
