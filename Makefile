# One way to do things. What happens is in the go command and .ci/run; here are only the names.

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## start everything, import the bundled log, show where to look; until Ctrl-C
	go run ./cmd/holdfast demo

.PHONY: build
build: ## build all commands into bin/
	go build -o bin/ ./cmd/...

.PHONY: test
test: ## run all tests
	go test ./...

.PHONY: race
race: ## run all tests, those of the code that runs in services under the race detector
	.ci/run tests

.PHONY: lint
lint: ## check formatting, vet, linter, comments and the import table
	.ci/run format vet staticcheck imports

.PHONY: fmt
fmt: ## format all code
	gofmt -w .

.PHONY: api
api: ## generate the code below api/ from its proto files
	npm ci --prefix tools/buf --ignore-scripts --no-audit --no-fund
	go -C tools build -o ../bin/tools/ connectrpc.com/connect/cmd/protoc-gen-connect-go google.golang.org/protobuf/cmd/protoc-gen-go
	PATH="$(CURDIR)/tools/buf/node_modules/.bin:$(CURDIR)/bin/tools:$$PATH" buf generate api --template api/buf.gen.yaml --output api

.PHONY: bench
bench: ## run all benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (10s)
	.ci/run fuzz

.PHONY: compose
compose: ## bring docker-compose.yml up on an engine of its own, break it, compare (Linux, root)
	.ci/run compose

.PHONY: faults
faults: ## run the fault test on one server and on three, a quarter of an hour
	go run ./test/faults --servers 1 --faults 40 --events 2000000
	go run ./test/faults --servers 3 --faults 40 --events 1000000 --duration 8m

.PHONY: ci
ci: ## everything that must hold before a change goes in
	.ci/run
