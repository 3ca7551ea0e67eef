package moderation

import (
	"context"
	"errors"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

var errVerdict = errors.New("moderation: the Data of a Verdict is not JSON")

// look shows Words what an event says, and replaces that if Words does.
func (m *Moderation) look(ctx context.Context, c *chathub.Client, e *chathub.Event, w writing) (Verdict, error) {
	said := e.Data
	var fields map[string]jsontext.Value
	if w.says != "" {
		if json.Unmarshal(e.Data, &fields) != nil {
			return Verdict{}, nil // the handler refuses it
		}
		said = fields[w.says]
	}
	if said == nil || e.Type == "react" && string(fields["on"]) == "false" {
		return Verdict{}, nil
	}
	v, err := m.cfg.Words(ctx, c, Said{e.Type, e.Room, e.To, said})
	if err != nil || v.Data == nil {
		return v, err
	}
	if !v.Data.IsValid() {
		return v, errVerdict
	}
	if w.says == "" {
		e.Data = v.Data
		return v, nil
	}
	fields[w.says] = v.Data
	e.Data, err = json.Marshal(fields)
	return v, err
}
