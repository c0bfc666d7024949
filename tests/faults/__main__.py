"""`make faults`: every call that a short run makes on its files, hurt in every way; a table of what became of it."""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.faults import inject


def main() -> int:
    """Runs, prints, and ends with 1 where a law did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--each", type=int, metavar="N", help="at most N of a kind and way, spread over the run")
    each = parser.parse_args().each
    console = Console(width=120)
    if why := inject.refusal():
        console.print(f"skipped: {why}")
        return 0
    counted = inject.count()
    faults = inject.some_faults(counted, each) if each else inject.all_faults(counted)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        verdicts = list(track(threads.map(inject.hurt, faults), "hurting", total=len(faults)))
    broken = [verdict for verdict in verdicts if verdict.startswith("BROKEN")]
    console.print(_table(counted, faults, verdicts))
    for words in broken:
        console.print(words)
    console.print(f"{len(faults)} runs, each checked whole and played to its end; {len(broken)} broken")
    return 1 if broken else 0


def _table(counted: dict[str, int], faults: list[inject.Fault], verdicts: list[str]) -> Table:
    columns = ("answered", "closed", "not started", "killed", "not met", "BROKEN")
    table = Table(title="call × injected × what became of it", title_justify="left", box=None, pad_edge=False)
    for name in ("call", "in a clean run", "injected", *columns):
        table.add_column(name, justify="left" if name in ("call", "injected") else "right")
    for call, injected, found in inject.tally(faults, verdicts):
        table.add_row(call, str(counted[call]), injected, *(str(found[name] or "·") for name in columns))
    return table


if __name__ == "__main__":
    sys.exit(main())
