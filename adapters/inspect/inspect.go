// Package inspect is an HTTP handler with a page for the operator of a hub: it
// shows connections and rooms of all nodes, finds them, follows what is sent to
// one room or user, and disconnects.
//
//	page, err := inspect.New(hub, inspect.Options{Allow: isOperator})
//	mux.Handle("/inspect/", http.StripPrefix("/inspect", page))
//
// The page shows names, addresses and what people write. It is for whoever
// Options.Allow lets in, and for nobody else.
package inspect

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Options are the settings of a page.
type Options struct {
	// Allow reports whether a request comes from an operator. It is asked for
	// each request, and must look at what the application has verified, such as
	// a session. Required.
	Allow func(r *http.Request) bool
	// Ban keeps a user out for a time. Default: the page offers no bans.
	Ban func(ctx context.Context, tenant, user string, lasting time.Duration, reason string) error
	// Logger gets what operators do. Default: slog.Default().
	Logger *slog.Logger
}

// New returns the handler of a page, which has relative links: mount it with
// http.StripPrefix at a path that ends in a slash. It fails if o has no Allow.
//
// Requests of other sites are refused, as http.CrossOriginProtection does. An
// operator sees all tenants.
func New(hub *chathub.Hub, o Options) (http.Handler, error) {
	if o.Allow == nil {
		return nil, errors.New("inspect: Options.Allow is missing")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	p := &page{hub: hub, opts: o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", file("text/html; charset=utf-8", html))
	mux.HandleFunc("GET /page.js", file("text/javascript; charset=utf-8", script))
	mux.HandleFunc("GET /page.css", file("text/css; charset=utf-8", style))
	mux.HandleFunc("GET /api/stats", p.stats)
	mux.HandleFunc("GET /api/connections", p.connections)
	mux.HandleFunc("GET /api/rooms", p.rooms)
	mux.HandleFunc("GET /api/tail", p.tail)
	mux.HandleFunc("POST /api/disconnect", p.disconnect)
	mux.HandleFunc("POST /api/ban", p.ban)
	protected := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if !o.Allow(r) {
			http.Error(w, "For operators only", http.StatusForbidden)
			return
		}
		protected.ServeHTTP(w, r)
	}), nil
}

//go:embed page.html
var html []byte

//go:embed page.js
var script []byte

//go:embed page.css
var style []byte

func file(contentType string, content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(content) // the browser has gone: nobody to tell
	}
}

type page struct {
	hub  *chathub.Hub
	opts Options
}

