package chathub

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// decodeData unmarshals the data of a client's event into v, a pointer, if
// there is any. What does not fit is refused with an [Error] that names the
// field. A type that no JSON would fit is a fault of the application.
func decodeData(e *Event, v any) error {
	if e.Data == nil {
		return nil
	}
	err := json.Unmarshal(e.Data, v)
	if err == nil {
		return nil
	}
	refused := &Error{Code: CodeBadRequest, Message: "Invalid data", Err: err}
	if se, ok := errors.AsType[*json.SemanticError](err); ok && se.GoType != nil {
		if se.JSONKind == 0 && !implements[json.UnmarshalerFrom](se.GoType) {
			return withRemedy("data", err)
		}
		refused.Message = pathOf(reflect.TypeOf(v), se.JSONPointer) + " " + demand(se)
	}
	return refused
}

// withRemedy adds to an error of json what to write instead of a
// [time.Duration], if there was one. The root is the name of the whole.
func withRemedy(root string, err error) error {
	if r := remedy(root, err); r != "" {
		return fmt.Errorf("chathub: %s: %w", r, err)
	}
	return err
}

// remedy says what to write instead of a [time.Duration]. It is empty if err is
// about something else.
func remedy(root string, err error) string {
	se, ok := errors.AsType[*json.SemanticError](err)
	if !ok || se.GoType != reflect.TypeFor[time.Duration]() {
		return ""
	}
	path := root + strings.ReplaceAll(string(se.JSONPointer), "/", ".")
	if len(path) > longestPath {
		path = strings.ToValidUTF8(path[:longestPath], "") + "…"
	}
	return path + " is a time.Duration, which has no form in JSON; use a number with its unit in the name," +
		" such as TimeoutMS int64 for d.Milliseconds(), or the text of d.String()"
}

// longestPath bounds in bytes how the place of a fault is described. An
// ellipsis ends a path that would be longer.
const longestPath = 100

// pathOf returns the place that a JSON pointer names in data of type t, such as
// data.items[3].count. It consists of names from Go. An asterisk stands for
// what is the client's, such as the names in a map.
func pathOf(t reflect.Type, p jsontext.Pointer) string {
	path := "data"
	for token := range p.Tokens() {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		step := ""
		switch t.Kind() {
		case reflect.Struct:
			if step, t = fieldNamed(t, token); t == nil {
				return path + ".*"
			}
			step = "." + step
		case reflect.Slice, reflect.Array:
			step, t = "["+token+"]", t.Elem()
		case reflect.Map:
			step, t = ".*", t.Elem()
		default: // within what decodes itself
			return path + ".*"
		}
		if len(path)+len(step) > longestPath {
			return path + "…"
		}
		path += step
	}
	return path
}

// fieldNamed returns the name in JSON and the type of a struct's field.
func fieldNamed(t reflect.Type, name string) (string, reflect.Type) {
	for _, f := range reflect.VisibleFields(t) {
		tagged, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tagged == "" {
			tagged = f.Name
		}
		if tagged == name {
			return tagged, f.Type
		}
	}
	return "", nil
}

// demand says what the value must be that a client sent something else for.
func demand(se *json.SemanticError) string {
	t := se.GoType
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Time]():
		return "must be a time, such as 2006-01-02T15:04:05Z"
	case implements[json.UnmarshalerFrom](t), implements[json.Unmarshaler](t):
	case implements[encoding.TextUnmarshaler](t):
		if se.JSONKind != '"' {
			return "must be a string"
		}
	case k == reflect.Bool:
		return "must be true or false"
	case reflect.Int <= k && k <= reflect.Float64:
		return "must be " + demandNumber(se)
	case k == reflect.String:
		return "must be a string"
	case k == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "must be a string in base64"
	case k == reflect.Slice:
		return "must be an array"
	case k == reflect.Array && t.Elem().Kind() == reflect.Uint8:
		return fmt.Sprintf("must be a string in base64, of %d bytes", t.Len())
	case k == reflect.Array:
		return fmt.Sprintf("must be an array of %d", t.Len())
	case k == reflect.Map, k == reflect.Struct:
		return "must be an object"
	}
	return "is not valid"
}

func demandNumber(se *json.SemanticError) string {
	// Only the option "string" refuses a number as such, and takes strings.
	if se.JSONKind == '0' && se.Err == nil || se.JSONKind == '"' && se.Err != nil {
		return "a number in a string"
	}
	bits, whole := se.GoType.Bits(), "a whole number"
	tooLarge := errors.Is(se.Err, strconv.ErrRange)
	switch k := se.GoType.Kind(); {
	case k >= reflect.Float32 && tooLarge:
		return "a smaller number"
	case k >= reflect.Float32:
		return "a number"
	case k >= reflect.Uint && se.Err != nil: // for -1 too
		return fmt.Sprintf("%s from 0 to %d", whole, uint64(math.MaxUint64)>>(64-bits))
	case tooLarge:
		return fmt.Sprintf("%s from %d to %d", whole, int64(math.MinInt64)>>(64-bits), int64(math.MaxInt64)>>(64-bits))
	case se.Err != nil:
		return whole + " without point and exponent"
	}
	return whole
}

// implements reports whether t or *t implements the interface I.
func implements[I any](t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[I]())
}

// marshal returns v as JSON, or nil if v is nil. The error is an [Error] with
// [CodeBadRequest], for the application alone.
func marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case jsontext.Value:
		if !v.IsValid() { // one bad byte would end the connections of all recipients
			return nil, badEmit("data is not a JSON value", json.Unmarshal(v, new(jsontext.Value)))
		}
		return v, nil
	}
	// A map in another order would not be a repetition of a Post.
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		message := remedy("data", err)
		if message == "" {
			message = "data cannot be marshaled"
		}
		return nil, badEmit(message, err)
	}
	return b, nil
}

// badEmit returns the [Error] for what an application cannot emit.
func badEmit(message string, cause error) *Error {
	return &Error{Code: CodeBadRequest, Message: message, Err: cause, ofApplication: true}
}
