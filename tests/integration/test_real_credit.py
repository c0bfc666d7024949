"""Real companies, real loans: what leaves the sealed room is exactly what the bank computes itself.

A bank trains on one part of a public data set and seals; a steward loads the rest; companies consent and get limits.
"""

import csv
import gzip
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from audit.schema import open_engine
from enclave_api.cli.example import Example
from enclave_api.client.bank import Offer, Row, draft_manifest, own_limits, vector_of
from model_registry.bundle import encode_content
from model_registry.convert import FieldSpec, from_lightgbm
from sandbox.jail.worker import Scorer
from sandbox.vault.catalog import load_catalog
from sandbox.vault.ingest import read_table
from sandbox.vault.synthetic import generate
from sandbox.vault.vault import Vault, code_lists, compile_plan
from tests.conftest import fixture_file
from tests.room import ACCEPT, Room

COMPANIES = 240
LEVELS = (0, 20_000, 50_000, 100_000, 150_000, 200_000, 300_000, 500_000, 800_000, 1_000_000)


@dataclass(frozen=True)
class Source:
    """A data set: its file, the catalogue lines of its fields, label, rules."""

    file: str
    fields: dict[str, str]
    defaulted: Callable[[dict[str, str]], bool]
    values: Callable[[dict[str, str]], dict[str, str]]
    rules: str


def _polish_values(row: dict[str, str]) -> dict[str, str]:
    return {f"attr{i}": row[f"Attr{i}"] for i in range(1, 65)}


POLISH = Source(
    file="credit/polish_companies_5year.csv.gz",
    fields={f"attr{i}": "number" for i in range(1, 65)},
    defaulted=lambda row: row["class"] == "1",
    values=_polish_values,
    rules="""\
version: 1
exclusions:
  - {name: owes more than it has, when: real.credit.attr2 > 3.0, missing: skip}
cutoffs:
  - {name: too likely to fail, when: model.score > 0.3}
caps:
  - {name: by working capital, limit: real.credit.attr55 * 100.0 + 50000.0, missing: decline}
  - {name: by risk, limit: 1000000.0 * (1.0 - model.score)}
""",
)

_SBA_PLAIN = ("term", "no_emp", "create_job", "retained_job", "approval_fy", "naics")
_SBA_MONEY = ("disbursement_gross", "gr_appv", "sba_appv")
_STATE_CODES = (
    "AK AL AR AZ CA CO CT DC DE FL GA HI IA ID IL IN KS KY LA MA MD ME MI MN MO MS MT NC ND NE "
    "NH NJ NM NV NY OH OK OR PA RI SC SD TN TX UT VA VT WA WI WV WY"
)
_STATES = tuple(_STATE_CODES.split())


def _sba_values(row: dict[str, str]) -> dict[str, str]:
    flags = {"Y": "true", "N": "false"}
    plain = {name: row[name] for name in (*_SBA_PLAIN, *_SBA_MONEY)}
    state = row["state"] if row["state"] in _STATES else ""
    flagged = {name: flags.get(row[name], "") for name in ("rev_line_cr", "low_doc")}
    return {**plain, **flagged, "state": state, "approved_on": row["approval_date"]}


SBA = Source(
    file="credit/sba_national_sample.csv.gz",
    fields={
        **dict.fromkeys(_SBA_PLAIN, "integer"),
        **dict.fromkeys(_SBA_MONEY, "number"),
        "rev_line_cr": "boolean",
        "low_doc": "boolean",
        "state": "category states",
        "approved_on": "date",
    },
    defaulted=lambda row: row["mis_status"] == "CHGOFF",
    values=_sba_values,
    rules="""\
version: 1
exclusions:
  - {name: a place we do not serve, when: 'real.credit.state in ["AK", "HI"]', missing: skip}
cutoffs:
  - {name: too likely to default, when: model.score > 0.6}
caps:
  - {name: asked for, limit: real.credit.gr_appv, missing: decline}
  - {name: by staff, when: real.credit.no_emp < 5, limit: 150000, missing: decline}
  - {name: by risk, limit: 1000000.0 * (1.0 - model.score)}
""",
)


@dataclass(frozen=True)
class Played:
    """A room in which a data set has been loaded and a model sealed; rows are the companies asked about."""

    room: Room
    example: Example
    rows: list[Row]
    subjects: list[str]
    defaulted: list[bool]


