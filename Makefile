# `make test` is README.md's second command; `make check` is everything that a change must pass, which is what .ci/run
# calls. What installs something says so before; without root it says what to install, and fails.

CARGO ?= cargo
SHELL := /bin/bash -euo pipefail

# Installed where it is missing. Unoptimised: it is built for longer than it runs.
CYCLONEDX := 0.5.9

# What `make tools` has put below the target directory.
export PATH := $(abspath $(or $(CARGO_TARGET_DIR),target))/tools/bin:$(PATH)

BUILT = $(or $(CARGO_TARGET_DIR),target)

# bash has a SECONDS of its own.
SECONDS_EACH = $(if $(filter command line,$(origin SECONDS)),$(SECONDS),10)

# What static binaries, images and packages are made for: `make deb ARCH="amd64 arm64"` makes both.
ARCH = $(shell uname -m | sed 's/^x86_64$$/amd64/; s/^aarch64$$/arm64/')

.PHONY: needs-root check ahead formatted fmt lint deny advisories test chaos black-friday guard fuzz fuzz-corpus doc bench samples screenshot reference upgrade-sample dist static image deb service chart otel sbom scripts tools

# As in tests/run: `.ci/install test` brings Debian's.
check: export OPENSSL_NO_VENDOR = 1
check: ## everything: formatting, licences, tests, lints, instructions per event, fuzz targets, documentation
	.ci/install test
	@# The tests are built while the rest is installed, and what needs no build is looked at.
	$(CARGO) test --locked --workspace --all-features --no-run & building=$$!; trap "kill $$building 2> /dev/null || true" EXIT; \
	  .ci/install check; $(MAKE) formatted deny scripts; wait $$building
	tests/run all
	$(MAKE) lint
	@# Each but the fuzz targets has work for one core.
	$(MAKE) doc & doc=$$!; $(MAKE) guard & guard=$$!; trap "kill $$doc $$guard 2> /dev/null || true" EXIT; \
	  $(MAKE) chart; wait $$guard; $(MAKE) fuzz SECONDS=5; wait $$doc

formatted: ## whether the sources are formatted
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml -- --check

fmt: ## format the sources
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml

# Without features it is the build of the fuzz targets in which warnings are errors.
lint: ## clippy, warnings are errors
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

deny: ## licences, sources, banned and repeated crates, against deny.toml
	$(CARGO) deny --locked check bans licenses sources

