package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The whole frames before the refused one are read, whatever the size of reads.
func TestReadHandsOnWhatIsBefore(t *testing.T) {
	good := slices.Concat(text("one"), clientFrame(opPing, true, nil), text("two"))
	bad := slices.Concat(text("far too much"), text("more"))
	for _, early := range []int{0, 1, len(good), len(good) + 1, len(good) + 3, len(good) + len(bad)} {
		for size := 1; size <= len(good)+len(bad); size++ {
			t.Run(fmt.Sprintf("early=%d,reads=%d", early, size), func(t *testing.T) {
				server, client := pipe(t)
				stream := slices.Concat(good, bad)
				c := New(server, stream[:early], Limits{Message: 5, Grace: closeGrace})
				go func() { // ends with the pipe
					_, _ = client.Write(stream[early:])
				}()
				var got bytes.Buffer
				_, err := io.CopyBuffer(struct{ io.Writer }{&got}, c, make([]byte, size))
				if !errors.Is(err, ErrMessageTooBig) {
					t.Fatal(err)
				}
				if !bytes.HasPrefix(got.Bytes(), good) || got.Len() > len(good)+2 {
					t.Errorf("%d bytes were handed on, want %d", got.Len(), len(good))
				}
				if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, ErrMessageTooBig) {
					t.Errorf("after that: %d bytes, %v", n, err)
				}
			})
		}
	}
}

func TestHeardAndMessageBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := pipe(t)
		begin := time.Now()
		c := New(server, text("early")[:3], Limits{Message: 100, Grace: closeGrace})
		defer c.Abort()
		buf := make([]byte, 200)
		check := func(heard, begun time.Duration) {
			t.Helper()
			if got := c.Heard().Sub(begin); got != heard {
				t.Errorf("heard at %v, want %v", got, heard)
			}
			got := c.MessageBegun()
			if begun < 0 != got.IsZero() || begun >= 0 && got.Sub(begin) != begun {
				t.Errorf("message begun at %v, want %v", got.Sub(begin), begun)
			}
		}
		receive := func(b []byte) {
			t.Helper()
			go func() { _, _ = client.Write(b) }()
			if n, err := c.Read(buf); n != len(b) || err != nil {
				t.Fatalf("read %d of %d bytes: %v", n, len(b), err)
			}
		}
		const none = -1
		check(0, 0)
		time.Sleep(time.Second)
		if n, err := c.Read(buf); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		check(0, 0)
		time.Sleep(time.Second)
		receive(text("early")[3:])
		check(2*time.Second, none)
		time.Sleep(time.Second)
		check(2*time.Second, none)
		receive(clientFrame(opText, false, []byte("a")))
		check(3*time.Second, 3*time.Second)
		time.Sleep(time.Second)
		receive(clientFrame(opPong, true, nil))
		check(4*time.Second, 3*time.Second)
		time.Sleep(time.Second)
		// A read holds the end of a message and the beginning of another.
		receive(append(clientFrame(opContinuation, true, nil), text("b")[:1]...))
		check(5*time.Second, 5*time.Second)
	})
}

// reader waits for input on a goroutine of its own, in a bubble.
type reader struct {
	c    *Conn
	done chan struct{}
}

func startWait(c *Conn) *reader {
	r := &reader{c, make(chan struct{})}
	go func() {
		c.Wait(nil)
		close(r.done)
	}()
	synctest.Wait()
	return r
}

func (r *reader) waits() bool {
	synctest.Wait()
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

func TestWait(t *testing.T) {
	pong := clientFrame(opPong, true, []byte("?"))
	for _, tt := range []struct {
		name   string
		before []byte // which Read has taken
		stream []byte
		ends   bool
	}{
		{"a message", nil, text("x"), true},
		{"a part of one", nil, text("x")[:1], true},
		{"a ping", nil, clientFrame(opPing, true, nil), false},
		{"the longest ping", nil, clientFrame(opPing, true, make([]byte, 125)), false},
		{"a ping in two parts", nil, clientFrame(opPing, false, nil), true},
		{"a close frame", nil, clientFrame(opClose, true, nil), true},
		{"a pong", nil, pong, false},
		{"the longest pong", nil, clientFrame(opPong, true, make([]byte, 125)), false},
		{"a pong and more", nil, slices.Concat(pong, text("x")), true},
		{"two pongs", nil, slices.Concat(pong, pong), true},
		{"a part of a pong", nil, pong[:3], true},
		{"a pong without a mask", nil, []byte{finBit | opPong, 0}, true},
		{"a pong with a reserved bit", nil, append([]byte{pong[0] | 0x40}, pong[1:]...), true},
		{"a pong within a message", clientFrame(opText, false, []byte("x")), pong, true},
		{"what looks like a pong within a frame", text(string(make([]byte, 50)))[:6], pong, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := pipe(t)
				c := New(server, tt.before, Limits{Message: 1000, Grace: closeGrace})
				defer c.Abort()
				if _, err := io.CopyN(io.Discard, c, int64(len(tt.before))); err != nil {
					t.Fatal(err)
				}
				r := startWait(c)
				if !r.waits() {
					t.Fatal("it does not wait for anything")
				}
				time.Sleep(time.Second)
				if _, err := client.Write(tt.stream); err != nil {
					t.Fatal(err)
				}
				if r.waits() == tt.ends {
					t.Fatalf("it waits on: %t, want %t", !tt.ends, tt.ends)
				}
				if d := time.Since(c.Heard()); d > 0 {
					t.Errorf("the peer was heard %v ago", d)
				}
				want := tt.stream
				if !tt.ends {
					want = text("after")
					if _, err := client.Write(want); err != nil {
						t.Fatal(err)
					}
					<-r.done
				}
				got := make([]byte, len(want)+1)
				if n, err := c.Read(got); !bytes.Equal(got[:n], want) || err != nil {
					t.Errorf("then Read returns %x, want %x, %v", got[:n], want, err)
				}
			})
		})
	}
}

