package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"
	"github.com/chathub-go/chathub"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

// device is a browser: it has a subscription, and can read what is sent to it.
type device struct {
	webpush.Subscription
	private *ecdh.PrivateKey
	auth    []byte
}

// pushService is a push service that checks requests as RFC 8030, 8188, 8291
// and 8292 say, and keeps what it gets.
type pushService struct {
	t   *testing.T
	srv *httptest.Server

	mu      sync.Mutex
	devices map[string]*device        // by path
	status  map[string]int            // of answers; 0: 201
	got     map[string][]notification // by path
	ttl     string
	arrived chan struct{} // gets a value for each
}

func newPushService(t *testing.T) *pushService {
	s := &pushService{t: t, devices: make(map[string]*device), status: make(map[string]int), got: make(map[string][]notification), arrived: make(chan struct{}, 16)}
	s.srv = httptest.NewTLSServer(s)
	t.Cleanup(s.srv.Close)
	return s
}

// device makes a new device.
func (s *pushService) device(name string) *device {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	d := &device{private: private, auth: make([]byte, 16)}
	_, _ = rand.Read(d.auth)
	d.Endpoint = s.srv.URL + "/secret-" + name
	d.Keys.P256dh = base64.RawURLEncoding.EncodeToString(private.PublicKey().Bytes())
	d.Keys.Auth = base64.RawURLEncoding.EncodeToString(d.auth)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices["/secret-"+name] = d
	return d
}

// answer sets the status of the answers to a device.
func (s *pushService) answer(name string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status["/secret-"+name] = status
}

// take returns what a device got since the last call.
func (s *pushService) take(name string) []notification {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got["/secret-"+name]
	delete(s.got, "/secret-"+name)
	return got
}

