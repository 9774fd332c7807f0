# kogge: build, run and test. Every target does its own set-up; see README.md.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION_FLAGS := -s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36
# btrfs, devmapper and zfs are snapshotters that need libraries of the host; kogge uses overlayfs.
TAGS := no_btrfs,no_devmapper,no_zfs
GO_BUILD := CGO_ENABLED=0 go build -trimpath -tags $(TAGS) -ldflags "$(VERSION_FLAGS)"
# The tests of the main module; those of test/peers come after, those of other modules with their own targets.
PACKAGES := ./...
DATA_DIR ?= /var/lib/kogge

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

up: build ## build, start a cluster on this machine, and return when its node is Ready
	@bin/kogge up --detach --data-dir $(DATA_DIR)

down: ## stop the cluster and its pods, keep the data
	@bin/kogge down --data-dir $(DATA_DIR)

setup: ## install what the build and the tests need (Debian packages)
	@tools/setup

build: setup helpers ## build bin/kogge
	@echo "build: bin/kogge"; started=$$(date +%s); $(GO_BUILD) -o bin/kogge ./cmd/kogge; echo "build: done in $$(( $$(date +%s) - started )) s"

helpers: setup ## build the programs that the binary embeds: shim, runc, CNI plugin, pause
	@helpers/build

arm64: setup ## cross-build for linux/arm64 (run "GOARCH=arm64 helpers/build" before, to embed helpers that run there)
	@GOARCH=arm64 $(GO_BUILD) -o bin/kogge-arm64 ./cmd/kogge

kubectl: ## build stock kubectl v1.36.3 from its module, for the tests
	@mkdir -p bin && cd test/kubectl && CGO_ENABLED=0 go build -trimpath -ldflags "$(VERSION_FLAGS)" -o ../../bin/kubectl .

bin/golangci-lint: tools/go.mod tools/go.sum
	@echo "lint: building golangci-lint, once"; started=$$(date +%s); mkdir -p bin; cd tools && go build -trimpath -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint; echo "lint: built in $$(( $$(date +%s) - started )) s"

fmt: bin/golangci-lint ## format the code, imports included
	@bin/golangci-lint fmt

# The other modules of test/thirdparty are pins of the programs of others.
LINTED := . helpers tools test/conformance test/kubectl test/peers test/thirdparty/csi-mock test/thirdparty/csi-sanity test/thirdparty/h2spec test/thirdparty/operator
lint: bin/golangci-lint ## what .golangci.yaml holds (linters and formatters), module by module
	@for module in $(LINTED); do \
	  echo "lint: $$module"; (cd $$module && $(CURDIR)/bin/golangci-lint run --config $(CURDIR)/.golangci.yaml ./...); done

check: lint helpers ## linters and formatters, guard tests and unit tests
	go test -tags $(TAGS) $(PACKAGES)
	cd test/peers && go test -tags $(TAGS) ./...
	cd test/thirdparty/h2spec && go test ./...

race: helpers ## the tests once more under the race detector and with the invariants compiled in
	CGO_ENABLED=1 go test -race -tags $(TAGS),invariants $(PACKAGES)

e2e: build kubectl ## end-to-end stories: the built binary and stock kubectl
	go test -count=1 -timeout 20m -tags e2e ./test/e2e/...

golden: build kubectl ## make a golden data folder from this build, which later builds must open (make e2e): NAME=name (default the month)
	go test -count=1 -tags e2e -run TestGolden ./test/e2e -golden $(or $(NAME),$$(date +%Y-%m))

soak: build ## churn for half an hour and see what does not come back: FOR=30m, ONLY=actor,... (default all)
	@mkdir -p .scratch/soak && CGO_ENABLED=0 go build -trimpath -tags $(TAGS) -o .scratch/soak/soak ./test/soak
	@.scratch/soak/soak -root . $(if $(FOR),-for $(FOR)) $(if $(ONLY),-only $(ONLY))

differential: ## compare the API server with upstream's, request by request (builds upstream v1.36.3; KOGGE_PEERS_BIN skips that)
	@mkdir -p .scratch/peers && cd test/peers && go run -tags $(TAGS) ./cmd/differential -root ../.. -scratch ../../.scratch/peers > ../../.scratch/differential.txt \
		|| { cat ../../.scratch/differential.txt; exit 1; }

e2e-others: build kubectl ## stories with programs of others: CSI drivers and sidecars, an old kubectl, Helm, Kustomize, kwok, metrics-server, an aggregated API server, an operator; csi-sanity
	@tools/others
	cd test/thirdparty/csi-sanity && go test -count=1 ./...
	go test -count=1 -timeout 40m -tags e2e,others -run TestOthers ./test/e2e

fuzz: ## run every fuzz target for FUZZTIME (default 30s)
	@tools/fuzz $(or $(FUZZTIME),30s)

conformance: build kubectl conformance-setup ## the official suite on two nodes: FOCUS=regex (default all conformance tests), SKIP=regex, PROCS=n (default 4)
	@$(CONFORMANCE) $(if $(FOCUS),-focus "$$FOCUS") $(if $(SKIP),-skip "$$SKIP")

guard: build kubectl conformance-setup ## passing tests of the official suite from every group, and 15 more drawn by the commit
	@$(CONFORMANCE) -guard

# The suite's programs are built into the scratch folder, unless SUITE_BIN names a folder that has them.
PROCS ?= 4
CONFORMANCE = cd test/conformance && go build -o ../../.scratch/conformance/conformance . && ../../.scratch/conformance/conformance -root ../.. -procs $(PROCS) $(if $(SUITE_BIN),-bin $(SUITE_BIN))

conformance-setup: setup
	@tools/setup debootstrap iproute2
	@cd test/conformance && go vet . && go test .

bench: build bench-setup ## kogge beside tuned upstream, in an hour: ONLY=name,... (default all, into docs/measurements.md), FRESH=1 forgets finished rounds
	@mkdir -p .scratch/bench; (cd test/peers && go build -o ../../.scratch/bench/bench ./bench)
	@.scratch/bench/bench $(if $(ONLY),-only $(ONLY),-document docs/measurements.md) $(if $(FRESH),-fresh)

cross: build kubectl conformance-setup cross-setup ## kogge's and upstream's components in each other's places, eight pairings: PAIRING=part of a name (default all)
	@$(CONFORMANCE) -prepare
	@mkdir -p .scratch/cross && cd test/peers && go vet ./cross && go test ./cross && go build -o ../../.scratch/cross/cross ./cross
	@.scratch/cross/cross -root . $(if $(SUITE_BIN),-suite $(SUITE_BIN)) $(if $(PAIRING),-pairing "$$PAIRING")

cross-setup: setup
	@tools/setup conntrack nftables iproute2
.PHONY: cross cross-setup

bench-setup: setup
	@tools/setup containerd runc containernetworking-plugins conntrack nftables iproute2

test: check race e2e ## everything that must pass before a change lands

# The suite's nodes keep their images from run to run, and with them a mount.
reset-nodes: ## remove the nodes that the official suite ran on
	@for node in .scratch/conformance/nodes/*; do [ ! -x bin/kogge ] || [ ! -d $$node ] || unshare --net bin/kogge reset --data-dir $$node; done

clean: reset-nodes ## remove what the build made, and the scratch folder
	rm -rf bin .scratch helpers/bin

.PHONY: help up down setup build helpers arm64 kubectl fmt lint check race e2e golden soak e2e-others bench bench-setup differential fuzz conformance guard conformance-setup test reset-nodes clean
