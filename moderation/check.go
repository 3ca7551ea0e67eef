package moderation

import (
	"context"
	"net/http"

	"github.com/chathub-go/chathub"
)

// writing says what an event is to the decisions.
type writing struct {
	// says is the field of the data that has what is said, for Words. "": the
	// data itself; "-": nothing.
	says   string
	isSlow bool // slow mode counts it
	report bool // Words may report it
}

// nothing is said by an event that is only a sign of writing.
const nothing = "-"

func writingsOf(own []string) map[string]writing {
	all := map[string]writing{
		"room-message":      {isSlow: true, report: true},
		"private-message":   {report: true},
		"message":           {},
		"send-notification": {},
		"edit-message":      {says: "data"},
		"react":             {says: "key"},
		"set-state":         {says: "value"},
		"typing":            {says: nothing},
	}
	for _, event := range own {
		all[event] = writing{}
	}
	return all
}

// stateKey is the key of the state of a room that shows its decisions.
const stateKey = "moderation"

// wrap puts the checks around the callbacks of a hub.
func (m *Moderation) wrap(cfg *chathub.Config) {
	if connect := cfg.OnConnect; true {
		cfg.OnConnect = func(ctx context.Context, c *chathub.Client, r *http.Request) error {
			user := person{c.Tenant(), c.User().ID}
			if err := m.mayEnter(user, ""); err != nil || connect == nil {
				return err
			}
			if err := connect(ctx, c, r); err != nil {
				return err
			}
			// It may have joined rooms, about which Authorize was not asked.
			return c.Leave(ctx, m.book.bannedFrom(user)...)
		}
	}
	if authorize := cfg.Authorize; true {
		cfg.Authorize = func(ctx context.Context, c *chathub.Client, a chathub.Action) error {
			if isReserved(a.Room) {
				return m.mayRead(ctx, c, a)
			}
			if a.Room != "" {
				if err := m.mayEnter(person{c.Tenant(), c.User().ID}, a.Room); err != nil {
					return err
				}
			}
			if authorize == nil {
				return nil
			}
			return authorize(ctx, c, a)
		}
	}
	if visible := cfg.Visible; visible != nil {
		cfg.Visible = func(ctx context.Context, c *chathub.Client, rooms []string) ([]string, error) {
			may := make([]string, 0, len(rooms))
			var reports bool
			for _, room := range rooms {
				switch {
				case room == ReportsRoom:
					reports = m.cfg.Moderator(ctx, c, "")
				case !isReserved(room) && m.mayEnter(person{c.Tenant(), c.User().ID}, room) == nil:
					may = append(may, room)
				}
			}
			seen, err := visible(ctx, c, may)
			if reports && err == nil {
				seen = append(append([]string(nil), seen...), ReportsRoom)
			}
			return seen, err
		}
	}
	if set := cfg.ClientState; set != nil {
		cfg.ClientState = func(ctx context.Context, c *chathub.Client, room, key string) bool {
			return key != stateKey && set(ctx, c, room, key)
		}
	}
	if cfg.Moderator == nil {
		cfg.Moderator = func(ctx context.Context, c *chathub.Client, a chathub.Action) bool {
			return m.cfg.Moderator(ctx, c, a.Room)
		}
	}
}

// mayRead lets moderators of the whole service read reports, and refuses all
// other actions in reserved rooms.
func (m *Moderation) mayRead(ctx context.Context, c *chathub.Client, a chathub.Action) error {
	switch a.Type {
	case "join-room", "history", "overview", "mark-read":
		if a.Room == ReportsRoom && m.cfg.Moderator(ctx, c, "") {
			return nil
		}
	}
	return &chathub.Error{Code: chathub.CodeForbidden, Message: "Not allowed"}
}

// middleware refuses what decisions do not allow.
func (m *Moderation) middleware(next chathub.Handler) chathub.Handler {
	return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
		w, writes := m.writes[e.Type]
		if !writes {
			return next(ctx, c, e)
		}
		if !m.ready.Load() {
			return nil, errStarting()
		}
		var v Verdict
		if m.cfg.Words != nil && w.says != nothing {
			var err error
			if v, err = m.look(ctx, c, e, w); err != nil {
				return nil, err
			}
		}
		result, err := m.write(ctx, c, e, w, next)
		if err == nil && v.Report != "" && w.report {
			err = m.reportSaid(ctx, c, e, result, v.Report)
		}
		return result, err
	}
}

// write checks an event and carries it out. A new decision waits until it is
// done.
func (m *Moderation) write(ctx context.Context, c *chathub.Client, e *chathub.Event, w writing, next chathub.Handler) (any, error) {
	user, at := person{c.Tenant(), c.User().ID}, place{c.Tenant(), e.Room}
	f := m.flights.begin(user, e.Room)
	defer m.flights.end(f)
	if err := m.maySpeak(user, e.Room); err != nil {
		return nil, err
	}
	if err := m.frozen(at); err != nil && !m.cfg.Exempt(ctx, c, e.Room) {
		return nil, err
	}
	if !w.isSlow {
		return next(ctx, c, e)
	}
	d := m.book.ofRoom(Slow, at)
	if d == nil || m.cfg.Exempt(ctx, c, e.Room) {
		return next(ctx, c, e)
	}
	turn, err := m.slow.take(ctx, d, user.user, e.ID)
	if err != nil {
		return nil, err
	}
	result, err := next(ctx, c, e)
	if err != nil {
		turn.giveBack()
	}
	return result, err
}
