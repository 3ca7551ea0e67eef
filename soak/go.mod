module github.com/chathub-go/chathub/soak

go 1.26.0

replace github.com/chathub-go/chathub => ..

require (
	github.com/chathub-go/chathub v0.0.0-00010101000000-000000000000
	github.com/coder/websocket v1.8.15
	github.com/go-json-experiment/json v1.27.2
	github.com/golang-jwt/jwt/v5 v5.3.1
	pgregory.net/rapid v1.3.0
)

require golang.org/x/time v0.16.0 // indirect
