package main

import (
	"github.com/chathub-go/chathub/client"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// subprotocol is the version of the protocol that all of this speaks.
const subprotocol = "chathub.v1"

// frame is an envelope of the protocol, in either direction. The commands that
// look at single frames use it. The others use package client, which hides what
// is lost, doubled or out of order.
type frame struct {
	Type string         `json:"type"`
	ID   string         `json:"id,omitzero"`
	Room string         `json:"room,omitzero"`
	To   string         `json:"to,omitzero"`
	From *client.User   `json:"from,omitzero"`
	Seq  uint64         `json:"seq,omitzero"`
	TS   int64          `json:"ts,omitzero"`
	Re   jsontext.Value `json:"re,omitzero"`
	Ack  bool           `json:"ack,omitzero"`
	Data jsontext.Value `json:"data,omitzero"`
}

// faultData is the data of an error or connect-error.
type faultData struct {
	Code         string  `json:"code"`
	Message      string  `json:"message,omitzero"`
	RetryAfterMs float64 `json:"retryAfterMs,omitzero"`
}

// fault returns the data of an error.
func (f frame) fault() (d faultData) {
	_ = json.Unmarshal(f.Data, &d) // no code counts as ""
	return d
}

// encode returns v as JSON. It panics if that is not possible, which depends on
// the type only.
func encode(v any) jsontext.Value {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
