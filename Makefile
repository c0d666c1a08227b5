# The verbs of the project. `make` alone lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
# ONCE=1 ends the demo when everything has settled, instead of waiting for Ctrl-C.
ONCE ?=
# Options of the simulator and the benchmarks, e.g. make sim ARGS='--seed 7'
ARGS ?=

.PHONY: help setup check lint unit coverage compile compiled-tests native-tests kafka-tests container-tests test demo bench sim lab attack golden-rows fmt wheel lock sbom audit docs clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# Redone only when the lock file or pyproject.toml changed in content (a checkout alters mtimes).
setup: ## make .venv from the lock file and install seatflow in it
	@if cmp -s requirements-dev.lock $(VENV)/installed.lock \
	    && cmp -s pyproject.toml $(VENV)/installed.toml && $(PY) -c '' 2>/dev/null; then exit 0; fi; \
	set -e; python=; \
	for candidate in $(PYTHON) python3 python3.11 python3.12 python3.13; do \
	  if $$candidate -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
	      2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'make setup: Python 3.11 or later with its venv module is needed' \
	       '(Debian and Ubuntu: apt-get install python3-venv).' >&2; exit 1; \
	fi; \
	$(PY) -c '' 2>/dev/null || $$python -m venv --clear $(VENV); \
	if ! cmp -s requirements-dev.lock $(VENV)/installed.lock; then \
	  echo 'Installing the pinned dependencies into $(VENV) ...'; \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	    -r requirements-dev.lock; \
	fi; \
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	cp requirements-dev.lock $(VENV)/installed.lock; cp pyproject.toml $(VENV)/installed.toml; \
	echo 'Ready: $(VENV)/bin/seatflow'

lint:
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/codespell
	$(VENV)/bin/interrogate --quiet engine streams

# The plain modules, whether or not there are compiled ones: tests replace parts of them.
unit:
	SEATFLOW_PURE=1 $(PY) -m pytest -q -m 'not kafka and not slow' -n auto

# The plain modules: a compiled one cannot be measured.
coverage: setup ## the fast tests and the simulator, with a gate: branch coverage of the engine
	@rm -f .coverage .coverage.*
	SEATFLOW_PURE=1 $(PY) -m coverage run -m pytest -q -m 'not kafka and not slow' -n auto
	SEATFLOW_PURE=1 $(PY) -m coverage run -m engine.simulation.runner --seeds 30
	@$(PY) -m coverage combine --quiet
	@$(PY) -m coverage report

compile: setup ## the hot path by mypyc (half a minute; without a C compiler it stays plain)
	@$(PY) -c 'from streams.runtime import compiled; compiled.main()'

compiled-tests: compile
	$(PY) -m pytest -q -m 'not kafka and not slow' -n auto
	$(PY) -c 'import sys, streams, engine.simulation.runner; sys.exit(engine.simulation.runner.main(["--seeds", "500"]))'

# The functions in Cython against the plain ones. Compiling takes half a minute where sources of the
# hot path have changed, and nothing otherwise.
NATIVE_TESTS := tests/engine/native tests/engine/domain/test_deduplication.py tests/streams/contract/test_scanner.py
native-tests:
	@if command -v $${CC:-cc} > /dev/null; then \
	  $(MAKE) --no-print-directory compile && $(PY) -m pytest -q $(NATIVE_TESTS); \
	else \
	  echo; echo '*** NOT CHECKED: there is no C compiler, so the compiled functions were not compared with'; \
	  echo '*** the plain ones. Install one (Debian and Ubuntu: apt-get install gcc python3-dev).'; echo; \
	fi

kafka-tests: compile
	$(PY) -m pytest -v -m '(kafka or slow) and not containers' --durations=20 --durations-min=5

# Starts a Docker engine of its own, which needs root and the packages of tests/containers/install.sh.
container-tests: setup ## the image and the compose file, run for real (some five minutes; not part of `make test` yet)
	$(PY) -m pytest -v -s -m containers

check: setup ## format, lint, types, layers, spelling, and the tests without Kafka (about a minute)
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory native-tests

# `coverage` runs the tests of `unit`, so `unit` is not run besides. The last part names its slowest
# tests, and its summary is the last that is printed.
test: setup ## everything: check with the gate of coverage, the compiled modules, the tests on a real Kafka
	@set -e; times=; \
	for part in lint coverage native-tests compiled-tests; do \
	  begun=$$SECONDS; $(MAKE) --no-print-directory $$part; \
	  times+="$$(printf '%6d s  %s' $$((SECONDS - begun)) $$part)"$$'\n'; \
	done; \
	printf '\nUntil here:\n%s\n' "$$times"
	@$(MAKE) --no-print-directory kafka-tests

