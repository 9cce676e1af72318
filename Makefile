# One word for each thing that people do here; each word installs what it needs and this machine lacks.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
ARGS ?=
# Seconds for each fuzz target: a smoke run in `test`, longer by hand (make fuzz FUZZ_SECONDS=600).
FUZZ_SECONDS ?= 10

.PHONY: help demo test conformance soak bench instructions lint doc fuzz deb

help: ## These lines
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' \
	  | while IFS=$$'\t' read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done

demo: ## A herd on this machine with pgherd before it and load on it (ARGS="--once --seconds 5")
	@scripts/install compiler postgres
	@cargo run --locked --profile release-fast -p pgherd -- demo $(ARGS)

test: ## Everything that must hold: format, lints, documentation, fuzz targets, tests
	@scripts/install compiler rustfmt clippy nextest postgres python node
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	cargo test --workspace --doc --locked --quiet
	@if cargo +nightly --version >/dev/null 2>&1; then scripts/install fuzz; fi
	@scripts/fuzz $(FUZZ_SECONDS) --if-possible
	cargo nextest run --workspace --locked $(ARGS)

conformance: ## PostgreSQL's own regression suite through pgherd, compared with a direct connection
	@scripts/install compiler nextest postgres
	cargo nextest run -p pgherd-tests --test conformance --run-ignored all --locked $(ARGS)

soak: ## An hour of clients that come and go and do everything; nothing may grow (ARGS="--minutes 5")
	@scripts/install compiler postgres
	cargo build --locked --profile release-fast -p pgherd-tests --bins
	@cargo run --locked --profile release-fast -p pgherd-tests --bin soak -- $(ARGS)

# What single parts cost, in nanoseconds: cargo bench
bench: ## pgherd beside its peers and the direct connection (ARGS="--quick": minutes; bench/README.md)
	@scripts/install compiler postgres pgbouncer haproxy strace perf
	cargo build --release --locked -p pgherd -p pgherd-bench
	@cargo run --release --locked -p pgherd-bench -- $(ARGS)

instructions: ## pgherd's instructions for one transaction, beside the committed figures (ARGS="--write", "--pgbouncer")
	@scripts/install compiler postgres valgrind
	cargo build --locked --profile release-fast -p pgherd -p pgherd-bench
	@cargo run --locked --profile release-fast -p pgherd-bench -- instructions $(ARGS)

lint: ## Format, clippy and documentation, without running anything
	@scripts/install compiler rustfmt clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --locked --quiet

doc: ## The documentation of the code, in target/doc
	@scripts/install compiler
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --locked

fuzz: ## Every fuzz target for FUZZ_SECONDS (needs a nightly toolchain)
	@scripts/install compiler fuzz
	@scripts/fuzz $(FUZZ_SECONDS)

deb: ## A Debian package, in target/debian
	@scripts/install compiler
	@scripts/deb
