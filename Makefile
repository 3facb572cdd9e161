# SPDX-License-Identifier: GPL-2.0-only
# `make help` lists the targets. DEBUG=1 builds with debug information and assertions.

PROFILE := $(if $(DEBUG),dev,release)
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET_DIR)/$(if $(DEBUG),debug,release)
export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO := cargo

.PHONY: all build bpf vxlan-loader packet-injector vxlanctl lab prepare prepare-test demo \
	test test-unit test-integration benchmark lint fmt clean help

all: build ## build everything

build: ## build the three programs and the lab
	$(CARGO) build --profile $(PROFILE) --workspace --bins

bpf: ## compile the BPF object and the library around it
	$(CARGO) build --profile $(PROFILE) -p dataplane

vxlan-loader packet-injector vxlanctl: ## build one program
	$(CARGO) build --profile $(PROFILE) -p $@

lab: ## build the lab (vxlan-lab)
	$(CARGO) build --profile $(PROFILE) -p lab

prepare: ## install what this machine lacks (Debian, Ubuntu; as root)
	scripts/prepare.sh build

prepare-test: ## the same, and what tests compare with
	scripts/prepare.sh build test

demo: prepare ## the main job on real packets, in network namespaces (as root)
	$(MAKE) build
	$(BIN)/vxlan-lab demo

test: prepare-test ## all tests (as root)
	$(MAKE) test-unit test-integration

test-unit: ## tests that touch no interface
	$(CARGO) test --workspace --lib --bins
	$(CARGO) test --workspace --doc

test-integration: ## tests of the BPF program and of the processes, in network namespaces (as root)
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace --test '*' -- --test-threads=1

benchmark: prepare ## figures for docs/performance.md, as ratios within one run (as root)
	$(MAKE) build
	$(BIN)/vxlan-lab benchmark $(ARGS)

lint: ## rustfmt, clippy, clang-format, shellcheck, rustdoc
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')
	shellcheck $$(git ls-files '*.sh') .ci/run
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --document-private-items

fmt: ## format all sources
	$(CARGO) fmt --all
	clang-format -i $$(git ls-files '*.c' '*.h')

clean: ## remove what was built
	$(CARGO) clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / { printf "  %-42s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
