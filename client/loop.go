package client

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
)

// loop is the goroutine that owns the state of a client. It does no I/O and
// waits for nobody: the goroutines of a conn, an attempt and an answer do.
type loop struct {
	*Client
	ctx     context.Context // of everything that runs for this client
	cancel  context.CancelFunc
	running sync.WaitGroup // all other goroutines

	outbox   outbox
	requests requests
	rooms    map[string]*Room
	order    []*Room             // in the order in which they were joined
	leaving  map[string]struct{} // rooms that the server is to leave
	inbox    *Inbox              // nil until the program asks for it
	own      map[string]struct{} // ids of private messages from here
	ownOrder []string            // the same, oldest first

	// The connection: one of attempt, conn and retryAt, or none at the end.
	attempt    *attempt
	conn       *conn
	retryAt    time.Time
	attempts   int       // since the last connection that lasted
	connectBy  time.Time // when to give up connecting; zero once ready
	welcome    *welcome  // of this connection
	welcomedAt time.Time // by the local clock
	ready      bool      // rooms are resumed, and anything may be sent
	readySince time.Time
	resuming   int       // requests to resume whose answers make it ready
	restartAt  time.Time // when the server asked the client to come back
	refusal    error     // from a connect-error
	failure    error     // why the last connection or attempt ended
	closeCode  int       // of the last connection

	// The heartbeat. pongBy is set while a pong is awaited, pingAt otherwise.
	heard          atomic.Int64
	pinged         time.Time
	pingAt, pongBy time.Time

	// The token.
	token        string
	hasToken     bool
	tokenExpires time.Time // by the local clock; zero: never
	refreshAt    time.Time
	refreshed    chan tokenResult // has room for one; nil unless one is asked for

	answering int // questions that are being answered
	draining  bool
	finished  error // set when the loop must end
}

// run is the loop. It returns when all goroutines of the client have ended.
func (l *loop) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.connect()
	for l.finished == nil {
		timer.Reset(time.Until(l.next()))
		var frames <-chan frame
		if l.conn != nil {
			frames = l.conn.frames
		}
		var connected <-chan attemptResult
		if l.attempt != nil {
			connected = l.attempt.result
		}
		select {
		case fn := <-l.calls:
			fn(l)
		case f, ok := <-frames:
			if ok {
				l.receive(f)
			} else {
				l.closed(l.conn.err)
			}
		case r := <-connected:
			l.connected(r)
		case r := <-l.refreshed:
			l.tokenRefreshed(r)
		case <-l.drained:
			l.catchUp()
		case now := <-timer.C:
			l.tick(now)
		case <-l.quit:
			l.finished = ErrClosed
		}
		if l.draining && l.finished == nil && len(l.outbox.all) == 0 && len(l.requests.all) == 0 && l.answering == 0 {
			l.finished = ErrClosed
		}
	}
	l.end()
}

// end ends everything that waits, and all other goroutines.
func (l *loop) end() {
	err := l.finished
	l.cancel()
	drop := !l.draining || l.aborted()
	l.outbox.fail(func(*entry) bool { return true }, err)
	l.requests.end(err)
	for _, r := range l.order {
		r.queue.end(err, drop)
		r.settleJoin(err)
	}
	if l.inbox != nil {
		l.inbox.queue.end(err, drop)
		l.inbox.settle(err)
	}
	l.rest.end(err, drop)
	l.err = err
	close(l.ended) // no further calls are taken
	if l.attempt != nil {
		l.attempt.cancel()
	}
	if l.conn != nil {
		l.conn.close()
	}
	l.status.set(Status{State: Ended, CloseCode: l.closeCode, Err: err})
	l.running.Wait()
	close(l.done)
}

// aborted reports whether Close was called.
func (l *loop) aborted() bool {
	select {
	case <-l.quit:
		return true
	default:
		return false
	}
}

// next returns when tick has something to do. The far future stands for never.
func (l *loop) next() time.Time {
	next := time.Now().Add(24 * time.Hour)
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	earlier(l.retryAt)
	earlier(l.connectBy)
	earlier(l.pingAt)
	earlier(l.pongBy)
	earlier(l.refreshAt)
	if len(l.outbox.all) > 0 {
		earlier(l.outbox.pace.until)
	}
	if len(l.requests.all) > 0 {
		earlier(l.requests.pace.until)
	}
	return next
}

// tick does what is due.
func (l *loop) tick(now time.Time) {
	due := func(t *time.Time) bool {
		if t.IsZero() || now.Before(*t) {
			return false
		}
		*t = time.Time{}
		return true
	}
	if due(&l.retryAt) {
		l.connect()
	}
	if due(&l.connectBy) {
		l.lost(errSlow)
	}
	if due(&l.pingAt) {
		l.heartbeat(now)
	}
	if due(&l.pongBy) {
		l.awaitPong(now)
	}
	if due(&l.refreshAt) {
		l.refreshToken()
	}
	due(&l.outbox.pace.until)
	due(&l.requests.pace.until)
	l.outbox.flush(now)
	l.requests.flush(now)
}

