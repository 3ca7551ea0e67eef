package chathub

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// lifeCycle is how far a hub's end has come. Its channels are closed in this
// order: done, loopEnded, stopped.
type lifeCycle struct {
	ctx    context.Context // ends when the hub does
	cancel context.CancelFunc

	closing   sync.Once     // starts shutdown
	draining  atomic.Bool   // no new connections and no new handlers
	cutShort  chan error    // holds one: the reason to stop waiting
	done      chan struct{} // closed when the loop must end
	loopEnded chan struct{} // closed when the loop has ended
	stopped   chan struct{} // closed once shutdown has finished and has set:
	cause     error         // from cutShort; nil if shutdown waited for all clients
	closeErr  error         // of the broker session
}

func (lc *lifeCycle) init() {
	lc.ctx, lc.cancel = context.WithCancel(context.Background())
	lc.cutShort = make(chan error, 1)
	lc.done = make(chan struct{})
	lc.loopEnded = make(chan struct{})
	lc.stopped = make(chan struct{})
}

// Shutdown ends the hub without losing what it has accepted. It refuses new
// connections and tells every client to come back, at a time spread over
// Config.DrainWindow. It lets running handlers finish and be acknowledged,
// sends what waits, and closes with 4000. It does not wait for DrainWindow to
// pass.
//
// If ctx ends first, Shutdown stops waiting for handlers, whose contexts end.
// It still tells every client to come back and closes with 4000, which reaches
// the clients whose sockets take it at once. Then it cuts off the rest, a
// quarter of a second later at most, and returns ctx's error. Of several
// concurrent calls, the first ctx to end cuts all of them short. A handler must
// not call Shutdown, since that would wait for itself.
//
// http.Server.Shutdown neither waits for nor closes WebSocket connections. Call
// both, at the same time: if one waits for the other, it may have no time left.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.life.closing.Do(func() { go h.shutdown() })
	select {
	case <-h.life.stopped:
	case <-ctx.Done():
		h.endNow(ctx.Err())
	}
	return errors.Join(h.life.cause, h.life.closeErr)
}

// Close ends the hub at once. Clients see their connections break off. A
// Shutdown that is under way returns [ErrClosed].
func (h *Hub) Close() error {
	h.life.closing.Do(func() { go h.shutdown() })
	h.endNow(ErrClosed)
	return h.life.closeErr
}

// endNow cuts a shutdown short and waits for its end.
func (h *Hub) endNow(why error) {
	select {
	case h.life.cutShort <- why:
	default: // another call was faster
	}
	<-h.life.stopped
}

func (h *Hub) shutdown() {
	defer close(h.life.stopped)
	h.life.draining.Store(true)
	gone := h.admission.close()
	_ = h.onLoop((*loop).drain)
	select {
	case <-gone:
		h.away.drain(h.life.cutShort)
		h.awaitLast()
	case why := <-h.life.cutShort:
		h.cutShort(gone, why)
	}
	close(h.life.done)
	h.life.cancel()
	h.courier.stop()
	<-h.life.loopEnded
	h.receipts.stop()
	h.away.stop()
	if h.noteCourierRuns {
		h.noteCourier.stop()
		h.sendBye()
	}
	// What was acked is in the log. Nothing that is left to send is worth more
	// patience.
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeout)
	defer cancel()
	h.life.closeErr = h.session.Close(ctx)
}

// lastGrace is how long a Shutdown whose ctx has ended still waits for clients
// to take their close frame and answer it. Most need one round trip.
const lastGrace = 250 * time.Millisecond

// cutShort ends every connection that is left. Unless the hub is closed at
// once, clients whose sockets take it are told first to come back.
func (h *Hub) cutShort(gone <-chan struct{}, why error) {
	select {
	case <-gone: // there is nobody left to wait for
		return
	default:
	}
	h.life.cause = why
	if !errors.Is(why, ErrClosed) {
		_ = h.onLoop((*loop).closeAll)
		timer := time.NewTimer(lastGrace)
		defer timer.Stop()
		select {
		case <-gone:
		case <-timer.C:
		}
	}
	h.admission.abort()
}

// awaitLast waits until the courier has sent what departed clients leave to be
// sent, such as the end of their typing, and until the application has been
// told what it is being told.
func (h *Hub) awaitLast() {
	ctx, cancel := context.WithCancel(h.life.ctx)
	defer cancel()
	said := make(chan struct{})
	go func() {
		defer close(said)
		short, cancel := context.WithTimeout(ctx, brokerTimeout)
		defer cancel()
		_ = h.barrier(short) // nothing else can be done about it now
		h.awaitHooks(ctx)
	}()
	select {
	case <-said:
	case <-h.life.cutShort: //nolint:errcheck // why does not matter: all clients were waited for
		cancel()
		<-said
	}
}

const shutdownReason = "server is shutting down"

// spread returns a random time within the window, so that clients do not come
// back all at once.
func spread(window time.Duration) time.Duration {
	if window <= 0 {
		return 0
	}
	return rand.N(window)
}
