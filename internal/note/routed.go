package note

import "encoding/binary"

// Routed is the body of a message that nodes carry for clients: an operation
// and the connections that it is for, within the topic of the message.
type Routed struct {
	Op Op
	// Once, if not 0, is common to the messages of one emit to several topics:
	// a connection that hears several of those topics gets the first one only.
	Once uint64
	// Except lists connections that it is not for.
	Except []string
	// Clients, if there are any, are the only connections that it is for.
	Clients []string
	// Rooms to join or leave.
	Rooms []string
	// State is for the nodes alone. Only an OpChange has one.
	State []byte
	// Body is the envelope without seq and ts, or the reason of a disconnect.
	Body []byte
}

// Emits reports whether Body is an envelope for the connections.
func (r *Routed) Emits() bool { return r.Op == OpEmit || r.Op == OpChange }

// Encode returns r as the body of a message: Op, Once, three lists of texts,
// the State of an OpChange, and the rest is Body. It leaves room for so many
// bytes more, to be appended to Body. Every message of a client passes here, so
// no coder is in the way.
func (r *Routed) Encode(room int) []byte {
	const numbers, item = 14, 32 // most take no more
	items := len(r.Except) + len(r.Clients) + len(r.Rooms)
	b := make([]byte, 0, numbers+item*items+len(r.State)+len(r.Body)+room)
	b = append(b, byte(r.Op))
	b = binary.AppendUvarint(b, r.Once)
	for _, list := range [...][]string{r.Except, r.Clients, r.Rooms} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			b = appendText(b, s)
		}
	}
	if r.Op == OpChange {
		b = binary.AppendUvarint(b, uint64(len(r.State)))
		b = append(b, r.State...)
	}
	return append(b, r.Body...)
}

// Decode is the opposite of Encode, for a zero Routed. Body shares the memory
// of b.
func (r *Routed) Decode(b []byte) error {
	if len(b) == 0 || Op(b[0]) >= opRoutedEnd {
		return ErrBody
	}
	once, k := binary.Uvarint(b[1:])
	if k <= 0 {
		return ErrBody
	}
	r.Op, r.Once, b = Op(b[0]), once, b[1+k:]
	for _, list := range [...]*[]string{&r.Except, &r.Clients, &r.Rooms} {
		n, rest, ok := takeLength(b)
		if !ok {
			return ErrBody
		}
		b = rest
		for range n {
			size, rest, ok := takeLength(b)
			if !ok {
				return ErrBody
			}
			*list = append(*list, string(rest[:size]))
			b = rest[size:]
		}
	}
	if r.Op == OpChange {
		size, rest, ok := takeLength(b)
		if !ok {
			return ErrBody
		}
		r.State, b = rest[:size], rest[size:]
	}
	r.Body = b
	return nil
}
