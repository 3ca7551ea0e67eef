package main

import (
	"context"
	"errors"
	"fmt"
	random "math/rand/v2"
	"time"

	"github.com/chathub-go/chathub/client"
	"github.com/chathub-go/chathub/internal/ledger"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// verifySession is a connection of a user while it lasts. Its fields are
// guarded by the user's mu, except for channels.
type verifySession struct {
	*verifyUser
	ws      *websocket.Conn
	gone    chan struct{} // closed when reading has ended
	err     error         // why; set before gone is closed
	welcome chan struct{} // closed after the welcome
	ready   chan struct{} // closed when all rooms are joined and missed messages requested

	own      string // how the user itself has ended it, if it has
	comeBack time.Duration
	refusal  *client.Error
	waiting  int                    // answers until it is ready
	calls    map[string]func(frame) // what to do with answers
	live     map[string]bool        // the topics that are heard
	fetching bool                   // a page of history is requested
	heardAt  time.Time
	nextID   int
}

func newSession(u *verifyUser, ws *websocket.Conn) *verifySession {
	return &verifySession{
		verifyUser: u, ws: ws, gone: make(chan struct{}), welcome: make(chan struct{}), ready: make(chan struct{}),
		comeBack: -1, calls: make(map[string]func(frame)), live: make(map[string]bool), heardAt: time.Now(),
	}
}

// end names the end of the session, once it is over. The caller holds u.mu.
func (s *verifySession) end() string {
	if s.own != "" {
		return s.own
	}
	return endOf(s.err)
}

// refused returns why the server does not want the user back, if it has said so
// with a refusal or a close code. The caller holds u.mu.
func (s *verifySession) refused() error {
	var ce websocket.CloseError
	switch {
	case s.refusal != nil:
		return s.refusal
	case s.own == "" && errors.As(s.err, &ce) && ce.Code >= 4500 && ce.Code <= 4999:
		return fmt.Errorf("%d %s", ce.Code, printable(ce.Reason))
	}
	return nil
}

func (s *verifySession) isReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// read handles frames until the connection ends.
func (s *verifySession) read() {
	defer close(s.gone)
	for {
		_, b, err := s.ws.Read(context.Background())
		if err != nil {
			s.err = err
			return
		}
		var f frame
		if json.Unmarshal(b, &f) != nil {
			s.tally.wrong("%s: the server sent what is not an envelope", s.name)
			continue
		}
		s.mu.Lock()
		s.heardAt = time.Now()
		s.handle(f)
		s.mu.Unlock()
	}
}

// send sends frames. If it fails, reading does, too.
func (s *verifySession) send(frames ...frame) {
	for _, f := range frames {
		ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
		err := s.ws.Write(ctx, websocket.MessageText, encode(f))
		cancel()
		if err != nil {
			s.ws.CloseNow()
			return
		}
	}
}

// quit ends the connection for a reason of the user's own.
func (s *verifySession) quit(reason string, politely bool) {
	s.mu.Lock()
	s.own = reason
	s.mu.Unlock()
	if politely {
		_ = s.ws.Close(websocket.StatusNormalClosure, "") // an error has no consequence
	}
	s.ws.CloseNow()
}

// await waits until a channel is closed, for answerWithin at most.
func (s *verifySession) await(c <-chan struct{}, what string) bool {
	timer := time.NewTimer(answerWithin)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-s.gone:
	case <-timer.C:
		s.tally.note("%s: no %s within %v", s.name, what, answerWithin)
		s.quit("no "+what, false)
	}
	return false
}

// run resumes, and sends until the end of the connection.
func (s *verifySession) run(ctx context.Context) {
	if !s.await(s.welcome, "welcome") {
		return
	}
	s.mu.Lock()
	frames := s.begin()
	s.mu.Unlock()
	s.send(frames...)
	if !s.await(s.ready, "answer to resume") {
		return
	}
	s.tally.connected.Store(true)
	s.mu.Lock()
	if s.last.IsZero() {
		s.last = time.Now()
	}
	for _, m := range s.lanes { // the connection is new
		m.retryAt = time.Time{}
	}
	s.mu.Unlock()
	s.act(ctx)
}

