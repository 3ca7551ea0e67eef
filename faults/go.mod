module github.com/chathub-go/chathub/faults

go 1.26.0

replace github.com/chathub-go/chathub => ..

require (
	github.com/chathub-go/chathub v0.0.0-00010101000000-000000000000
	github.com/go-json-experiment/json v1.27.2
	golang.org/x/sys v0.48.0
)

require (
	github.com/coder/websocket v1.8.15 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	golang.org/x/time v0.16.0 // indirect
)
