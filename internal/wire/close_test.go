package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// readToClose reads frames up to a close frame with the given code, and returns
// those before it.
func readToClose(r io.Reader, code uint16) (frames []frame, err error) {
	for {
		f, err := readFrame(r)
		if err != nil {
			return frames, err
		}
		if f.op == opClose {
			if got := binary.BigEndian.Uint16(f.payload); got != code {
				err = fmt.Errorf("close code %d, want %d", got, code)
			}
			return frames, err
		}
		frames = append(frames, f)
	}
}

// numbered returns a frame that ends in its number.
func numbered(i, size int) []byte {
	return sealed(binary.BigEndian.AppendUint32(make([]byte, size), uint32(i)))
}

func checkNumbers(t *testing.T, frames []frame) {
	t.Helper()
	for i, f := range frames {
		if got := binary.BigEndian.Uint32(f.payload[len(f.payload)-4:]); got != uint32(i) {
			t.Fatalf("frame %d is number %d", i, got)
		}
	}
}

// fillUp sends numbered frames until the outbox is full, and returns their
// number.
func fillUp(t *testing.T, c *Conn, size int) (n int) {
	t.Helper()
	for {
		switch res := send(c, numbered(n, size)); res {
		case Queued, Ready:
			n++
		case Overflow:
			return n
		default:
			t.Fatalf("frame %d: %d", n, res)
		}
	}
}

func isClosed(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// checkClosesAt checks that the connection closes when d has passed, and not
// before.
func checkClosesAt(t *testing.T, c *Conn, d time.Duration) {
	t.Helper()
	time.Sleep(d - time.Nanosecond)
	synctest.Wait()
	if isClosed(c) {
		t.Error("closed too early")
	}
	time.Sleep(time.Nanosecond)
	synctest.Wait()
	if !isClosed(c) {
		t.Errorf("not closed after %v", d)
	}
	if !atRest(c) {
		t.Error("closed, but still holds frames or a flusher")
	}
}

// Frames that were taken are sent before the close frame, and nothing after it,
// even if other goroutines go on sending.
func TestCloseWithIsTheLast(t *testing.T) {
	overTransports(t, func(t *testing.T, server, client net.Conn) {
		const senders = 4
		c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
		defer c.Abort()
		var warm, done sync.WaitGroup
		taken := make([]int, senders)
		warm.Add(senders)
		for s := range senders {
			done.Go(func() {
				f := sealed(make([]byte, 3000))
				for {
					switch send(c, f) {
					case Queued, Ready:
						if taken[s]++; taken[s] == 50 {
							warm.Done()
						}
					case Overflow:
						runtime.Gosched()
					case Gone:
						return
					}
				}
			})
		}
		r := bufio.NewReader(client)
		read := make(chan int, 1)
		go func() {
			frames, err := readToClose(r, 4000)
			if err != nil {
				t.Error(err)
			}
			read <- len(frames)
		}()
		warm.Wait()
		if c.CloseWith(4000, "", false, time.Minute) == Ready {
			c.Flush()
		}
		done.Wait()
		want := 0
		for _, n := range taken {
			want += n
		}
		if got := <-read; got != want {
			t.Errorf("%d frames before the close frame, want %d", got, want)
		}
		await(t, "rest", func() bool { return atRest(c) })
		c.Abort()
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Errorf("%d bytes after the close frame", len(rest))
		}
	})
}

func TestCloseWithDiscard(t *testing.T) {
	overTransports(t, func(t *testing.T, server, client net.Conn) {
		c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
		defer c.Abort()
		n := fillUp(t, c, 5000)
		if res := c.CloseWith(4001, "slow consumer", true, time.Minute); res != Queued {
			t.Errorf("CloseWith: %d, want %d", res, Queued)
		}
		frames, err := readToClose(client, 4001)
		if err != nil {
			t.Fatal(err)
		}
		checkNumbers(t, frames)
		if len(frames) == n {
			t.Error("nothing was dropped")
		}
		await(t, "rest", func() bool { return atRest(c) })
	})
}

// Frames that were taken for writing are dropped too, except for the one that
// is being written.
func TestCloseWithDiscardInABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := pipe(t)
		c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
		defer c.Abort()
		c.Enqueue(numbered(0, 10_000), Durable)
		for i := range 9 {
			c.Enqueue(numbered(i+1, 10_000), Durable)
		}
		c.Flush()
		synctest.Wait() // it writes the first frame and a part of the second
		c.CloseWith(4001, "", true, time.Minute)
		if n := c.Waiting(); n < 90_000 {
			t.Errorf("only %d bytes wait before the peer has read", n)
		}
		if _, err := io.CopyN(io.Discard, client, drainPart); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := c.Waiting(); n > 10_000 {
			t.Errorf("%d bytes wait after the drop", n)
		}
		if _, err := io.CopyN(io.Discard, client, 2*10_008-drainPart); err != nil {
			t.Fatal(err)
		}
		if frames, err := readToClose(client, 4001); err != nil || len(frames) > 0 {
			t.Errorf("after the second frame: %d more, %v", len(frames), err)
		}
	})
}

func TestCloseWithGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := pipe(t)
		c := New(server, nil, Limits{Outbox: 1000, Grace: closeGrace})
		if c.CloseWith(4000, "", false, 7*time.Second) != Ready {
			t.Fatal("another goroutine flushes")
		}
		c.Flush()
		if _, err := readToClose(client, 4000); err != nil {
			t.Fatal(err)
		}
		checkClosesAt(t, c, 7*time.Second) // the peer does not answer
	})
}

// A close frame from the layer above also bounds how long the peer can keep the
// connection.
func TestWrittenCloseFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, _ := pipe(t)
		c := New(server, nil, Limits{Outbox: 100, Grace: closeGrace})
		n := fillUp(t, c, 10)
		f := closeFrame(1002, "")
		if k, err := c.Write(f); k != len(f) || err != nil {
			t.Errorf("a close frame when the outbox is full of %d frames: %d, %v", n, k, err)
		}
		if res := c.CloseWith(4000, "", false, time.Hour); res != Gone {
			t.Errorf("CloseWith after it: %d, want %d", res, Gone)
		}
		if res := c.Enqueue(Ping, Durable); res != Gone {
			t.Errorf("Enqueue after it: %d, want %d", res, Gone)
		}
		ended := make(chan struct{})
		go func() {
			c.Discard()
			close(ended)
		}()
		checkClosesAt(t, c, closeGrace)
		<-ended
	})
}

// The layer above answers a close frame with the same reason, which it has not
// checked.
func TestWrittenReasonIsText(t *testing.T) {
	for _, tt := range []struct {
		reason string
		want   uint16
	}{
		{"", 4000}, {"bye €", 4000}, {"bye \xff", 1007}, {"bye \xe2\x82", 1007},
	} {
		server, client := pipe(t)
		c := New(server, nil, Limits{Outbox: 100, Grace: closeGrace})
		if _, err := c.Write(append([]byte{finBit | opClose, byte(2 + len(tt.reason)), 0x0f, 0xa0}, tt.reason...)); err != nil {
			t.Error(err)
		}
		if _, err := readToClose(client, tt.want); err != nil {
			t.Errorf("reason %q: %v", tt.reason, err)
		}
		c.Abort()
	}
}

func TestWrittenCloseFrameIsSent(t *testing.T) {
	overTransports(t, func(t *testing.T, server, client net.Conn) {
		c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
		n := fillUp(t, c, 5000)
		f := closeFrame(1002, "")
		if _, err := c.Write(f); err != nil {
			t.Error(err)
		}
		f[3]++ // a Write must not keep its argument
		_ = c.Close()
		r := bufio.NewReader(client)
		frames, err := readToClose(r, 1002)
		if err != nil || len(frames) != n {
			t.Errorf("%d frames before the close frame, want %d, %v", len(frames), n, err)
		}
		checkNumbers(t, frames)
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after the close frame: %v", err)
		}
	})
}

