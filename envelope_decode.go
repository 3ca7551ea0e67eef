package chathub

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/chathub-go/chathub/internal/text"
	"github.com/go-json-experiment/json/jsontext"
)

// decoder is a JSON decoder whose memory is used again.
type decoder struct {
	buf bytes.Buffer
	dec *jsontext.Decoder
}

var decoders = sync.Pool{New: func() any {
	d := new(decoder)
	d.dec = jsontext.NewDecoder(&d.buf)
	return d
}}

// decodeEvent decodes an envelope from a client. b must be valid UTF-8, and
// must not change later: the event's Data is a part of it. After an error, the
// event has the id if one could be read.
func decodeEvent(b []byte) (*Event, *Error) {
	e := new(Event)
	if deeper(b, maxDepth) {
		return e, errorf(CodeBadRequest, "Nested deeper than %d levels", maxDepth)
	}
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	d.buf = *bytes.NewBuffer(b)
	d.dec.Reset(&d.buf)
	defer func() { d.buf = bytes.Buffer{} }()
	return e, e.decode(d.dec, b)
}

func (ev *Event) decode(dec *jsontext.Decoder, b []byte) *Error {
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return notObject(b)
	}
	var fault *Error // the first one; decoding goes on to find the id
	note := func(err *Error) {
		if fault == nil {
			fault = err
		}
	}
	hasType := false
	for dec.PeekKind() != '}' {
		name, err := dec.ReadValue()
		if err != nil {
			if se, ok := errors.AsType[*jsontext.SyntacticError](err); ok && se.JSONPointer == "/id" {
				ev.ID = "" // a second id: neither counts
			}
			return syntaxError(b, err)
		}
		field := fieldOf(name)
		value, err := dec.ReadValue()
		if err != nil {
			return syntaxError(b, err)
		}
		if field == fieldNone {
			continue
		}
		if field == fieldData || field == fieldRe {
			end := int(dec.InputOffset())
			value = b[end-len(value) : end : end]
			if field == fieldData {
				ev.Data = value
			} else {
				ev.re = value
			}
			continue
		}
		s, ok := stringOf(value)
		if field == fieldTrace {
			if ok && text.IsTrace(s) { // else it is ignored, as the standard wants
				ev.Trace = s
			}
			continue
		}
		if !ok {
			note(errorf(CodeBadRequest, "%s must be a string", field))
			continue
		}
		switch field {
		case fieldType:
			hasType = true
			if ev.Type = s; !text.ValidType(s) {
				note(errorf(CodeBadRequest, "type must match [a-z0-9][a-z0-9:._-]{0,63}"))
			}
		case fieldID:
			if len(s) > text.MaxID {
				note(errorf(CodeBadRequest, "id is over %d bytes", text.MaxID))
				continue
			}
			ev.ID = s
		case fieldRoom:
			ev.Room = s
			if err := checkRoom(s); err != nil {
				note(err)
			}
		case fieldTo:
			ev.To = s
			if !text.Valid(s, text.MaxUser) {
				note(errorf(CodeBadRequest, "to must be 1 to %d bytes without control characters", text.MaxUser))
			}
		}
	}
	if _, err := dec.ReadToken(); err != nil { // the closing brace
		return syntaxError(b, err)
	}
	end := int(dec.InputOffset())
	if _, err := dec.ReadToken(); err != io.EOF { //nolint:errorlint // io.EOF itself is documented
		return errorf(CodeBadRequest, "Text after the JSON object%s", byteNumber(end))
	}
	if !hasType {
		note(errorf(CodeBadRequest, "type is missing"))
	}
	return fault
}

// field is the name of an envelope's field that a client may use.
type field string

const (
	fieldNone  field = ""
	fieldType  field = "type"
	fieldID    field = "id"
	fieldRoom  field = "room"
	fieldTo    field = "to"
	fieldData  field = "data"
	fieldRe    field = "re"
	fieldTrace field = "trace"
)

// fieldOf returns the field with the given quoted name, which may have escapes.
func fieldOf(name []byte) field {
	raw := name[1 : len(name)-1]
	if bytes.IndexByte(raw, '\\') >= 0 {
		var err error
		if raw, err = jsontext.AppendUnquote(nil, name); err != nil {
			return fieldNone
		}
	}
	switch string(raw) { // the conversion makes no copy here
	case "type":
		return fieldType
	case "id":
		return fieldID
	case "room":
		return fieldRoom
	case "to":
		return fieldTo
	case "data":
		return fieldData
	case "re":
		return fieldRe
	case "trace":
		return fieldTrace
	}
	return fieldNone
}

// stringOf returns the value of a JSON string. It reports false if v is not
// one.
func stringOf(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1]), true
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err == nil
}

// deeper reports whether brackets outside of strings are nested deeper than
// most levels. It runs before the decoder, whose own limit is far higher.
func deeper(b []byte, most int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted:
			switch c {
			case '\\':
				i++
			case '"':
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			if depth++; depth > most {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

func checkRoom(name string) *Error {
	if !text.Valid(name, text.MaxRoom) {
		return errorf(CodeBadRequest, "room must be 1 to %d bytes without control characters", text.MaxRoom)
	}
	return nil
}