demo: compile ## runs the whole system on one machine (ONCE=1: ends when settled)
	@$(VENV)/bin/seatflow demo $(if $(ONCE),--once)

bench: compile ## the benchmarks
	@$(VENV)/bin/seatflow bench $(ARGS)

sim: setup ## the simulator of the engine, with faults (SEEDS=1000; SEED=7 for one)
	@$(PY) -m engine.simulation.runner $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

lab: compile ## the fault laboratory on real Kafka (E=name,... SEED=n; all: a quarter of an hour)
	@$(PY) -m tests.lab $(if $(E),E=$(E)) $(if $(SEED),SEED=$(SEED))

attack: compile ## attacks on every door beside another tenant's traffic (SECONDS=60 SEED=n)
	@$(PY) -m tests.attack $(if $(SECONDS),SECONDS=$(SECONDS)) $(if $(SEED),SEED=$(SEED))

golden-rows: setup ## rows of the present format for the tests (before a release, never after)
	SEATFLOW_PURE=1 PYTHONPATH=. $(PY) tests/golden/rows/generate.py

fmt: setup ## format the code and repair what the linter can
	@$(VENV)/bin/ruff check --fix-only --quiet .
	@$(VENV)/bin/ruff format .

wheel: setup ## dist/: a wheel with the hot path compiled for this Python, and a pure one
	@rm -rf build/lib* build/bdist* dist; \
	for pure in '' 1; do \
	  SEATFLOW_PURE_BUILD=$$pure $(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps \
	    --no-build-isolation --wheel-dir dist . || exit; rm -rf build/lib* build/bdist*; \
	done; ls -l dist

# `uv` is only needed here, so it lives in a directory of its own.
lock: setup ## renew the lock files (exact versions and hashes) from pyproject.toml
	@set -e; tool=$$(mktemp -d); trap 'rm -rf "$$tool"' EXIT; \
	$(PY) -m venv "$$tool/venv"; "$$tool/venv/bin/pip" install --quiet uv; \
	compile="$$tool/venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command 'make lock'"; \
	eval "$$compile --extra console --extra feeds pyproject.toml -o requirements.lock"; \
	eval "$$compile --extra console --extra feeds --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock"
	@$(MAKE) --no-print-directory setup

# The tools live in a directory of their own, like `uv`; the pinned dependencies in another, by hash.
sbom: ## dist/: a CycloneDX list of the image's dependencies, and their licences
	@set -e; tool=$$(mktemp -d); trap 'rm -rf "$$tool"' EXIT; mkdir -p dist; \
	version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	$(PY) -m venv "$$tool/venv"; $(PY) -m venv --without-pip "$$tool/app"; \
	pip="$$tool/venv/bin/pip --disable-pip-version-check --quiet"; \
	$$pip install 'cyclonedx-bom>=7,<8' 'pip-licenses>=5,<6'; \
	$$pip --python "$$tool/app/bin/python" install --no-deps --require-hashes -r requirements.lock; \
	"$$tool/venv/bin/cyclonedx-py" environment --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --of JSON -o "dist/seatflow-$$version.cdx.json" "$$tool/app/bin/python"; \
	"$$tool/venv/bin/pip-licenses" --python "$$tool/app/bin/python" --from mixed --format markdown \
	  --order license --with-urls --output-file "dist/seatflow-$$version-licences.md"; \
	ls -l dist/*.cdx.json dist/*-licences.md

audit: ## asks the advisory databases about the pinned dependencies (pip-audit)
	@set -e; tool=$$(mktemp -d); trap 'rm -rf "$$tool"' EXIT; \
	$(PY) -m venv "$$tool/venv"; "$$tool/venv/bin/pip" install --quiet pip-audit; \
	"$$tool/venv/bin/pip-audit" --strict --require-hashes --disable-pip --requirement requirements.lock

docs: setup ## the site, and docs/reference from the tables in the code
	@SEATFLOW_PURE=1 $(PY) -m streams.docgen.reference
	@$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo 'Open docs/_build/html/index.html'

clean: ## remove what can be made again (.venv included; the Kafka jars' cache stays)
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .seatflow
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
