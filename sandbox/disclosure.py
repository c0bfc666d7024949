"""The price of an answer: bits that left about a subject for an institution, and the budget that bounds them.

One answer out of N levels tells at most log2 N bits. The sum per subject, institution and calendar year (UTC) is
charged in the same transaction as the decision.
"""

import math
from typing import TypedDict, Unpack

from sqlalchemy import Connection, bindparam, insert, select, update

from sandbox import tables
from sandbox.errors import BudgetSpent

_TABLE = tables.budget.c
_KEY = (
    (_TABLE.subject_tag == bindparam("tag"))
    & (_TABLE.institution == bindparam("to"))
    & (_TABLE.year == bindparam("in_year"))
)
_SPENT = select(_TABLE.bits_milli).where(_KEY)
_CHARGE = update(tables.budget).where(_KEY).values(bits_milli=bindparam("total"))


class Bill(TypedDict):
    """Who is told about whom in which year, at what price and out of what budget (both in thousandths of a bit)."""

    tag: str
    institution: str
    year: int
    price: int
    budget: int


def price_milli(levels: int) -> int:
    """Thousandths of a bit that one answer out of `levels` tells at most, rounded up."""
    return math.ceil(1000 * math.log2(levels))


def check_budget(connection: Connection, **bill: Unpack[Bill]) -> int:
    """What was spent so far, in thousandths of a bit.

    Raises:
        BudgetSpent: one more answer at this price would exceed the budget.
    """
    spent = connection.scalar(_SPENT, _key(bill)) or 0
    if spent + bill["price"] > bill["budget"]:
        raise BudgetSpent("disclosure budget")
    return int(spent)


def charge(connection: Connection, **bill: Unpack[Bill]) -> int:
    """Charges an answer; returns the new sum in thousandths of a bit.

    Raises:
        BudgetSpent: the sum would exceed the budget; nothing is charged.
    """
    total = check_budget(connection, **bill) + bill["price"]
    if connection.execute(_CHARGE, {**_key(bill), "total": total}).rowcount == 0:
        owner = {"subject_tag": bill["tag"], "institution": bill["institution"], "year": bill["year"]}
        connection.execute(insert(tables.budget).values(**owner, bits_milli=total))
    return total


def _key(bill: Bill) -> dict[str, object]:
    return {"tag": bill["tag"], "to": bill["institution"], "in_year": bill["year"]}
