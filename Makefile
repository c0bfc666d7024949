# Everything here works on a Linux machine that has Python >= 3.11 with venv and make; `make test` needs libseccomp2 too.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help demo test check bench redteam faults gen lock clean
help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

# The environment is rebuilt when what it is made from changes.
$(STAMP): pyproject.toml requirements/dev.lock
	@echo "Setting up .venv (about a minute with a warm package cache) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## Play the whole story in six acts
	@$(BIN)/heixia demo

test: $(STAMP) ## Run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP) ## Lint, types, floors, protos, freshness of generated code
	@BIN=$(BIN) sh scripts/check.sh

bench: $(STAMP) ## Measure; ratios against a bare service in the same run
	@$(BIN)/python -m bench

redteam: $(STAMP) ## Attack the walls at length: 10,000 calls of two tenants, leakage over 10,000 calls
	@HEIXIA_REDTEAM_CALLS=10000 $(BIN)/python -m pytest tests/redteam
	@$(BIN)/python -m tests.redteam.leakage --calls 10000 --real 1000

faults: $(STAMP) ## Fail and kill every call that writes, one a run, some 1,200 runs; check what is left
	@$(BIN)/python -m tests.faults

gen: $(STAMP) ## Regenerate protos/gen from protos/
	@BIN=$(BIN) sh scripts/generate.sh

lock: $(STAMP) ## Re-resolve the lock files (versions and hashes, no addresses)
	@BIN=$(BIN) sh scripts/lock.sh

clean: ## Remove the environment and everything built
	rm -rf .venv build dist
