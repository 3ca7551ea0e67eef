package chathub_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/chathub-go/chathub"
	"github.com/chathub-go/chathub/hubtest"
	"github.com/golang-jwt/jwt/v5"
)

// A hub is an http.Handler. This is a whole chat server, except for its users:
// they come with tokens that the service around it has signed.
func Example() {
	secret := []byte("0123456789abcdef0123456789abcdef") // from your configuration
	hub, err := chathub.New(chathub.Config{Auth: &chathub.JWT{Key: secret}})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	mux := http.NewServeMux()
	mux.Handle("/ws", hub)
	server := httptest.NewServer(mux)
	defer server.Close()

	// This is what the login of your service does:
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": "u1", "name": "Ana", "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString(secret)
	if err != nil {
		panic(err)
	}

	// And this is what a page does with new WebSocket(url, ["chathub.v1",
	// "chathub.bearer." + token]):
	ana := connect(server.URL+"/ws", http.Header{"Authorization": {"Bearer " + token}})
	ana.send(`{"type":"join-room","room":"lobby"}`)
	ana.send(`{"type":"room-message","room":"lobby","data":"Hello"}`)
	m := ana.wait("room-message")
	fmt.Println(m.From.Name, "says", m.Data, "in", m.Room)
	// Output: Ana says "Hello" in lobby
}

// An event of your own has typed data, which can validate itself, and an
// answer.
func ExampleOnAck() {
	hub, dial, stop := serve(chathub.Config{})
	defer stop()

	chathub.OnAck(hub, "vote", func(ctx context.Context, c *chathub.Client, v Vote) (Tally, error) {
		if v.Option > 3 {
			return Tally{}, &chathub.Error{Code: chathub.CodeConflict, Message: "There is no such option"}
		}
		return Tally{Option: v.Option, Votes: 1}, nil
	})

	ana := dial("ana")
	ana.send(`{"type":"vote","id":"1","data":{"option":2}}`)
	fmt.Println(ana.wait("ack").Data)
	ana.send(`{"type":"vote","id":"2","data":{"option":9}}`)
	fmt.Println(ana.wait("error").Data)
	ana.send(`{"type":"vote","id":"3","data":{"option":-1}}`)
	fmt.Println(ana.wait("error").Data)
	// Output:
	// {"option":2,"votes":1}
	// {"code":"conflict","message":"There is no such option"}
	// {"code":"bad_request","message":"Invalid data"}
}

// Vote is the data of the event "vote".
type Vote struct {
	Option int `json:"option"`
}

// Validate is called before the handler.
func (v Vote) Validate() error {
	if v.Option < 1 {
		return errors.New("options count from 1")
	}
	return nil
}

// Tally is the answer to a Vote.
type Tally struct {
	Option int `json:"option"`
	Votes  int `json:"votes"`
}

// Middleware wraps every event, built-in ones included. Before it calls next,
// it can refuse or change the event. Afterwards, it knows the position of the
// message in its log. A message that a client repeats has the position of the
// first: a row with that key exists already, unless saving it failed, and that
// is why the client repeats it. docs/saving.md says more.
func ExampleHub_Use() {
	hub, dial, stop := serve(chathub.Config{})
	defer stop()

	hub.Use(func(next chathub.Handler) chathub.Handler {
		return func(ctx context.Context, c *chathub.Client, e *chathub.Event) (any, error) {
			if e.Type != "room-message" {
				return next(ctx, c, e)
			}
			if strings.Contains(string(e.Data), "spam") {
				return nil, &chathub.Error{Code: chathub.CodeForbidden, Message: "Please don't"}
			}
			result, err := next(ctx, c, e)
			if r, ok := result.(chathub.Receipt); ok {
				fmt.Println("INSERT OR IGNORE", e.Room, r.Seq, c.User().ID, string(e.Data))
			}
			return result, err
		}
	})

	ana := dial("ana")
	ana.send(`{"type":"join-room","room":"lobby"}`)
	ana.send(`{"type":"room-message","id":"m1","room":"lobby","data":"Hello"}`)
	ana.send(`{"type":"room-message","id":"m1","room":"lobby","data":"Hello"}`)
	ana.send(`{"type":"room-message","id":"m2","room":"lobby","data":"Buy spam"}`)
	fmt.Println(ana.wait("error").Data)
	// Output:
	// INSERT OR IGNORE lobby 1 ana "Hello"
	// INSERT OR IGNORE lobby 1 ana "Hello"
	// {"code":"forbidden","message":"Please don't"}
}