func TestCloseAfter(t *testing.T) {
	// read begins a Read, and returns a channel for its error.
	read := func(c *Conn) <-chan error {
		ended := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
		synctest.Wait()
		return ended
	}
	start := func(t *testing.T) (c *Conn, client net.Conn) {
		server, client := pipe(t)
		return New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace}), client
	}
	bubble := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}

	bubble("idle", func(t *testing.T) {
		c, client := start(t)
		ended := read(c)
		c.CloseAfter(time.Minute)
		if err := <-ended; err == nil {
			t.Error("the reader was not woken")
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || !isClosed(c) {
			t.Errorf("the peer sees %v", err)
		}
	})
	bubble("sends first", func(t *testing.T) {
		c, client := start(t)
		begin, ended := time.Now(), read(c)
		n := fillUp(t, c, 5000)
		c.CloseAfter(time.Minute)
		if res := c.Enqueue(Ping, Durable); res != Gone {
			t.Errorf("Enqueue: %d, want %d", res, Gone)
		}
		if res := c.CloseWith(4000, "", false, time.Hour); res != Gone {
			t.Errorf("CloseWith: %d, want %d", res, Gone)
		}
		c.CloseAfter(0)
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the reader was woken by %v", err)
		}
		stream, err := io.ReadAll(client)
		if err != nil {
			t.Fatal(err)
		}
		frames := parseAll(t, stream)
		if checkNumbers(t, frames); len(frames) != n {
			t.Errorf("%d frames were sent, want %d", len(frames), n)
		}
		if d := time.Since(begin); d > 0 {
			t.Errorf("closing took %v", d)
		}
		synctest.Wait()
		if !atRest(c) {
			t.Error("not at rest")
		}
	})
	bubble("stuck", func(t *testing.T) {
		c, _ := start(t)
		fillUp(t, c, 5000)
		c.CloseAfter(10 * time.Second)
		checkClosesAt(t, c, 10*time.Second)
	})
	bubble("never flushed", func(t *testing.T) {
		c, _ := start(t)
		c.Enqueue(Ping, Durable)
		c.CloseAfter(10 * time.Second)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !isClosed(c) || c.Waiting() > 0 {
			t.Errorf("closed: %t, %d bytes wait", isClosed(c), c.Waiting())
		}
		c.Flush() // late
		synctest.Wait()
		if !atRest(c) {
			t.Error("not at rest")
		}
	})
	bubble("by the layer above", func(t *testing.T) {
		c, _ := start(t)
		fillUp(t, c, 5000)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		checkClosesAt(t, c, closeGrace)
	})
	bubble("after CloseWith", func(t *testing.T) {
		c, _ := start(t)
		fillUp(t, c, 5000)
		c.CloseWith(4000, "", false, 10*time.Second)
		time.Sleep(4 * time.Second)
		c.CloseAfter(time.Minute)
		checkClosesAt(t, c, 6*time.Second)
	})
}

func TestAbort(t *testing.T) {
	overTransports(t, func(t *testing.T, server, client net.Conn) {
		c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
		fillUp(t, c, 5000)
		ended := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
		c.Abort()
		if err := <-ended; err == nil {
			t.Error("the reader was not woken")
		}
		await(t, "rest", func() bool { return atRest(c) })
		if s := c.StuckSince(); !s.IsZero() {
			t.Errorf("stuck since %v", s)
		}
		if c.mu.Lock(); slices.Concat(c.queue, c.batch, c.spare) != nil {
			t.Error("the connection still holds frames")
		}
		c.mu.Unlock()
		if res := c.Enqueue(Ping, Durable); res != Gone {
			t.Errorf("Enqueue: %d, want %d", res, Gone)
		}
		if res := c.CloseWith(4000, "", false, time.Minute); res != Gone {
			t.Errorf("CloseWith: %d, want %d", res, Gone)
		}
		c.CloseAfter(time.Minute)
		c.Abort()
	})
}

// A timer that goes on would keep the connection in memory.
func TestAbortStopsTheTimer(t *testing.T) {
	server, _ := pipe(t)
	c := New(server, nil, Limits{Outbox: 100, Grace: closeGrace})
	c.CloseWith(4000, "", false, time.Hour)
	timer := c.timer
	c.CloseAfter(time.Hour)
	c.Abort()
	if timer.Stop() || c.timer.Stop() {
		t.Error("the timer still runs")
	}
}

// Frames that wait for a Flush are dropped at once, and the Flush may still
// come.
func TestAbortBeforeFlush(t *testing.T) {
	overTransports(t, func(t *testing.T, server, client net.Conn) {
		c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
		if res := c.Enqueue(sealed("lost"), Durable); res != Ready {
			t.Fatal(res)
		}
		c.Abort()
		if n := c.Waiting(); n != 0 || c.queue != nil {
			t.Errorf("%d bytes wait", n)
		}
		c.Flush()
		await(t, "rest", func() bool { return atRest(c) })
	})
}

// slowCloser takes its time to close, as TLS does if its alert has to wait.
type slowCloser struct {
	net.Conn
	closing chan struct{}
	release chan struct{}
}

func (s *slowCloser) Close() error {
	close(s.closing)
	<-s.release
	return s.Conn.Close()
}

func TestCloseDoesNotWait(t *testing.T) {
	for name, end := range map[string]func(c *Conn){
		"Abort": (*Conn).Abort,
		"Close": func(c *Conn) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := pipe(t)
				slow := &slowCloser{server, make(chan struct{}), make(chan struct{})}
				c := New(slow, nil, Limits{Outbox: 100, Grace: closeGrace})
				ended := make(chan error, 1)
				go func() {
					_, err := c.Read(make([]byte, 1))
					ended <- err
				}()
				synctest.Wait()
				end(c)
				<-slow.closing
				if err := <-ended; err == nil {
					t.Error("the reader was not woken")
				}
				close(slow.release)
				if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("the peer sees %v", err)
				}
			})
		})
	}
}
