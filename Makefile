# `make check` is everything that a change must pass; README.md's second command.

CARGO ?= cargo
SHELL := /bin/bash -euo pipefail

.PHONY: check fmt lint test chaos guard doc bench samples release tools

check: tools ## formatting, lints, tests, documentation, on a machine that lacks what they need, too
	$(CARGO) fmt --all -- --check
	$(MAKE) lint
	$(MAKE) test
	$(MAKE) guard
	$(MAKE) doc

fmt: ## format the sources
	$(CARGO) fmt --all

lint: ## clippy, warnings are errors
	$(CARGO) clippy --locked --all-targets -- -D warnings

test: ## all tests
	$(CARGO) test --locked

# Every run is another one; the line that repeats it is printed first.
chaos: SECONDS = 600
chaos: SEED = $(shell date +%s)
chaos: ## the fault laboratory for longer than in `make test`: make chaos SECONDS=3600
	CHAOS_SEED=$(SEED) CHAOS_SECONDS=$(SECONDS) $(CARGO) test --locked --test chaos faults -- --nocapture --test-threads=1

# This crate as it is released, but for link-time optimisation; its dependencies as `make test` has built them, which
# spares a minute or two.
guard: ## instructions per event, against their bounds
	$(CARGO) bench --locked --profile dev --bench instructions \
	  --config profile.dev.opt-level=3 --config profile.dev.incremental=false \
	  --config profile.dev.debug-assertions=false --config profile.dev.overflow-checks=false \
	  --config profile.dev.debug=false

doc: ## documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

bench: ## benchmarks
	$(CARGO) bench --locked

samples: ## write the sample events anew
	python3 samples/generate.py

release: ## the binary, target/release/braze-datadog
	$(CARGO) build --locked --release

# The linker, what tests and guard call (kill, prlimit, python3, pip for the Kafka broker, systemd-analyze, valgrind),
# rustfmt and clippy. Needs root for apt-get.
tools: ## install what is missing, on Debian with Rust
	@missing=(); \
	need() { command -v "$$1" > /dev/null || missing+=("$$2"); }; \
	need cc build-essential; need g++ build-essential; need perl perl; need python3 python3-minimal; need systemd-analyze systemd; need prlimit util-linux; need valgrind valgrind; \
	python3 -m pip --version > /dev/null 2>&1 || missing+=(python3-pip); \
	perl -MIPC::Cmd -MFindBin -e 1 > /dev/null 2>&1 || missing+=(perl); \
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
