package client

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// listEvery is the least time between two requests for a whole list of users.
const listEvery = 5 * time.Second

// presence is the data of an event about users. Users is nil if the server sent
// a count only.
type presence struct {
	Users []User `json:"users"`
	Count int    `json:"count"`
}

func presenceOf(data jsontext.Value) (p presence, ok bool) {
	return p, json.Unmarshal(data, &p) == nil && p.Count >= 0
}

// roster is the users who are present. The loop changes it, and anyone reads
// it.
type roster struct {
	asked time.Time // when the whole list was requested last; the loop's

	mu    sync.Mutex
	users map[string]User
	count int
}

// whole takes a complete list.
func (r *roster) whole(p presence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users = make(map[string]User, len(p.Users))
	for _, u := range p.Users {
		r.users[u.ID] = u
	}
	r.count = max(p.Count, len(r.users))
}

// change takes users who came or went. It reports whether the list lacks
// somebody, because the server has sent only counts for a while.
func (r *roster) change(p presence, came bool) (lacking bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users == nil {
		r.users = make(map[string]User)
	}
	for _, u := range p.Users {
		if came {
			r.users[u.ID] = u
		} else {
			delete(r.users, u.ID)
		}
	}
	r.count = p.Count
	return p.Users != nil && len(r.users) != p.Count
}

// list returns the users by id, and how many there are.
func (r *roster) list() ([]User, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	users := make([]User, 0, len(r.users))
	for _, u := range r.users {
		users = append(users, u)
	}
	slices.SortFunc(users, func(a, b User) int { return cmp.Compare(a.ID, b.ID) })
	return users, r.count
}

// due reports whether the whole list may be requested, and notes that it is.
func (r *roster) due(now time.Time) bool {
	if !r.asked.IsZero() && now.Sub(r.asked) < listEvery {
		return false
	}
	r.asked = now
	return true
}
