"""The price of an answer: bits that left about a subject for an institution, and the budget that bounds them.

One answer out of N levels tells at most log2 N bits. The sum per subject, institution and calendar year (UTC) is
charged in the same transaction as the decision.
"""

import math

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


def price_milli(levels: int) -> int:
    """Thousandths of a bit that one answer out of `levels` tells at most, rounded up."""
    return math.ceil(1000 * math.log2(levels))


def charge(connection: Connection, *, tag: str, institution: str, year: int, price: int, budget: int) -> int:
    """Charges an answer; returns the new sum in thousandths of a bit.

    Raises:
        BudgetSpent: the sum would exceed the budget; nothing is charged.
    """
    key = {"tag": tag, "to": institution, "in_year": year}
    spent = connection.scalar(_SPENT, key)
    total = (spent or 0) + price
    if total > budget:
        raise BudgetSpent("disclosure budget")
    if spent is None:
        values = {"subject_tag": tag, "institution": institution, "year": year, "bits_milli": total}
        connection.execute(insert(tables.budget).values(values))
    else:
        connection.execute(_CHARGE, {**key, "total": total})
    return total