// act sends new messages until ctx ends, and then only what is due.
func (s *verifySession) act(ctx context.Context) {
	every := time.Duration(float64(time.Second) * float64(len(s.users)) / s.rate)
	speak := time.NewTimer(randomly(every))
	defer speak.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	breaks := make(<-chan time.Time)
	if s.breakEvery > 0 {
		t := time.NewTimer(randomly(s.breakEvery))
		defer t.Stop()
		breaks = t.C
	}
	acting := ctx.Done()
	for {
		s.mu.Lock()
		now := time.Now()
		frames := s.due(now)
		if f, ok := s.fetch(); ok {
			frames = append(frames, f)
		}
		silent := now.Sub(s.heardAt)
		s.mu.Unlock()
		s.send(frames...)
		select {
		case <-s.gone:
			return
		case <-s.finish:
			s.quit("left in the end", true)
			return
		case <-acting:
			acting, breaks = nil, nil
			speak.Stop()
		case <-breaks:
			if random.IntN(2) == 0 {
				s.quit("closed by the user", true)
			} else {
				s.quit("broken off by the user", false)
			}
			return
		case <-speak.C:
			speak.Reset(randomly(every))
			s.mu.Lock()
			f, ok := s.next(time.Now())
			s.mu.Unlock()
			if ok {
				s.send(f)
			}
		case <-tick.C:
			switch {
			case silent > silentFor+answerWithin:
				s.quit("the server is silent", false)
				return
			case silent > silentFor:
				s.send(frame{Type: "ping"})
			}
		}
	}
}

// request gives a frame an id, and notes what to do with its answer. The caller
// holds u.mu.
func (s *verifySession) request(f frame, call func(frame)) frame {
	s.nextID++
	f.ID = numbered("request", s.nextID)
	s.calls[f.ID] = call
	return f
}

// begin returns the requests to join or, after an interruption, to resume. The
// caller holds u.mu.
func (s *verifySession) begin() (frames []frame) {
	done := func() {
		if s.waiting--; s.waiting == 0 {
			close(s.ready)
		}
	}
	known := make(map[string]client.Position)
	for _, room := range s.rooms {
		if t := s.tracks[roomTopic(room)]; t != nil {
			known[room] = client.Position{Epoch: t.Epoch, Seq: t.Last}
			continue
		}
		frames = append(frames, s.request(frame{Type: "join-room", Room: room}, func(a frame) {
			s.joined(roomTopic(room), a.Data, a.Type == "error")
			done()
		}))
	}
	inbox := inboxTopic(s.id)
	if t := s.tracks[inbox]; len(known) > 0 || !s.live[inbox] {
		data := map[string]any{"rooms": known}
		if !s.live[inbox] {
			data["inbox"] = client.Position{Epoch: t.Epoch, Seq: t.Last}
		}
		frames = append(frames, s.request(frame{Type: "resume", Data: encode(data)}, func(a frame) {
			s.resumed(known, inbox, a)
			done()
		}))
	}
	s.waiting = len(frames)
	return frames
}

// resumed takes the answer to resume. The caller holds u.mu.
func (s *verifySession) resumed(rooms map[string]client.Position, inbox string, a frame) {
	var all struct {
		Rooms map[string]jsontext.Value `json:"rooms"`
		Inbox jsontext.Value            `json:"inbox"`
	}
	if a.Type == "error" || json.Unmarshal(a.Data, &all) != nil {
		s.tally.note("%s: resume is answered with %s", s.name, printable(string(a.Data)))
		s.tally.answeredWith(a.fault().Code)
		s.ws.CloseNow() // the next connection tries again
		return
	}
	for room := range rooms {
		s.joined(roomTopic(room), all.Rooms[room], false)
	}
	if !s.live[inbox] {
		s.joined(inbox, all.Inbox, false)
	}
}

// joined notes that the user hears a log from now on. The caller holds u.mu.
func (s *verifySession) joined(topic string, data jsontext.Value, failed bool) {
	var a struct {
		client.Position `json:",inline"`
		Recovered       bool           `json:"recovered"`
		Error           jsontext.Value `json:"error"`
	}
	err := json.Unmarshal(data, &a)
	if failed {
		a.Error = data
	}
	switch {
	case a.Error != nil:
		d := frame{Data: a.Error}.fault()
		s.tally.answeredWith(d.Code)
		if d.Code == "rate_limited" || d.Code == "unavailable" {
			s.ws.CloseNow() // the next connection tries again
			return
		}
		s.refusal = &client.Error{Code: client.Code(printable(d.Code)), Message: topic + ": " + printable(d.Message)}
		s.ws.CloseNow()
		return
	case err != nil || a.Epoch == "":
		s.tally.wrong("%s: %s is joined with %s", s.name, topic, printable(string(data)))
		s.ws.CloseNow()
		return
	}
	s.live[topic] = true
	switch t := s.tracks[topic]; {
	case t == nil:
		s.tracks[topic] = ledger.NewTrack(topic, a.Epoch, a.Seq)
	case t.Epoch != a.Epoch:
		s.tally.gaps.Add(1)
		s.tally.wrong("%s: %s has become another log: what was in it is gone", s.name, topic)
		t.Epoch = a.Epoch
	case !a.Recovered:
		s.tally.gaps.Add(1)
		t.Hole = a.Seq
	}
}

