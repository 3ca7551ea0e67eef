package note

import (
	"encoding/binary"
	"time"
)

// The format: a number is a uvarint; a list is its length and its items; a text
// is its length and its bytes.

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// takeLength reads the length of things that have at least a byte each: one
// beyond what is left is a lie.
func takeLength(b []byte) (n int, rest []byte, ok bool) {
	v, k := binary.Uvarint(b)
	if k <= 0 || v > uint64(len(b)-k) {
		return 0, nil, false
	}
	return int(v), b[k:], true
}

// coder appends to b, or takes from it. Each of its methods does both, so that
// what is written and what is read cannot differ. Once it is bad, nothing is
// left in b, and it reads zeros.
type coder struct {
	writing bool
	bad     bool
	b       []byte
}

func (c *coder) fail() { c.bad, c.b = true, nil }

func (c *coder) number(v *uint64) {
	if c.writing {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	n, k := binary.Uvarint(c.b)
	if k <= 0 {
		c.fail()
		n, k = 0, 0
	}
	*v, c.b = n, c.b[k:]
}

// length takes the length of what is written, and returns that of what is read.
func (c *coder) length(n int) int {
	if c.writing {
		c.b = binary.AppendUvarint(c.b, uint64(n))
		return n
	}
	n, rest, ok := takeLength(c.b)
	c.b, c.bad = rest, c.bad || !ok
	return n
}

func (c *coder) text(s *string) {
	if c.writing {
		c.b = appendText(c.b, *s)
		return
	}
	n := c.length(0)
	*s, c.b = string(c.b[:n]), c.b[n:]
}

// bytes keeps the difference between empty and nil. What it reads shares the
// memory of b.
func (c *coder) bytes(p *[]byte) {
	some := *p != nil
	c.flag(&some)
	if !some {
		return
	}
	n := c.length(len(*p))
	if c.writing {
		c.b = append(c.b, *p...)
		return
	}
	*p, c.b = c.b[:n:n], c.b[n:]
}

func (c *coder) flag(v *bool) {
	var b byte
	if *v {
		b = 1
	}
	enum(c, &b, 2)
	*v = b == 1
}

// duration is rounded up to milliseconds.
func (c *coder) duration(d *time.Duration) {
	v := uint64(max(0, CeilMillis(*d)))
	c.number(&v)
	if !c.writing {
		const most = 1 << 40 // 35 years: more than anyone means, and no overflow
		*d = time.Duration(min(v, most)) * time.Millisecond
	}
}

func (c *coder) user(u *User) {
	c.text(&u.ID)
	c.text(&u.Name)
}

// enum is a byte below end.
func enum[T ~byte](c *coder, v *T, end T) {
	switch {
	case c.writing:
		c.b = append(c.b, byte(*v))
	case len(c.b) == 0 || T(c.b[0]) >= end:
		c.fail()
	default:
		*v, c.b = T(c.b[0]), c.b[1:]
	}
}

// each is a number of things.
func each[T any](c *coder, s *[]T, one func(*T)) {
	n := c.length(len(*s))
	for i := range n {
		if !c.writing {
			var zero T
			*s = append(*s, zero)
		}
		if one(&(*s)[i]); c.bad {
			return
		}
	}
}

// CeilMillis returns d in milliseconds, rounded up: a client that waits for so
// long does not come too early.
func CeilMillis(d time.Duration) int64 {
	return (d + time.Millisecond - 1).Milliseconds()
}
