"""The price of an answer, the budget that bounds the sum, and the log that says what the sum must be."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select

from audit.event import encode
from audit.kinds import AuditRead, Decision
from audit.ledger import Change, Ledger, Position
from audit.schema import open_engine
from sandbox import tables
from sandbox.disclosure import Disclosed, charge, check_budgets, disclosed, disclosed_in_all, price_milli, sums_of
from sandbox.errors import BudgetDiffers, BudgetSpent
from tests.unit.audit.ledgers import execute, open_ledger
from tests.unit.audit.vectors import START, Clock, decision

TAG, OTHER = "0" * 32, "1" * 32


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """A connection to an empty database."""
    engine = open_engine(tmp_path / "heixia.db", create=True)
    with engine.connect() as made:
        yield made
    engine.dispose()


def pay(
    connection: Connection, price: int, budget: int, *, tag: str = TAG, bank: str = "bank", year: int = 2026
) -> int:
    """Charges one answer."""
    return charge(connection, tag=tag, institution=bank, year=year, price=price, budget=budget)


@given(st.integers(2, 1024))
def test_a_price_is_never_below_the_bits_that_leave(levels: int) -> None:
    """At least log2 N bits, less than a thousandth more."""
    exact = 1000 * math.log2(levels)
    assert exact <= price_milli(levels) < exact + 1


@pytest.mark.parametrize(("levels", "milli"), [(2, 1000), (3, 1585), (4, 2000), (11, 3460), (64, 6000), (65, 6023)])
def test_known_prices(levels: int, milli: int) -> None:
    """Powers of two are exact, everything else is rounded up."""
    assert price_milli(levels) == milli


@given(st.lists(st.integers(1, 5000), max_size=30), st.integers(1, 20_000))
def test_the_sum_never_passes_the_budget(prices: list[int], budget: int) -> None:
    """Whatever is asked in whatever order: the sum grows by what was charged, and a refusal charges nothing."""
    engine = create_engine("sqlite://")
    tables.budget.create(engine)
    spent = 0
    with engine.begin() as connection:
        for price in prices:
            if spent + price <= budget:
                spent += price
                assert pay(connection, price, budget) == spent
            else:
                with pytest.raises(BudgetSpent):
                    pay(connection, price, budget)
        assert (connection.scalar(select(tables.budget.c.bits_milli)) or 0) == spent <= budget
    engine.dispose()


def test_budgets_of_others_are_apart(connection: Connection) -> None:
    """Another subject, institution or year has its own."""
    assert pay(connection, 1000, 1000) == 1000
    assert pay(connection, 1000, 1000, tag=OTHER) == 1000
    assert pay(connection, 1000, 1000, bank="other") == 1000
    assert pay(connection, 1000, 1000, year=2027) == 1000
    with pytest.raises(BudgetSpent):
        pay(connection, 1, 1000)


def test_the_last_bit_may_be_spent(connection: Connection) -> None:
    """Up to the budget, not one thousandth beyond, and a smaller price may still fit."""
    assert pay(connection, 900, 1000) == 900
    with pytest.raises(BudgetSpent):
        pay(connection, 101, 1000)
    assert pay(connection, 100, 1000) == 1000


@pytest.mark.parametrize("budget", [0, 500, 1000, 5000])
def test_what_costs_nothing_is_never_refused(connection: Connection, budget: int) -> None:
    """A repeat is free with a spent budget, and with one that was lowered below what was spent; it leaves no row."""
    assert pay(connection, 0, budget) == 0
    assert disclosed(connection, TAG) == []
    pay(connection, 1000, 1000)
    assert pay(connection, 0, budget) == 1000
    assert disclosed(connection, TAG) == [Disclosed("bank", 2026, 1000)]


def test_sums_are_shown_newest_first(connection: Connection) -> None:
    """For a subject its own, by year and institution; for all together with the number of subjects."""
    for tag, bank, year in ((TAG, "b", 2025), (TAG, "b", 2026), (TAG, "a", 2026), (OTHER, "a", 2026)):
        pay(connection, 1000, 9000, tag=tag, bank=bank, year=year)
    assert disclosed(connection, TAG) == [Disclosed(b, y, 1000) for b, y in (("a", 2026), ("b", 2026), ("b", 2025))]
    assert disclosed(connection, "2" * 32) == []
    both = [Disclosed("a", 2026, 2000, 2), Disclosed("b", 2026, 1000, 1), Disclosed("b", 2025, 1000, 1)]
    assert disclosed_in_all(connection) == both


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A log whose decisions are paid for: two subjects, two institutions, three years."""
    engine, clock = open_engine(tmp_path / "log.db", create=True), Clock()
    ledger = open_ledger(engine, clock)
    for year in (2026, 2027, 2028):
        clock.now = START.replace(year=year)
        for tag, bank in ((TAG, "bank"), (TAG, "bank"), (OTHER, "bank"), (TAG, "other")):
            ledger.append_sync(_decide(tag, bank, 3000))
    ledger.append_sync(_decide(TAG, "bank", 0))
    yield ledger
    ledger.close()
    engine.dispose()


