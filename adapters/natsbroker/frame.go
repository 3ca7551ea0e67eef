package natsbroker

import (
	"encoding/binary"
	"errors"

	"github.com/chathub-go/chathub"
	"github.com/nats-io/nats.go"
)

// A frame is a message on the wire and in the stream:
//
//	1 byte    version: 1 without a sum, 2 with one
//	8 bytes   attempt, a random number for each call of Publish
//	8 bytes   sum, in version 2 only
//	varint    time, in Unix milliseconds
//	uvarint   length of the key, followed by the key
//	          the body, up to the end
//
// Topic and position are part of the NATS message that contains the frame. What
// was added later is in its header; see headerMeta.
type frame struct {
	attempt uint64
	sum     uint64 // 0: none
	time    int64
	key     string
	body    []byte
}

const (
	versionPlain  = 1
	versionSummed = 2
)

var errFrame = errors.New("natsbroker: not a message of this broker")

func (f *frame) encode() []byte {
	b := make([]byte, 0, 1+8+8+2*binary.MaxVarintLen64+len(f.key)+len(f.body))
	if f.sum == 0 {
		b = append(b, versionPlain)
		b = binary.BigEndian.AppendUint64(b, f.attempt)
	} else {
		b = append(b, versionSummed)
		b = binary.BigEndian.AppendUint64(b, f.attempt)
		b = binary.BigEndian.AppendUint64(b, f.sum)
	}
	b = binary.AppendVarint(b, f.time)
	b = binary.AppendUvarint(b, uint64(len(f.key)))
	b = append(b, f.key...)
	return append(b, f.body...)
}

// decode reads b. The body shares the memory of b.
func (f *frame) decode(b []byte) error {
	switch {
	case len(b) >= 9 && b[0] == versionPlain:
		f.attempt, f.sum = binary.BigEndian.Uint64(b[1:]), 0
		b = b[9:]
	case len(b) >= 17 && b[0] == versionSummed:
		f.attempt, f.sum = binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])
		b = b[17:]
	default:
		return errFrame
	}
	time, n := binary.Varint(b)
	if n <= 0 {
		return errFrame
	}
	b = b[n:]
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return errFrame
	}
	b = b[n:]
	f.time, f.key, f.body = time, string(b[:size]), b[size:]
	return nil
}

// message decodes a NATS message. Volatile messages have seq 0 and no header.
func message(t chathub.Topic, seq uint64, header nats.Header, data []byte) (chathub.Message, error) {
	var f frame
	if err := f.decode(data); err != nil {
		return chathub.Message{}, err
	}
	var h meta
	h.decode(header)
	return chathub.Message{
		Topic: t, Key: f.key, Owner: h.owner, Notice: h.notice, Name: h.name, Tied: h.tied, Erase: h.erase, Remove: h.remove,
		Body: f.body, Seq: seq, Time: f.time,
	}, nil
}
