"""What runs inside the walls: admission, the model, the rules, and the parity samples.

`Scorer` has no process, socket or file of its own, so a bank runs the very same code offline to compute its limits.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

# onnxruntime >= 1.29 for Linux reports model hashes and host facts to its vendor unless told not to before import, and
# keeps a thread and three open files for it: a zygote must have neither
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnxruntime
from google.protobuf.message import DecodeError
from heixia.registry.v1 import bundle_pb2

from model_registry.admission import admit
from model_registry.errors import ModelRefused, Reason, RulesInvalid
from model_registry.rules import Rules
from model_registry.rules.cases import check_rules
from sandbox.gate import snap
from sandbox.jail.contract import Contract, Vector, contract_of, parse_contract, trial_rows
from sandbox.jail.measure import MEMORY_BYTES_MAX, RUN_CPU_US_MAX, allocated_bytes, clock_ms, cpu_us
from sandbox.jail.status import ScoreStatus

REASONS_MAX = 50  # as in admission: a report is read by people
TRIALS_MAX = 34  # two rows of our own, and the bank's samples as far as they help


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
    def load(
        cls,
        manifest: bytes,
        content: bytes,
        codes: Mapping[str, Sequence[str]],
        facts: dict[str, Any] | None = None,
        base: bytes = b"",
    ) -> Self:
        """Admit and load a bundle's content.

        (1) manifest (2) content (3) admission (4) rules (5) load (6) trial runs (7) parity samples.

        Args:
            manifest: the manifest's JSON payload; empty = each column of each input is a field of its own.
            content: serialised heixia.registry.v1.BundleContent, a stranger's bytes.
            codes: full field name → code list, for the manifest's category fields.
            facts: filled with what is learnt of the model, also where it is refused.
            base: the content that holds the model, where `content` holds rules and samples alone.

        Raises:
            ModelRefused: with every reason of the step that failed.
        """
        facts = {} if facts is None else facts
        declared = parse_contract(manifest, codes) if manifest else None  # (1)
        bundle = _merged(content, base)  # (2)
        if declared is not None:
            _check_digests(bundle, declared)
        admission = admit(bundle.model, declared.view if declared is not None else None)  # (3)
        facts.update(admission.facts)
        rules, rule_reasons = _rules(bundle.rules, declared)  # (4)
        if admission.view is None or rule_reasons:
            raise ModelRefused([*admission.reasons, *rule_reasons][:REASONS_MAX])
        contract = declared or contract_of(admission.view, admission.categories)
        before, begun = allocated_bytes(), clock_ms()
        scorer = cls(replace(contract, view=admission.view), _session(admission.runnable), rules)  # (5)
        facts["load_ms"] = round(clock_ms() - begun, 3)
        rows = [*trial_rows(contract, admission.categories), *(np.array(s.vector, "<f8") for s in bundle.samples)]
        scorer._try(rows, before, facts)  # (6)
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

    def _try(self, rows: Sequence[Vector], before: int, facts: dict[str, Any]) -> None:
        """Run rows, each twice: the same bits, within the bounds. A row that the model cannot read is no reason."""
        failure = _refused("model_run_failed", "model", "no trial row can be fed to the model")
        spent: list[float] = []
        for row in rows[:TRIALS_MAX]:
            feeds = self._contract.feeds(row) if len(row) == len(self._contract.fields) else None
            if feeds is None:
                continue
            try:
                begun = cpu_us()
                first, between = self._raw(feeds), cpu_us()
                second, taken = self._raw(feeds), min(between - begun, cpu_us() - between)  # a machine may stumble once
            except ModelRefused as error:
                failure = error if not spent else failure
                continue
            if self._index >= first.size:
                raise _refused("output_missing", "output", f"the output row has no element {self._index}")
            if first.tobytes() != second.tobytes():
                raise _refused("model_not_repeatable", "model", "two runs on the same row gave different bits")
            spent.append(taken)
        if not spent:
            raise failure
        facts |= {"deterministic": True, "trial_rows": len(spent), "run_cpu_us": round(max(spent), 1)}
        facts["memory_bytes"] = max(0, allocated_bytes() - before)
        _check_measured(facts["run_cpu_us"], facts["memory_bytes"])

    def _check_parity(self, samples: Sequence[bundle_pb2.ParitySample]) -> None:
        reasons = [reason for number, sample in enumerate(samples) if (reason := self._differs(number, sample))]
        if reasons:
            raise ModelRefused(reasons[:REASONS_MAX])

    def _differs(self, number: int, sample: bundle_pb2.ParitySample) -> Reason | None:
        """Why a sample's limit is not the bank's; None where it is."""
        vector = np.array(sample.vector, dtype="<f8")
        level = self._level_of(vector)
        if level == sample.limit_yuan:
            return None
        if level is None:
            text = (
                f"the bank says {sample.limit_yuan}, the sandbox cannot score the row: impossible values or no number"
            )
            return Reason("parity_mismatch", f"sample {number}", text)
        text = f"the bank says {sample.limit_yuan}, the sandbox computes {level}"
        if sample.limit_yuan in self._levels_nearby(vector):
            way = "a value lies within one float32 step of a threshold: convert with doubles (`heixia bank convert`)"
            return Reason("parity_flip", f"sample {number}", f"{text}; {way}, or leave rounding to your side too")
        return Reason("parity_mismatch", f"sample {number}", text)

    def _levels_nearby(self, vector: Vector) -> set[int | None]:
        """The levels of rows whose numbers are the next float32 below or above."""
        whole = np.array([field.kind != "number" for field in self._contract.fields])
        with np.errstate(over="ignore"):
            single = vector.astype(np.float32)
        steps = [np.nextafter(single, np.float32(to)).astype("<f8") for to in (-np.inf, np.inf)]
        return {self._level_of(np.where(whole, vector, near)) for near in (single.astype("<f8"), *steps)}

    def _level_of(self, vector: Vector) -> int | None:
        status, value = self.limit(vector.tobytes())
        if status in (ScoreStatus.BAD_REQUEST, ScoreStatus.MODEL_FAILURE):
            return None
        return snap(value, self._contract.levels)


def _check_measured(run_cpu_us: float, memory_bytes: int) -> None:
    if run_cpu_us > RUN_CPU_US_MAX:
        text = f"one row took {run_cpu_us:.0f} µs of CPU, the bound is {RUN_CPU_US_MAX}; shrink it"
        raise _refused("model_too_slow", "model", text)
    if memory_bytes > MEMORY_BYTES_MAX:
        text = f"loaded it takes {memory_bytes} bytes, the bound is {MEMORY_BYTES_MAX}; shrink it"
        raise _refused("model_too_heavy", "model", text)


def _merged(content: bytes, base: bytes) -> bundle_pb2.BundleContent:
    """A bundle's content; one of rules alone with the model of another. The digests say whether it is the right one."""
    try:
        bundle = bundle_pb2.BundleContent.FromString(content)
        if base and bundle.model:
            raise _refused("content_invalid", "model", "rules that are replaced alone come without a model")
        if base:
            bundle.model = bundle_pb2.BundleContent.FromString(base).model
    except DecodeError:
        raise _refused("content_invalid", "bundle", "the content is not a BundleContent message") from None
    return bundle


def _check_digests(bundle: bundle_pb2.BundleContent, contract: Contract) -> None:
    for part, body in (("model", bundle.model), ("rules", bundle.rules)):
        if contract.digests.get(part, digest := hashlib.sha256(body).hexdigest()) != digest:
            raise _refused("digest_mismatch", part, "not the one whose digest the manifest declares")


def _rules(text: bytes, contract: Contract | None) -> tuple[Rules | None, list[Reason]]:
    if not text or contract is None:  # rules are over the fields of a manifest
        return None, []
    kinds = {field.name: field.kind for field in contract.fields}
    codes = {field.name: field.codes for field in contract.fields if field.kind == "category"}
    try:
        return check_rules(text, kinds, codes, lambda yuan: snap(yuan, contract.levels)), []
    except RulesInvalid as error:
        places = [(f"rules {p.line}:{p.column}", f"{p.text}; {p.hint}" if p.hint else p.text) for p in error.problems]
        return None, [Reason(error.code, where, text) for where, text in places]


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
