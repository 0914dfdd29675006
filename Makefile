# `make test` is README.md's second command; `make check` is everything that a change must pass, which is what .ci/run
# calls.

CARGO ?= cargo
SHELL := /bin/bash -euo pipefail

# What is installed where it is missing. Unoptimised: it is built for longer than it runs.
DENY := 0.20.2
CYCLONEDX := 0.5.9

# bash has a SECONDS of its own.
SECONDS_EACH = $(if $(filter command line,$(origin SECONDS)),$(SECONDS),10)

.PHONY: check fmt lint deny advisories test chaos guard fuzz fuzz-corpus doc bench samples screenshot reference upgrade-sample dist service sbom tools lint-tools

check: tools lint-tools ## formatting, lints, tests, documentation, on a machine that lacks what they need, too
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml -- --check
	$(MAKE) deny
	$(MAKE) lint
	$(MAKE) test
	$(MAKE) guard
	$(MAKE) fuzz
	$(MAKE) doc

fmt: ## format the sources
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml

lint: ## clippy, warnings are errors, with all features and with none
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	$(CARGO) clippy --locked --workspace -- -D warnings

deny: ## licences, sources, banned and repeated crates, against deny.toml
	$(CARGO) deny --locked check bans licenses sources

# Not a part of `make check`: the database of advisories is a git repository that not every network reaches, and a new
# advisory is no fault of a change.
advisories: ## known vulnerabilities of what is in Cargo.lock
	$(CARGO) deny --locked check advisories

test: tools ## all tests, on a machine that lacks what they need, too; README.md's second command
	$(CARGO) test --locked --workspace --all-features

# Every run is another one; the line that repeats it is printed first.
chaos: SECONDS = 600
chaos: SEED = $(shell date +%s)
chaos: ## the fault laboratory for longer than in `make test`: make chaos SECONDS=3600
	CHAOS_SEED=$(SEED) CHAOS_SECONDS=$(SECONDS) $(CARGO) test --locked --all-features --test chaos faults -- --nocapture --test-threads=1

# As it is shipped, so that neither the walls of crates nor their number shows.
guard: ## instructions per event, against their bounds
	$(CARGO) bench --locked --bench instructions

fuzz: ## fuzz targets, SECONDS=10 each; TARGET=decode for one of them
	fuzz/run $(SECONDS_EACH) $(TARGET)

fuzz-corpus: ## write what the fuzz targets start from anew
	python3 fuzz/corpus.py

doc: ## documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --all-features --no-deps

bench: ## benchmarks
	$(CARGO) bench --locked --all-features

samples: ## write the sample events anew
	python3 samples/generate.py

reference: ## write what is made of the settings anew: docs/configuration.md, config/braze-datadog.toml and its schema
	WRITE_REFERENCE=1 $(CARGO) test --locked --workspace --all-features --test fast the_page_of_the_configuration

upgrade-sample: ## keep what this version leaves behind when it is killed, for tests/process/upgrade.rs
	$(CARGO) build --locked
	python3 tests/process/upgrade/write.py $${CARGO_TARGET_DIR:-target}/debug/braze-datadog

screenshot: ## write docs/page.png and docs/page-dark.png anew
	$(CARGO) test --locked --all-features --test browser -- --ignored screenshot

dist: ## the binary as it is shipped, target/dist/braze-datadog
	$(CARGO) build --locked --profile dist --all-features

service: dist ## the unit file under a real systemd, in a container root (needs root; about 3 minutes the first time)
	@{ command -v debootstrap && command -v systemd-nspawn; } > /dev/null \
	  || { apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends debootstrap systemd-container; }
	tests/service/run.sh "$${CARGO_TARGET_DIR:-target}/dist/braze-datadog"

sbom: ## the software bill of materials of a release, target/braze-datadog.cdx.json
	@$(CARGO) cyclonedx --version > /dev/null 2>&1 || $(CARGO) install --quiet --locked --debug cargo-cyclonedx@$(CYCLONEDX)
	.ci/sbom

# The linker, what tests and guard call (kill, prlimit, python3, pip for a Kafka broker and axe-core, a JVM and Maven for Apache Kafka,
# systemd-analyze, valgrind, promtool, Chromium with its driver and a font). Needs root for apt-get.
tools: ## install what is missing, on Debian with Rust
	@missing=(); \
	need() { command -v "$$1" > /dev/null || missing+=("$$2"); }; \
	need cc build-essential; need g++ build-essential; need perl perl; need python3 python3-minimal; need systemd-analyze systemd; need prlimit util-linux; need valgrind valgrind; \
	need chromium chromium; need chromedriver chromium-driver; need java default-jre-headless; need mvn maven; need setpriv util-linux; \
	python3 -m pip --version > /dev/null 2>&1 || missing+=(python3-pip); \
	perl -MIPC::Cmd -MFindBin -e 1 > /dev/null 2>&1 || missing+=(perl); \
	[[ -x /bin/kill ]] || missing+=(procps); \
	[[ -d /usr/share/fonts/truetype/dejavu ]] || missing+=(fonts-dejavu-core); \
	[[ -e /usr/include/stdlib.h ]] || missing+=(libc6-dev); \
	[[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates); \
	if (( $${#missing[@]} )); then \
	  echo "installing: $${missing[*]}"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends "$${missing[@]}"; \
	fi
	@command -v promtool > /dev/null || { \
	  at=$$(mktemp -d); cd "$$at"; \
	  chmod 755 "$$at"; apt-get update --quiet && apt-get download --quiet prometheus; \
	  dpkg-deb --fsys-tarfile prometheus_*.deb | tar --extract --directory /usr/local --strip-components=2 ./usr/bin/promtool; \
	  rm -r "$$at"; }

lint-tools: ## install what formats and lints
	@$(CARGO) fmt --version > /dev/null 2>&1 || rustup component add rustfmt
	@$(CARGO) clippy --version > /dev/null 2>&1 || rustup component add clippy
	@$(CARGO) deny --version > /dev/null 2>&1 || $(CARGO) install --quiet --locked --debug cargo-deny@$(DENY)
