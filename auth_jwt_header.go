package chathub

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
)

// jwtHeader is what the log is told about a token's header. Anyone may have
// written it.
type jwtHeader struct{ alg, kid string }

// readHeader reads a token's header before the parser does. The parser takes
// the last of duplicate names, and its errors quote what it cannot read.
// readHeader refuses
//   - duplicate names (RFC 7515 section 4);
//   - any crit, since no extension is supported (RFC 7515 section 4.1.11);
//   - any typ but JWT (RFC 8725 section 3.11) and at+jwt (RFC 9068 section
//     2.1), which "application/" may precede (RFC 7515 section 4.1.9).
func readHeader(token string) (h jwtHeader, err error) {
	segment, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	var header map[string]any
	if err := json.Unmarshal(b, &header); err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	if _, ok := header["crit"]; ok {
		return h, errors.New("header: crit names extensions that are not understood")
	}
	switch typ := header["typ"].(type) {
	case nil:
	case string:
		switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
		case "jwt", "at+jwt":
		default:
			return h, errors.New("header: typ is neither JWT nor at+jwt")
		}
	default:
		return h, errors.New("header: typ is not a string")
	}
	switch header["kid"].(type) {
	case nil, string:
	default:
		return h, errors.New("header: kid is not a string")
	}
	h.alg, _ = header["alg"].(string)
	h.kid, _ = header["kid"].(string)
	return h, nil
}
