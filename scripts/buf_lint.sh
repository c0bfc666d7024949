#!/bin/sh
# buf wants every import inside its workspace and would fetch google/type from its own registry; the installed
# googleapis-common-protos has the same files, so the workspace is put together in build/ from both.
set -eu
shared=$("$BIN/python" -c 'import pathlib, google.type as t; print(pathlib.Path(list(t.__path__)[0]).parents[1])')
rm -rf build/buf
mkdir -p build/buf/shared/google/type
cp -r protos/heixia build/buf/heixia
cp protos/buf.yaml build/buf/buf.yaml
cp "$shared/google/type/money.proto" build/buf/shared/google/type/
"$BIN/buf" lint build/buf --path build/buf/heixia
