# `make check` is everything that a change must pass; README.md's second command.

CARGO ?= cargo
SHELL := /bin/bash -euo pipefail

.PHONY: check fmt lint test doc bench samples release tools

check: tools ## formatting, lints, tests, documentation, on a machine that lacks what they need, too
	$(CARGO) fmt --all -- --check
	$(MAKE) lint
	$(MAKE) test
	$(MAKE) doc

fmt: ## format the sources
	$(CARGO) fmt --all

lint: ## clippy, warnings are errors
	$(CARGO) clippy --locked --all-targets -- -D warnings

test: ## all tests
	$(CARGO) test --locked

doc: ## documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

bench: ## benchmarks
	$(CARGO) bench --locked

samples: ## write the sample events anew
	python3 samples/generate.py

release: ## the binary, target/release/braze-datadog
	$(CARGO) build --locked --release

# The linker, what the tests call (kill, python3, pip for the Kafka broker, systemd-analyze), rustfmt and clippy. Needs root for apt-get.
tools: ## install what is missing, on Debian with Rust
	@missing=(); \
	need() { command -v "$$1" > /dev/null || missing+=("$$2"); }; \
	need cc gcc; need python3 python3-minimal; need systemd-analyze systemd; \
	python3 -m pip --version > /dev/null 2>&1 || missing+=(python3-pip); \
	[[ -x /bin/kill ]] || missing+=(procps); \
	[[ -e /usr/include/stdlib.h ]] || missing+=(libc6-dev); \
	[[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates); \
	if (( $${#missing[@]} )); then \
	  echo "installing: $${missing[*]}"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends "$${missing[@]}"; \
	fi
	@$(CARGO) fmt --version > /dev/null 2>&1 || rustup component add rustfmt
	@$(CARGO) clippy --version > /dev/null 2>&1 || rustup component add clippy
