"""Figures: a list of {name, value, unit, note, bar} in build/bench.json, names stable from release to release."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: str
    note: str
    bar: float | None = None  # what it should not exceed, where that was said


def write(figures: Sequence[Figure], path: Path) -> None:
    """Writes the figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(f) for f in figures], indent=1, ensure_ascii=False) + "\n")


def show(ratios: Sequence[Figure], figures: Sequence[Figure]) -> None:
    """Prints ratios first, then the figures behind them."""
    console = Console(width=120)
    console.print(
        f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}; ratios hold, absolutes drift"
    )
    titles = ("Ratios, each within the same run", "Figures")
    for title, some in zip(titles, (ratios, figures), strict=True):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in ("name", "value", "unit", "bar", "note"):
            table.add_column(column, justify="right" if column in ("value", "bar") else "left")
        for figure in some:
            table.add_row(figure.name, f"{figure.value:,.2f}", figure.unit, _bar(figure), figure.note)
        console.print(table)


def _bar(figure: Figure) -> str:
    if figure.bar is None:
        return ""
    return f"≤ {figure.bar:g}" if figure.value <= figure.bar else f"MISSED: ≤ {figure.bar:g}"
