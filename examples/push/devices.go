package main

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"

	webpush "github.com/SherClockHolmes/webpush-go"
	"github.com/go-json-experiment/json"
)

// maxDevices bounds the devices of a user. A new one takes the place of the
// oldest.
const maxDevices = 8

// devices are where users get notifications: the subscriptions of their
// browsers, in a file. A service with more than a few users keeps them in its
// database. All methods may be called concurrently.
type devices struct {
	file string

	mu    sync.Mutex
	users map[string][]webpush.Subscription // oldest first
}

func openDevices(file string) (*devices, error) {
	d := &devices{file: file, users: make(map[string][]webpush.Subscription)}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &d.users)
	}
	return d, err
}

// add stores a device of a user. A browser has one endpoint for a site, so it
// belongs to whoever signed in there last.
func (d *devices) add(user string, s webpush.Subscription) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(s.Endpoint)
	all := append(d.users[user], s)
	d.users[user] = all[max(0, len(all)-maxDevices):]
	return d.save()
}

// remove forgets a device, if it is one of the user's.
func (d *devices) remove(user, endpoint string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	isTheirs := func(s webpush.Subscription) bool { return s.Endpoint == endpoint }
	if !slices.ContainsFunc(d.users[user], isTheirs) {
		return nil
	}
	d.drop(endpoint)
	return d.save()
}

func (d *devices) drop(endpoint string) {
	for user, all := range d.users {
		all = slices.DeleteFunc(all, func(s webpush.Subscription) bool { return s.Endpoint == endpoint })
		if d.users[user] = all; len(all) == 0 {
			delete(d.users, user)
		}
	}
}

func (d *devices) save() error {
	b, err := json.Marshal(d.users)
	if err != nil {
		return err
	}
	return writeFile(d.file, b)
}

func (d *devices) of(user string) []webpush.Subscription {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.users[user])
}

// members is Config.Members. In this demonstration everyone belongs to every
// room, and those without a device need no call. A service asks its database
// who belongs to the room.
func (d *devices) members(context.Context, string, string) iter.Seq2[string, error] {
	d.mu.Lock()
	users := slices.Collect(maps.Keys(d.users))
	d.mu.Unlock()
	return func(yield func(string, error) bool) {
		for _, user := range users {
			if !yield(user, nil) {
				return
			}
		}
	}
}