// Authorize decides who may do what. List what is allowed and refuse the rest,
// so that nothing is open because it was forgotten.
func ExampleConfig_authorize() {
	staff := map[string]bool{"ana": true}
	_, dial, stop := serve(chathub.Config{
		Authorize: func(ctx context.Context, c *chathub.Client, a chathub.Action) error {
			switch a.Type {
			case "join-room", "history", "room-message", "typing":
				// A resume asks for join-room, room by room.
				if a.Room == "lobby" || a.Room == "staff" && staff[c.User().ID] {
					return nil
				}
			case "private-message":
				if staff[a.To] {
					return nil
				}
			}
			return &chathub.Error{Code: chathub.CodeForbidden, Message: "Not allowed"}
		},
	})
	defer stop()

	ana, eve := dial("ana"), dial("eve")
	ana.send(`{"type":"join-room","id":"1","room":"staff"}`)
	fmt.Println(ana.wait("ack").ID)
	eve.send(`{"type":"join-room","id":"2","room":"lobby"}`)
	fmt.Println(eve.wait("ack").ID)
	for _, refused := range []string{
		`{"type":"join-room","room":"staff"}`,
		`{"type":"room-message","room":"staff","data":"Hi"}`, // membership is checked first
		`{"type":"private-message","to":"bob","data":"Hi"}`,
		`{"type":"send-notification","to":"ana","data":"Hi"}`,
		`{"type":"message","data":"Hi, all"}`, // to everyone who is connected
	} {
		eve.send(refused)
		fmt.Println(eve.wait("error").Data)
	}
	// Output:
	// 1
	// 2
	// {"code":"forbidden","message":"Not allowed"}
	// {"code":"not_in_room","message":"Join the room first"}
	// {"code":"forbidden","message":"Not allowed"}
	// {"code":"forbidden","message":"Not allowed"}
	// {"code":"forbidden","message":"Not allowed"}
}

// OnConnect can refuse a client, or put it into its rooms. The client is
// welcomed after that.
func ExampleConfig_onConnect() {
	hub, dial, stop := serve(chathub.Config{
		OnConnect: func(ctx context.Context, c *chathub.Client, r *http.Request) error {
			if c.User().ID == "eve" {
				return &chathub.Error{Code: chathub.CodeForbidden, Message: "You are banned"}
			}
			return c.Join(ctx, "team:7", "city:"+r.Header.Get("X-City"))
		},
	})
	defer stop()

	dial("ana")
	fmt.Println(hub.RoomUsers(context.Background(), "team:7"))
	fmt.Println(dial("eve").wait("connect-error").Data)
	// Output:
	// [{ana ana}] <nil>
	// {"code":"forbidden","message":"You are banned"}
}

// The server can ask a client a question, also in a handler, and wait for the
// answer as long as it likes. If the client disconnects, the wait ends at once
// with an error.
func ExampleClient_EmitWithAck() {
	hub, dial, stop := serve(chathub.Config{})
	defer stop()

	chathub.OnAck(hub, "delete-account", func(ctx context.Context, c *chathub.Client, _ struct{}) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		var sure bool
		if err := c.EmitWithAck(ctx, "confirm", "Really?", &sure); err != nil {
			return "", err
		}
		return fmt.Sprintf("sure: %t", sure), nil
	})

	ana := dial("ana")
	ana.send(`{"type":"delete-account","id":"1"}`)
	question := ana.wait("confirm")
	fmt.Println(question.Data)
	ana.send(`{"type":"ack","id":"` + question.ID + `","data":true}`)
	fmt.Println(ana.wait("ack").Data)
	// Output:
	// "Really?"
	// "sure: true"
}

// If your identity provider publishes its keys (a JWKS), set a Keyfunc. A
// library such as github.com/MicahParks/keyfunc fetches the keys and keeps them
// fresh.
func ExampleJWT_keyfunc() {
	public, private, err := ed25519.GenerateKey(nil) // the provider's keys
	if err != nil {
		panic(err)
	}
	published := map[any]ed25519.PublicKey{"2026-07": public}

	_, dial, stop := serve(chathub.Config{Auth: &chathub.JWT{
		Keyfunc: func(t *jwt.Token) (any, error) {
			key, ok := published[t.Header["kid"]]
			if !ok {
				return nil, errors.New("unknown key")
			}
			return key, nil
		},
		Methods:  []string{"EdDSA"},
		Issuer:   "https://id.example.com/",
		Audience: "chat",
	}})
	defer stop()

	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"sub": "u1", "name": "Ana", "iss": "https://id.example.com/", "aud": "chat", "exp": time.Now().Add(time.Hour).Unix(),
	})
	t.Header["kid"] = "2026-07"
	token, err := t.SignedString(private)
	if err != nil {
		panic(err)
	}
	fmt.Println(dial(token).user)
	fmt.Println(dial("forged").wait("connect-error").Data)
	// Output:
	// {u1 Ana}
	// {"code":"unauthenticated","message":"Invalid token"}
}

