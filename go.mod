module github.com/chathub-go/chathub

go 1.26.0

ignore node_modules // npm packages may hold Go files

require (
	github.com/coder/websocket v1.8.15
	github.com/go-json-experiment/json v1.27.2
	github.com/golang-jwt/jwt/v5 v5.3.1
	golang.org/x/time v0.16.0
)