func (s *pushService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[r.URL.Path]
	if d == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if status := s.status[r.URL.Path]; status != 0 {
		w.WriteHeader(status)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = s.checkVAPID(r)
	}
	var n notification
	if err == nil {
		n, err = d.open(r, body)
	}
	if err != nil {
		s.t.Errorf("a push is not valid: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.ttl = r.Header.Get("TTL")
	s.got[r.URL.Path] = append(s.got[r.URL.Path], n)
	w.WriteHeader(http.StatusCreated)
	s.arrived <- struct{}{}
}

// checkVAPID checks the Authorization of a request (RFC 8292).
func (s *pushService) checkVAPID(r *http.Request) error {
	auth, ok := strings.CutPrefix(r.Header.Get("Authorization"), "vapid t=")
	token, k, found := strings.Cut(auth, ", k=")
	if !ok || !found {
		return fmt.Errorf("no VAPID in %q", r.Header.Get("Authorization"))
	}
	public, err := base64.RawURLEncoding.DecodeString(k)
	if err != nil {
		return err
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), public)
	if err != nil {
		return err
	}
	_, err = jwt.Parse(token, func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(s.srv.URL), jwt.WithExpirationRequired())
	return err
}

// open decrypts a body (RFC 8188 and 8291).
func (d *device) open(r *http.Request, body []byte) (n notification, err error) {
	if e := r.Header.Get("Content-Encoding"); e != "aes128gcm" || len(body) < 21+65 {
		return n, fmt.Errorf("%d bytes of Content-Encoding %q", len(body), e)
	}
	salt, size, idLen := body[:16], binary.BigEndian.Uint32(body[16:20]), int(body[20])
	sender, err := ecdh.P256().NewPublicKey(body[21 : 21+idLen])
	if err != nil {
		return n, err
	}
	sealed := body[21+idLen:]
	if len(sealed) > int(size) {
		return n, fmt.Errorf("more than one record")
	}
	shared, err := d.private.ECDH(sender)
	if err != nil {
		return n, err
	}
	info := "WebPush: info\x00" + string(d.private.PublicKey().Bytes()) + string(sender.Bytes())
	ikm, err := hkdf.Key(sha256.New, shared, d.auth, info, 32)
	if err != nil {
		return n, err
	}
	key, _ := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	nonce, _ := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	block, err := aes.NewCipher(key)
	if err != nil {
		return n, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return n, err
	}
	plain, err := gcm.Open(nil, nonce, sealed, nil)
	if err != nil {
		return n, err
	}
	end := bytes.LastIndexByte(plain, 2) // the delimiter, before the padding
	return n, json.Unmarshal(plain[:max(end, 0)], &n)
}

// testPusher returns a pusher whose only push service is s, and its log.
func testPusher(t *testing.T, s *pushService) (*pusher, *strings.Builder) {
	t.Helper()
	dir := t.TempDir()
	k, err := loadKeys(filepath.Join(dir, "vapid.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := openDevices(filepath.Join(dir, "devices.json"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPusher(k, d, "https://chat.example", "https://chat.example/contact")
	p.client = s.srv.Client()
	p.isService = func(host string) bool { return host == "127.0.0.1" }
	log := new(strings.Builder)
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return p, log
}

func away(room, text string) chathub.Away {
	return chathub.Away{User: "bob", Unread: 3, Message: chathub.Entry{
		Position: chathub.Position{Epoch: "e", Seq: 7}, Time: time.Now(), Room: room,
		From: chathub.User{ID: "ana & co", Name: "Ana"}, Data: []byte(strconv.Quote(text)),
	}}
}

// TestPush: all devices of a user get the text, the number and a link, and the
// push service can read neither.
func TestPush(t *testing.T) {
	s := newPushService(t)
	p, _ := testPusher(t, s)
	for _, name := range []string{"phone", "laptop"} {
		if err := p.devices.add("bob", s.device(name).Subscription); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.push(t.Context(), away("", "Hi")); err != nil {
		t.Fatal(err)
	}
	want := notification{Title: "Ana", Text: "Hi", Unread: 3, URL: "https://chat.example/?with=ana+%26+co", Tag: "user/ana & co"}
	for _, name := range []string{"phone", "laptop"} {
		if got := s.take(name); len(got) != 1 || got[0] != want {
			t.Errorf("the %s got %+v", name, got)
		}
	}
	if s.ttl != "43200" {
		t.Errorf("the time to live is %q", s.ttl)
	}
	if err := p.push(t.Context(), away("red room", strings.Repeat("ä", 5000))); err != nil {
		t.Fatal(err)
	}
	got := s.take("phone")
	if len(got) != 1 || got[0].URL != "https://chat.example/?room=red+room#7" || got[0].Title != "Ana in red room" || got[0].Text != strings.Repeat("ä", 199)+"…" {
		t.Errorf("the phone got %+v", got)
	}
	s.take("laptop")
	late := away("", "old")
	late.Message.Time = time.Now().Add(-window - time.Minute)
	if err := p.push(t.Context(), late); err != nil || s.take("phone") != nil {
		t.Errorf("an old message was pushed, %v", err)
	}
}

// TestHub: what is posted while a user is away comes as notifications, and what
// is deleted does not.
func TestHub(t *testing.T) {
	s := newPushService(t)
	p, _ := testPusher(t, s)
	if err := p.devices.add("bob", s.device("phone").Subscription); err != nil {
		t.Fatal(err)
	}
	hub, err := newHub(p, -1) // at once, once the hub is sure that it is alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	ana := chathub.User{ID: "ana", Name: "Ana"}
	gone, err := hub.To("lobby").Post(t.Context(), chathub.Post{From: ana, Data: "oops"})
	if err == nil {
		_, err = hub.DeleteMessage(t.Context(), "lobby", gone.Seq)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := hub.To("lobby").Post(t.Context(), chathub.Post{From: ana, Data: map[string]string{"text": "Hi"}}); err != nil {
			t.Fatal(err)
		}
	}
	<-s.arrived
	<-s.arrived
	got := s.take("phone")
	for _, n := range got {
		if n.Title != "Ana in lobby" || n.Text != "Hi" || n.Unread != 2 {
			t.Errorf("the phone got %+v", n)
		}
	}
	if len(got) != 2 {
		t.Errorf("the phone got %d notifications", len(got))
	}
}

// TestPushFails: dead devices are forgotten, and an error is returned only if
// it makes sense to try again. No log and no error has an endpoint or a key.
func TestPushFails(t *testing.T) {
	s := newPushService(t)
	p, log := testPusher(t, s)
	for _, name := range []string{"phone", "laptop"} {
		if err := p.devices.add("bob", s.device(name).Subscription); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int { return len(p.devices.of("bob")) }
	said := ""
	push := func() error {
		err := p.push(t.Context(), away("", "Hi"))
		if err != nil {
			said += err.Error()
		}
		return err
	}
	s.answer("phone", http.StatusInternalServerError)
	if err := push(); err != nil || count() != 2 {
		t.Errorf("one of two devices failed: %v, %d devices", err, count())
	}
	s.answer("laptop", http.StatusTooManyRequests)
	if err := push(); err == nil || count() != 2 {
		t.Errorf("both devices failed: %v, %d devices", err, count())
	}
	s.answer("phone", http.StatusGone)
	if err := push(); err == nil || count() != 1 {
		t.Errorf("one failed, and one is gone: %v, %d devices", err, count())
	}
	s.answer("laptop", http.StatusNotFound)
	if err := push(); err != nil || count() != 0 {
		t.Errorf("all are gone: %v, %d devices", err, count())
	}
	if err := p.devices.add("bob", s.device("tablet").Subscription); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := p.push(ctx, away("", "Hi"))
	if err == nil {
		t.Error("a call whose ctx has ended succeeded")
	} else {
		said += err.Error()
	}
	s.srv.Close()
	_ = push()
	for _, secret := range []string{"secret-", p.keys.Private} {
		if strings.Contains(said+log.String(), secret) {
			t.Errorf("%q is in an error or in the log: %s %s", secret, said, log)
		}
	}
	if !strings.Contains(log.String(), "127.0.0.1") {
		t.Errorf("the log does not name the push service: %s", log)
	}
}

// TestDevices: devices and keys survive a restart. A device belongs to one
// user, and a user has a bounded number of them.
func TestDevices(t *testing.T) {
	s := newPushService(t)
	p, _ := testPusher(t, s)
	phone := s.device("phone").Subscription
	for _, user := range []string{"ana", "bob"} {
		if err := p.devices.add(user, phone); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.devices.of("ana")) != 0 || len(p.devices.of("bob")) != 1 {
		t.Error("a device of bob is still one of ana")
	}
	if err := p.devices.remove("ana", phone.Endpoint); err != nil || len(p.devices.of("bob")) != 1 {
		t.Errorf("ana has removed a device of bob, %v", err)
	}
	again, err := openDevices(p.devices.file)
	if err != nil || len(again.of("bob")) != 1 || again.of("bob")[0] != phone {
		t.Errorf("after a restart: %+v, %v", again, err)
	}
	file := filepath.Join(filepath.Dir(p.devices.file), "vapid.json")
	if k, err := loadKeys(file); err != nil || k != p.keys {
		t.Errorf("the keys have changed, %v", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the keys have mode %v, %v", info.Mode(), err)
	}
	for i := range maxDevices + 3 {
		if err := p.devices.add("bob", s.device(strconv.Itoa(i)).Subscription); err != nil {
			t.Fatal(err)
		}
	}
	if all := p.devices.of("bob"); len(all) != maxDevices || !strings.HasSuffix(all[0].Endpoint, "-3") {
		t.Errorf("bob has %d devices, the first is %s", len(all), all[0].Endpoint)
	}
}

// TestWeb: a signed-in user adds and removes devices, of push services only.
func TestWeb(t *testing.T) {
	s := newPushService(t)
	p, _ := testPusher(t, s)
	mux := http.NewServeMux()
	p.handle(mux, byName)
	do := func(method, user string, body any) int {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), method, "/push/devices", bytes.NewReader(b))
		if user != "" {
			r.Header.Set("Authorization", "Bearer "+user)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Code
	}
	phone := s.device("phone").Subscription
	for _, tc := range []struct {
		name, method, user string
		body               any
		status, devices    int
	}{
		{"a stranger", "POST", "", phone, 401, 0},
		{"a device", "POST", "bob", phone, 204, 1},
		{"no JSON object", "POST", "bob", "x", 400, 1},
		{"too large", "POST", "bob", strings.Repeat("x", 9<<10), 400, 1},
		{"another host", "POST", "bob", webpush.Subscription{Endpoint: "https://169.254.169.254/latest"}, 400, 1},
		{"no TLS", "POST", "bob", webpush.Subscription{Endpoint: "http://127.0.0.1/"}, 400, 1},
		{"of somebody else", "DELETE", "ana", phone, 204, 1},
		{"removed", "DELETE", "bob", phone, 204, 0},
	} {
		if status := do(tc.method, tc.user, tc.body); status != tc.status || len(p.devices.of("bob")) != tc.devices {
			t.Errorf("%s: status %d and %d devices, want %d and %d", tc.name, status, len(p.devices.of("bob")), tc.status, tc.devices)
		}
	}
	for path, want := range map[string]string{"/": "push.js", "/sw.js": "showNotification", "/push/key": p.keys.Public} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("GET %s: %d %s", path, w.Code, w.Body)
		}
	}
	for host, want := range map[string]bool{
		"fcm.googleapis.com": true, "updates.push.services.mozilla.com": true, "web.push.apple.com": true,
		"evil-push.apple.com.example": false, "xpush.apple.com": false, "": false,
	} {
		if isPushService(host) != want {
			t.Errorf("isPushService(%q) is %t", host, !want)
		}
	}
}
