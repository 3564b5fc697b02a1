# The two commands: `make run` and `make test`. `make help` lists the rest.
# Everything that is installed or built lives outside the clone, so that a fresh clone reuses it.

export MEDIATION_CACHE  ?= $(HOME)/.cache/mediation-engine
export CARGO_TARGET_DIR ?= $(MEDIATION_CACHE)/target

.DEFAULT_GOAL := help
.PHONY: help run plugins test quick soak bench setup

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

run: ## install what the build needs, build, start the engine on the embedded broker
	@scripts/setup.sh build
	@scripts/guests.sh plugins
	@cargo run --bin mediation-engine

plugins: ## build the bundled plugins: plugins/NAME.wasm
	@scripts/setup.sh build
	@scripts/guests.sh plugins

test: ## install and start what the tests need, run all of them (what continuous integration runs)
	@scripts/setup.sh test
	@scripts/test.sh all

quick: ## formatting, lints and unit tests only
	@scripts/setup.sh build
	@scripts/test.sh quick

soak: ## the long forms: 100,000 property cases, more sessions, flat-out runs ten times as long
	@scripts/setup.sh test
	@scripts/test.sh soak

bench: ## the benchmark, built for distribution, on a Kafka of its own (ARGS=--help: docs/benchmarks.md)
	@scripts/setup.sh test
	@cargo build --profile dist -p mediation-engine -p mediation-bench
	@MEDIATION_ENGINE=$(CARGO_TARGET_DIR)/dist/mediation-engine $(CARGO_TARGET_DIR)/dist/mediation-bench $(ARGS)

setup: ## only install what build and tests need
	@scripts/setup.sh test
