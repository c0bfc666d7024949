"""The price of an answer: bits that left about a subject for an institution, and the budget that bounds them.

One answer out of N levels tells at most log2 N bits. The sum per subject, institution and calendar year (UTC) is
charged in the same transaction as the decision.
"""

import math

from sqlalchemy import Connection, insert, select, update

from sandbox import tables
from sandbox.errors import BudgetSpent


def price_milli(levels: int) -> int:
    """Thousandths of a bit that one answer out of `levels` tells at most, rounded up."""
    return math.ceil(1000 * math.log2(levels))


def charge(connection: Connection, *, tag: str, institution: str, year: int, price: int, budget: int) -> int:
    """Charges an answer; returns the new sum in thousandths of a bit.

    Raises:
        BudgetSpent: the sum would exceed the budget; nothing is charged.
    """
    table = tables.budget
    key = (table.c.subject_tag == tag) & (table.c.institution == institution) & (table.c.year == year)
    spent = connection.scalar(select(table.c.bits_milli).where(key))
    total = (spent or 0) + price
    if total > budget:
        raise BudgetSpent("disclosure budget")
    if spent is None:
        values = {"subject_tag": tag, "institution": institution, "year": year, "bits_milli": total}
        connection.execute(insert(table).values(values))
    else:
        connection.execute(update(table).where(key).values(bits_milli=total))
    return total
