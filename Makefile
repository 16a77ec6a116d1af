# Thin: every target is a few commands that can be run by hand.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export SLUICE_TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sluice/tools

# The shim is static: it runs on hosts whose C library we do not know.
shim_target := x86_64-unknown-linux-gnu
export SLUICE_CNI ?= $(CURDIR)/target/$(shim_target)/shim/sluice-cni

.PHONY: help build shim images manifests demo cluster cluster-down test bench lint proto-released fmt

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

build: ## agent, controller, stand-in proxy and demo (debug), shim (static, optimised)
	cargo build --workspace --bins
	@$(MAKE) --no-print-directory shim

shim:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build -p sluice-cni --profile shim --target $(shim_target)

images: ## images of agent, controller and stand-in proxy, in target/images/ (PROFILE=release for releases)
	@scripts/images $(PROFILE)

manifests: ## deploy/manifests/sluice.yaml from the chart
	@scripts/setup cluster
	@scripts/manifests >deploy/manifests/sluice.yaml.new && mv deploy/manifests/sluice.yaml.new deploy/manifests/sluice.yaml

demo: ## two nodes, real packets: a namespace is labelled and its pods are captured
	@scripts/setup demo
	@$(MAKE) --no-print-directory build
	@target/debug/demo

# For example CLUSTER="--proxy-mode nftables --family ipv6".
CLUSTER ?=
cluster: ## a two-node Kubernetes that stays, and how to look around; options in CLUSTER
	@scripts/setup cluster
	@scripts/test-images
	cargo build -p sluice-tests --bin cluster
	@target/debug/cluster up $(CLUSTER)

cluster-down: ## takes it away, also after a crash or a reboot
	@[ -x target/debug/cluster ] || cargo build -p sluice-tests --bin cluster
	@target/debug/cluster down

test: ## every tier; one line per tier at the end
	@scripts/setup test
	@scripts/test

bench: ## the budgets, side by side, of what is released; table in target/bench/
	@scripts/setup bench
	@scripts/test-images
	@scripts/images release
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target $(shim_target) -p sluice-agent -p sluice-controller -p sluice-tests --bins
	@SLUICE_IMAGE_PROFILE=release target/$(shim_target)/release/bench

lint: ## fmt, clippy, rustdoc, buf, cargo-deny
	@scripts/setup lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	$(SLUICE_TOOLS)/buf lint proto
	$(SLUICE_TOOLS)/buf breaking proto --against proto/released.binpb
	$(SLUICE_TOOLS)/cargo-deny --offline check bans licenses sources

proto-released: ## what later protocols must stay compatible with; renewed with a release
	@scripts/setup lint
	$(SLUICE_TOOLS)/buf build proto --exclude-source-info -o proto/released.binpb

fmt: ## format everything
	cargo fmt --all
	@scripts/setup lint
	$(SLUICE_TOOLS)/buf format -w proto
