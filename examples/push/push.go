package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"
	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
)

const (
	// window is how old a message may be. A notification that comes later, for
	// example after an outage, surprises more than it helps.
	window = time.Hour
	// timeToLive is how long the push service keeps a notification for a device
	// that is off.
	timeToLive = 12 * time.Hour
	// maxText is how many characters of a text are shown. A notification may
	// have some 4,000 bytes in all.
	maxText = 200
)

// keys are the two halves of the key with which this service identifies itself
// to push services (VAPID, RFC 8292).
type keys struct {
	Private string `json:"private"`
	Public  string `json:"public"`
}

// loadKeys reads the keys from a file, or makes them. Subscriptions are bound
// to them, so all nodes share them and they must not change.
func loadKeys(file string) (k keys, err error) {
	b, err := os.ReadFile(file)
	if err == nil {
		return k, json.Unmarshal(b, &k)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k.Private, k.Public, err = webpush.GenerateVAPIDKeys(); err != nil {
		return k, err
	}
	if b, err = json.Marshal(k); err != nil {
		return k, err
	}
	return k, writeFile(file, b) // its mode is 0600, as that of all temporary files
}

// pusher sends Web Push notifications.
type pusher struct {
	keys    keys
	devices *devices
	site    string
	contact string
	client  *http.Client
	// isService reports whether a host is that of a push service. Users choose
	// endpoints, and must not make this server send requests to others, such as
	// those of its own network.
	isService func(host string) bool
}

func newPusher(k keys, d *devices, site, contact string) *pusher {
	return &pusher{
		keys: k, devices: d, site: site, contact: contact, isService: isPushService,
		client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

func isPushService(host string) bool {
	for _, service := range []string{"fcm.googleapis.com", "push.services.mozilla.com", "notify.windows.com", "push.apple.com"} {
		if host == service || strings.HasSuffix(host, "."+service) {
			return true
		}
	}
	return false
}

// notification is what the service worker gets. See web/sw.js.
type notification struct {
	Title  string `json:"title"`
	Text   string `json:"text"`
	Unread int    `json:"unread"`
	URL    string `json:"url"`
	// Tag names the conversation. The newest notification replaces the others
	// of the same Tag on a device, so one that comes twice is seen once.
	Tag string `json:"tag"`
}

// push is Config.OnAway. It sends a notification to all devices of the user. It
// returns an error, so that the hub calls it again, if no device got it and
// that may be different later.
func (p *pusher) push(ctx context.Context, a chathub.Away) error {
	if time.Since(a.Message.Time) > window {
		return nil
	}
	payload, err := json.Marshal(p.notificationOf(a))
	if err != nil {
		return err
	}
	var failed []error
	sent := false
	for _, s := range p.devices.of(a.User) {
		gone, err := p.send(ctx, payload, &s)
		switch {
		case gone:
			if err := p.devices.remove(a.User, s.Endpoint); err != nil {
				slog.Error("a device cannot be removed", "user", a.User, "err", err)
			}
		case err != nil:
			failed = append(failed, err)
		default:
			sent = true
		}
	}
	err = errors.Join(failed...)
	if sent && err != nil {
		slog.Warn("a device did not get a notification", "user", a.User, "err", err)
		return nil // the others would get it again
	}
	return err
}

func (p *pusher) notificationOf(a chathub.Away) notification {
	m := &a.Message
	from := m.From.Name
	if from == "" {
		from = "Chat"
	}
	n := notification{Title: from, Text: textOf(m), Unread: a.Unread}
	if m.Room == "" {
		n.URL, n.Tag = p.site+"/?with="+url.QueryEscape(m.From.ID), "user/"+m.From.ID
		return n
	}
	n.Title += " in " + m.Room
	n.URL = fmt.Sprintf("%s/?room=%s#%d", p.site, url.QueryEscape(m.Room), m.Seq)
	n.Tag = "room/" + m.Room
	return n
}

// textOf returns the text of a message, whose data is a string or has one.
func textOf(m *chathub.Entry) string {
	var text string
	if json.Unmarshal(m.Data, &text) != nil {
		var d struct {
			Text string `json:"text"`
		}
		_ = json.Unmarshal(m.Data, &d) // of another form: it has no text
		text = d.Text
	}
	if r := []rune(text); len(r) > maxText {
		text = string(r[:maxText-1]) + "…"
	}
	return text
}

// send sends a notification to one device. Gone reports that there is no such
// device any more. Errors name the push service, and not the endpoint: whoever
// knows that could try to write to the device.
func (p *pusher) send(ctx context.Context, payload []byte, s *webpush.Subscription) (gone bool, err error) {
	u, err := url.Parse(s.Endpoint)
	if err != nil || !p.isService(u.Hostname()) {
		return true, nil
	}
	res, err := webpush.SendNotificationWithContext(ctx, payload, s, &webpush.Options{
		HTTPClient:      p.client,
		Subscriber:      p.contact,
		TTL:             int(timeToLive / time.Second),
		Urgency:         webpush.UrgencyHigh,
		VAPIDPublicKey:  p.keys.Public,
		VAPIDPrivateKey: p.keys.Private,
	})
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL
		}
		return false, fmt.Errorf("%s: %w", u.Host, err)
	}
	defer res.Body.Close()
	// So that the connection can be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
	switch {
	case res.StatusCode < 300:
		return false, nil
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusGone:
		return true, nil
	}
	return false, fmt.Errorf("%s: status %d", u.Host, res.StatusCode)
}
