# `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The build is the long part on a fresh machine: 40 minutes is far beyond it. The tests themselves are bounded one by one.
TEST_TIMEOUT ?= 40m
# End-to-end tests start containers; more at once than this only makes each of them slower on two cores.
TEST_THREADS ?= 3
TEST_ARGS ?=
MINISTACK ?= $(CURDIR)/target/test-venv/bin/ministack

export CARGO_TERM_COLOR ?= auto

.PHONY: help demo demo-ecs test unit bench deny check-deploy fmt lint build clean-demo

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s $$'\t'

demo: ## a tour on this machine: deploy, edit, kill, tamper, roll back (installs Docker and nginx if it may)
	@scripts/demo.sh

demo-ecs: ## the same on ECS: an AWS emulator with real containers (installs Docker and the emulator if it may)
	@scripts/demo-ecs.sh

build: ## the release binary, target/release/holdfast
	cargo build --release --locked

test: ## every test, those against the real Docker Engine, nginx, registry, SSH server and AWS emulator included
	scripts/provision.sh --for test
	scripts/build-app.sh --repository holdfast-test v1 v2 v3 bad crash
	HOLDFAST_TEST_DOCKER=1 HOLDFAST_TEST_NGINX=1 HOLDFAST_TEST_REGISTRY=1 HOLDFAST_TEST_AWS=1 HOLDFAST_TEST_GIT=1 \
	HOLDFAST_MINISTACK=$(MINISTACK) PATH="$$PATH:/usr/sbin:/sbin" \
	timeout --kill-after=30s $(TEST_TIMEOUT) \
	cargo test --locked --all-targets --no-fail-fast $(TEST_ARGS) -- --test-threads=$(TEST_THREADS)

unit: ## the tests that need nothing but the toolchain
	cargo test --locked

bench: ## the figures of README.md, against the floor, in one run (installs Docker, nginx, an AWS emulator; about 20 minutes)
	scripts/provision.sh --for bench
	cargo build --release --locked
	benches/run.sh

check-deploy: ## deploy/: the linters of CloudFormation, GitHub workflows and shell, and the IAM policy
	@scripts/check-deploy.sh

deny: ## licences, bans, sources and advisories of every dependency
	@scripts/deny.sh

fmt: ## format
	cargo fmt --all

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings

clean-demo: ## remove whatever an interrupted tour left
	@scripts/demo.sh --clean
	@scripts/demo-ecs.sh --clean
