package chathub

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// name publishes a named message. Its body is the name of its owner.
func (h *memoryHub) name(topic Topic, name, owner string, change func(*Message)) error {
	h.t.Helper()
	m := Message{Topic: topic, Name: name, Owner: owner, Body: []byte(owner)}
	if change != nil {
		change(&m)
	}
	_, err := h.Publish(h.t.Context(), m)
	return err
}

// wantNames checks which names a topic has, of all kinds that are used here.
func (h *memoryHub) wantNames(topic Topic, names ...string) {
	h.t.Helper()
	found, err := h.ReadNamed(h.t.Context(), []NameQuery{{Topic: topic, Kind: "m"}, {Topic: topic, Kind: "state"}})
	if err != nil {
		h.t.Fatal(err)
	}
	var got []string
	for _, m := range slices.Concat(found...) {
		got = append(got, m.Name)
	}
	if !slices.Equal(got, names) {
		h.t.Errorf("%+v has the names %q, want %q", topic, got, names)
	}
}

func TestMemoryBrokerMaxNames(t *testing.T) {
	for _, topic := range []Topic{{Room: "r"}, {User: "ana"}} {
		b := &MemoryBroker{MaxNames: 10, MaxMessages: 100}
		h := attachMemory(t, b)
		published := 0
		try := func(what, name, owner string, want error, change func(*Message)) {
			t.Helper()
			if err := h.name(topic, name, owner, change); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			} else if err == nil {
				published++
			}
		}
		for i := range 5 {
			try("half of them", fmt.Sprint("state/a", i), "ana", nil, nil)
		}
		try("more than half", "state/a5", "ana", errTooManyNames, nil)
		try("a name that ana has", "state/a4", "ana", nil, func(m *Message) { m.Body = make([]byte, 500) })
		try("one of another", "state/b0", "bob", nil, nil)
		try("a name that bob has", "state/b0", "ana", nil, nil)
		try("still more than half", "state/a5", "ana", errTooManyNames, nil)
		for i := range 4 {
			try("the rest", fmt.Sprint("state/", i), "", nil, nil)
		}
		try("beyond the bound", "state/4", "", errTooManyNames, nil)
		try("beyond the bound", "state/b1", "bob", errTooManyNames, nil)

		// A deletion does not fail, once for each message.
		seq := h.put(topic, "bob", 0, 10).Seq
		published++
		erase := func(m *Message) { m.Tied, m.Erase = seq, true }
		try("a deletion", "m/1", "bob", nil, erase)
		try("a deletion under another name", "m/2", "bob", errTooManyNames, erase)
		try("a deletion under the same name", "m/1", "bob", nil, erase)
		for i := range 2 {
			try("a removal", fmt.Sprint("state/a", i), "", nil, func(m *Message) { m.Remove = true })
		}
		try("after removals", "state/4", "", nil, nil)
		try("beyond the bound again", "state/5", "", errTooManyNames, nil)
		p, err := h.Read(t.Context(), topic, Range{})
		if err != nil || int(p.Head.Seq) != published || p.Trimmed != 0 {
			t.Errorf("%d messages are stored, the head is %+v, trimmed to %d; %v", published, p.Head, p.Trimmed, err)
		}
		checkMemory(t, b)
	}
}

func TestMemoryBrokerMaxNameBytes(t *testing.T) {
	const size = 1000
	topic := Topic{Room: "r"}
	b := &MemoryBroker{MaxNameBytes: 4 * size, MaxBytes: 300}
	h := attachMemory(t, b)
	try := func(name, owner string, bytes int, want error) {
		t.Helper()
		if err := h.name(topic, name, owner, func(m *Message) {
			m.Body = make([]byte, bytes-nameCost-len(m.Name))
		}); !errors.Is(err, want) {
			t.Errorf("%d bytes of %q: %v, want %v", bytes, owner, err, want)
		}
	}
	try("state/1", "ana", 2*size, nil)
	try("state/2", "ana", nameCost+7, errTooManyNames)
	try("state/1", "ana", 2*size+1, errTooManyNames)
	try("state/1", "ana", 2*size-1, nil)
	try("state/1", "ana", 2*size, nil)
	try("state/3", "", size, nil)
	try("state/3", "bob", 2*size+1, errTooManyNames) // though it is the application's
	try("state/4", "", size+1, errTooManyNames)
	try("state/4", "bob", size, nil)
	try("state/4", "bob", size+1, errTooManyNames)
	try("state/3", "", size-1, nil)
	h.wantNames(topic, "state/1", "state/4", "state/3")
	checkMemory(t, b)

	off := &MemoryBroker{MaxNames: -1, MaxNameBytes: -1}
	h = attachMemory(t, off)
	for i := range 20_000 {
		if err := h.name(topic, fmt.Sprint("state/", i), "ana", func(m *Message) { m.Body = make([]byte, 300) }); err != nil {
			t.Fatal(err)
		}
	}
	checkMemory(t, off)
}