scripts: ## shellcheck over what builds and installs, actionlint over the workflows
	shellcheck --external-sources --severity warning tests/run fuzz/run fuzz/rustc .ci/install .ci/run .ci/static .ci/static-trial .ci/image .ci/deb .ci/pages .ci/rustdoc deploy/debian/postinst deploy/debian/postrm tests/service/*.sh .ci/release .ci/release-notes
	actionlint

# Not a part of `make check`: the database of advisories is a git repository that not every network reaches, and a new
# advisory is no fault of a change.
advisories: ## known vulnerabilities of what is in Cargo.lock
	$(CARGO) deny --locked check advisories

test: ## the tests, and what they need where it is missing; README.md's second command
	.ci/install test
	tests/run

# Every run is another one; the line that repeats it is printed first. LABS have the embedded queue, BROKERS a broker; all of
# them run side by side, and two cores are enough for these.
chaos: SECONDS = 600
chaos: SEED = $(shell date +%s)
chaos: LABS = 3
chaos: BROKERS = 2
chaos: ## the fault laboratory for longer than in `make test`: make chaos SECONDS=3600 LABS=3 BROKERS=2
	CHAOS_SEED=$(SEED) CHAOS_SECONDS=$(SECONDS) CHAOS_LABS=$(LABS) CHAOS_BROKERS=$(BROKERS) \
	  $(CARGO) test --locked --workspace --all-features --test chaos faults -- --nocapture

# A package and a profile of its own: what a lane runs is optimised as it is shipped, so that neither the walls of crates nor their
# number shows, and of the rest as little is built as can be.
GUARD = --locked --profile guard --package instructions

# Not a part of `make check`, nor of `make bench`: it takes the whole machine for as long as it says. What its report says of the
# machine that it ran on is kept in docs/black-friday.md, with the charts in docs/black-friday/.
black-friday: MINUTES = 8
black-friday: SECONDS = $(shell echo $$(($(MINUTES) * 60)))
black-friday: RATE = 60000
black-friday: FLUSH = 10
black-friday: NAME = black-friday
black-friday: CONNECTIONS = 5000
black-friday: TAG_SETS = 2000000
black-friday: ## the platform's worst day on this machine: make black-friday RATE=60000 MINUTES=8; a short try: SECONDS=60 RATE=5000 CONNECTIONS=200 TAG_SETS=20000 FLUSH=2
	.ci/install test
	.ci/install check
	$(CARGO) bench --locked --profile dist --workspace --all-features --bench black_friday -- --seconds $(SECONDS) --rate $(RATE) \
	  --flush $(FLUSH) --connections $(CONNECTIONS) --tag-sets $(TAG_SETS) --name $(NAME) --output "$(abspath $(BUILT))/black-friday"

guard: ## instructions per event, against their bounds
	$(CARGO) run $(GUARD)

ahead: ## build what `make guard` and `make fuzz` run, as `tests/run all` does while tests wait
	@# Each ends in one crate for one core.
	$(CARGO) build $(GUARD) & guard=$$!; fuzz/run build; wait $$guard

fuzz: ## fuzz targets, SECONDS=10 each; TARGET=decode for one of them
	fuzz/run $(SECONDS_EACH) $(TARGET)

fuzz-corpus: ## write what the fuzz targets start from anew, and add what was found since
	python3 fuzz/corpus.py
	fuzz/run keep

doc: ## documentation, warnings are errors
	RUSTDOC=$(CURDIR)/.ci/rustdoc DOC=$(abspath $(BUILT))/doc $(CARGO) test --locked --workspace --all-features --doc --no-fail-fast

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

dist: ## the binary, optimised as what is shipped, with the C library of this machine: target/dist/braze-datadog
	$(CARGO) build --locked --profile dist --all-features

# Not a part of `make check`: to build a collector takes minutes.
otel: ## config/opentelemetry/collector.yaml in a real OpenTelemetry Collector, which scrapes a forwarder
	.ci/install otel
	$(CARGO) build --locked --workspace --all-features --bins
	tests/otel/run "$${CARGO_TARGET_DIR:-target}/debug/braze-datadog"

static: ## the same static, for any Linux on this architecture, tried: target/static/ARCH/braze-datadog
	.ci/install static
	.ci/static $(ARCH)
	.ci/static-trial $(ARCH)

# Before what takes a quarter of an hour.
needs-root:
	@(( EUID == 0 )) || { echo "make $(MAKECMDGOALS) takes root. With cargo and the tools of this user:" >&2; \
	  echo '  sudo env "PATH=$$PATH" "HOME=$$HOME" make $(MAKECMDGOALS)$(if $(findstring command line,$(origin ARCH)), ARCH="$(ARCH)")' >&2; \
  echo 'What it builds is root'"'"'s then: sudo chown -R "$$USER" "$(BUILT)" ~/.cargo' >&2; exit 1; }

image: needs-root ## the container image, tried: target/image/braze-datadog.tar (needs root)
	.ci/install image
	.ci/static $(ARCH)
	.ci/image $(ARCH)
	.ci/image-trial

deb: ## the Debian package, target/packages/*.deb
	.ci/install static
	.ci/install deb
	.ci/static $$(dpkg --print-architecture) $(filter-out $(shell dpkg --print-architecture),$(ARCH))
	.ci/deb $(ARCH)

service: needs-root ## the unit and the Debian package under a real systemd, in a container root (needs root; about 3 minutes, and the build)
	.ci/install static
	.ci/install deb
	.ci/install service
	here=$$(dpkg --print-architecture); .ci/static $$here; DEB_REVISION=1 .ci/deb $$here; DEB_REVISION=2 .ci/deb $$here; \
	  tests/service/run.sh "$(BUILT)/static/$$here/braze-datadog" "$(BUILT)"/packages/braze-datadog_*-1_$$here.deb \
	    "$(BUILT)"/packages/braze-datadog_*-2_$$here.deb

# The binary is what `tests/run` has built: without the tests some 50 crates have fewer features, and would be built once more.
chart: ## the Helm chart: lint, Kubernetes' schemas, every configuration by the binary, what has to be refused
	$(CARGO) test --locked --workspace --all-features --no-run
	deploy/helm/check "$${CARGO_TARGET_DIR:-target}/debug/braze-datadog"

sbom: ## the software bill of materials of a release, target/braze-datadog.cdx.json
	@$(CARGO) cyclonedx --version > /dev/null 2>&1 || { echo "+ cargo install cargo-cyclonedx@$(CYCLONEDX)"; \
	  $(CARGO) install --quiet --locked --debug cargo-cyclonedx@$(CYCLONEDX); }
	.ci/sbom

tools: ## install what is missing for `make check`, on Debian with Rust
	.ci/install test
	.ci/install check
