package chathub

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// lifeCycle is how far a hub's end has come. Its channels are closed in order:
// done, loopEnded, stopped.
type lifeCycle struct {
	ctx    context.Context // ends when the hub does
	cancel context.CancelFunc

	closing   sync.Once     // starts shutdown
	draining  atomic.Bool   // no new connections and no new handlers
	cutShort  chan error    // holds one: the reason to wait for nobody any more
	done      chan struct{} // closed when the loop must end
	loopEnded chan struct{} // closed when the loop has ended
	stopped   chan struct{} // closed when shutdown has finished and set:
	cause     error         // what cutShort held; nil if all were waited for
	closeErr  error         // of the broker session
}

func (lc *lifeCycle) init() {
	lc.ctx, lc.cancel = context.WithCancel(context.Background())
	lc.cutShort = make(chan error, 1)
	lc.done = make(chan struct{})
	lc.loopEnded = make(chan struct{})
	lc.stopped = make(chan struct{})
}

// Shutdown ends the hub: it refuses new connections, tells every client to come
// back at a time spread over Config.DrainWindow, lets the handlers that are running finish and
// be acknowledged, sends what waits, and closes with 4000. When ctx ends first, it
// closes the connections that are left at once, stops waiting for handlers, whose contexts
// end, and returns ctx's error. Where it is called several times, all calls wait for the same
// end, and the first ctx to end cuts it short. A handler must not call it: it would wait for
// itself. http.Server.Shutdown neither waits for nor closes WebSocket connections: call both.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.life.closing.Do(func() { go h.shutdown() })
	select {
	case <-h.life.stopped:
	case <-ctx.Done():
		h.endNow(ctx.Err())
	}
	return errors.Join(h.life.cause, h.life.closeErr)
}

// Close ends the hub at once; clients see their connections break off. A Shutdown
// that is going on returns [ErrClosed].
func (h *Hub) Close() error {
	h.life.closing.Do(func() { go h.shutdown() })
	h.endNow(ErrClosed)
	return h.life.closeErr
}

// hurry ends a shutdown at once.
func (h *Hub) endNow(why error) {
	select {
	case h.life.cutShort <- why:
	default: // someone was faster
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
		h.awaitCourier()
	case why := <-h.life.cutShort:
		select {
		case <-gone: // nobody was left to wait for
		default:
			h.life.cause = why
			h.admission.abort()
		}
	}
	close(h.life.done)
	h.life.cancel()
	h.courier.stop()
	<-h.life.loopEnded
	if h.noteCourierRuns {
		h.noteCourier.stop()
		h.sayBye()
	}
	// What was acked is in the log: nothing is left to be said that would be worth
	// more patience.
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeout)
	defer cancel()
	h.life.closeErr = h.session.Close(ctx)
}

// lastWords waits until the courier has said what clients that have gone leave to be
// said, such as that they do not type any more.
func (h *Hub) awaitCourier() {
	ctx, cancel := h.brokerContext()
	defer cancel()
	said := make(chan struct{})
	go func() {
		defer close(said)
		_ = h.barrier(ctx) // it is too late for anything else
	}()
	select {
	case <-said:
	case <-h.life.cutShort: //nolint:errcheck // why does not matter: all clients were waited for
		cancel()
		<-said
	}
}

const shutdownReason = "server is shutting down"

// spread returns a random time within the window, so that not everyone comes
// back at once.
func spread(window time.Duration) time.Duration {
	if window <= 0 {
		return 0
	}
	return rand.N(window)
}
