"""Evidence policies as files: TOML, whose members are Policy's under the names given there.

A file that says something unknown, or would check nothing, is refused: what a risk officer wrote down and what is
checked are the same.
"""

import difflib
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from enclave_api.attestation.policy import Policy
from enclave_api.errors import PolicyInvalid

POLICY_BYTES_MAX = 64 * 1024  # a hundred digests and their comments are a tenth of that
_TOLD_MAX = 5  # faults named at once
_WORDS = {"missing": "is missing", "extra_forbidden": "no such member"}


@dataclass(frozen=True)
class PolicyFile:
    """A policy, and SHA-256 (hex) of the file's bytes: what a manifest's `evidence_policy` names."""

    policy: Policy
    digest: str


def load_policy(path: Path) -> PolicyFile:
    """Reads a policy file; raises PolicyInvalid with each fault and its line, OSError where it cannot be read."""
    with path.open("rb") as file:
        content = file.read(POLICY_BYTES_MAX + 1)
    return parse_policy(content, path.name)


def parse_policy(content: bytes, name: str = "policy") -> PolicyFile:
    """Reads a policy from a file's bytes; raises PolicyInvalid with each fault and its line."""
    if len(content) > POLICY_BYTES_MAX:
        raise PolicyInvalid("size", public=f"{name}: more than {POLICY_BYTES_MAX} bytes")
    try:
        text = content.decode()
        policy = Policy.model_validate(tomllib.loads(text), by_alias=True, by_name=False)
    except ValidationError as error:
        raise PolicyInvalid("members", public=f"{name}: {_explain(error, text)}") from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number of thousands of digits, too deep
        raise PolicyInvalid("toml", public=f"{name}: {error}") from error
    if lacking := _checks_nothing(policy):
        raise PolicyInvalid("checks nothing", public=f"{name}: {lacking}")
    return PolicyFile(policy, hashlib.sha256(content).hexdigest())


def _checks_nothing(policy: Policy) -> str:
    if not (policy.simulated or policy.sev_snp or policy.tdx):
        return (
            "it accepts no format, so no evidence could ever pass: add a table [sev-snp] or [tdx] with roots and"
            " measurements, or accept_simulated = true for development"
        )
    if policy.simulated and not policy.code_digests:
        return (
            "accept_simulated = true without code_digests would check nothing of the enclave: name a digest"
            " (`heixia bank evidence-policy` writes that of this installation)"
        )
    return ""


def _explain(error: ValidationError, text: str) -> str:
    # a misspelt name first: what it leaves out is often the next fault
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    faults.sort(key=lambda item: item["type"] != "extra_forbidden")
    told = [_fault(item["loc"], item["type"], item["msg"], text) for item in faults[:_TOLD_MAX]]
    more = len(faults) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _fault(place: tuple[int | str, ...], kind: str, message: str, text: str) -> str:
    said = _WORDS.get(kind, re.sub(r"^Value error, ", "", message))
    shown = ".".join("".join(c if c.isprintable() else "?" for c in str(part)[:64]) for part in place)
    if kind == "extra_forbidden":
        said += _near(place)
    return f"line {_line(place, text)}: {shown}: {said}"


def _near(place: tuple[int | str, ...]) -> str:
    known = members(place[:-1])
    if found := difflib.get_close_matches(str(place[-1]), known, 1):
        return f", did you mean {found[0]}?"
    return f"; known are {', '.join(known)}" if known else ""


def members(table: tuple[int | str, ...] = ()) -> list[str]:
    """The names that a file may use in a table; () = outside of any. [] for a table that is not known."""
    model: type[BaseModel] | None = Policy
    for part in table:
        model = _tables(model).get(str(part)) if model else None
    return [str(field.validation_alias or name) for name, field in model.model_fields.items()] if model else []


def _tables(model: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    found = {}
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[str(field.validation_alias or name)] = kind
    return found


def _line(place: tuple[int | str, ...], text: str) -> int:
    # tomllib tells no lines: the last part of the place that a line begins with; 1 where there is none
    names = [str(part) for part in place if isinstance(part, str)]
    for length in range(len(names), 0, -1):
        table, key = ".".join(names[: length - 1]), names[length - 1]
        if found := _find(text, table, key):
            return found
    return 1


def _find(text: str, table: str, key: str) -> int:
    inside, whole = "", f"{table}.{key}" if table else key
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\[\]]+?)\s*\]", line):
            inside = re.sub(r"[\"' ]", "", header[1])
            if inside == whole:
                return number
        elif inside == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return 0