// TestMemoryBrokerMistakes: fields of a message that have no meaning.
func TestMemoryBrokerMistakes(t *testing.T) {
	h := attachMemory(t, &MemoryBroker{})
	for _, tc := range []struct {
		m    Message
		want error
	}{
		{Message{Tied: 1}, errNoName},
		{Message{Erase: true, Tied: 1}, errNoName},
		{Message{Remove: true}, errNoName},
		{Message{Expect: new(uint64)}, errNoName},
		{Message{Name: "state"}, errName},
		{Message{Name: "state/a", Erase: true}, errEraseOf},
		{Message{Name: "state/a", Tied: 1}, errNotTied},
	} {
		tc.m.Topic = Topic{Room: "r"}
		if r, err := h.Publish(t.Context(), tc.m); !errors.Is(err, tc.want) {
			t.Errorf("%+v: %+v, %v, want %v", tc.m, r, err, tc.want)
		}
	}
	if len(h.broker.topics) > 0 {
		t.Error("a message that was refused leaves a log")
	}
}

// TestMemoryBrokerTied: a name goes with the message that it is tied to, and
// the log then says that it has dropped it.
func TestMemoryBrokerTied(t *testing.T) {
	for name, drop := range map[string]func(*memoryHub){
		"full": func(h *memoryHub) { h.publish("r", "", "2"); h.publish("r", "", "3") },
		"old":  func(*memoryHub) { time.Sleep(40 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				topic := Topic{Room: "r"}
				b := &MemoryBroker{MaxMessages: 3, MaxAge: time.Hour}
				h := attachMemory(t, b)
				h.subscribe("r")
				to := func(seq uint64) func(*Message) { return func(m *Message) { m.Tied = seq } }
				h.publish("r", "", "0")
				time.Sleep(30 * time.Minute)
				h.publish("r", "", "1")
				for i, name := range []string{"m/0", "m/1", "state/0", "state/not", "m/0"} {
					if err := h.name(topic, name, "ana", to([]uint64{1, 2, 1, 0, 1}[i])); err != nil {
						t.Fatal(err)
					}
				}
				h.wantNames(topic, "m/1", "m/0", "state/0", "state/not")
				drop(h)
				h.wantNames(topic, "m/1", "state/not")
				if p := h.read("r"); p.Trimmed != 7 {
					t.Errorf("trimmed to %d, want 7, where the last change of the dropped message was", p.Trimmed)
				}
				if err := h.name(topic, "m/0", "ana", to(1)); !errors.Is(err, errNotTied) {
					t.Errorf("a name tied to a dropped message: %v", err)
				}
				checkMemory(t, b)
			})
		})
	}
}

// TestMemoryBrokerErasedFull: an erased message keeps its place, and leaves a
// full log in its turn, with the name that says so.
func TestMemoryBrokerErasedFull(t *testing.T) {
	topic := Topic{Room: "r"}
	b := &MemoryBroker{MaxMessages: 3}
	h := attachMemory(t, b)
	for i := range 3 {
		h.put(topic, "ana", i, 1000)
	}
	held := b.ledger.accounts["ana"].held.Load()
	if err := h.name(topic, "m/2", "", func(m *Message) { m.Tied, m.Erase = 2, true }); err != nil {
		t.Fatal(err)
	}
	if less := held - b.ledger.accounts["ana"].held.Load(); less != 1000 {
		t.Errorf("erasing 1000 bytes frees %d", less)
	}
	check := func(want string, trimmed uint64, names ...string) {
		t.Helper()
		p := h.read("r")
		var got []string
		for _, m := range p.Messages {
			got = append(got, strings.TrimRight(string(m.Body), "\x00"))
		}
		if strings.Join(got, " ") != want || p.Trimmed != trimmed {
			t.Errorf("has %q, trimmed to %d, want %q, %d", got, p.Trimmed, want, trimmed)
		}
		h.wantNames(topic, names...)
		checkMemory(t, b)
	}
	check("ana0 ana2 ", 0, "m/2")
	h.put(topic, "ana", 3, 10)
	check("ana2  ana3", 1, "m/2")
	h.put(topic, "ana", 4, 10)
	check("ana2 ana3 ana4", 4)
}

// TestMemoryBrokerNamesPay: names are charged to their owner, who pays with
// them when nothing else is left.
func TestMemoryBrokerNamesPay(t *testing.T) {
	const total = 200_000
	room := Topic{Room: "r"}
	b := &MemoryBroker{MaxTotalBytes: total, MaxNames: -1, MaxNameBytes: -1}
	h := attachMemory(t, b)
	if err := h.name(room, "state/ana", "ana", nil); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		h.put(room, "mallory", i, 10)
	}
	for i := range 1000 {
		topic := Topic{Room: fmt.Sprint("r", i%3)}
		if i%3 == 0 {
			topic = room
		}
		if err := h.name(topic, fmt.Sprint("state/", i), "mallory", func(m *Message) { m.Body = make([]byte, 500) }); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			checkMemory(t, b)
		}
	}
	checkMemory(t, b)
	if held := b.ledger.accounts["mallory"].held.Load(); held < total/2 {
		t.Errorf("the flood has only %d bytes", held)
	}
	p := h.read("r")
	if p.Messages[0].Name != "state/ana" {
		t.Errorf("another pays: %+v", p.Messages[0])
	}
	for _, m := range p.Messages {
		if m.Name == "" {
			t.Errorf("message %q stays, though names have gone", m.Body)
		}
	}
	if p.Trimmed < 100 || p.Trimmed >= p.Messages[1].Seq {
		t.Errorf("trimmed to %d, and the first name left is %d", p.Trimmed, p.Messages[1].Seq)
	}
}

