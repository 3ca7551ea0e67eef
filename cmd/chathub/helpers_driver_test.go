package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/chathub-go/chathub/client"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// driver lets package client do what conform says, as README.md describes.
type driver struct {
	http *http.Client // for conform and for the client
	base string
	// spoil may change the options of the client, to see that conform notices.
	spoil func(*client.Options)
	// closed is called when the first client is closed. It may be nil.
	closed func()

	reporting sync.Mutex // reports go one after another
	running   sync.WaitGroup
}

// session is a client under test.
type session struct {
	ready  chan struct{} // closed once client is set, or will not be
	client *client.Client
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	rooms map[string]*client.Room
}

// run carries out orders until the last.
func (d *driver) run(ctx context.Context) error {
	defer d.running.Wait()
	var s *session
	end := func() {
		if s != nil {
			s.cancel()
			<-s.ready
			if s.client != nil {
				s.client.Close()
			}
			s = nil
		}
	}
	defer end()
	for {
		var o order
		if err := d.next(ctx, &o); err != nil {
			return err
		}
		switch o.Do {
		case "wait":
			continue
		case "end":
			return nil
		case "close":
			end()
			d.report(driverReport{Report: "done", N: o.N})
			if d.closed != nil {
				d.closed()
			}
			continue
		case "connect":
			end()
			s = d.connect(ctx, o)
			continue
		}
		now := s
		d.running.Go(func() {
			d.report(driverReport{Report: "done", N: o.N, Error: codeOfError(d.do(now, o))})
		})
	}
}

func (d *driver) next(ctx context.Context, o *order) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+"/next", nil)
	if err != nil {
		return err
	}
	res, err := d.http.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return json.UnmarshalRead(res.Body, o)
}

func (d *driver) report(report driverReport) {
	d.reporting.Lock()
	defer d.reporting.Unlock()
	if report.Data == nil {
		report.Data = jsontext.Value("null")
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, d.base+"/report", bytes.NewReader(encode(map[string]any{
		"n": report.N, "error": report.Error, "report": report.Report, "room": report.Room, "type": report.Type, "data": report.Data,
	})))
	if err != nil {
		return
	}
	if res, err := d.http.Do(r); err == nil {
		_ = res.Body.Close()
	}
}

// connect makes a client.
func (d *driver) connect(ctx context.Context, o order) *session {
	s := &session{ready: make(chan struct{}), rooms: make(map[string]*client.Room)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	options := client.Options{
		HTTPClient: d.http,
		BackoffMin: 20 * time.Millisecond, BackoffMax: 200 * time.Millisecond,
		PongTimeout: time.Second,
		Token: func(context.Context) (string, error) {
			token := o.Tokens[0]
			if len(o.Tokens) > 1 {
				o.Tokens = o.Tokens[1:]
			}
			return token, nil
		},
	}
	if d.spoil != nil {
		d.spoil(&options)
	}
	d.running.Go(func() {
		c, err := client.Dial(s.ctx, o.URL, options)
		s.client = c
		close(s.ready)
		if err == nil && o.Inbox {
			var in *client.Inbox
			if in, err = c.Inbox(s.ctx, client.InboxOptions{}); err == nil {
				d.running.Go(func() {
					for e := range in.Events(s.ctx) {
						d.show("", e)
					}
				})
			}
		}
		d.report(driverReport{Report: "done", N: o.N, Error: codeOfError(err)})
	})
	return s
}

func (d *driver) show(room string, e client.Event) {
	if e.Type == client.TypeGap {
		d.report(driverReport{Report: "gap", Room: room})
		return
	}
	d.report(driverReport{Report: "event", Room: room, Type: e.Type, Data: e.Data})
}

// do carries out an order for a client.
func (d *driver) do(s *session, o order) error {
	<-s.ready
	if s.client == nil {
		return client.ErrClosed
	}
	s.mu.Lock()
	room := s.rooms[o.Room]
	s.mu.Unlock()
	switch o.Do {
	case "join":
		room, err := s.client.Join(s.ctx, o.Room, client.JoinOptions{})
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.rooms[o.Room] = room
		s.mu.Unlock()
		d.running.Go(func() {
			for e := range room.Events(s.ctx) {
				d.show(o.Room, e)
			}
		})
		return nil
	case "leave":
		return room.Leave(s.ctx)
	case "send":
		_, err := room.Send(s.ctx, o.Data)
		return err
	}
	return errors.New("unknown order")
}

// codeOfError returns the code of an error of the client, "" for none.
func codeOfError(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return string(e.Code)
	}
	return err.Error()
}
