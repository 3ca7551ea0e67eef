# `make` lists the targets. They work on all modules of go.work (the go command
# calls them "work"), so that a new module needs no line here.

SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

# An inherited GOWORK=off would silently leave out modules.
export GOWORK := $(CURDIR)/go.work

# A number of inputs, or a duration. Before Go 1.27, a target with a duration
# sometimes fails at its end with "context deadline exceeded"
# (go.dev/issue/75804).
FUZZTIME ?= 20000x
BENCH ?= .
BENCHFLAGS ?= -quick
SOAKFLAGS ?= -duration 20s
FAULTSFLAGS ?=

# The versions are part of the file's name, so that another version of the
# linter or of Go makes it install again.
GOLANGCI_LINT_VERSION := v2.15.0
GOLANGCI_LINT := bin/golangci-lint-$(GOLANGCI_LINT_VERSION)-$(firstword $(shell go env GOVERSION))

say = @printf '\n==> %s\n' '$(1)'

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: tidy-check lint test-deps unit ts page fuzz ## Run all checks of CI: go.mod files, linters, tests, a short fuzz
	$(call say,All checks passed)

.PHONY: test-deps
test-deps: ## Install what the tests need besides Go: Node, npm packages, Python, proxies, Chromium
	$(call say,Test dependencies)
	@scripts/install-test-deps

.PHONY: unit
unit: ## Run the tests with the race detector, in random order
	$(call say,Tests)
	@go test -race -shuffle=on work

.PHONY: ts
ts: test-deps ## Check the TypeScript client: lint, build, types, tests, size, examples
	$(call say,TypeScript client)
	@npm --prefix clients/ts run check
	@npm --prefix clients/ts/examples test

.PHONY: page
page: test-deps ## Check the page of examples/chat: lint, committed build, browser tests
	$(call say,Page of examples/chat)
	@npm --prefix clients/ts run build
	@npm --prefix examples/chat/web run check

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run the linters of .golangci.yml, and check comments and documents
	$(call say,Linters)
	@$(GOLANGCI_LINT) config verify
	@set -eu; modules=$$(go list -m -f '{{.Dir}}/...'); \
		$(GOLANGCI_LINT) run --disable=depguard $$modules
	@$(GOLANGCI_LINT) run --enable-only=depguard ./... # the root module only
	$(call say,Comments and documents)
	@go run ./internal/tools/prose

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (20000x, or 1m)
	$(call say,Fuzz targets)
	@scripts/fuzz '$(FUZZTIME)'

.PHONY: bench
bench: ## Compare with other servers: BENCHFLAGS (-quick, which takes three minutes)
	@go -C bench run . $(BENCHFLAGS)

.PHONY: microbench
microbench: ## Run the Go benchmarks that match BENCH (default: all)
	@go test -run '^$$' -bench '$(BENCH)' -benchmem work

.PHONY: soak
soak: ## Run many clients with random faults: SOAKFLAGS (-duration 20s)
	@go run ./soak $(SOAKFLAGS)

.PHONY: faults
faults: ## Provoke the faults of docs/faults.md: FAULTSFLAGS (such as -quick -run SIGSTOP)
	@go run ./faults $(FAULTSFLAGS)

.PHONY: upgrade
upgrade: ## Upgrade three instances from the commit FROM, one by one, and verify that nothing is lost
	@scripts/upgrade '$(FROM)'

.PHONY: cover
cover: ## Measure the coverage of the root module, into coverage.out
	@go test -coverprofile=coverage.out -coverpkg=./... ./...
	@go tool cover -func=coverage.out | tail -n 1
	@echo 'Line by line: go tool cover -html=coverage.out'

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the Go files
	@$(GOLANGCI_LINT) fmt

.PHONY: tidy-check
tidy-check: ## Check that go.mod and go.sum fit the code
	$(call say,go.mod and go.sum)
	@set -eu; modules=$$(go list -m -f '{{.Dir}}'); \
		for dir in $$modules; do \
			echo "$$dir"; \
			go -C "$$dir" mod tidy -diff; \
		done
	@go list -m all >/dev/null # completes go.work.sum, as go doc does

$(GOLANGCI_LINT):
	$(call say,Installing golangci-lint $(GOLANGCI_LINT_VERSION) takes some minutes the first time)
	@rm -f bin/golangci-lint*
	@GOBIN='$(CURDIR)/bin' go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv bin/golangci-lint $@
