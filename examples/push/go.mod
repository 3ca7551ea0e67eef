module github.com/chathub-go/chathub/examples/push

go 1.26.0

replace github.com/chathub-go/chathub => ../..

require (
	github.com/SherClockHolmes/webpush-go v1.4.0
	github.com/chathub-go/chathub v0.0.0-00010101000000-000000000000
	github.com/go-json-experiment/json v1.27.2
	github.com/golang-jwt/jwt/v5 v5.3.1
)

require (
	github.com/coder/websocket v1.8.15 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)
