package chathub

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"
)

// The kinds of the names in an inbox that hold how far its user has read: of
// rooms, and of conversations with other users.
const (
	kindRead = "read"
	kindSeen = "seen"
)

// marker is how far a user has read a log.
type marker struct {
	Position
	at uint64 // position in the inbox; 0: there is no marker
}

// in returns the position of the marker in a log of the given epoch. Markers of
// other epochs mean nothing.
func (mk marker) in(epoch string) uint64 {
	if mk.Epoch != epoch {
		return 0
	}
	return mk.Seq
}

// state returns the marker as bytes, which markerIn reads.
func (mk marker) state() []byte { return append(binary.AppendUvarint(nil, mk.Seq), mk.Epoch...) }

// markerIn returns the marker in a message of an inbox that has the name of
// one.
func markerIn(m *Message) marker {
	mk := marker{at: m.Seq}
	var r note.Routed
	if r.Decode(m.Body) != nil {
		return mk
	}
	if seq, n := binary.Uvarint(r.State); n > 0 {
		mk.Position = Position{Epoch: string(r.State[n:]), Seq: seq}
	}
	return mk
}

// markerName is the name of a user's marker, for a room or, if that is empty,
// for the conversation with a user.
func markerName(room, peer string) string {
	if room != "" {
		return kindRead + "/" + room
	}
	return kindSeen + "/" + peer
}

// markers reads markers from the inbox of a user, by name. Those that do not
// exist are zero.
func (h *Hub) markers(ctx context.Context, inbox Topic, names ...string) (map[string]marker, error) {
	if len(names) == 0 {
		return nil, nil
	}
	named, err := h.session.ReadNamed(ctx, []NameQuery{{Topic: inbox, Names: names}})
	if err != nil {
		return nil, err
	}
	return markersIn(named[0]), nil
}

// markersIn decodes markers, by name.
func markersIn(named []Message) map[string]marker {
	all := make(map[string]marker, len(named))
	for i := range named {
		all[named[i].Name] = markerIn(&named[i])
	}
	return all
}

// markReadData is the data of a mark-read.
type markReadData struct {
	Seq uint64 `json:"seq"`
}

func markReadDataOf(e *Event) (d markReadData, err error) {
	if err := decodeData(e, &d); err != nil {
		return d, err
	}
	if bad := checkSeq("data.seq", d.Seq); bad != nil {
		return d, bad
	}
	return d, nil
}

func checkMarkRead(_ *Client, e *Event) *Error {
	if err := roomOrTo(e); err != nil {
		return err
	}
	if _, err := markReadDataOf(e); err != nil {
		bad, _ := publicError(err)
		return bad
	}
	return nil
}

func markReadAction(_ context.Context, _ *Client, e *Event) (Action, error) {
	d, err := markReadDataOf(e)
	return Action{Type: e.Type, Room: e.Room, To: e.To, Seq: d.Seq}, err
}

var errManyMarkers = errors.New("chathub: the marker changes all the time")

// reading is how far a user has read a log, as clients are told.
type reading struct {
	Seq    uint64 `json:"seq"`
	Unread int    `json:"unread"`
	// Head is the position up to which Unread counts.
	Head uint64 `json:"head"`
}

func onMarkRead(ctx context.Context, c *Client, e *Event) (any, error) {
	d, err := markReadDataOf(e)
	if err != nil {
		return nil, err
	}
	name := markerName(e.Room, e.To)
	q := c.unreadAfter(e.Room, e.To, d.Seq)
	for range changeTries {
		all, err := c.hub.markers(ctx, c.inbox(), name)
		if err != nil {
			return nil, err
		}
		standing, err := c.hub.session.Survey(ctx, []SurveyQuery{q})
		if err != nil {
			return nil, err
		}
		at := standing[0]
		if d.Seq > at.Head.Seq {
			return nil, errorf(CodeBadRequest, "data.seq is after the newest message")
		}
		had := all[name].in(at.Head.Epoch)
		if seq := max(d.Seq, had); seq != q.After { // another device was ahead: count again
			q.After = seq
			continue
		}
		r := &reading{Seq: q.After, Unread: at.Unread, Head: at.Head.Seq}
		if had == q.After {
			return r, nil
		}
		err = c.storeMarker(ctx, e, r, at.Head.Epoch, all[name].at)
		if err == nil {
			c.tellReceipt(e.Room, r.Seq)
			return r, nil
		}
		if !hasCode(err, CodeConflict) {
			return nil, err
		}
	}
	return nil, Unavailable(errManyMarkers)
}

// storeMarker stores a marker in the user's inbox, unless another one has come
// meanwhile. The user's other connections are told.
func (c *Client) storeMarker(ctx context.Context, e *Event, r *reading, epoch string, expect uint64) error {
	user := c.User()
	env, err := readEvent(e.Room, e.To, &user, r)
	if err != nil {
		return err
	}
	mk := marker{Position: Position{Epoch: epoch, Seq: r.Seq}}
	_, err = c.publish(ctx, Message{
		Topic:  c.inbox(),
		Owner:  user.ID,
		Notice: true,
		Name:   markerName(e.Room, e.To),
		Expect: &expect,
		Body:   env.body(&note.Routed{Op: note.OpChange, Except: []string{c.id}, State: mk.state()}),
	})
	return err
}

// readEvent returns the event that tells a user's connections how far the
// user has read.
func readEvent(room, peer string, user *User, r *reading) (*envelope, error) {
	data, err := json.Marshal(r)
	return &envelope{typ: eventRead, room: room, to: peer, from: user, data: data}, err
}

// isMarker reports whether a message with this name is a marker.
func isMarker(name string) bool {
	return strings.HasPrefix(name, kindRead+"/") || strings.HasPrefix(name, kindSeen+"/")
}

// markerFrame returns the frame of a marker that was stored in an inbox. Its
// position is in data. A seq beside a room would be taken for a position in
// that room by clients of an earlier version.
func markerFrame(body []byte, seq uint64, ts int64) []byte {
	const end = "}}" // of data, and of the envelope
	b := make([]byte, wire.HeaderRoom, wire.HeaderRoom+len(body)+64)
	b = append(b, body[:len(body)-len(end)]...)
	b = append(b, `,"position":`...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, end...)
	return wire.Seal(appendPosition(b, 0, ts))
}
