# Every target makes .venv and installs what it needs, once; later calls do not touch the network.

PYTHON ?= python3
TORCH := torch==2.13.0
BESIDE_PTYCHI := pandas pydantic scikit-learn # what it imports, but for torchvision (docs/decisions/0008)
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq --constraint requirements.lock
LOCK_VENV := .venv-lock
PEERS := .venv-peers .venv-readers
PINNED := pyproject.toml requirements.lock service/compiled.pyx
PROOFS := container stack pod systemd
COMPOSE := .venv-compose
NETWORKS := /usr/lib/podman/netavark:netavark /usr/lib/podman/aardvark-dns:aardvark-dns
SKIPPED := the tests against it are skipped

.PHONY: help demo test long soak peers container bench lint style types layers lock clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/demo.stamp ## stream the shipped scan to the service and open the live page; ARGS="--once" passes arguments on
	@$(BIN)/ptycholive demo $(ARGS)

bench: $(VENV)/demo.stamp ## print the benchmark table; ARGS="--json bench.json" passes arguments on
	@$(BIN)/ptycholive bench $(ARGS)

test: lint ## lint, then run all tests; ARGS="-k ledger" passes arguments on to pytest
	@.ci/browser || echo "make: without Chromium the browser tests are skipped"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

long: $(VENV)/test.stamp peers ## run the tests that take long: soak, foreign senders, trainings; ARGS passes arguments on
	@$(BIN)/python -m pytest -m long $(ARGS)

soak: $(VENV)/test.stamp ## disturbed scans for ten minutes, or for MINUTES=60: ledgers exact, memory flat?
	@SOAK_MINUTES=$(or $(MINUTES),10) $(BIN)/python -m pytest -m long tests/journey/test_soak.py $(ARGS)

peers: $(PEERS:%=%/made.stamp) ## install the programs by others that tests/interop speak to (once, takes minutes)

lint: style types layers ## ruff, mypy and the floors of the house

style: $(VENV)/test.stamp
	@$(BIN)/ruff check --quiet --output-format concise
	@$(BIN)/ruff format --check --quiet

types: $(VENV)/test.stamp
	@$(BIN)/mypy

layers: $(VENV)/test.stamp
	@$(BIN)/lint-imports --no-logo

$(VENV)/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make: $(PYTHON) is missing or older than Python 3.11: try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "make: $(PYTHON) cannot make environments: install the package python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo.stamp: $(PINNED) | $(VENV)/made.stamp
	@echo "make: installing the service into $(VENV) (once)"
	@$(PIP) --editable '.[cpu]'
	@touch $@

# A wheel of torch for another device is as good: one that is there is kept.
$(VENV)/test.stamp: $(PINNED) | $(VENV)/made.stamp
	@echo "make: installing service, training and tests into $(VENV) (once, takes some minutes)"
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) $(TORCH)
	@$(PIP) --editable '.[cpu,training,test]' $(BESIDE_PTYCHI)
	@$(PIP) --no-deps ptychi
	@$(PIP) --editable '.[fast]' 2>/dev/null || echo "make: no dectris-compression here (is there a compiler?): $(SKIPPED)"
	@$(PIP) bitshuffle 2>/dev/null || echo "make: no bitshuffle here (is there a compiler?): $(SKIPPED)"
	@touch $(VENV)/demo.stamp $@

# Without it the tests are skipped, or fail where PEERS_REQUIRED is set.
$(PEERS:%=%/made.stamp): | $(VENV)/rtx.stamp
.venv-%/made.stamp: tests/interop/%.lock | $(VENV)/made.stamp
	@echo "make: installing programs by others, $*, into .venv-$* (once, takes some minutes)"
	@$(PYTHON) -m venv --clear .venv-$*
	@{ PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-$*/bin/pip install -qq --no-deps -r $< && touch $@; } \
		|| echo "make: they cannot be installed here: $(SKIPPED)"

$(VENV)/rtx.stamp: | $(VENV)/test.stamp
	@$(PIP) 'tensorrt-rtx>=1.7' 'cuda-bindings>=13.0' 2>/dev/null || echo "make: no tensorrt-rtx here: $(SKIPPED)"
	@touch $@

container: $(VENV)/test.stamp $(COMPOSE)/made.stamp ## build the image with podman, run it, the stack, the pod and the unit (root only; minutes); WITH=gpu: the GPU's too
	@.ci/packages podman:podman runc:runc iptables:iptables catatonit:catatonit kubectl:kubernetes-client $(NETWORKS)
	@PROVE_CONTAINER=$(or $(WITH),1) $(BIN)/python -m pytest -m long $(PROOFS:%=tests/deploy/test_%.py) $(ARGS)

lock: ## pin the newest releases of everything in requirements.lock
	@$(PYTHON) -m venv --clear $(LOCK_VENV)
	@$(LOCK_VENV)/bin/pip install -qq $(TORCH)
	@$(LOCK_VENV)/bin/pip install -qq --editable '.[cpu,fast,training,test]' bitshuffle $(BESIDE_PTYCHI)
	@$(LOCK_VENV)/bin/pip install -qq --no-deps ptychi
	@{ echo '# Releases that the tests passed with: constraints for pip. Made anew by `make lock`.'; \
		$(LOCK_VENV)/bin/pip freeze --exclude-editable --exclude torch --exclude triton \
			| grep -vE '^(nvidia|cuda)-' | LC_ALL=C sort -f; } > requirements.lock
	@rm -r $(LOCK_VENV)

clean: ## remove the environment, caches and builds; runs, results and artefacts stay
	@rm -rf $(VENV) $(LOCK_VENV) $(PEERS) $(COMPOSE) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find model service training tests -name __pycache__ -prune -exec rm -r {} +