def _decide(tag: str, bank: str, price: int) -> Change[None]:
    def change(connection: Connection, position: Position) -> tuple[Decision, None]:
        total = pay(connection, price, 10**6, tag=tag, bank=bank, year=position.time.year)
        made = decision(subject_tag=tag, institution=bank, bits_milli=price, bits_total_milli=total)
        return made, None

    return change


def check(ledger: Ledger, *statements: str) -> str:
    """What the start says after rows were changed; empty where it says nothing."""
    execute(ledger._engine, *statements)
    try:
        with ledger._engine.connect() as connection:
            check_budgets(connection, ledger)
    except BudgetDiffers as error:
        return error.public
    return ""


MINE = f"subject_tag = '{TAG}' AND institution = 'bank'"
WRONG = {
    f"DELETE FROM budget WHERE {MINE} AND year = 2028": "1 of bank 2028",
    f"DELETE FROM budget WHERE {MINE} AND year = 2027": "1 of bank 2027",
    f"UPDATE budget SET bits_milli = 5999 WHERE {MINE} AND year = 2028": "1 of bank 2028",
    f"UPDATE budget SET bits_milli = '6000 ' WHERE {MINE} AND year = 2028": "",  # the column makes it a number
    f"UPDATE budget SET bits_milli = 'x' WHERE {MINE} AND year = 2028": "1 of bank 2028",
    f"UPDATE budget SET year = 1999 WHERE {MINE} AND year = 2028": "1 of bank 2028",
    f"UPDATE budget SET institution = 'uscc:secret' WHERE {MINE} AND year = 2028": "1 of bank 2028, 1 that no decision",
    f"INSERT INTO budget VALUES ('{TAG}', 'bank', 2029, -90000)": "1 that no decision made",
    f"INSERT INTO budget VALUES ('{TAG}', 'bank', 'soon', -90000)": "1 that no decision made",
    f"UPDATE budget SET subject_tag = '{'3' * 32}' WHERE {MINE} AND year = 2028": "1 of bank 2028, 1 that no decision",
}


@pytest.mark.parametrize("statement", WRONG)
def test_a_sum_that_is_not_the_logs_is_found(ledger: Ledger, statement: str) -> None:
    """Edited, deleted, moved or put in: named by institution and year, never by subject."""
    assert check(ledger) == ""
    said = check(ledger, statement)
    assert said.startswith(f"wrong sums: {WRONG[statement]}" if WRONG[statement] else ""), said
    assert bool(said) == bool(WRONG[statement])
    assert TAG not in said
    assert "secret" not in said


def test_the_year_before_last_is_not_looked_at(ledger: Ledger) -> None:
    """The check is bounded: nothing is charged to that year any more."""
    assert check(ledger, f"DELETE FROM budget WHERE {MINE} AND year = 2026") == ""


def test_an_empty_log_has_no_sums(connection: Connection) -> None:
    """A first start has nothing to compare, and finds a row that was put in."""
    ledger = open_ledger(connection.engine)
    assert check(ledger) == ""
    assert "no decision" in check(ledger, f"INSERT INTO budget VALUES ('{TAG}', 'bank', 2026, -9)")
    ledger.close()


def test_other_entries_do_not_count() -> None:
    """An entry that carries a decision's spelling inside a text is none."""
    text = '"kind":"decision"'
    entries = [encode(AuditRead(by=text, what=text), START), encode(decision(bits_milli=7), START)]
    assert sums_of(entries).total() == 7
