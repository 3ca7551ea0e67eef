package chathub

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Shutdown ends the hub: it refuses new connections, tells every client to come
// back at a time spread over Config.DrainWindow, lets the handlers that are running finish and
// be acknowledged, sends what waits, and closes with 4000. When ctx ends first, it
// closes the connections that are left at once, stops waiting for handlers, whose contexts
// end, and returns ctx's error. Where it is called several times, all calls wait for the same
// end, and the first ctx to end cuts it short. A handler must not call it: it would wait for
// itself. http.Server.Shutdown neither waits for nor closes WebSocket connections: call both.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.closing.Do(func() { go h.shutdown() })
	select {
	case <-h.stopped:
	case <-ctx.Done():
		h.hurry(ctx.Err())
	}
	return errors.Join(h.cutShort, h.closeErr)
}

// Close ends the hub at once; clients see their connections break off. A Shutdown
// that is going on returns [ErrClosed].
func (h *Hub) Close() error {
	h.closing.Do(func() { go h.shutdown() })
	h.hurry(ErrClosed)
	return h.closeErr
}

// hurry ends a shutdown at once.
func (h *Hub) hurry(why error) {
	select {
	case h.impatient <- why:
	default: // someone was faster
	}
	<-h.stopped
}

func (h *Hub) shutdown() {
	defer close(h.stopped)
	h.draining.Store(true)
	gone := h.entrance.close()
	_ = h.ask((*loop).drain)
	select {
	case <-gone:
		h.lastWords()
	case why := <-h.impatient:
		select {
		case <-gone: // nobody was left to wait for
		default:
			h.cutShort = why
			h.entrance.abort()
		}
	}
	close(h.done)
	h.end()
	h.courier.stop()
	<-h.ended
	if h.laneRuns {
		h.lane.stop()
		h.sayBye()
	}
	// What was acked is in the log: nothing is left to be said that would be worth
	// more patience.
	ctx, cancel := context.WithTimeout(context.Background(), brokerPatience)
	defer cancel()
	h.closeErr = h.session.Close(ctx)
}

// lastWords waits until the courier has said what clients that have gone leave to be
// said, such as that they do not type any more.
func (h *Hub) lastWords() {
	ctx, cancel := h.patience()
	defer cancel()
	said := make(chan struct{})
	go func() {
		defer close(said)
		_ = h.settled(ctx) // it is too late for anything else
	}()
	select {
	case <-said:
	case <-h.impatient: //nolint:errcheck // why does not matter: all clients were waited for
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
