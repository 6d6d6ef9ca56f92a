# `make demo` and `make test` are all that a newcomer needs; both begin with `make install`.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FRONT_END := $(shell find labextension -type f -not -path '*/node_modules/*' -not -path '*/lib/*' -not -name '*.tsbuildinfo' 2>/dev/null)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Three at a time on two cores, a file each: much of a slow one waits for windows and processes. In the order that
# tests/suite_order.py gives, so no long one comes last.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install chromium demo docs test suite screenshots coverage test-long mutation fuzz bench bench-peers lint lint-front clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) chromium ## the venv with everything that demo and tests need, and the JupyterLab extension

$(STAMP): pyproject.toml constraints.txt hatch_build.py jupyter-config/pot_lab.json $(FRONT_END)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3.11"; exit 1; }
	@if test -x $(BIN)/python && ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "$(VENV) has $$($(BIN)/python --version 2>&1), and Python 3.11 or newer is needed; remove it: rm -r $(VENV)"; exit 1; fi
	@test -x $(BIN)/python || { echo "install: making $(VENV) with $$("$(PYTHON)" --version)"; "$(PYTHON)" -m venv $(VENV); }
	@echo "install: packages into $(VENV); the first time takes some minutes and about 1 GB, mostly torch"
	@set -o pipefail; $(BIN)/python -m pip install --constraint constraints.txt --editable '.[test,docs]' \
		| $(BIN)/python .ci/progress.py constraints.txt
	@touch $@
	@echo "install: done; activate it with 'source $(BIN)/activate', or write $(BIN)/pot-lab"

chromium: # for the browser tests; they are skipped, with this reason, where it cannot be had
	@if command -v chromium chromium-browser google-chrome >/dev/null; then :; \
	elif command -v apt-get >/dev/null && { [ "$$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then \
		echo "install: chromium by apt-get, for the browser tests"; \
		as_root=$$([ "$$(id -u)" = 0 ] || echo "sudo -n"); \
		{ $$as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -qq -y --no-install-recommends chromium; } \
			</dev/null >/dev/null 2>&1 || echo "chromium could not be installed; the browser tests will be skipped"; \
	else echo "no chromium here; the browser tests will be skipped"; fi

demo: install ## one whole order on a local testnet, from a notebook to a payout
	$(BIN)/pot-lab demo

lint: install lint-front ## ruff, mypy, the import contracts; eslint, prettier and tsc for the extension
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-front: # skipped, with this reason, where Node.js is missing or too old
	@if ! command -v npm >/dev/null || ! node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)'; then \
		echo "no Node.js 20 or newer here; eslint, prettier and tsc are skipped"; exit 0; fi; \
	set -e; cd labextension; \
	[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; \
	npm run --silent lint

docs: install ## the documentation as a site in build/docs; a broken link is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	@echo "docs: open build/docs/index.html"

test: lint docs suite ## lint, docs and the whole suite (at most 25 minutes on 2 cores)

suite: install ## the suite alone
	$(PYTEST)

PICTURES := panel-form-quote panel-order-tab job-tab order-view

screenshots: install ## the pictures of the guide, as the browser tests take them
	$(BIN)/python -m pytest -q tests/labextension/test_panel.py tests/labextension/test_work.py tests/labextension/test_order_view.py
	cp $(PICTURES:%=test-results/%.png) docs/images/

# Percent of the lines of each room that the rooms' own tests must run, a point below what was there last.
FLOORS := agreement:99 consensus:96.8 crypto:98.8 protocol:98.2 scoring:95.2
COVERAGE := COVERAGE_FILE=$(CURDIR)/build/coverage/data $(BIN)/python -m coverage
coverage: install ## the lines that are tested of the rooms whose mistakes cost money or agreement, each against its floor
	@rm -rf build/coverage && mkdir -p build/coverage
	$(COVERAGE) run -m pytest -n 2 --dist loadfile tests/agreement tests/attacks tests/consensus tests/crypto tests/protocol tests/scoring
	@$(COVERAGE) combine --quiet
	@set -e; for each in $(FLOORS); do room=$${each%:*}; floor=$${each#*:}; \
		found=$$($(COVERAGE) report --include="pot_lab/$$room/*" --format=total --precision=1); \
		echo "$$room: $$found % of the lines (at least $$floor)"; \
		$(COVERAGE) report --include="pot_lab/$$room/*" --fail-under="$$floor" --format=total --precision=1 >/dev/null; done

test-long: lint docs ## the whole suite and the long tests
	$(PYTEST) -m "long or not long"

mutation: install ## change the rules on purpose, one place at a time: do the tests notice? (an hour or two)
	$(BIN)/python -m tests.mutation.run

fuzz: install ## ten minutes of coverage-guided fuzzing of every reader of outside bytes
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python -m tests.chaos.fuzz --seconds 600

bench: install ## every figure of docs/reference/benchmarks.md, into benchmarks/results
	@set -e; for program in $(filter-out benchmarks/report.py, $(wildcard benchmarks/*.py)); do \
		name=$$(basename "$$program" .py); echo "== $$name"; \
		$(BIN)/python "$$program" --output "benchmarks/results/$$name.json"; done

PEERS ?=
NODES ?= 10 30
bench-peers: install ## Table 4 beside programs that you have: PEERS="--peer 'name=command {nodes} {bytes}'"
	$(BIN)/python benchmarks/peers.py --nodes $(NODES) $(PEERS)

clean: ## everything that was made, the venv too
	rm -rf $(VENV) build dist pot_lab/labextension pot_lab/notebook/static labextension/lib labextension/node_modules labextension/*.tsbuildinfo
	rm -rf docs/reference/generated
	rm -rf .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
