"""`make faults`: every call that a short run makes on its files, hurt in every way; a table of what became of it."""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.faults import inject
from tests.faults.scenes import SCENES


def main() -> int:
    """Runs, prints, and ends with 1 where a law did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--each", type=int, metavar="N", help="at most N of a kind and way, spread over the run")
    each = parser.parse_args().each
    console = Console(width=120)
    if why := inject.refusal():
        console.print(f"skipped: {why}")
        return 0
    broken: list[str] = []
    for scene in SCENES:
        counted = inject.count(scene)
        faults = inject.some_faults(counted, each) if each else inject.all_faults(counted)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            found = threads.map(partial(inject.hurt, scene), faults)
            verdicts = list(track(found, scene.name, total=len(faults)))
        console.print(_table(scene.name, counted, faults, verdicts))
        broken += [verdict for verdict in verdicts if verdict.startswith("BROKEN")]
        console.print(f"{len(faults)} runs, each checked whole and led to its end")
    for words in broken:
        console.print(words)
    console.print(f"{len(broken)} broken")
    return 1 if broken else 0


def _table(name: str, counted: dict[str, int], faults: list[inject.Fault], verdicts: list[str]) -> Table:
    columns = ("answered", "closed", "refused", "not started", "killed", "not met", "BROKEN")
    table = Table(title=f"{name}: call × injected × what became of it", title_justify="left", box=None, pad_edge=False)
    for column in ("call", "in a clean run", "injected", *columns):
        table.add_column(column, justify="left" if column in ("call", "injected") else "right")
    for call, injected, found in inject.tally(faults, verdicts):
        table.add_row(call, str(counted[call]), injected, *(str(found[word] or "·") for word in columns))
    return table


if __name__ == "__main__":
    sys.exit(main())