func TestWaitEnds(t *testing.T) {
	overTransports(t, func(t *testing.T, server, client net.Conn) {
		c := New(server, nil, Limits{Message: 10, Outbox: 1 << 20, Grace: closeGrace})
		defer c.Abort()
		buf := make([]byte, 100)
		go func() { _, _ = client.Write(text("one")) }()
		c.Wait(nil)
		if n, err := c.Read(buf); !bytes.Equal(buf[:n], text("one")) || err != nil {
			t.Fatalf("%x, %v", buf[:n], err)
		}
		if c.in.buf != nil || c.in.unread != nil {
			t.Error("it holds on to a buffer that was read")
		}
		go func() { _, _ = client.Write(text("far too much")) }()
		c.Wait(nil)
		for c.in.err == nil { // the header may come apart from the rest
			c.fill()
		}
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, ErrMessageTooBig) {
			t.Errorf("over the limit: %v", err)
		}
		c.Wait(nil)
	})
}

func TestWaitEndsWithTheConnection(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(c *Conn, client net.Conn)
		is   func(error) bool
	}{
		{"by the peer", func(_ *Conn, client net.Conn) { client.Close() },
			func(err error) bool { return errors.Is(err, io.EOF) }},
		{"by Abort", func(c *Conn, _ net.Conn) { c.Abort() },
			func(err error) bool {
				return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.ErrClosedPipe)
			}},
		{"by CloseAfter", func(c *Conn, _ net.Conn) {
			c.Enqueue(Ping, false)
			c.CloseAfter(time.Minute)
		}, func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			overTransports(t, func(t *testing.T, server, client net.Conn) {
				c := New(server, nil, Limits{Outbox: 1 << 20, Grace: closeGrace})
				defer c.Abort()
				ended := make(chan struct{})
				go func() {
					c.Wait(nil)
					close(ended)
				}()
				tt.end(c, client)
				<-ended
				if n, err := c.Read(make([]byte, 1)); n != 0 || !tt.is(err) {
					t.Errorf("Read: %d, %v", n, err)
				}
				c.Wait(nil) // does not any more
			})
		})
	}
}

// Discard ends when the peer has answered with a close frame, whatever comes
// before it.
func TestDiscardUntilClose(t *testing.T) {
	bye := clientFrame(opClose, true, []byte{0x03, 0xe8})
	for _, tt := range []struct {
		name   string
		stream []byte
	}{
		{"at once", bye},
		{"behind messages", slices.Concat(text("one"), text("two"), bye)},
		{"behind what breaks the limit", slices.Concat(text("far too much"), text("far too much again"), bye)},
		{"behind much", slices.Concat(text(string(make([]byte, 1<<20))), bye)},
		{"behind too many fragments", slices.Concat(clientFrame(opText, false, nil), repeat(clientFrame(opContinuation, false, nil), 2000), bye)},
		{"behind too many pings", slices.Concat(repeat(clientFrame(opPing, true, nil), 1000), bye)},
	} {
		for _, early := range []int{0, 1, 7, len(tt.stream)} {
			for _, read := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/early=%d,read=%t", tt.name, early, read), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						server, client := pipe(t)
						c := New(server, tt.stream[:early], Limits{Message: 5, Outbox: 100, Grace: closeGrace})
						defer c.Abort()
						go func() { _, _ = client.Write(tt.stream[early:]) }()
						if read { // up to an error, or the end of the close frame
							_, _ = io.CopyN(io.Discard, c, int64(len(tt.stream)))
						}
						done := make(chan struct{})
						go func() {
							c.Discard()
							close(done)
						}()
						synctest.Wait()
						select {
						case <-done:
						default:
							t.Error("it waits on, though the peer has closed")
						}
						if !c.in.scan.closed {
							t.Error("it ended before the peer has closed")
						}
					})
				})
			}
		}
	}
}

func TestDiscardUntilTheEnd(t *testing.T) {
	overTransports(t, func(t *testing.T, server, client net.Conn) {
		c := New(server, []byte("early"), Limits{Message: 1, Grace: closeGrace})
		defer c.Abort()
		go func() {
			_, _ = client.Write(make([]byte, 1<<20)) // fragments without end
			client.Close()
		}()
		c.Discard()
		if _, err := server.Read(make([]byte, 1)); err == nil {
			t.Error("it ended before the peer")
		}
	})
}

func TestReadDoesNotAllocate(t *testing.T) {
	server, client := tcpPair(t)
	c := New(server, nil, Limits{Message: 1000, Grace: closeGrace})
	defer c.Abort()
	f, buf, read := text("hello"), make([]byte, 100), make(chan int)
	go func() { // usually waits before the peer writes
		defer close(read)
		for n := len(f); n == len(f); read <- n {
			c.Wait(nil)
			n, _ = c.Read(buf)
		}
	}()
	// It is less than one for each message, since with the race detector a
	// sync.Pool forgets one of four things.
	n := testing.AllocsPerRun(500, func() {
		if _, err := client.Write(f); err != nil {
			t.Fatal(err)
		}
		if n := <-read; n != len(f) {
			t.Fatalf("%d bytes, want %d", n, len(f))
		}
	})
	client.Close()
	<-read // the end
	if n > 0 {
		t.Errorf("%v allocations for a message", n)
	}
}