// Sessions is an Authenticator for a service with sessions and cookies.
type Sessions struct {
	users sync.Map // chathub.User by session id
}

// Authenticate gets the value of the cookie that Config.TokenCookie names.
func (s *Sessions) Authenticate(_ context.Context, session string, _ *http.Request) (chathub.Identity, error) {
	user, ok := s.users.Load(session)
	if !ok {
		return chathub.Identity{}, &chathub.Error{Code: chathub.CodeUnauthenticated, Message: "Please log in"}
	}
	return chathub.Identity{User: user.(chathub.User)}, nil
}

// With a session cookie, a page connects without a token. The hub lets pages of
// its own origin do so, and those of Config.Origins.
func ExampleAuthenticator() {
	sessions := &Sessions{}
	sessions.users.Store("s3cr3t", chathub.User{ID: "u1", Name: "Ana"})
	hub, err := chathub.New(chathub.Config{Auth: sessions, TokenCookie: "session"})
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	server := httptest.NewServer(hub)
	defer server.Close()

	page := http.Header{"Cookie": {"session=s3cr3t"}, "Origin": {server.URL}}
	fmt.Println(connect(server.URL, page).user)
	page.Set("Cookie", "session=guessed")
	fmt.Println(connect(server.URL, page).wait("connect-error").Data)
	// Output:
	// {u1 Ana}
	// {"code":"unauthenticated","message":"Please log in"}
}

// A user who logs out is disconnected on every node, and the clients are told
// not to come back.
func ExampleTarget_Disconnect() {
	hub, dial, stop := serve(chathub.Config{})
	defer stop()
	phone, laptop := dial("ana"), dial("ana")

	// End the session first, so that a client cannot come back with it.
	if err := hub.ToUser("ana").Disconnect(context.Background(), "logged out"); err != nil {
		panic(err)
	}
	fmt.Println(phone.closed())
	fmt.Println(laptop.closed())
	// Output:
	// 4503 logged out
	// 4503 logged out
}

// The service itself can send events to rooms and users from anywhere. They are
// kept for users who are away.
func ExampleHub_ToUser() {
	hub, dial, stop := serve(chathub.Config{})
	defer stop()
	ana, bob := dial("ana"), dial("bob")
	ana.send(`{"type":"join-room","id":"1","room":"orders"}`)
	ana.wait("ack")

	ctx := context.Background()
	order := struct {
		Number int    `json:"number"`
		State  string `json:"state"`
	}{17, "shipped"}
	if err := hub.ToUser("bob").Emit(ctx, "order", order); err != nil {
		panic(err)
	}
	if err := hub.To("orders").Emit(ctx, "order", order); err != nil {
		panic(err)
	}
	fmt.Println(bob.wait("order").Data)
	fmt.Println(ana.wait("order").Room)
	// Output:
	// {"number":17,"state":"shipped"}
	// orders
}

// Data becomes JSON as encoding/json/v2 makes it, which has no form for a
// time.Duration. The error says what to write instead.
func ExampleTarget_Emit() {
	hub, dial, stop := serve(chathub.Config{})
	defer stop()
	ana := dial("ana")

	type wrong struct {
		Timeout time.Duration `json:"timeout"`
	}
	ctx := context.Background()
	err := hub.ToUser("ana").Emit(ctx, "poll:opened", wrong{time.Minute})
	if e, ok := errors.AsType[*chathub.Error](err); ok {
		what, remedy, _ := strings.Cut(e.Message, "; ")
		fmt.Println(e.Code)
		fmt.Println(what)
		fmt.Println(remedy)
	}

	type poll struct {
		TimeoutMS int64    `json:"timeoutMs"`
		Votes     int      `json:"votes,omitzero"` // omitempty would keep the 0
		Options   []string `json:"options"`        // nil is [], not null
	}
	if err := hub.ToUser("ana").Emit(ctx, "poll:opened", poll{TimeoutMS: time.Minute.Milliseconds()}); err != nil {
		panic(err)
	}
	fmt.Println(ana.wait("poll:opened").Data)
	// Output:
	// bad_request
	// data.timeout is a time.Duration, which has no form in JSON
	// use a number with its unit in the name, such as TimeoutMS int64 for d.Milliseconds(), or the text of d.String()
	// {"timeoutMs":60000,"options":[]}
}

