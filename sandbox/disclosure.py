"""The price of an answer: bits that left about a subject for an institution, and the budget that bounds them.

One answer out of N levels tells at most log2 N bits; the same answer to the same input again tells none. The sum per
subject, institution and calendar year (UTC) is charged in the same transaction as the decision. So the decisions in the
log say what every sum must be, and at a start the table is held against them.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypedDict, Unpack

from sqlalchemy import Connection, bindparam, func, insert, select, update

from audit.ledger import Ledger
from audit.prepared import Prepared
from sandbox import tables
from sandbox.errors import BudgetDiffers, BudgetSpent

YEARS_CHECKED: Final = 2  # the year of the last entry, which is still charged, and the one before, still looked at

_DECISION: Final = b'"kind":"decision"'  # entries are canonical: this is how every decision spells it
_TABLE = tables.budget.c
_KEY = (
    (_TABLE.subject_tag == bindparam("tag"))
    & (_TABLE.institution == bindparam("to"))
    & (_TABLE.year == bindparam("in_year"))
)
_SPENT = Prepared(select(_TABLE.bits_milli).where(_KEY))
_CHARGE = Prepared(update(tables.budget).where(_KEY).values(bits_milli=bindparam("total")))
_OPEN = Prepared(insert(tables.budget))

Account = tuple[str, str, int]  # subject tag, institution, year


class Bill(TypedDict):
    """Who is told about whom in which year, at what price and out of what budget (both in thousandths of a bit)."""

    tag: str
    institution: str
    year: int
    price: int
    budget: int


@dataclass(frozen=True)
class Disclosed:
    """Thousandths of a bit that an institution was told in a year about so many subjects."""

    institution: str
    year: int
    bits_milli: int
    subjects: int = 1


def price_milli(levels: int) -> int:
    """Thousandths of a bit that one answer out of `levels` tells at most, rounded up."""
    return math.ceil(1000 * math.log2(levels))


def can_pay(connection: Connection, **bill: Unpack[Bill]) -> bool:
    """Whether one more answer at this price stays within the budget; what costs nothing always does."""
    return _within(_spent(connection, bill), bill)


def charge(connection: Connection, **bill: Unpack[Bill]) -> int:
    """Charges an answer; returns the new sum in thousandths of a bit.

    Raises:
        BudgetSpent: the sum would exceed the budget; nothing is charged.
    """
    spent = _spent(connection, bill)
    if not _within(spent, bill):
        raise BudgetSpent("disclosure budget")
    total = spent + bill["price"]
    if bill["price"] and _CHARGE.run(connection, **_key(bill), total=total) == 0:
        owner = {"subject_tag": bill["tag"], "institution": bill["institution"], "year": bill["year"]}
        _OPEN.run(connection, **owner, bits_milli=total)
    return total


def disclosed(connection: Connection, tag: str) -> list[Disclosed]:
    """What was disclosed about a subject, newest year first."""
    query = select(_TABLE.institution, _TABLE.year, _TABLE.bits_milli).where(_TABLE.subject_tag == tag)
    return [Disclosed(*row) for row in connection.execute(query.order_by(_TABLE.year.desc(), _TABLE.institution))]


def disclosed_in_all(connection: Connection) -> list[Disclosed]:
    """What was disclosed about all subjects together, newest year first."""
    sums = select(_TABLE.institution, _TABLE.year, func.sum(_TABLE.bits_milli), func.count())
    grouped = sums.group_by(_TABLE.institution, _TABLE.year).order_by(_TABLE.year.desc(), _TABLE.institution)
    return [Disclosed(*row) for row in connection.execute(grouped)]


def sums_of(entries: Iterable[bytes]) -> Counter[Account]:
    """What the decisions among a log's entries sum up to, in thousandths of a bit."""
    sums: Counter[Account] = Counter()
    for body in entries:
        if _DECISION in body and (told := json.loads(body))["kind"] == "decision":
            sums[told["subject_tag"], told["institution"], int(told["time"][:4])] += told["bits_milli"]
    return sums


def check_budgets(connection: Connection, ledger: Ledger) -> None:
    """Holds the table of budgets against the log, from the year before its last entry's on.

    Time is of the entries of those years, 1.5 s for a hundred thousand on one core; memory of the sums.

    Raises:
        BudgetDiffers: a sum is not what the decisions say.
        LedgerCorrupt: the entries do not lead to the signed root.
    """
    first = ledger.time.year - YEARS_CHECKED + 1
    said = sums_of(ledger.replay(datetime(first, 1, 1, tzinfo=UTC)))
    rows = connection.execute(select(tables.budget).where(_TABLE.year >= first))
    stored = {(row.subject_tag, row.institution, row.year): row.bits_milli for row in rows}
    wrong = [account for account in said.keys() | stored.keys() if said[account] != stored.get(account, 0)]
    if wrong:
        # By the log's own names alone: a row that somebody put in may say anything.
        known = Counter(f"{to} {year}" for _, to, year in said.keys() & set(wrong))
        names = [f"{count} of {name}" for name, count in sorted(known.items())]
        if others := len(wrong) - known.total():
            names.append(f"{others} that no decision made")
        raise BudgetDiffers("budget", public=f"wrong sums: {', '.join(names)}")


def _within(spent: int, bill: Bill) -> bool:
    return not bill["price"] or spent + bill["price"] <= bill["budget"]


def _spent(connection: Connection, bill: Bill) -> int:
    return int(_SPENT.scalar(connection, **_key(bill)) or 0)


def _key(bill: Bill) -> dict[str, object]:
    return {"tag": bill["tag"], "to": bill["institution"], "in_year": bill["year"]}