// write sends a message on this connection.
func (l *loop) write(b []byte) {
	if !l.conn.send(b) {
		// The loop is in the middle of something, so the connection ends as if
		// by itself.
		l.conn.cancel()
	}
}

// writeEvent sends an event that wants no answer. It does nothing without a
// connection.
func (l *loop) writeEvent(r request) {
	if l.conn == nil || !l.ready {
		return
	}
	if b, err := r.encode(); err == nil {
		l.write(b)
	}
}

// tooLarge reports whether the server would close the connection because of the
// size of a message.
func (l *loop) tooLarge(b []byte) bool {
	return l.maxMessage > 0 && len(b) > l.maxMessage
}

var errTooLarge = &Error{Code: CodeTooLarge, Message: "The message is too large for the server"}

// receive handles one frame.
func (l *loop) receive(f frame) {
	switch f.Type {
	case "welcome":
		l.welcomed(f)
		return
	case "connect-error":
		l.refusal = errorOf(f.Data)
		return
	case "reconnect":
		l.restart(f)
		return
	case "pong":
		return
	}
	if l.welcome == nil {
		return // nothing else comes before the welcome
	}
	switch f.Type {
	case "ack":
		l.answered(f, nil)
		return
	case "error":
		l.answered(f, errorOf(f.Data))
		return
	case TypeOnlineUsers:
		if p, ok := presenceOf(f.Data); ok {
			l.online.whole(p)
		}
	case TypeUserOnline, TypeUserOffline:
		p, ok := presenceOf(f.Data)
		if ok && l.online.change(p, f.Type == TypeUserOnline) && l.online.due(time.Now()) {
			l.writeEvent(request{Type: TypeOnlineUsers})
		}
	}
	if f.Ack {
		l.question(f)
		return
	}
	l.deliver(f)
}

// answered takes the answer to a message or request.
func (l *loop) answered(f frame, err error) {
	if f.ID == "" {
		return
	}
	now := time.Now()
	if !l.outbox.answer(now, f, err) {
		l.requests.answer(now, f.ID, f, err)
	}
}

// receipt decodes the answer to an entry of the outbox.
func (l *loop) receipt(f frame, room *Room) Receipt {
	var d struct {
		Seq uint64 `json:"seq"`
		TS  int64  `json:"ts"`
		Dup bool   `json:"dup"`
	}
	if json.Unmarshal(f.Data, &d) != nil { // as for a notification, which has none
		return Receipt{ID: f.ID}
	}
	r := Receipt{ID: f.ID, Time: timeOf(d.TS), Duplicate: d.Dup}
	if d.Seq > 0 && d.Seq <= maxSeq {
		r.Position = Position{Epoch: l.epochOf(room), Seq: d.Seq}
	}
	return r
}

// epochOf returns the epoch of a room's log or, without a room, of the inbox.
func (l *loop) epochOf(room *Room) string {
	switch {
	case room != nil:
		return room.feed.pos.Epoch
	case l.inbox != nil && l.inbox.feed.live:
		return l.inbox.feed.pos.Epoch
	case l.welcome != nil:
		return l.welcome.Inbox.Epoch
	}
	return ""
}

// maxAnswering is how many questions are answered at a time.
const maxAnswering = 16

// question lets the program answer a question of the server.
func (l *loop) question(f frame) {
	answer := l.opts.Answers[f.Type]
	switch {
	case answer == nil:
		l.reply(f.ID, nil, &Error{Code: CodeUnknownType, Message: "Nothing answers this type"})
		return
	case l.answering >= maxAnswering:
		l.reply(f.ID, nil, &Error{Code: CodeUnavailable, Message: "Too many questions"})
		return
	}
	l.answering++
	c := l.conn
	ctx := l.ctx
	l.running.Go(func() {
		v, err := answer(ctx, f.event(""))
		l.post(func(l *loop) {
			l.answering--
			if l.conn == c {
				l.reply(f.ID, v, err)
			}
		})
	})
}

// reply sends the answer to a question.
func (l *loop) reply(id string, v any, err error) {
	r := request{Type: "ack", ID: id}
	if err == nil {
		r.Data, err = encodeData(v)
	}
	if err != nil {
		e, known := asError(err)
		if !known {
			l.opts.Logger.Error("chathub client: cannot answer a question", "err", err)
		}
		r.Type = "error"
		r.Data, err = encodeData(map[string]string{"code": string(e.Code), "message": e.Message})
	}
	if err != nil {
		return // not UTF-8; the server stops waiting
	}
	if b, err := r.encode(); err == nil && l.conn != nil && !l.tooLarge(b) {
		l.write(b)
	}
}
