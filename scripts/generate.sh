#!/bin/sh
# Rebuilds protos/gen from protos/heixia. Empties the folder first, so that a removed proto leaves nothing behind.
set -eu
out=protos/gen
shared=$("$BIN/python" -c 'import pathlib, google.type as t; print(pathlib.Path(list(t.__path__)[0]).parents[1])')
rm -rf "$out/heixia"
mkdir -p "$out"
PATH="$BIN:$PATH" "$BIN/python" -m grpc_tools.protoc -I protos -I "$shared" \
    --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
    $(find protos/heixia -name '*.proto' | sort)
find "$out/heixia" -type d -exec touch {}/__init__.py \;
