"""What runs inside the walls: admission, the model, the rules, and the parity samples.

`Scorer` has no process, socket or file of its own, so a bank runs the very same code offline to compute its limits.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

# onnxruntime >= 1.29 for Linux reports model hashes and host facts to its vendor unless told not to before import, and
# keeps a thread and three open files for it: a zygote must have neither
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnxruntime
from google.protobuf.message import DecodeError
from heixia.registry.v1 import bundle_pb2

from model_registry.admission import inspect_model
from model_registry.errors import ModelRefused, Reason, RulesInvalid
from model_registry.rules import Rules, compile_rules
from sandbox.gate import snap
from sandbox.jail.contract import Contract, Vector, parse_contract
from sandbox.jail.status import ScoreStatus

REASONS_MAX = 50  # as in admission: a report is read by people


class Scorer:
    """A loaded version: vector in, limit in yuan out."""

    def __init__(self, contract: Contract, session: onnxruntime.InferenceSession, rules: Rules | None) -> None:
        self._contract = contract
        self._session = session
        self._rules = rules
        self._pick = contract.picker(rules.fields if rules else ())
        self._zeros = bytes(contract.vector_bytes)
        self._outputs = [contract.view.output_name]
        self._index = contract.view.output_index

    @classmethod
    def load(cls, manifest: bytes, content: bytes, codes: Mapping[str, Sequence[str]]) -> Self:
        """Admit and load a bundle's content.

        (1) manifest (2) content (3) admission (4) rules (5) load (6) run twice (7) parity samples.

        Args:
            manifest: the manifest's JSON payload.
            content: serialised heixia.registry.v1.BundleContent, a stranger's bytes.
            codes: full field name → code list, for the manifest's category fields.

        Raises:
            ModelRefused: with every reason of the step that failed.
        """
        contract = parse_contract(manifest, codes)  # (1)
        try:
            bundle = bundle_pb2.BundleContent.FromString(content)  # (2)
        except DecodeError:
            raise _refused("content_invalid", "bundle", "the content is not a BundleContent message") from None
        _check_digests(bundle, contract)
        reasons = inspect_model(bundle.model, contract.view)  # (3)
        rules, rule_reasons = _rules(bundle.rules, contract)  # (4)
        if reasons or rule_reasons:
            raise ModelRefused([*reasons, *rule_reasons][:REASONS_MAX])
        scorer = cls(contract, _session(bundle.model), rules)  # (5)
        scorer._first_run()  # (6)
        scorer._check_parity(bundle.samples)  # (7)
        return scorer

    def raw_score(self, vector: bytes) -> float:
        """The model's output before rules, for parity checks and tests; never leaves the walls.

        Args:
            vector: eight bytes a field, little-endian float64, in manifest order; NaN = missing.

        Returns:
            NaN where a missing field declines.

        Raises:
            ModelRefused: the vector is impossible for the manifest's fields, the model failed on it, or returned no
                such number.
        """
        numbers = self._contract.read(vector)
        if numbers is None:
            raise _refused("vector_invalid", "vector", "a value is impossible for its field, or the length is wrong")
        feeds = self._contract.feeds(numbers)
        return float("nan") if feeds is None else self._run(feeds)

    def limit(self, vector: bytes) -> tuple[ScoreStatus, float]:
        """The limit in yuan before snapping; 0.0 unless the status is OK. Never raises for a model's fault."""
        numbers = self._contract.read(vector)
        if numbers is None:
            return ScoreStatus.BAD_REQUEST, 0.0
        feeds = self._contract.feeds(numbers)
        if feeds is None:
            return ScoreStatus.NO_OFFER, 0.0
        try:
            score = self._run(feeds)
        except ModelRefused:
            return ScoreStatus.MODEL_FAILURE, 0.0
        if not np.isfinite(score):
            return ScoreStatus.MODEL_FAILURE, 0.0
        amount = self._amount(score, numbers)
        return (ScoreStatus.NO_OFFER, 0.0) if amount is None else (ScoreStatus.OK, amount)

    def level(self, vector: bytes) -> int:
        """The limit as a caller would get it: snapped to the manifest's levels, 0 = no offer."""
        return snap(self.limit(vector)[1], self._contract.levels)

    def warm_up(self) -> None:
        """Run the whole path once, so that a forked child finds memory allocated and code touched."""
        self.limit(self._zeros)

    def _amount(self, score: float, numbers: Vector) -> float | None:
        if self._rules is None:
            return score if score >= 0 else None
        return self._rules.limit(score, self._pick(numbers))

    def _run(self, feeds: dict[str, npt.NDArray[Any]]) -> float:
        row = self._raw(feeds)
        if self._index >= row.size:
            raise _refused("output_missing", "output", f"the output row has no element {self._index}")
        return float(row[self._index])

    def _raw(self, feeds: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        try:
            output = self._session.run(self._outputs, feeds)[0]
        except Exception as error:  # onnxruntime derives its errors from RuntimeError, ValueError and bare Exception
            raise _refused("model_run_failed", "model", _short(error)) from None
        if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiub":
            raise _refused("output_not_number", "output", "the model returned no tensor of numbers")
        return output.reshape(-1)

    def _first_run(self) -> None:
        feeds = self._contract.feeds(np.zeros(len(self._contract.fields)))
        if feeds is None:  # zeros are not missing
            raise _refused("manifest_invalid", "manifest", "no inputs")
        self._run(feeds)
        if self._raw(feeds).tobytes() != self._raw(feeds).tobytes():
            raise _refused("model_not_repeatable", "model", "two runs on the same row gave different bits")

    def _check_parity(self, samples: Sequence[bundle_pb2.ParitySample]) -> None:
        reasons = [
            Reason("parity_mismatch", f"sample {number}", "the sandbox computes another limit than the bank did")
            for number, sample in enumerate(samples)
            if self._level_of(sample) != sample.limit_yuan
        ]
        if reasons:
            raise ModelRefused(reasons[:REASONS_MAX])

    def _level_of(self, sample: bundle_pb2.ParitySample) -> int | None:
        vector = np.array(sample.vector, dtype="<f8").tobytes()
        status, value = self.limit(vector)
        if status in (ScoreStatus.BAD_REQUEST, ScoreStatus.MODEL_FAILURE):
            return None
        return snap(value, self._contract.levels)


def _check_digests(bundle: bundle_pb2.BundleContent, contract: Contract) -> None:
    for part, body in (("model", bundle.model), ("rules", bundle.rules)):
        if contract.digests.get(part, digest := hashlib.sha256(body).hexdigest()) != digest:
            raise _refused("digest_mismatch", part, "not the one whose digest the manifest declares")


def _rules(text: bytes, contract: Contract) -> tuple[Rules | None, list[Reason]]:
    if not text:
        return None, []
    kinds = {field.name: field.kind for field in contract.fields}
    codes = {field.name: field.codes for field in contract.fields if field.kind == "category"}
    try:
        return compile_rules(text, kinds, codes), []
    except RulesInvalid as error:
        places = [(f"rules {p.line}:{p.column}", f"{p.text}; {p.hint}" if p.hint else p.text) for p in error.problems]
        return None, [Reason("rules_invalid", where, text) for where, text in places]


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the process must stay single-threaded to fork
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # messages may hold names and values; nothing of a model is logged
    # other formats than ONNX (its own FlatBuffers one) have not passed admission
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see _raw
        raise _refused("model_load_failed", "model", _short(error)) from None


def _refused(code: str, where: str, text: str) -> ModelRefused:
    return ModelRefused([Reason(code, where, text)])


def _short(error: Exception) -> str:
    """First line of a runtime's message; it goes to the model's owner alone."""
    return "".join(c if c.isprintable() else " " for c in str(error))[:200] or type(error).__name__
