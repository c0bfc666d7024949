"""`heixia bank inspect`: the enclave's own admission on a bank's own machine, offline, behind the same walls.

The files are read here and parsed in walled processes alone, one for each file.
"""

import base64
import binascii
import json
import stat
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from enclave_api.cli.common import JsonOption, plain_errors, show
from model_registry.errors import ManifestInvalid, Reason

MANIFEST_FILE_BYTES_MAX = 2**20  # as a compact JWS a manifest has at most half of it


@dataclass(frozen=True)
class Against:
    """What models are judged against; empty = each by itself."""

    manifest: bytes = b""
    codes: Mapping[str, tuple[str, ...]] | None = None
    rules: bytes = b""
    samples: Sequence[tuple[Sequence[float], int]] = ()


def inspect(
    models: Annotated[list[Path], typer.Argument(help="ONNX files.", metavar="MODEL.onnx...")],
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Judge against it: a manifest's JSON, a manifest JWS (its signature is not checked), offer.yaml."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the enclave would say of ONNX models, and why: offline, behind the same walls; exit 0 = all admitted."""
    import asyncio

    with plain_errors():
        against = read_against(manifest) if manifest is not None else Against()
        if not asyncio.run(_inspect_all(models, against, as_json)):
            raise typer.Exit(1)


async def _inspect_all(models: Sequence[Path], against: Against, as_json: bool) -> bool:
    from sandbox.jail.pool import JailPool
    from sandbox.jail.settings import JailSettings

    pool = await JailPool.start(JailSettings())
    admitted = True
    try:
        missing = [name for name, wall in pool.walls.items() if not wall["on"]]
        if missing:
            print(f"warning: walls missing on this machine: {', '.join(missing)}", file=sys.stderr)  # noqa: T201
        async for verdict in verdicts(pool, models, against):
            admitted = admitted and verdict["admitted"]
            show(verdict, True) if as_json else _show(verdict)
    finally:
        await pool.close()
    return admitted


async def verdicts(pool: Any, models: Sequence[Path], against: Against) -> AsyncIterator[dict[str, Any]]:
    """One verdict a file, in order, whatever the files are."""
    from heixia.registry.v1 import bundle_pb2

    from sandbox.errors import JailUnavailable
    from sandbox.jail.pool import Program

    samples = [bundle_pb2.ParitySample(vector=vector, limit_yuan=limit) for vector, limit in against.samples]
    for path in models:
        body, reason = read_model(path)
        if reason is not None:
            yield _verdict(path, [reason], {})
            continue
        content = bundle_pb2.BundleContent(model=body, rules=against.rules, samples=samples)
        program = Program(against.manifest, content.SerializeToString(), against.codes or {})
        try:
            report = await pool.inspect(program)
        except JailUnavailable:
            # a model may have brought down what its walls stand on; the files after it are judged all the same
            yield _verdict(path, [Reason("jail_unavailable", "walls", "no walled process could be had; try again")], {})
            continue
        yield _verdict(path, report.reasons, report.facts)


def _verdict(path: Path, reasons: Sequence[Reason], facts: Mapping[str, Any]) -> dict[str, Any]:
    told = [{"code": r.code, "where": r.where, "text": r.text} for r in reasons]
    return {"file": str(path), "admitted": not told, "reasons": told, "facts": dict(facts)}


def read_model(path: Path) -> tuple[bytes, Reason | None]:
    """A file's bytes, unparsed, or why it cannot be a model: missing, no file, too large."""
    from model_registry.admission.bounds import MODEL_BYTES_MAX

    def no(code: str, text: str) -> tuple[bytes, Reason]:
        return b"", Reason(code, "file", text)

    try:
        found = path.stat()
        # not opened before that: a pipe or device would be waited for
        if not stat.S_ISREG(found.st_mode):
            text = "it is a folder; name the .onnx files in it" if stat.S_ISDIR(found.st_mode) else "it is no file"
            return no("file_unusable", text)
        if found.st_size > MODEL_BYTES_MAX:
            return no("model_too_large", f"it has {found.st_size} bytes, a model at most {MODEL_BYTES_MAX}")
        with path.open("rb") as file:
            return file.read(MODEL_BYTES_MAX + 1), None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return no("file_unusable", f"it cannot be read: {reason or 'its name'}")


def read_against(path: Path) -> Against:
    """Reads a manifest: JSON, compact JWS, or offer.yaml; raises ManifestInvalid where it is none of them."""
    from sandbox.vault.catalog import load_catalog

    with path.open("rb") as file:
        raw = file.read(MANIFEST_FILE_BYTES_MAX + 1)
    if len(raw) > MANIFEST_FILE_BYTES_MAX:
        raise ManifestInvalid("size", public=f"{path} has more than {MANIFEST_FILE_BYTES_MAX} bytes")
    catalog = load_catalog()
    if path.suffix in (".yaml", ".yml"):
        return _offer(path, catalog)
    payload = raw if raw.lstrip().startswith(b"{") else _payload(path, raw)
    try:
        members = json.loads(payload)
        # rules are not among the files: their digest cannot be compared
        members.get("digests", {}).pop("rules", None)
        fields = [(str(f["name"]), f["type"]) for f in members["fields"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ManifestInvalid("manifest", public=f"{path} is no manifest: JSON, JWS or offer.yaml") from error
    return Against(json.dumps(members).encode(), _codes(catalog, fields))


def _payload(path: Path, raw: bytes) -> bytes:
    parts = raw.strip().split(b".")
    try:
        if len(parts) != 3:
            raise ValueError
        return base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4))
    except (ValueError, binascii.Error) as error:
        raise ManifestInvalid("manifest", public=f"{path} is no manifest: JSON, JWS or offer.yaml") from error


def _codes(catalog: Any, fields: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Code lists of the packaged catalogue; a category that it does not have gets one without meaning."""
    return {
        name: tuple(catalog.fields[name].codes) if name in catalog.fields else ("",)
        for name, kind in fields
        if kind == "category"
    }


def _offer(path: Path, catalog: Any) -> Against:
    from enclave_api.cli.offer_file import read_offer
    from model_registry.convert import FieldSpec

    converted, offer, samples = read_offer(path, lambda names: [FieldSpec.of(name, catalog.fields) for name in names])
    manifest = {
        "fields": [{"name": f.name, "type": f.type, "missing": f.missing} for f in converted.fields],
        "inputs": [json.loads(i.model_dump_json()) for i in converted.inputs],
        "output": json.loads(converted.output.model_dump_json()),
        "levels": list(offer.levels),
    }
    codes = {f.name: tuple(f.codes) for f in converted.fields if f.type == "category"}
    told = [(sample.vector, sample.limit_yuan) for sample in samples]
    return Against(json.dumps(manifest).encode(), codes, offer.rules.encode(), told)


def _show(verdict: Mapping[str, Any]) -> None:
    print(f"{'admitted' if verdict['admitted'] else 'REFUSED '}  {verdict['file']}")  # noqa: T201
    for reason in verdict["reasons"]:
        print(f"  {reason['code']} at {reason['where']}: {reason['text']}")  # noqa: T201
    facts = dict(verdict["facts"])
    if output := facts.get("output"):
        facts["score"] = f"{output['name']}[{output['index']}]"
    shown = ("producer", "nodes", "parameters", "work", "load_ms", "run_cpu_us", "memory_bytes", "zipmap", "score")
    if line := ", ".join(f"{name} {facts[name]}" for name in shown if facts.get(name) not in (None, "")):
        print(f"  {line}")  # noqa: T201
