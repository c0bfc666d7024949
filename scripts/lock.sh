#!/bin/sh
# Versions and hashes only: the address of a package index never enters a lock file.
set -eu
compile() { "$BIN/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
    --no-emit-index-url --no-emit-find-links --no-annotate pyproject.toml "$@"; }
compile --output-file requirements/server.lock
compile --extra bank --extra dev --output-file requirements/dev.lock
