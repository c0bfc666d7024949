#!/bin/sh
# Everything `make check` promises; stops at the first that fails.
set -eu
export BIN
step() { printf '%-28s' "$1"; shift; if out=$("$@" 2>&1); then echo ok; else echo FAILED; echo "$out"; exit 1; fi; }
fresh() { sh scripts/generate.sh && test -z "$(git status --porcelain protos/gen)"; }
step "ruff (lint)" "$BIN/ruff" check .
step "ruff (format)" "$BIN/ruff" format --check .
step "mypy --strict" "$BIN/mypy"
step "floors (import-linter)" "$BIN/lint-imports"
step "buf lint" sh scripts/buf_lint.sh
step "generated code is fresh" fresh