// TestMemoryBrokerIdleNames: names outlive MaxAge, also in a log that nobody
// uses. All else of it goes.
func TestMemoryBrokerIdleNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{MaxAge: time.Hour, MaxIdleTopics: 10}
		h := attachMemory(t, b)
		subscribed := h.subscribe("subscribed")
		plain := h.publish("plain", "", "0")
		for _, room := range []string{"subscribed", "r"} {
			h.publish(room, "key", "0")
			if err := h.name(Topic{Room: room}, "state/a", "ana", nil); err != nil {
				t.Fatal(err)
			}
		}
		epoch := h.read("r").Head.Epoch
		h.publish("tied", "", "0")
		if err := h.name(Topic{Room: "tied"}, "m/1", "ana", func(m *Message) { m.Tied = 1 }); err != nil {
			t.Fatal(err)
		}
		held := b.ledger.total.Load()
		for range 3 {
			time.Sleep(time.Hour + time.Millisecond)
			h.publish("other", "", "")
			checkMemory(t, b)
		}
		l := b.topics[Topic{Room: "r"}]
		if l == nil || l.messages.len()+l.keys.len() > 0 || b.ledger.total.Load() >= held {
			t.Fatalf("a log with a name: %+v; %d bytes, and before %d", l, b.ledger.total.Load(), held)
		}
		for _, room := range []string{"plain", "tied"} {
			if b.topics[Topic{Room: room}] != nil {
				t.Errorf("the log of %s stays without a name", room)
			}
		}
		h.wantNames(Topic{Room: "r"}, "state/a")
		h.wantNames(Topic{Room: "subscribed"}, "state/a")
		if p := h.read("r"); p.Head != (Position{epoch, 2}) || len(p.Messages) != 1 || p.Trimmed != 1 {
			t.Errorf("the log of a name: %+v", p)
		}
		if p := h.read("subscribed"); p.Head.Epoch != subscribed.Epoch || len(p.Messages) != 1 || p.Trimmed != 1 {
			t.Errorf("the log with a subscription: %+v", p)
		}
		if r := h.publish("plain", "", "1"); r.Epoch == plain.Epoch {
			t.Error("the log without a name goes on")
		}

		// It is idle, so it goes when there are too many, before those that
		// were used later.
		time.Sleep(time.Hour + time.Millisecond)
		nameIn := func(room string) {
			t.Helper()
			if err := h.name(Topic{Room: room}, "state/a", "ana", nil); err != nil {
				t.Fatal(err)
			}
			if holder := b.topics[Topic{Room: room}].holder; holder.owner != "ana" {
				t.Errorf("the log of a name of ana is charged to %q", holder.owner)
			}
			checkMemory(t, b)
		}
		nameIn("s")
		for i := range 8 {
			h.publish(fmt.Sprint("more ", i), "", "x")
		}
		if l := b.topics[Topic{Room: "r"}]; l == nil || l.in != &b.idle.named || b.idle.size() != 10 {
			t.Fatalf("of %d idle logs, this one has a name, and was used long ago: %+v", b.idle.size(), l)
		}
		nameIn("t")
		h.wantNames(Topic{Room: "r"})
		h.wantNames(Topic{Room: "s"}, "state/a")
		h.wantNames(Topic{Room: "t"}, "state/a")
		checkMemory(t, b)
	})
}

// TestMemoryBrokerExpect: Expect is for the broker, and not for those who get
// the message.
func TestMemoryBrokerExpect(t *testing.T) {
	var got []Message
	s := attachMemoryFunc(t, &MemoryBroker{}, func(m Message) { got = append(got, m) })
	topic := Topic{Room: "r"}
	if _, err := s.Subscribe(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), Message{Topic: topic, Name: "state/a", Expect: new(uint64)}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Name != "state/a" || got[0].Expect != nil {
		t.Errorf("delivered %+v", got)
	}
}

// TestMemoryBrokerSurveyIsNoUse: asking where logs stand keeps none of them.
func TestMemoryBrokerSurveyIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &MemoryBroker{MaxAge: time.Hour}
		h := attachMemory(t, b)
		h.publish("r", "", "0")
		q := []SurveyQuery{{Topic: Topic{Room: "r"}, Reader: "ana", Most: 9, Last: true}}
		for i, want := range []int{1, 1, 0} {
			s, err := h.Survey(t.Context(), q)
			if err != nil || s[0].Unread != want || (s[0].Last.Seq > 0) != (want > 0) {
				t.Errorf("after %d half hours: %+v, %v", i, s, err)
			}
			time.Sleep(30*time.Minute + time.Duration(i)*time.Millisecond)
		}
		h.publish("other", "", "")
		if b.topics[Topic{Room: "r"}] != nil {
			t.Error("the log is still there")
		}
	})
}