// handle handles a frame. The caller holds u.mu.
func (s *verifySession) handle(f frame) {
	switch f.Type {
	case "welcome":
		s.welcomed(f)
		return
	case "connect-error":
		d := f.fault()
		s.tally.answeredWith(d.Code)
		s.tally.note("%s is refused: %s: %s", s.name, printable(d.Code), printable(d.Message))
		if d.Code == "unauthenticated" || d.Code == "forbidden" {
			s.refusal = &client.Error{Code: client.Code(printable(d.Code)), Message: printable(d.Message)}
		}
		return
	case "reconnect":
		var d struct {
			AfterMs float64 `json:"afterMs"`
		}
		if json.Unmarshal(f.Data, &d) == nil {
			s.comeBack = time.Duration(min(max(d.AfterMs, 0), 60_000)) * time.Millisecond
		}
		return
	case "ack", "error":
		if call := s.calls[f.ID]; call != nil {
			delete(s.calls, f.ID)
			call(f)
		} else if !s.answered(f) && f.Type == "error" {
			s.tally.answeredWith(f.fault().Code)
		}
		return
	}
	if f.Seq == 0 {
		return // volatile
	}
	topic := inboxTopic(s.id)
	if f.Room != "" {
		topic = roomTopic(f.Room)
	}
	if s.live[topic] { // what comes earlier comes again after the answer
		s.got(topic, f)
	}
}

// welcomed notes who the user is, and where its inbox stands. The caller holds
// u.mu.
func (s *verifySession) welcomed(f frame) {
	var d struct {
		User  client.User     `json:"user"`
		Inbox client.Position `json:"inbox"`
	}
	if json.Unmarshal(f.Data, &d) != nil || d.User.ID == "" {
		s.tally.wrong("%s: the welcome is %s", s.name, printable(string(f.Data)))
		s.ws.CloseNow()
		return
	}
	s.id = d.User.ID
	if topic := inboxTopic(s.id); s.tracks[topic] == nil {
		s.tracks[topic] = ledger.NewTrack(topic, d.Inbox.Epoch, d.Inbox.Seq)
		s.live[topic] = true
	}
	if s.came++; s.came > 1 {
		s.tally.again.Add(1)
	}
	close(s.welcome)
}

// fetch returns a request for the newest page of a gap that history may fill.
// One page is asked for at a time. The caller holds u.mu.
func (s *verifySession) fetch() (frame, bool) {
	if s.fetching {
		return frame{}, false
	}
	for _, room := range s.rooms {
		t := s.tracks[roomTopic(room)]
		if t == nil || !s.live[t.Topic] {
			continue
		}
		if g, ok := t.Fillable(); ok {
			s.fetching = true
			f := frame{Type: "history", Room: room, Data: encode(map[string]uint64{"before": g.To + 1, "limit": 100})}
			return s.request(f, func(a frame) { s.fetched(t, g, a) }), true
		}
	}
	return frame{}, false
}

// fetched takes a page of history. The caller holds u.mu.
func (s *verifySession) fetched(t *ledger.Track, g ledger.Stretch, a frame) {
	s.fetching = false
	var page struct {
		Messages []frame `json:"messages"`
		More     bool    `json:"more"`
	}
	if a.Type == "error" {
		s.tally.answeredWith(a.fault().Code)
		return // the next tick asks again
	}
	if json.Unmarshal(a.Data, &page) != nil {
		s.tally.wrong("%s: history is answered with %s", s.name, printable(string(a.Data)))
		return
	}
	from := g.From
	for i, m := range page.Messages {
		s.ledger.Put(t.Topic, m.Seq, m.ID, "")
		if i == 0 && page.More {
			from = m.Seq
		}
		if m.Seq >= g.From && t.Fill(m.Seq) == ledger.Filled {
			s.tally.backfilled.Add(1)
		}
	}
	if !t.Searched(s.ledger, from, g.To) && len(page.Messages) == 0 {
		t.Hole = 0 // the log no longer has it
	}
}
