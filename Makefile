# Everything a person or CI runs. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

CARGO ?= cargo
# The same for `demo` and `test`, so that nothing is built twice.
FLAGS := --locked --features demo,prove
# Seconds for each fuzz target.
FUZZ_TIME ?= 60
IMAGE ?= localhost/portcullis:dev

components := $(shell tests/components/install.sh --path)
scripts := .ci/run tests/components/install.sh

# $(call step,NAME,COMMAND): runs it and says how long it took.
define step
@echo "==> $(1)"; began=$$SECONDS; { $(2); }; echo "==> $(1): $$((SECONDS - began)) s"
endef

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build-tools ## stages, an S3 store and sidecars on this machine; ARGS=--once ends after the table
	$(CARGO) run $(FLAGS) -- demo $(ARGS)

.PHONY: test
test: components check test-only ## install what the tests need, check everything, run every test

.PHONY: check
check: check-format check-scripts check-secrets check-dependencies check-image check-lints check-docs check-features ## format, lints, docs, dependencies, Dockerfile, secrets

.PHONY: certs
certs: build-tools ## development CA and SVIDs of certs-dev/identities.toml, into certs-dev/
	$(CARGO) run $(FLAGS) --quiet -- certs mint certs-dev/identities.toml --dir certs-dev

.PHONY: release
release: build-tools ## what the image carries: target/release/portcullis, without the demo
	$(CARGO) build --locked --release --no-default-features --features post-quantum

.PHONY: image
image: ## the container image, by buildah or docker
	if command -v buildah >/dev/null; then buildah bud -t $(IMAGE) .; else docker build -t $(IMAGE) .; fi

.PHONY: fuzz
# libpg_query defines some tables twice, which is no fault of ours.
fuzz: build-tools ## every fuzz target for FUZZ_TIME seconds (nightly Rust; installs cargo-fuzz)
	$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	for target in $$($(CARGO) +nightly fuzz list); do \
	  echo "==> fuzz $$target"; \
	  ASAN_OPTIONS=detect_odr_violation=0 $(CARGO) +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_TIME); done

.PHONY: bench-decision
bench-decision: build-tools ## what a decision costs beside plain Cedar, at 10 to 10,000 policies; and loading these
	$(CARGO) bench --locked --bench decision

.PHONY: format
format: ## rewrite the sources as rustfmt has them
	$(CARGO) fmt

.PHONY: clean
clean: ## everything built, the venv of the tests too
	$(CARGO) clean

# What `test` and `check` consist of.

.PHONY: build-tools
build-tools:
	@tests/components/install.sh build

.PHONY: components
components:
	$(call step,install,tests/components/install.sh)

# Doc tests first: cargo's last result line is the integration tests'.
.PHONY: test-only
test-only:
	$(call step,doc tests,$(CARGO) test $(FLAGS) --doc)
	$(call step,tests,$(CARGO) test $(FLAGS) --lib --test it)

# What takes too long for every day: rotation every second for ten minutes, a million random questions beside plain Cedar, a plan of 500 policies.
.PHONY: test-long
test-long: components ## tests that take minutes: for a nightly run
	$(call step,a million decisions,PORTCULLIS_EQUIVALENCE_CASES=1000000 PORTCULLIS_EQUIVALENCE_SEED=$$(date +%j) timeout 3h \
	  $(CARGO) test $(FLAGS) --lib -- --nocapture engine::equivalence::)
	$(call step,500 policies compared,PORTCULLIS_PLAN_POLICIES=500 $(CARGO) test $(FLAGS) --test it -- --nocapture policy_prove::policies_that)
	$(call step,rotation,PORTCULLIS_ROTATION_SECONDS=600 $(CARGO) test $(FLAGS) --test it -- --nocapture rotation::)

.PHONY: check-format
check-format:
	$(call step,format,$(CARGO) fmt --check)

.PHONY: check-scripts
check-scripts: components
	$(call step,shellcheck,shellcheck $(scripts))

.PHONY: check-secrets
check-secrets: components
	$(call step,secrets,$(components)/bin/python .ci/check_secrets.py)

# Advisories need a database from the network: see deny.toml.
.PHONY: check-dependencies
check-dependencies: components
	$(call step,dependencies,$(components)/bin/cargo-deny --locked --all-features check bans licenses sources)
	$(call step,lock of fuzz/,$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null)

.PHONY: check-image
check-image: components
	$(call step,Dockerfile,$(components)/bin/hadolint Dockerfile)

.PHONY: check-lints
check-lints: build-tools
	$(call step,lints,$(CARGO) clippy $(FLAGS) --all-targets --quiet -- -D warnings)

.PHONY: check-docs
check-docs: build-tools
	$(call step,docs,RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(FLAGS) --no-deps --quiet)

# The other end of the features: neither the demo nor the post-quantum key exchange.
.PHONY: check-features
check-features: build-tools
	$(call step,features,$(CARGO) check --locked --no-default-features --quiet)
