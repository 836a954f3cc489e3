# Every command a person needs. `make` alone prints them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python

.venv/.ready: requirements/dev.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet --require-hashes -r requirements/uv.txt
	.venv/bin/uv pip sync --quiet --require-hashes requirements/dev.txt
	touch $@

build: .venv/.ready ## compile the engines into the environment
	@mkdir -p target && flock target/.build-lock env VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/maturin develop --uv --quiet --profile fast

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build help
