package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
)

// serve runs a hub for an example. If cfg has no Auth, a user's token is the
// id, or "id/name".
func serve(cfg chathub.Config) (hub *chathub.Hub, dial func(token string) *peer, stop func()) {
	if cfg.Auth == nil {
		cfg.Auth = hubtest.Auth{}
	}
	hub, err := chathub.New(cfg)
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(hub)
	dial = func(token string) *peer {
		return connect(server.URL, http.Header{"Authorization": {"Bearer " + token}})
	}
	stop = func() {
		server.Close()
		_ = hub.Close()
	}
	return hub, dial, stop
}

// peer is a client for the examples. It panics on every error. In a service,
// the client is a page or an app.
type peer struct {
	ws    *websocket.Conn
	user  chathub.User // from the welcome
	first *envelope    // read while connecting
}

// envelope is an envelope that a client received.
type envelope struct {
	hubtest.Frame
	Data string
}

func connect(url string, header http.Header) *peer {
	ws, _, err := websocket.Dial(context.Background(), url, &websocket.DialOptions{
		Subprotocols: []string{"chathub.v1"},
		HTTPHeader:   header,
	})
	if err != nil {
		panic(err)
	}
	p := &peer{ws: ws}
	p.first = p.next()
	if p.first.Type == "welcome" {
		var welcome struct {
			User chathub.User `json:"user"`
		}
		if err := json.Unmarshal([]byte(p.first.Data), &welcome); err != nil {
			panic(err)
		}
		p.user = welcome.User
	}
	return p
}

func (p *peer) send(text string) {
	if err := p.ws.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		panic(err)
	}
}

func (p *peer) next() *envelope {
	if e := p.first; e != nil {
		p.first = nil
		return e
	}
	_, b, err := p.ws.Read(context.Background())
	if err != nil {
		panic(err)
	}
	var f hubtest.Frame
	if err := json.Unmarshal(b, &f); err != nil {
		panic(err)
	}
	return &envelope{f, string(f.Data)}
}

// wait returns the next frame of the given type.
func (p *peer) wait(typ string) *envelope {
	for {
		if e := p.next(); e.Type == typ {
			return e
		}
	}
}

// closed returns the code and reason of the server's close frame.
func (p *peer) closed() string {
	for {
		if _, _, err := p.ws.Read(context.Background()); err != nil {
			var ce websocket.CloseError
			if !errors.As(err, &ce) {
				panic(err)
			}
			return fmt.Sprint(int(ce.Code), " ", ce.Reason)
		}
	}
}
