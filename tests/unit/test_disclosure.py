"""The price of an answer and the budget that bounds the sum."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select

from audit.schema import open_engine
from sandbox import tables
from sandbox.disclosure import charge, price_milli
from sandbox.errors import BudgetSpent

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