@pytest.fixture(scope="module", params=[POLISH, SBA], ids=["polish", "sba"])
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Trains, seals, loads."""
    source: Source = request.param
    with gzip.open(fixture_file(source.file), "rt", newline="") as file:
        told = list(csv.DictReader(file))
    order = np.random.default_rng(1).permutation(len(told))
    train, rest = order[:4000], order[4000:5500]
    folder = tmp_path_factory.mktemp("real")
    catalog = _catalog(folder / "catalog.yaml", source)
    fields = [FieldSpec.of(name, load_catalog(catalog).fields) for name in _names(source)]
    rows = [_typed(fields, source.values(told[i])) for i in (*train, *rest)]
    features = np.array([vector_of(fields, row) for row in rows])
    labels = np.array([source.defaulted(told[i]) for i in (*train, *rest)])
    model = lightgbm.LGBMClassifier(n_estimators=120, learning_rate=0.05, num_leaves=15, n_jobs=1, verbose=-1)
    model.fit(features[:4000], labels[:4000])
    scores = np.asarray(model.predict_proba(features[4000:]))[:, 1]
    offer = Offer("zhongyuan/real-credit", LEVELS, source.rules, data_max_age_days=3660)
    auc = float(roc_auc_score(labels[4000:], scores))
    made = Example(from_lightgbm(model, fields), offer, rows[4000:], scores, auc)
    room = Room.make(folder, catalog=catalog).start()
    try:
        subjects = generate(load_catalog(catalog), len(rest), 5).subjects
        _load(room, source, [told[i] for i in rest], subjects, folder / "rest.csv")
        room.launch(made)
        yield Played(room, made, rows[4000:], subjects, labels[4000:].tolist())
    finally:
        room.stop()


def test_every_limit_is_the_banks_own(played: Played) -> None:
    """All companies asked about get, over gRPC, the limit that the bank computes from its native model."""
    limit = own_limits(played.example.offer, played.example.model.fields)
    own = list(map(limit, played.rows[:COMPANIES], played.example.scores[:COMPANIES].tolist()))
    product, portal = played.example.offer.product, played.room.portal
    consents = [played.room.consent(subject, product, ["real.credit"]) for subject in played.subjects[:COMPANIES]]

    def ask(company: int) -> int:
        subject, consent_id = played.subjects[company], consents[company]
        request_id = str(uuid.uuid4())
        return portal.request_limit(subject=subject, product=product, consent_id=consent_id, request_id=request_id).yuan

    with ThreadPoolExecutor(8) as callers:
        got = list(callers.map(ask, range(COMPANIES)))
    assert got == own
    assert len(set(own)) >= 5


def test_the_sandbox_ranks_as_the_bank_does(played: Played) -> None:
    """From the vault's records, the jail's own code gives raw scores with the bank's AUC, and the very scores."""
    home, names = played.room.home, [field.name for field in played.example.model.fields]
    keys = home.keeper(None).keys
    scorer = _scorer(played)
    engine = open_engine(home.database, create=False)
    with closing(Vault(engine, keys.vault, played.room.catalog)) as vault:
        plan = compile_plan(played.room.catalog, names)
        raw = [scorer.raw_score(vault.join(plan, subject, 0).vector) for subject in played.subjects]
    engine.dispose()
    assert float(roc_auc_score(played.defaulted, raw)) == pytest.approx(played.example.auc, abs=1e-6)
    assert np.allclose(raw, played.example.scores, rtol=0, atol=1e-12)
    assert played.example.auc > 0.75


def _scorer(played: Played) -> Scorer:
    made, recipient = played.example, played.room.alice.verify_enclave(ACCEPT).recipient()
    content = encode_content(made.model.onnx, made.offer.rules.encode(), made.samples())
    codes = code_lists(played.room.catalog, [field.name for field in made.model.fields])
    return Scorer.load(draft_manifest(made.model, made.offer, recipient, content).encode(), content, codes)


def _catalog(path: Path, source: Source) -> Path:
    lines = [f"          {name}: {kind} | 字段{i} | field {i}" for i, (name, kind) in enumerate(source.fields.items())]
    states = "".join(f"    {code}: {code} | {code}\n" for code in _STATES)
    head = f"""\
code_lists:
  states:
{states}
departments:
  real:
    label: 真实数据 | real data
    datasets:
      credit:
        label: 信贷 | credit
        cadence: yearly
        fields:
"""
    path.write_text(head + "\n".join(lines) + "\n")
    return path


def _names(source: Source) -> list[str]:
    return [f"real.credit.{name}" for name in source.fields]


def _typed(fields: list[FieldSpec], values: dict[str, str]) -> Row:
    return {field.name: _value(field.type, values[field.name.rpartition(".")[2]]) for field in fields}


def _value(kind: str, text: str) -> float | int | bool | str | None:
    if text == "":
        return None
    if kind == "boolean":
        return text == "true"
    if kind == "date":
        return (datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    if kind == "category":
        return text
    return int(text) if kind == "integer" else float(text)


def _load(room: Room, source: Source, rows: list[dict[str, str]], subjects: list[str], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["subject", *source.fields])
        writer.writeheader()
        writer.writerows({"subject": s, **source.values(row)} for s, row in zip(subjects, rows, strict=True))
    described = room.catalog.dataset("real.credit")
    steward = room.steward("real")
    steward.publish(described)
    table = read_table(path, described)
    assert steward.load(described, table.subjects, table.rows, datetime.now(UTC)).rows == len(rows)
