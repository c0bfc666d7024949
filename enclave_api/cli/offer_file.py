"""Files on a bank's machine: offer.yaml (what is sealed) and the sealed bundle.

product: zhongyuan/quick-loan
model: model.onnx          # beside this file; its inputs and output are named below
rules: rules.yaml          # optional
samples: samples.jsonl     # optional: {"vector": [...], "limit_yuan": n} a line, null = missing
levels: [0, 50000, 100000]
limit_valid_days: 30
data_max_age_days: 400
fields: [{name: tax.declaration.sales_12m, missing: nan}]
inputs: [{name: fields, dtype: float64, fields: [tax.declaration.sales_12m]}]
output: {name: score, index: 0}
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.message import DecodeError
from heixia.registry.v1 import bundle_pb2
from pydantic import BaseModel, ConfigDict, ValidationError

from enclave_api.client.bank import Offer
from enclave_api.errors import FolderNotEmpty
from model_registry.bundle import Sample, SealedBundle
from model_registry.convert import Converted, FieldSpec
from model_registry.errors import BundleInvalid, ManifestInvalid
from model_registry.manifest import ModelInput, ModelOutput, explain

FieldsOf = Callable[[Sequence[str]], list[FieldSpec]]


class _Field(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    missing: str | float | int = "nan"


class _OfferFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    product: str
    model: str
    rules: str | None = None
    samples: str | None = None
    levels: list[int]
    limit_valid_days: int = 30
    data_max_age_days: int = 400
    comment: str = ""
    fields: list[_Field]
    inputs: list[dict[str, Any]]
    output: dict[str, Any]


def read_offer(path: Path, fields_of: FieldsOf) -> tuple[Converted, Offer, list[Sample]]:
    """Reads offer.yaml and the files it names.

    Args:
        path: of offer.yaml, or of its folder.
        fields_of: what the catalogue says of named fields (Bank.fields).

    Raises:
        ManifestInvalid: a member is wrong, or a file cannot be read; says which.
    """
    path = path / "offer.yaml" if path.is_dir() else path
    try:
        read = yaml.safe_load(path.read_text())
        if not isinstance(read, dict):
            raise ManifestInvalid("offer", public=f"{path.name} is empty or no mapping")
        told = _OfferFile.model_validate(read)
        folder = path.parent
        model = (folder / told.model).read_bytes()
        rules = (folder / told.rules).read_text() if told.rules else ""
        lines = (folder / told.samples).read_text().splitlines() if told.samples else []
        inputs = tuple(ModelInput.model_validate(i) for i in told.inputs)
        output = ModelOutput.model_validate(told.output)
        samples = [_sample(json.loads(line)) for line in lines]
    except ValidationError as error:
        raise ManifestInvalid("offer", public=f"{path.name}: {explain(error)}") from error
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise ManifestInvalid("offer", public=f"{path.name}: {error}") from error
    if any(len(sample.vector) != len(told.fields) for sample in samples):
        raise ManifestInvalid("samples", public=f"{told.samples}: a vector has not {len(told.fields)} values")
    known = fields_of([f.name for f in told.fields])
    fields = tuple(replace(spec, missing=f.missing) for spec, f in zip(known, told.fields, strict=True))
    offer = Offer(told.product, told.levels, rules, told.limit_valid_days, told.data_max_age_days, told.comment)
    return Converted(model, fields, inputs, output), offer, samples


def read_samples(path: Path) -> list[Sample]:
    """Reads parity samples, a JSON object a line; raises ManifestInvalid."""
    try:
        return [_sample(json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestInvalid("samples", public=f"{path.name}: no samples, one JSON object a line") from error


def require_free(folder: Path) -> None:
    """Raises FolderNotEmpty where something is in a folder: a bank's files are never overwritten."""
    if folder.exists() and any(folder.iterdir()):
        raise FolderNotEmpty("offer", public=f"{folder} is not empty")


def write_offer(folder: Path, model: Converted, offer: Offer, samples: Sequence[Sample]) -> Path:
    """Writes offer.yaml, model.onnx, rules.yaml and samples.jsonl; returns the path of offer.yaml.

    Raises:
        FolderNotEmpty: a bank's files are never overwritten.
    """
    require_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.onnx)
    (folder / "rules.yaml").write_text(offer.rules)
    lines = [{"vector": [None if math.isnan(v) else v for v in s.vector], "limit_yuan": s.limit_yuan} for s in samples]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = {
        "product": offer.product,
        "comment": offer.comment,
        "model": "model.onnx",
        "rules": "rules.yaml",
        "samples": "samples.jsonl",
        "levels": list(offer.levels),
        "limit_valid_days": offer.limit_valid_days,
        "data_max_age_days": offer.data_max_age_days,
        "fields": [{"name": f.name, "missing": f.missing} for f in model.fields],
        "inputs": [json.loads(i.model_dump_json()) for i in model.inputs],
        "output": json.loads(model.output.model_dump_json()),
    }
    path = folder / "offer.yaml"
    path.write_text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
    return path


def write_bundle(path: Path, bundle: SealedBundle) -> None:
    """Writes a sealed bundle."""
    made = bundle_pb2.SealedBundleFile(
        manifest_jws=bundle.manifest_jws, sealed_keys=bundle.sealed_keys, ciphertext=bundle.ciphertext
    )
    path.write_bytes(made.SerializeToString())


def read_bundle(path: Path) -> SealedBundle:
    """Reads a sealed bundle; raises BundleInvalid where the file is none."""
    try:
        made = bundle_pb2.SealedBundleFile.FromString(path.read_bytes())
    except DecodeError as error:
        raise BundleInvalid("file", public=f"{path} is no sealed bundle") from error
    return SealedBundle(made.manifest_jws, tuple(made.sealed_keys), made.ciphertext)


def _sample(line: dict[str, Any]) -> Sample:
    return Sample(tuple(math.nan if v is None else float(v) for v in line["vector"]), int(line["limit_yuan"]))