// answer writes v. If some nodes did not answer, it says so beside what the
// others know.
func (p *page) answer(w http.ResponseWriter, v map[string]any, err error) {
	status := http.StatusOK
	if e, ok := errors.AsType[*chathub.Error](err); ok && e.Code == chathub.CodeUnavailable && v != nil {
		v["incomplete"] = true
	} else if err != nil {
		v, status = map[string]any{"error": message(err)}, http.StatusInternalServerError
		if ok && e.Code == chathub.CodeBadRequest {
			status = http.StatusBadRequest
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.MarshalWrite(w, v) // the browser has gone: nobody to tell
}

func message(err error) string {
	if e, ok := errors.AsType[*chathub.Error](err); ok {
		return e.Message
	}
	return "internal error"
}

func (p *page) stats(w http.ResponseWriter, _ *http.Request) {
	p.answer(w, map[string]any{"stats": p.hub.Stats(), "ban": p.opts.Ban != nil}, nil)
}

func queryOf(r *http.Request) chathub.InspectQuery {
	form := r.URL.Query()
	limit, _ := strconv.Atoi(form.Get("limit")) // 0: the default
	return chathub.InspectQuery{
		Tenant: form.Get("tenant"), User: form.Get("user"), Room: form.Get("room"),
		Search: form.Get("search"), After: form.Get("after"), Limit: limit,
	}
}

func (p *page) connections(w http.ResponseWriter, r *http.Request) {
	list, next, err := p.hub.Connections(r.Context(), queryOf(r))
	p.answer(w, map[string]any{"connections": list, "next": next}, err)
}

func (p *page) rooms(w http.ResponseWriter, r *http.Request) {
	list, next, err := p.hub.Rooms(r.Context(), queryOf(r))
	p.answer(w, map[string]any{"rooms": list, "next": next}, err)
}

// pulse keeps proxies from ending a tail in which nothing happens.
const pulse = 15 * time.Second

// event is an entry as the page gets it.
type event struct {
	Time int64          `json:"time"` // Unix milliseconds
	Type string         `json:"type"`
	Room string         `json:"room,omitzero"`
	ID   string         `json:"id,omitzero"`
	From *chathub.User  `json:"from,omitzero"`
	Seq  uint64         `json:"seq,omitzero"`
	Data jsontext.Value `json:"data,omitzero"`
	Gap  bool           `json:"gap,omitzero"`
}

func eventOf(e *chathub.Entry) event {
	ev := event{Time: e.Time.UnixMilli(), Type: e.Type, Room: e.Room, ID: e.ID, Seq: e.Seq, Data: jsontext.Value(e.Data), Gap: e.Gap}
	if e.From != (chathub.User{}) {
		ev.From = &e.From
	}
	return ev
}

// tail streams what is sent to a room or user, as server-sent events.
func (p *page) tail(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	tenant := p.hub.Tenant(q.Tenant)
	target := tenant.To(q.Room)
	if q.User != "" {
		target = tenant.ToUser(q.User)
	}
	p.log(r, "follow", q.Tenant, q.User, "room", q.Room)
	flusher := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx
	events := make(chan event)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- target.Tail(ctx, func(ctx context.Context, e chathub.Entry) error {
			select {
			case events <- eventOf(&e):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	_, _ = fmt.Fprint(w, ": following\n\n")
	_ = flusher.Flush()
	beat := time.NewTicker(pulse)
	defer beat.Stop()
	for {
		select {
		case e := <-events:
			b, err := json.Marshal(e)
			if err != nil {
				continue // its data came from a log, and is JSON
			}
			if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil {
				return
			}
		case <-beat.C:
			if _, err := fmt.Fprint(w, ": still here\n\n"); err != nil {
				return
			}
		case err := <-ended:
			if r.Context().Err() == nil {
				b, _ := json.Marshal(message(err))
				_, _ = fmt.Fprintf(w, "event: end\ndata: %s\n\n", b)
			}
			return
		}
		if err := flusher.Flush(); err != nil {
			return
		}
	}
}

// order is what an operator wants done with a user, or with one connection.
type order struct {
	Tenant  string `json:"tenant"`
	User    string `json:"user"`
	Client  string `json:"client"`
	Reason  string `json:"reason"`
	Minutes int    `json:"minutes"`
}

const maxBan = 10 * 365 * 24 * 60 // minutes

func orderOf(w http.ResponseWriter, r *http.Request) (o order, err error) {
	err = json.UnmarshalRead(http.MaxBytesReader(w, r.Body, 4<<10), &o)
	if err != nil || o.User == "" && o.Client == "" || o.Minutes < 0 || o.Minutes > maxBan {
		return o, &chathub.Error{Code: chathub.CodeBadRequest, Message: "not an order"}
	}
	return o, nil
}

func (p *page) disconnect(w http.ResponseWriter, r *http.Request) {
	o, err := orderOf(w, r)
	if err == nil {
		target := p.hub.Tenant(o.Tenant).ToUser(o.User)
		if o.Client != "" {
			target = p.hub.Tenant(o.Tenant).ToClient(o.Client)
		}
		p.log(r, "disconnect", o.Tenant, o.User, "client", o.Client, "reason", o.Reason)
		err = target.Disconnect(r.Context(), o.Reason)
	}
	p.answer(w, map[string]any{"done": true}, err)
}

func (p *page) ban(w http.ResponseWriter, r *http.Request) {
	o, err := orderOf(w, r)
	switch {
	case err != nil:
	case p.opts.Ban == nil || o.User == "":
		err = &chathub.Error{Code: chathub.CodeBadRequest, Message: "there are no bans"}
	default:
		p.log(r, "ban", o.Tenant, o.User, "minutes", o.Minutes, "reason", o.Reason)
		err = p.opts.Ban(r.Context(), o.Tenant, o.User, time.Duration(o.Minutes)*time.Minute, o.Reason)
	}
	p.answer(w, map[string]any{"done": true}, err)
}

// log notes what an operator does.
func (p *page) log(r *http.Request, what, tenant, user string, more ...any) {
	p.opts.Logger.Info("chathub inspect: "+what, append([]any{"remote", r.RemoteAddr, "tenant", tenant, "user", user}, more...)...)
}
