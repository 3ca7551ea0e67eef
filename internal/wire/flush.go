package wire

import (
	"runtime"
	"sync"
)

// joined is the most bytes of small frames in one write.
const joined = 64 << 10

var scratch = sync.Pool{New: func() any { return new([joined]byte) }}

// Flush sends what waits. It must be called once for each [Ready]. It does not
// block: if the peer takes no more, a goroutine continues until the outbox is
// empty.
func (c *Conn) Flush() {
	if c.fast == nil {
		go c.drain()
		return
	}
	for len(c.batch) > 0 || c.take() {
		n, err := c.writeNow()
		if err != nil {
			c.fail()
			return
		}
		if n == 0 { // the socket is full
			c.stuck.Store(clock())
			go c.drain()
			return
		}
		c.sent(n)
	}
}

// drain sends what waits with blocking writes, until nothing waits.
func (c *Conn) drain() {
	for len(c.batch) > 0 || c.take() {
		c.stuck.Store(clock())
		b, buf := c.next(drainPart)
		n, err := c.raw.Write(b)
		release(buf)
		if err != nil {
			c.fail()
			return
		}
		c.sent(n)
	}
}

// writeNow tries to send the next part of the batch.
func (c *Conn) writeNow() (int, error) {
	b, buf := c.next(joined)
	n, err := c.fast.tryWrite(b)
	release(buf)
	return n, err
}

// next returns the next bytes to send, at most limit of them, and their buffer
// if it is a borrowed one.
func (c *Conn) next(limit int) ([]byte, *[joined]byte) {
	first := c.batch[0]
	if len(c.batch) == 1 || len(first) >= limit {
		return first[:min(len(first), limit)], nil
	}
	buf := scratch.Get().(*[joined]byte)
	n := 0
	for _, b := range c.batch {
		if n += copy(buf[n:limit], b); n == limit {
			break
		}
	}
	return buf[:n], buf
}

func release(buf *[joined]byte) {
	if buf != nil {
		scratch.Put(buf)
	}
}

// sent notes that n bytes of the batch were written.
func (c *Conn) sent(n int) {
	total := n
	for n > 0 {
		if b := c.batch[0]; n < len(b) {
			c.batch[0] = b[n:]
			c.partial = true
			break
		}
		n -= len(c.batch[0])
		c.shift()
	}
	c.mu.Lock()
	c.waiting -= total
	if c.discard {
		keep := 0
		if c.partial {
			keep = 1
		}
		c.waiting -= size(c.batch[keep:])
		clear(c.batch[keep:])
		c.batch = c.batch[:keep]
	}
	c.mu.Unlock()
}

func (c *Conn) shift() {
	c.batch[0] = nil
	c.batch = c.batch[1:]
	c.partial = false
}

// keepQueue is the largest capacity of a queue, in frames, that an idle
// connection keeps.
const keepQueue = 4

// take moves the queue into the empty batch. If the queue is empty, take gives
// up the ownership, and carries out a close that waited for it.
func (c *Conn) take() bool {
	c.mu.Lock()
	if len(c.queue) > 0 {
		c.batch, c.queue = c.queue, c.spare[:0]
		c.spare = c.batch
		c.headed = false
		c.mu.Unlock()
		return true
	}
	c.owned = false
	c.stuck.Store(0) // while nobody else can flush
	c.batch = nil
	if cap(c.queue) > keepQueue {
		c.queue = nil
	}
	if cap(c.spare) > keepQueue {
		c.spare = nil
	}
	closing := c.closing
	c.mu.Unlock()
	if closing {
		c.Abort()
	}
	return false
}

// fail ends the connection after a failed write.
func (c *Conn) fail() {
	c.Abort()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting -= size(c.batch)
	c.batch, c.spare = nil, nil
	c.stuck.Store(0)
	c.owned = false
}

func size(frames [][]byte) (n int) {
	for _, b := range frames {
		n += len(b)
	}
	return n
}

// Flusher flushes many connections on a few goroutines.
type Flusher struct {
	work    chan []*Conn
	wg      sync.WaitGroup
	pending sync.WaitGroup // parts handed over and not flushed yet
}

// flushPart is how many connections a goroutine takes at once: few enough to
// spread a room over the goroutines, and enough to make handing over cheap.
const flushPart = 64

// flushHere is the number of connections up to which the caller flushes them
// itself. To hand them over, and to wake a goroutine for them, would cost as
// much as their writes.
const flushHere = 16

var parts = sync.Pool{New: func() any { return new([flushPart]*Conn) }}

// NewFlusher returns a running Flusher.
func NewFlusher() *Flusher {
	n := runtime.GOMAXPROCS(0)
	// With the buffer, the caller gathers the next batch while this one is
	// sent. If it is full, the writes are the bottleneck, and the caller waits.
	f := &Flusher{work: make(chan []*Conn, 4*n)}
	for range n {
		f.wg.Go(func() {
			for conns := range f.work {
				for _, c := range conns {
					c.Flush()
				}
				clear(conns)
				parts.Put((*[flushPart]*Conn)(conns[:flushPart]))
				f.pending.Done()
			}
		})
	}
	return f
}

// Flush flushes all connections of conns, which it does not keep. It may wait
// for the goroutines, which never wait for a peer.
func (f *Flusher) Flush(conns []*Conn) {
	if len(conns) <= flushHere {
		for _, c := range conns {
			c.Flush()
		}
		return
	}
	for len(conns) > 0 {
		part := parts.Get().(*[flushPart]*Conn)
		n := copy(part[:], conns)
		conns = conns[n:]
		f.pending.Add(1)
		f.work <- part[:n]
	}
}

// Wait waits until all connections handed over were flushed. Then everything
// that their sockets take at once is sent. Only the caller of Flush may call
// it.
func (f *Flusher) Wait() { f.pending.Wait() }

// Close ends the goroutines once all work is done.
func (f *Flusher) Close() {
	close(f.work)
	f.wg.Wait()
}
