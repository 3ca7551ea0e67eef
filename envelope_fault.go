package chathub

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// syntaxError says which rule a message breaks, and at which of its bytes,
// counted from 0. The cause is kept for the log only, since it quotes the
// message.
func syntaxError(b []byte, cause error) *Error {
	fault := errorf(CodeBadRequest, "Not valid JSON")
	fault.Err = cause
	se, ok := errors.AsType[*jsontext.SyntacticError](cause)
	if !ok {
		return fault
	}
	at := int(se.ByteOffset)
	switch {
	case errors.Is(cause, io.ErrUnexpectedEOF):
		fault.Message = "Cut off: the JSON object does not end"
		return fault
	case errors.Is(cause, jsontext.ErrDuplicateName):
		fault.Message = "Duplicate name"
	case at >= len(b):
		return fault
	default:
		fault.Message = brokenRule(b, at)
	}
	fault.Message += byteNumber(at)
	return fault
}

func byteNumber(at int) string { return " at byte " + strconv.Itoa(at) }

// notObject says why a message does not begin as a JSON object does.
func notObject(b []byte) *Error {
	switch {
	case len(bytes.Trim(b, whiteSpace)) == 0:
		return errorf(CodeBadRequest, "Empty message")
	case bytes.HasPrefix(b, []byte("\ufeff")):
		return errorf(CodeBadRequest, "Byte order mark before the JSON object")
	}
	return errorf(CodeBadRequest, "Not a JSON object")
}

const (
	whiteSpace = " \t\r\n"
	delimiters = whiteSpace + `{}[],:"`
	digits     = "0123456789"
)

// brokenRule returns the rule that a message breaks at the byte at, which the
// decoder refused.
func brokenRule(b []byte, at int) string {
	if inString(b[:at]) {
		switch {
		case b[at] != '\\':
			return "Unescaped control character"
		case isUnicodeEscape(b[at:]):
			return "Unpaired surrogate"
		}
		return "Unknown escape"
	}
	if inNumber(b, at) {
		return "Not a JSON number"
	}
	return "Unexpected character"
}

// inString reports whether a string begins in b and does not end there.
func inString(b []byte) bool {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			quoted = !quoted
		case quoted && b[i] == '\\':
			i++
		}
	}
	return quoted
}

// isUnicodeEscape reports whether b begins with a complete \u escape.
func isUnicodeEscape(b []byte) bool {
	if len(b) < 6 || b[1] != 'u' {
		return false
	}
	_, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return err == nil
}

// inNumber reports whether the byte at, which the decoder refused, is a part of
// what was meant as a number.
func inNumber(b []byte, at int) bool {
	begun := b[bytes.LastIndexAny(b[:at], delimiters)+1 : at]
	if len(begun) == 0 {
		return b[at] == '+' || b[at] == '.' || bytes.HasPrefix(b[at:], []byte("NaN")) || bytes.HasPrefix(b[at:], []byte("Infinity"))
	}
	if begun[0] != '-' && !bytes.ContainsAny(begun[:1], digits) {
		return false
	}
	complete := bytes.ContainsAny(begun[len(begun)-1:], digits) && bytes.ContainsAny(b[at:at+1], delimiters)
	return !complete
}
