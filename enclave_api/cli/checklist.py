"""A verdict on evidence, printed: a checklist for people, an object a line for programs."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from enclave_api.attestation.steps import Step
from enclave_api.attestation.verify import Verdict

_MARKS = {"passed": ("✓", "green"), "failed": ("✗", "bold red"), "skipped": ("–", "dim")}
_SHOWN = ("hpke_key_id", "code_digest", "config_digest", "ledger_vkey", "started", "issued")


def print_checklist(verdict: Verdict) -> None:
    """Prints ✓ passed, ✗ failed, – skipped, each with its reason; then what the evidence says."""
    console = Console(width=None if Console().is_terminal else 160, highlight=False)
    steps = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "step", "reason"):
        steps.add_column(column, overflow="fold")
    for step in verdict.steps:
        mark, style = _MARKS[step.outcome]
        # Text, not str: a reason may hold brackets, which would be read as markup
        steps.add_row(Text(mark, style), Text(step.name), Text(step.reason))
    console.print(steps)
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column()
    facts.add_column(overflow="fold")  # a key is copied from here: never cut with an ellipsis
    for name, value in _lines(_found(verdict)):
        facts.add_row(Text(name), Text(value))
    console.print(facts)


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A line for each value; what belongs together by numbers alone, like a TCB's parts, on one."""
    for name, value in found.items():
        if not isinstance(value, Mapping):
            yield name, value if isinstance(value, str) else json.dumps(value)
        elif all(isinstance(part, int) for part in value.values()):
            yield name, ", ".join(f"{part} {number}" for part, number in value.items())
        else:
            yield from _lines(value)


def print_json(verdict: Verdict) -> None:
    """Prints {step, outcome, required, reason} for each step, then {verdict, failed, …} with what the evidence says."""
    for step in verdict.steps:
        members = {"step": step.name, "outcome": step.outcome, "required": _required(step, verdict)}
        print(json.dumps({**members, "reason": step.reason}, ensure_ascii=False))  # noqa: T201
    failed = verdict.refusal
    told = {"verdict": "refused" if failed else "accepted", "failed": failed.name if failed else None}
    print(json.dumps({**told, **_found(verdict)}, ensure_ascii=False))  # noqa: T201


def _required(step: Step, verdict: Verdict) -> bool:
    # what was judged had to pass; what was left out did not, unless the format demands it
    return step.outcome != "skipped" or step.name in verdict.required


def _found(verdict: Verdict) -> dict[str, Any]:
    told = {name: verdict.claims[name] for name in _SHOWN if isinstance(verdict.claims.get(name), str)}
    printable = {n: "".join(c if c.isprintable() else "?" for c in v[:200]) for n, v in told.items()}
    hashed = {"evidence_hash": verdict.evidence_hash} if verdict.claims else {}
    return {**hashed, **printable, **({"report": dict(verdict.facts)} if verdict.facts else {})}