// Presence counts users, not connections.
func ExampleHub_OnlineUsers() {
	hub, dial, stop := serve(chathub.Config{})
	defer stop()
	dial("u1/Ana")
	dial("u1/Ana") // a second tab
	bob := dial("u2/Bob")
	bob.send(`{"type":"join-room","id":"1","room":"lobby"}`)
	bob.wait("ack")

	ctx := context.Background()
	fmt.Println(hub.OnlineUsers(ctx))
	fmt.Println(hub.RoomUsers(ctx, "lobby"))
	// Output:
	// [{u1 Ana} {u2 Bob}] <nil>
	// [{u2 Bob}] <nil>
}

// Several hubs on one mux share nothing, like the namespaces of Socket.IO.
func Example_severalHubs() {
	chat, err := chathub.New(chathub.Config{Auth: hubtest.Auth{}})
	if err != nil {
		panic(err)
	}
	defer chat.Close()
	admin, err := chathub.New(chathub.Config{Auth: hubtest.Auth{}, MaxConns: 10})
	if err != nil {
		panic(err)
	}
	defer admin.Close()
	mux := http.NewServeMux()
	mux.Handle("/chat", chat)
	mux.Handle("/admin", admin)
	server := httptest.NewServer(mux)
	defer server.Close()

	bearer := http.Header{"Authorization": {"Bearer ana"}}
	connect(server.URL+"/chat", bearer)
	fmt.Println(chat.OnlineUsers(context.Background()))
	fmt.Println(admin.OnlineUsers(context.Background()))
	// Output:
	// [{ana ana}] <nil>
	// [] <nil>
}

// http.Server.Shutdown neither waits for WebSocket connections nor closes them.
// Call the hub's Shutdown at the same time.
func ExampleHub_Shutdown() {
	hub, err := chathub.New(chathub.Config{Auth: hubtest.Auth{}, DrainWindow: time.Second})
	if err != nil {
		panic(err)
	}
	test := httptest.NewServer(hub)
	defer test.Close()
	server := test.Config // the http.Server
	ana := connect(test.URL, http.Header{"Authorization": {"Bearer ana"}})

	// On SIGTERM:
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, shutdown := range []func(context.Context) error{server.Shutdown, hub.Shutdown} {
		wg.Go(func() {
			if err := shutdown(ctx); err != nil {
				fmt.Println(err)
			}
		})
	}

	ana.wait("reconnect")
	fmt.Println(ana.closed())
	wg.Wait()
	// Output: 4000 server is shutting down
}

// Do not believe a client that says who it is. Anyone can write anything into
// data. Only Client.User tells who the client is.
func ExampleClient_User() {
	hub, dial, stop := serve(chathub.Config{})
	defer stop()

	type payment struct {
		From   string `json:"from"`
		Amount int    `json:"amount"`
	}
	chathub.On(hub, "pay", func(ctx context.Context, c *chathub.Client, p payment) error {
		fmt.Println("wrong:", p.From, "pays", p.Amount)
		fmt.Println("right:", c.User().ID, "pays", p.Amount)
		return nil
	})

	eve := dial("eve")
	eve.send(`{"type":"pay","id":"1","data":{"from":"ana","amount":100}}`)
	eve.wait("ack")
	// Output:
	// wrong: ana pays 100
	// right: eve pays 100
}

// Only the message of an Error reaches the client. Any other error is
// "internal" for the client, and its text goes to the log.
func ExampleError() {
	hub, dial, stop := serve(chathub.Config{Logger: slog.New(slog.DiscardHandler)})
	defer stop()
	errDatabase := errors.New("pq: password authentication failed for user chat")

	chathub.On(hub, "plain", func(context.Context, *chathub.Client, struct{}) error { return errDatabase })
	chathub.On(hub, "own", func(context.Context, *chathub.Client, struct{}) error {
		return &chathub.Error{Code: chathub.CodeUnavailable, Message: "Try again later", RetryAfter: time.Minute, Err: errDatabase}
	})

	ana := dial("ana")
	ana.send(`{"type":"plain","id":"1"}`)
	fmt.Println(ana.wait("error").Data)
	ana.send(`{"type":"own","id":"2"}`)
	fmt.Println(ana.wait("error").Data)
	// Output:
	// {"code":"internal","message":"Internal error"}
	// {"code":"unavailable","message":"Try again later","retryAfterMs":60000}
}
