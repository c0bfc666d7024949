"""The bank's own tools: how soon commands print, how long evidence takes to verify, what rules cost a call."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.evidence import any_facts, sev_snp
from bench.report import Figure
from enclave_api.attestation.verify import Verdict, verify_evidence
from enclave_api.cli.example import Example
from enclave_api.cli.room import ACCEPT, ALICE, Room
from enclave_api.client.bank import Row
from model_registry.rules import compile_rules

STARTS, VERIFIED, ROWS = 7, 200, 2000

# Twelve rules as a bank writes them: five stops and seven caps, over numbers and the score.
RULES12: Final = """\
version: 1
exclusions:
  - {name: sued, when: public_credit.judicial.defendant_12m > 20, missing: skip}
  - {name: no staff, when: social_security.contribution.insured_pension < 1, missing: skip}
  - name: over-indebted
    when: market_regulation.annual_report.liabilities_y1 > market_regulation.annual_report.assets_y1 * 3.0
    missing: skip
cutoffs:
  - {name: too likely to default, when: model.score > 0.35}
  - {name: credit score, when: public_credit.lists.score < 100.0, missing: skip}
caps:
  - {name: a tenth of sales, limit: tax.declaration.sales_12m * 0.1, missing: skip}
  - {name: a third of a quarter, limit: tax.declaration.sales_3m * 0.3, missing: skip}
  - {name: invoices, limit: tax.invoice.amount_issued_12m * 0.15, missing: skip}
  - {name: capital, limit: market_regulation.registration.registered_capital * 0.5, missing: skip}
  - {name: power, when: electricity.usage.usage_12m < 10000.0, limit: 500000.0, missing: skip}
  - {name: exporters, when: customs.trade.amount_export_12m > 0.0, limit: 3000000.0, missing: skip}
  - {name: by risk, limit: 3000000.0 * (1.0 - model.score * 2.5)}
"""


def commands(room: Room, product: str) -> Iterator[Figure]:
    """Cold processes, from their start to their end."""
    python = [sys.executable, "-c", "pass"]
    heixia = [sys.executable, "-m", "enclave_api"]
    bare = _started(python)
    helped = _started([*heixia, "--help"])
    yield Figure("cli_help_s", helped, "s", "`heixia --help`, a cold process from start to end", bar=0.5)
    yield Figure("cli_help_ratio", helped / bare, "×", f"to a bare interpreter, {bare * 1000:.0f} ms")
    yield Figure("cli_bank_help_s", _started([*heixia, "bank", "--help"]), "s", "`heixia bank --help`", bar=0.5)
    asked = [*heixia, "bank", "versions", product, "--as", str(room.home.client(ALICE)), "--server", room.server]
    yield Figure("cli_versions_s", _started(asked), "s", "`heixia bank versions`, the answer printed", bar=0.5)


def _started(command: Sequence[str]) -> float:
    times = []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def verification(room: Room) -> Iterator[Figure]:
    """A made-up SEV-SNP machine's evidence, and that of this enclave, verified again and again."""
    took = _micros(sev_snp(any_facts()), VERIFIED) / 1000
    signature = _micros(_p384(), VERIFIED) / 1000
    note = "SEV-SNP: chain of three certificates, report, TCB floor, every claim"
    yield Figure("verify_evidence_ms", took, "ms", note, bar=10)
    yield Figure("verify_evidence_ratio", took / signature, "×", f"to one ECDSA P-384 signature, {signature:.2f} ms")
    asked = room.alice.ask_evidence()

    def verify() -> Verdict:
        now = datetime.now(UTC)
        return verify_evidence(asked.evidence, asked.nonce, ACCEPT, at=now, tls_key_hash=asked.tls_key_hash)

    verify().require()
    yield Figure("verify_simulated_ms", _micros(verify, VERIFIED) / 1000, "ms", "simulated: the claims alone")


def _p384() -> Callable[[], object]:
    key, scheme = ec.generate_private_key(ec.SECP384R1()), ec.ECDSA(hashes.SHA384())
    report, public = bytes(672), key.public_key()
    signature = key.sign(report, scheme)
    return lambda: public.verify(signature, report, scheme)


def rules(example: Example) -> Iterator[Figure]:
    """Twelve rules, evaluated one company after another."""
    fields = {spec.name: spec.type for spec in example.model.fields}
    compiled = compile_rules(RULES12.encode(), fields, {spec.name: spec.codes for spec in example.model.fields})
    asked = list(zip(example.scores.tolist(), example.rows, strict=True))[:ROWS]
    by_hand, evaluated = _each(_by_hand, asked), _each(compiled.limit, asked)
    yield Figure("rules12_us", evaluated, "µs", "12 rules (5 stops, 7 caps) of one company, median", bar=50)
    yield Figure("rules12_ratio", evaluated / by_hand, "×", f"to the same in Python by hand, {by_hand:.1f} µs")


def _by_hand(score: float, row: Row) -> float | None:
    """The same in Python, as fast as it can be written for these fields alone."""

    def value(name: str) -> float | None:
        found = row.get(name)
        return None if found is None else float(found)

    sued, staff = value("public_credit.judicial.defendant_12m"), value("social_security.contribution.insured_pension")
    debts, assets = (value(f"market_regulation.annual_report.{name}_y1") for name in ("liabilities", "assets"))
    credit = value("public_credit.lists.score")
    if (
        (sued is not None and sued > 20)
        or (staff is not None and staff < 1)
        or (debts is not None and assets is not None and debts > assets * 3.0)
        or score > 0.35
        or (credit is not None and credit < 100.0)
    ):
        return None
    shares = {
        "tax.declaration.sales_12m": 0.1,
        "tax.declaration.sales_3m": 0.3,
        "tax.invoice.amount_issued_12m": 0.15,
        "market_regulation.registration.registered_capital": 0.5,
    }
    caps = [amount * share for name, share in shares.items() if (amount := value(name)) is not None]
    power, exported = value("electricity.usage.usage_12m"), value("customs.trade.amount_export_12m")
    if power is not None and power < 10_000.0:
        caps.append(500_000.0)
    if exported is not None and exported > 0.0:
        caps.append(3_000_000.0)
    return min([*caps, 3_000_000.0 * (1.0 - score * 2.5)])


def _each(limit: Callable[[float, Row], float | None], asked: Sequence[tuple[float, Row]]) -> float:
    """Median microseconds of one company."""
    times = []
    for score, row in asked:
        began = time.perf_counter()
        limit(score, row)
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)


def _micros(work: Callable[[], object], turns: int) -> float:
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)
